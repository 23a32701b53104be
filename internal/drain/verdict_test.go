package drain

import (
	"errors"
	"testing"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/cluster"
)

var errTest = errors.New("test")

// each calls f with all the facts that there can be: with up to two groups, and
// each of the rest either way.
func each(f func(facts)) {
	bools := []bool{false, true}
	errs := []error{nil, errTest}
	var tallies []tally
	for followed := range 3 {
		for looked := range followed + 1 {
			for left := range looked + 1 {
				for confirmed := range left + 1 {
					for stuck := range looked - left + 1 {
						tallies = append(tallies, tally{followed, looked, left, confirmed, stuck})
					}
				}
			}
		}
	}
	for bits := range 1 << 7 {
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		for _, ingresses := range bools {
			for _, refused := range errs {
				for _, unable := range errs {
					for _, t := range tallies {
						f(facts{
							early: on(0), last: on(1), over: on(2), open: on(3), live: on(4), stays: on(5), address: on(6),
							ingresses: ingresses, tally: t, refused: refused, unable: unable, unread: errTest,
						})
					}
				}
			}
		}
	}
}

// TestVerdictNeverGuesses: what an outcome claims is known.
func TestVerdictNeverGuesses(t *testing.T) {
	count := make(map[api.Outcome]int)
	each(func(f facts) {
		o, err := f.verdict()
		if err != nil {
			count["refused"]++
		} else {
			count[o]++
		}
		known := f.live && !f.open && f.refused == nil
		var right bool
		switch {
		case err != nil:
			right = o == "" && f.early
		case o == api.Drained:
			right = known && f.followed > 0 && f.confirmed == f.followed
		case o == api.NotRegistered:
			right = known && f.ingresses && f.followed == 0 && f.unable == nil
		case o == api.WillNotLeave:
			right = known && f.stuck > 0 && f.confirmed+f.stuck == f.followed
		case o == api.NotTerminating:
			right = f.stays
		case o == api.SettleCut:
			right = f.over && known && f.followed > 0 && f.left == f.followed && f.confirmed < f.followed
		case o == api.BudgetSpent:
			absent := known && f.ingresses && f.followed == 0 && f.address && f.unable != nil
			right = absent || f.over
		case o == "":
			right = !f.over
		}
		if !right {
			t.Fatalf("%+v: %q, %v", f, o, err)
		}
	})
	for _, o := range append(api.Outcomes, "", "refused") {
		if count[o] == 0 {
			t.Errorf("no facts end as %q", o)
		}
	}
}

// TestVerdictIsNotLate: what is known is said.
func TestVerdictIsNotLate(t *testing.T) {
	each(func(f facts) {
		o, err := f.verdict()
		known := f.live && !f.open && f.refused == nil
		nothing := known && f.ingresses && f.followed == 0
		want := func(right bool, why string) {
			t.Helper()
			if !right {
				t.Fatalf("%s: %+v: %q, %v", why, f, o, err)
			}
		}
		switch {
		case f.early && f.refused != nil:
			want(errors.Is(err, errTest), "a refusal is passed on")
		case nothing && f.unable == nil:
			want(o == api.NotRegistered, "it is registered nowhere")
		case nothing && f.early:
			want(errors.Is(err, errTest), "why it cannot be done is said")
		case nothing && f.address:
			want(o == api.BudgetSpent, "an address that is in no group")
		case f.early && f.last && (!f.live || !f.ingresses) && f.followed == 0 && !f.over:
			want(errors.Is(err, ErrUnavailable), "nobody is kept waiting without a group")
		case known && f.followed > 0 && f.confirmed == f.followed:
			want(o == api.Drained, "all have settled")
		case f.stays:
			want(o == api.NotTerminating, "it stays")
		case known && f.stuck > 0 && f.confirmed+f.stuck == f.followed:
			want(o == api.WillNotLeave, "nothing else will leave")
		case f.over && known && f.followed > 0 && f.left == f.followed:
			want(o == api.SettleCut, "all have left")
		case f.over:
			want(o == api.BudgetSpent, "the budget is over")
		default:
			want(o == "" && err == nil, "it goes on")
		}
	})
}

func TestBudget(t *testing.T) {
	cfg := DefaultConfig()
	began := at(0)
	secs := func(s float64) *time.Duration { d := time.Duration(s * float64(time.Second)); return &d }
	pod := func(grace, kill float64) *cluster.Pod {
		p := &cluster.Pod{Grace: *secs(grace)}
		if kill != 0 {
			p.KillAt = at(kill)
		}
		return p
	}
	for _, c := range []struct {
		name     string
		maxDelay *time.Duration
		pod      *cluster.Pod
		live     bool
		want     float64
		by       string
	}{
		{"nobody says anything", nil, nil, true, 60, byMaxDelay},
		{"max-delay alone", secs(90), nil, true, 90, byMaxDelay},
		{"one look", secs(0), nil, true, 1, byMaxDelay},
		{"an address has no grace", nil, &cluster.Pod{}, true, 60, byMaxDelay},
		{"grace alone", nil, pod(100, 98), true, 93, byGrace},
		{"grace before max-delay", secs(600), pod(100, 98), true, 93, byGrace},
		{"max-delay before grace", secs(50), pod(100, 98), true, 50, byMaxDelay},
		{"a fifth of a short grace", nil, pod(10, 9), true, 7, byGrace},
		{"not deleted yet", nil, pod(100, 0), true, 95, byGrace},
		{"not deleted yet, by a record that may be stale", nil, pod(100, 0), false, 95, byGrace},
		{"the kill time is this moment by a record that may be stale", nil, &cluster.Pod{Grace: 30 * time.Second, KillAt: began}, false, 60, byMaxDelay},
		{"the kill time has passed", nil, pod(30, -1), true, -6, byGrace},
		{"the kill time is now", nil, pod(30, -0.000001), true, -5.000001, byGrace},
		{"the kill time has passed by a record that may be stale", nil, pod(30, -1), false, 60, byMaxDelay},
		{"the same with a max-delay", secs(40), pod(30, -1), false, 40, byMaxDelay},
		{"the kill time is ahead by a record that may be stale", nil, pod(30, 20), false, 15, byGrace},
		{"the grace is over and the kill time is not", nil, pod(30, 3), false, -2, byGrace},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, by := cfg.budget(timing{began: began, maxDelay: c.maxDelay, pod: c.pod, live: c.live})
			if !got.Equal(at(c.want)) || by != c.by {
				t.Errorf("got %s by %s, want %g s by %s", got.Sub(began), by, c.want, c.by)
			}
		})
	}
}
