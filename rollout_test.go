package main

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"drainwait/internal/sim"
)

// rollInBubble plays a rollout of the demo in virtual time.
func rollInBubble(t *testing.T, seed uint64, r rollout) row {
	t.Helper()
	var got *row
	inBubble(t, sim.Config{Seed: seed, Assumptions: r.assumptions()},
		func(c *serviceConfig) { c.drain = r.drainConfig() },
		func(b *bubble) {
			r.plan(b.World, serviceURL, b.svc.isReady, func(m row) { got = &m })
			for b.Now() < time.Hour && got == nil {
				b.run(10 * time.Second)
			}
		})
	if got == nil {
		t.Fatalf("%s, %s: the rollout did not end within an hour", r.scenario.name, r.policy.name)
	}
	return *got
}

// TestRollouts plays every world of the demo with one seed.
func TestRollouts(t *testing.T) {
	var rows []row
	for _, r := range rollouts() {
		rows = append(rows, rollInBubble(t, 1, r))
	}
	if err := check(rollouts(), rows); err != nil {
		t.Error(err)
	}
	for _, m := range rows {
		t.Logf("%-22s %-22s %4d of %5d failed, held %6.1f s, rollout %4.0f s, %3d AWS calls", m.Scenario, m.Policy, m.Failed, m.Requests, m.HeldMean, m.RolloutSeconds, m.AWSCalls)
	}
}

// TestSameSeedSameFigures plays the worlds that the service takes part in again
// and again: the verdicts are the same each time, and the other figures within
// two per cent.
func TestSameSeedSameFigures(t *testing.T) {
	for _, r := range rollouts() {
		if !r.service {
			continue
		}
		t.Run(fmt.Sprintf("%s, %s", r.scenario.name, r.policy.name), func(t *testing.T) {
			first := rollInBubble(t, 7, r)
			for range 19 {
				again := rollInBubble(t, 7, r)
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
				if a, b := encode(t, first), encode(t, again); a != b {
					t.Logf("not equal in all figures:\n%s\n%s", a, b)
				}
			}
		})
	}
}

func encode(t *testing.T, m row) string {
	t.Helper()
	b, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}
