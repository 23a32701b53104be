package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"drainwait/internal/sim"
)

func TestClock(t *testing.T) {
	const ms = time.Millisecond
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// An answer: when the request was sent and how long it took, by our clock from
	// noon, and how far the API server's was ahead when it wrote the header, half
	// way in between.
	type answer struct{ sent, took, skew time.Duration }
	for _, tt := range []struct {
		name    string
		answers []answer
		want    time.Duration
	}{
		{"nothing seen", nil, 0},
		{"no skew", []answer{{0, 10 * ms, 0}, {700 * ms, 10 * ms, 0}, {1990 * ms, 10 * ms, 0}}, 0},
		{"too little to tell", []answer{{300 * ms, 10 * ms, 400 * ms}}, 0},
		// 12:00:10.305 is written as 12:00:10: at least that, less the time of receipt.
		{"ahead", []answer{{300 * ms, 10 * ms, 10 * time.Second}}, 9690 * ms},
		{"ahead, narrowed", []answer{{300 * ms, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, 10 * time.Second}}, 9990 * ms},
		{"ahead, narrowed in any order", []answer{{5 * time.Second, 10 * ms, 10 * time.Second}, {300 * ms, 10 * ms, 10 * time.Second}}, 9990 * ms},
		// 11:59:50.305 is written as 11:59:50: at most 51, less the time of sending.
		{"behind", []answer{{300 * ms, 10 * ms, -10 * time.Second}}, -9300 * ms},
		{"behind, narrowed", []answer{{300 * ms, 10 * ms, -10 * time.Second}, {5900 * ms, 10 * ms, -10 * time.Second}}, -9900 * ms},
		{"a slow answer tells little", []answer{{0, 20 * time.Second, 5 * time.Second}}, 0},
		{"a slow answer spoils nothing", []answer{{5 * time.Second, 10 * ms, 10 * time.Second}, {6 * time.Second, 20 * time.Second, 10 * time.Second}}, 9990 * ms},
		{"a clock was set", []answer{{0, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, -10 * time.Second}}, -9 * time.Second},
		{"a clock was set right", []answer{{0, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, 0}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := clock{warn: func(time.Duration) {}}
			for _, a := range tt.answers {
				sent := noon.Add(a.sent)
				c.answered(sent, sent.Add(a.took), sent.Add(a.took/2+a.skew).Truncate(time.Second))
			}
			if got, _ := c.skew(); got != tt.want {
				t.Errorf("skew %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("our clock was set back amid a request", func(t *testing.T) {
		c := clock{warn: func(time.Duration) {}}
		c.answered(noon, noon.Add(10*ms), noon)
		c.answered(noon.Add(time.Minute), noon.Add(2*time.Second), noon.Add(time.Minute))
		if got, _ := c.skew(); got != 0 {
			t.Errorf("skew %s, want 0", got)
		}
	})
}

func TestSkew(t *testing.T) {
	for _, skew := range []time.Duration{0, 90 * time.Second, -90 * time.Second, 1500 * time.Millisecond} {
		t.Run(skew.String(), func(t *testing.T) {
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				w.Kube.SkewClock(skew)
				defer w.begin()()
				_ = w.AddPod(sim.PodSpec{Namespace: "default", Name: "a", Port: 80, Grace: 45 * time.Second, Hook: sim.Hook{Hold: true}})
				w.pass(20 * time.Second)
				// Never more than there is, and less by no more than what the header leaves out.
				if off := (skew - w.skew()).Abs(); off > time.Second || w.skew().Abs() > skew.Abs() {
					t.Errorf("skew %s, want %s", w.skew(), skew)
				}
				kill := time.Now().Add(45 * time.Second)
				if err := w.DeletePod("default", "a"); err != nil {
					t.Fatal(err)
				}
				w.pass(time.Second)
				p := w.Index.Pod("default", "a")
				if off := kill.Sub(p.KillAt).Abs(); off > time.Second {
					t.Errorf("KillAt is %s, the kill at %s", p.KillAt, kill)
				}
				if p.Grace != 45*time.Second {
					t.Errorf("grace %s", p.Grace)
				}
			})
		})
	}
}

// The API server's clock is set while we watch; the next answers tell.
func TestSkewChanges(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		if w.skew() != 0 {
			t.Errorf("skew %s, want none", w.skew())
		}
		w.Kube.SkewClock(-time.Hour)
		w.pass(10 * time.Second)
		w.do("cut")
		if got := w.skew(); got < -time.Hour || got > -time.Hour+time.Second {
			t.Errorf("skew %s, want an hour behind", got)
		}
	})
}

// A skew that is too large to be true is told once, and is not used.
func TestSkewThatIsTooLarge(t *testing.T) {
	for _, skew := range []time.Duration{-10 * time.Minute, 10 * time.Minute, 31 * time.Second, -32 * time.Second, 29 * time.Second, -29 * time.Second} {
		t.Run(skew.String(), func(t *testing.T) {
			var log bytes.Buffer
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				w.cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
				w.Kube.SkewClock(skew)
				defer w.begin()()
				w.pass(20 * time.Second)
				w.do("cut", "cut")
				_ = w.AddPod(sim.PodSpec{Namespace: "default", Name: "a", Port: 80, Grace: 45 * time.Second, Hook: sim.Hook{Hold: true}})
				w.pass(20 * time.Second)
				kill := time.Now().Add(45 * time.Second)
				if err := w.DeletePod("default", "a"); err != nil {
					t.Fatal(err)
				}
				w.pass(3 * time.Second)
				p := w.Index.Pod("default", "a")
				if off := kill.Sub(p.KillAt).Abs(); off > time.Second {
					t.Errorf("KillAt is %s, the kill at %s", p.KillAt, kill)
				}
				tooLarge := skew.Abs() > maxSkew
				if stands := p.KillAt.Equal(p.DeletionSeen.Add(45 * time.Second)); stands != tooLarge {
					t.Errorf("KillAt is when the deletion was seen and the grace: %t, want %t", stands, tooLarge)
				}
				if n := strings.Count(log.String(), "clock of the API server"); n == 1 != tooLarge || n > 1 {
					t.Errorf("told %d times:\n%s", n, &log)
				}
				if tooLarge && !strings.Contains(log.String(), "skew=") {
					t.Errorf("the number is not told:\n%s", &log)
				}
				// A deletion that is hurried up: the shorter grace counts from its beginning.
				if err := w.DeletePodIn("default", "a", 5*time.Second); err != nil {
					t.Fatal(err)
				}
				kill = kill.Add(-40 * time.Second)
				w.pass(time.Second)
				if p := w.Index.Pod("default", "a"); p.KillAt.Sub(kill).Abs() > time.Second || p.Grace != 5*time.Second {
					t.Errorf("hurried up: KillAt is %s, the kill at %s, grace %s", p.KillAt, kill, p.Grace)
				}
			})
		})
	}
}

func (w *world) skew() time.Duration {
	skew, _ := w.clock.skew()
	return skew
}
