package service_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"drainwait/internal/elb"
	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

// excess is by how much calls went over a rate, in the worst of all windows: their number
// less what the rate allows in that time.
func excess(calls []time.Duration, rate float64) float64 {
	worst, since := 0.0, 0.0
	for i, at := range calls {
		if i > 0 {
			since = max(0, since-rate*(at-calls[i-1]).Seconds())
		}
		since++
		worst = max(worst, since)
	}
	return worst
}

// TestReplicasSpendOneBudget: replicas that start, that serve and that are going away never
// spend more than one budget together, as AWS counts it, in no window of time. All have
// waits for more groups than the budget has looks.
func TestReplicasSpendOneBudget(t *testing.T) {
	const apps = 40
	for _, tt := range []struct {
		name  string
		fresh time.Duration // how long before it starts does a new replica have an address?
		slack float64
	}{
		{"a new replica is known before it starts", time.Second, 0},
		// The others spend the whole rate until they hear of it, and it spends a third.
		{"a new replica starts before it is known", 0, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			cfg := sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}
			cfg.Assumptions.AWS.APILatency = timeline.Range{Min: 50 * time.Millisecond, Max: 50 * time.Millisecond}
			cfg.Assumptions.AWS.DescribeRate, cfg.Assumptions.AWS.DescribeBurst = 1000, 1000 // it does not hold us back
			servicetest.Run(t, cfg, func(c *service.Config) { c.OwnService = "drain-wait/drain-wait" }, func(b *servicetest.Bubble) {
				b.End() // the one that knows of no others
				var calls []time.Duration
				b.AWS.Fail(func(operation, _ string) *aws.Fault {
					if strings.HasPrefix(operation, "Describe") {
						calls = append(calls, b.Now())
					}
					return nil
				})
				labels := map[string]string{"app": "drain-wait"}
				b.Kube.AddService("drain-wait", "drain-wait", labels, 8080)
				pods := 0
				start := func() *servicetest.Replica {
					b.AddPod(sim.PodSpec{
						Namespace: "drain-wait", Name: fmt.Sprint("drain-wait-", pods), Labels: labels, Port: 8080,
						Grace: 5 * time.Minute, Hook: sim.Hook{Hold: true},
					})
					pods++
					b.Advance(tt.fresh)
					return b.Start()
				}
				addApps(b, apps, sim.Hook{Hold: true})
				replicas := []*servicetest.Replica{start(), start(), start()}
				b.Advance(time.Minute)
				b.LBC.Stop()
				deleteAll(b, "app-")
				load := func(r *servicetest.Replica) {
					for i := range apps {
						client := r.Hooks.Client(netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}))
						b.Get(client, fmt.Sprintf("%s/drain-delay?namespace=%s&pod=app-%d-1&max-delay=280", servicetest.URL, web, i))
					}
				}
				for _, r := range replicas {
					load(r)
				}
				b.Advance(20 * time.Second)
				replicas = append(replicas, start())
				load(replicas[3])
				b.Advance(10 * time.Second)
				replicas[0].SIGTERM()
				if err := b.DeletePod("drain-wait", "drain-wait-0"); err != nil {
					t.Fatal(err)
				}
				b.Advance(time.Minute)
				if servicetest.IsClosed(replicas[0].Over) {
					t.Error("the replica that is going away has no waits any more")
				}
				limit := elb.DefaultConfig()
				got := excess(calls, limit.Rate)
				t.Logf("%d calls, of which %.1f at once", len(calls), got)
				if got > float64(limit.Burst)+tt.slack+0.001 || len(calls) < int(limit.Rate*80) {
					t.Errorf("%d calls, of which %.1f at once; want %d at once and %.0f a second", len(calls), got, limit.Burst, limit.Rate)
				}
				for _, r := range replicas {
					r.SIGTERM()
				}
				for _, r := range replicas {
					b.AdvanceUntil(10*time.Minute, func() bool { return servicetest.IsClosed(r.Over) })
				}
			})
		})
	}
}
