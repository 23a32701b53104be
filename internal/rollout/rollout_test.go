package rollout_test

import (
	"math"
	"testing"
	"time"

	"drainwait/internal/rollout"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
)

func TestMain(m *testing.M) { servicetest.Main(m) }

// roll plays a rollout in virtual time.
func roll(t *testing.T, seed uint64, r rollout.Rollout) rollout.Result {
	t.Helper()
	var got *rollout.Result
	servicetest.Run(t, sim.Config{Seed: seed, Assumptions: r.Assumptions()}, nil, func(b *servicetest.Bubble) {
		r.Plan(b.World, servicetest.URL, b.Service.IsReady, func(m rollout.Result) { got = &m })
		b.AdvanceUntil(time.Hour, func() bool { return got != nil })
	})
	if got == nil {
		t.Fatalf("%s: the rollout did not end within an hour", r)
	}
	return *got
}

// TestRollouts plays every world of the demo with one seed. README.md shows them.
func TestRollouts(t *testing.T) {
	shown := readme(t)
	for _, r := range rollout.All() {
		m := roll(t, 1, r)
		checkShown(t, shown[r.String()], r, m)
		if err := r.Check(m); err != nil {
			t.Error(err)
		}
		t.Logf("%-42s %4d of %5d failed, held %6.1f s, rollout %4.0f s, %3d AWS calls", r, m.Failed, m.Requests, m.HeldMean, m.RolloutSeconds, m.AWSCalls)
	}
}

// TestSameSeedSameFigures plays the worlds with the service several times. The verdicts
// must be the same each time, and the other figures within two per cent.
func TestSameSeedSameFigures(t *testing.T) {
	if testing.Short() {
		t.Skip("many worlds")
	}
	for _, r := range rollout.All() {
		if !r.Policy.DrainWait {
			continue
		}
		t.Run(r.String(), func(t *testing.T) {
			first := roll(t, 7, r)
			for range 19 {
				again := roll(t, 7, r)
				if again.Verdict != first.Verdict || again.Failed != first.Failed {
					t.Errorf("%s with %d failed, then %s with %d", first.Verdict, first.Failed, again.Verdict, again.Failed)
				}
				for name, pair := range map[string][2]float64{
					"requests": {float64(first.Requests), float64(again.Requests)},
					"held":     {first.HeldMean, again.HeldMean},
					"longest":  {first.HeldMax, again.HeldMax},
					"rollout":  {first.RolloutSeconds, again.RolloutSeconds},
					"calls":    {float64(first.AWSCalls), float64(again.AWSCalls)},
				} {
					if a, b := pair[0], pair[1]; math.Abs(a-b) > 0.02*a {
						t.Errorf("%s: %v, then %v", name, a, b)
					}
				}
			}
		})
	}
}
