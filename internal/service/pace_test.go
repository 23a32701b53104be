package service_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

// TestHowSoonLeftIsSeen deletes sixty pods one after the other. It measures the time from
// the return of DeregisterTargets to the look that shows it, and how many calls the waits
// cost.
func TestHowSoonLeftIsSeen(t *testing.T) {
	const ms = time.Millisecond
	withHash := leftSeen(t, false, false, 200*ms)
	// If there is no hash, looks come once a second, and one that is due less
	// than half a second before another wait's confirming one gives way to it.
	leftSeen(t, false, true, 1650*ms)
	leftSeen(t, true, false, 1650*ms)
	if withHash > 150 {
		t.Errorf("sixty waits cost %d calls, want two and a half for each at most", withHash)
	}
}

// leftSeen measures in a world without the checkpoint, or in one in which a pending
// readiness gate keeps it empty. goal is the limit for the 99th percentile. It returns
// how many calls the waits cost.
func leftSeen(t *testing.T, noCheckpoint, pending bool, goal time.Duration) (calls int) {
	t.Helper()
	var took []time.Duration
	a := sim.DefaultAssumptions()
	a.AWS.APILatency = timeline.Range{Min: 60 * time.Millisecond, Max: 60 * time.Millisecond}
	servicetest.Run(t, sim.Config{Seed: 1, Assumptions: a, NoCheckpoint: noCheckpoint}, nil, func(b *servicetest.Bubble) {
		s := &scene{Bubble: b}
		ordinary(aws.ALB)(s)
		labels := map[string]string{"app": "web"}
		for i := range 61 { // one stays
			b.AddPod(sim.PodSpec{
				Namespace: web, Name: fmt.Sprint("web-", i), Labels: labels, Port: webPort,
				Grace: 2 * time.Minute, Hook: sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute},
			})
		}
		b.Advance(time.Minute)
		if pending {
			s.addPending()
		}
		before := b.AWS.Calls()["DescribeTargetHealth OK"]
		for i := range 60 {
			b.After(time.Duration(i)*3170*time.Millisecond, func() { _ = b.DeletePod(web, fmt.Sprint("web-", i)) })
		}
		b.Advance(5 * time.Minute)
		calls = b.AWS.Calls()["DescribeTargetHealth OK"] - before
		for _, p := range b.Pods()[:60] {
			var answer api.Answer
			if err := json.Unmarshal(p.Answer, &answer); err != nil || answer.Outcome != "drained" {
				t.Fatalf("pod %s: %d %s, %v", p.Name, p.Status, p.Answer, err)
			}
			for _, step := range answer.Targets[0].Timeline {
				at := p.Asked + time.Duration(float64(step.AfterSeconds)*float64(time.Second))
				if step.Event == "left" && p.Asked < p.Deregistered {
					took = append(took, at-p.Deregistered)
				}
			}
		}
	})
	slices.Sort(took)
	if len(took) < 25 {
		t.Fatalf("only %d hooks asked before the deregistration", len(took))
	}
	p99 := took[len(took)*99/100]
	t.Logf("no checkpoint %t, pending %t: left is seen after %s (median), %s (p99) of %d; %d calls", noCheckpoint, pending, took[len(took)/2], p99, len(took), calls)
	if p99 > goal {
		t.Errorf("the 99th percentile is %s, want %s at most", p99, goal)
	}
	return calls
}

// TestHowSoonAWaveIsSeen rolls ten pods at once. Looks at one group are half a second
// apart, except for the first hash.
func TestHowSoonAWaveIsSeen(t *testing.T) {
	a := sim.DefaultAssumptions()
	a.AWS.APILatency = timeline.Range{Min: 60 * time.Millisecond, Max: 60 * time.Millisecond}
	var took []time.Duration
	for seed := range uint64(10) {
		servicetest.Run(t, sim.Config{Seed: seed, Assumptions: a}, nil, func(b *servicetest.Bubble) {
			d, _ := b.AddApp(sim.App{
				Namespace: web, Name: "web", Kind: aws.ALB, Replicas: 20, Port: webPort, Grace: 2 * time.Minute,
				Hook: sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute},
			})
			up := false
			b.WhenUp(d, b.Service.IsReady, func() { up = true })
			b.AdvanceUntil(5*time.Minute, func() bool { return up })
			pods := slices.Clone(b.Pods())[:10]
			for i, p := range pods { // the endpoints change ten times within two seconds
				b.After(time.Duration(i)*200*time.Millisecond, func() { _ = b.DeletePod(web, p.Name) })
			}
			b.Advance(2 * time.Minute)
			for _, p := range pods {
				var answer api.Answer
				if err := json.Unmarshal(p.Answer, &answer); err != nil || answer.Outcome != "drained" {
					t.Fatalf("pod %s: %d %s, %v", p.Name, p.Status, p.Answer, err)
				}
				for _, step := range answer.Targets[0].Timeline {
					if at := p.Asked + time.Duration(float64(step.AfterSeconds)*float64(time.Second)); step.Event == "left" && p.Asked < p.Deregistered {
						took = append(took, at-p.Deregistered)
					}
				}
			}
		})
	}
	slices.Sort(took)
	p99 := took[len(took)*99/100]
	t.Logf("left is seen after %s (median), %s (p99) of %d", took[len(took)/2], p99, len(took))
	if p99 > 700*time.Millisecond {
		t.Errorf("the 99th percentile is %s, want 0.7 s at most", p99)
	}
}
