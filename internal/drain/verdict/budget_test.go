package verdict

import (
	"testing"
	"time"
)

func TestBudget(t *testing.T) {
	limits := Limits{MaxDelay: 60 * time.Second, Reserve: 5 * time.Second, OneLook: time.Second}
	began := at(0)
	secs := func(s float64) *time.Duration { d := time.Duration(s * float64(time.Second)); return &d }
	type pods struct {
		grace  time.Duration
		killAt time.Time
	}
	none := pods{}
	pod := func(grace, kill float64) pods {
		p := pods{grace: *secs(grace)}
		if kill != 0 {
			p.killAt = at(kill)
		}
		return p
	}
	for _, c := range []struct {
		name     string
		maxDelay *time.Duration
		pod      pods
		live     bool
		want     float64
		by       string
	}{
		{"nobody says anything", nil, none, true, 60, ByMaxDelay},
		{"max-delay alone", secs(90), none, true, 90, ByMaxDelay},
		{"one look", secs(0), none, true, 1, ByMaxDelay},
		{"an address has no grace", nil, none, true, 60, ByMaxDelay},
		{"grace alone", nil, pod(100, 98), true, 93, ByGrace},
		{"grace before max-delay", secs(600), pod(100, 98), true, 93, ByGrace},
		{"max-delay before grace", secs(50), pod(100, 98), true, 50, ByMaxDelay},
		{"a fifth of a short grace", nil, pod(10, 9), true, 7, ByGrace},
		{"not deleted yet", nil, pod(100, 0), true, 95, ByGrace},
		{"not deleted yet, by a record that may be stale", nil, pod(100, 0), false, 95, ByGrace},
		{"the kill time is this moment by a record that may be stale", nil, pods{30 * time.Second, began}, false, 60, ByMaxDelay},
		{"the kill time has passed", nil, pod(30, -1), true, -6, ByGrace},
		{"the kill time is now", nil, pod(30, -0.000001), true, -5.000001, ByGrace},
		{"the kill time has passed by a record that may be stale", nil, pod(30, -1), false, 60, ByMaxDelay},
		{"the same with a max-delay", secs(40), pod(30, -1), false, 40, ByMaxDelay},
		{"the kill time is ahead by a record that may be stale", nil, pod(30, 20), false, 15, ByGrace},
		{"the grace is over and the kill time is not", nil, pod(30, 3), false, -2, ByGrace},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, by := limits.Budget(Timing{Began: began, MaxDelay: c.maxDelay, Grace: c.pod.grace, KillAt: c.pod.killAt, Live: c.live})
			if !got.Equal(at(c.want)) || by != c.by {
				t.Errorf("got %s by %s, want %g s by %s", got.Sub(began), by, c.want, c.by)
			}
		})
	}
}
