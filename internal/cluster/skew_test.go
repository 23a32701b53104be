package cluster

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"drainwait/internal/sim"
)

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
			inWorld(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, w *world) {
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
				tooLarge := skew.Abs() > 30*time.Second
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
	skew, _ := w.kube.Clock.Skew()
	return skew
}
