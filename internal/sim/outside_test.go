package sim_test

import (
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// A pod outside the world gets requests from the moment when the first node learns of it
// to the moment when the last node forgets it, and not longer.
func TestPodsOutsideOfTheWorld(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions(), Quiesce: synctest.Wait})
		defer w.Close()
		g := w.AWS.AddTargetGroup("web", 8080, w.AWS.AddLoadBalancer("web", aws.ALB))
		a, b := netip.MustParseAddrPort("10.0.0.1:8080"), netip.MustParseAddrPort("10.0.0.2:8080")
		picks := func() map[netip.AddrPort]int {
			n := make(map[netip.AddrPort]int)
			for range 200 {
				if addr, ok := w.AWS.Pick(g); ok {
					n[addr]++
				}
			}
			return n
		}
		run := func(d time.Duration) { w.Run(t.Context(), w.Now()+d) }

		w.SetListening(a, true)
		w.AWS.Register(g, a.Addr(), 8080)
		w.AWS.Register(g, b.Addr(), 8080)
		if got := picks(); len(got) != 0 || w.AWS.MaySend(a) {
			t.Fatalf("picked %v of targets that are being registered", got)
		}
		run(time.Minute)
		if got := picks(); got[a] != 200 || !w.AWS.MaySend(b) {
			t.Fatalf("picked %v where only %v listens", got, a)
		}
		w.SetListening(b, true)
		w.SetListening(a, false)
		run(time.Minute)
		if got := picks(); got[b] != 200 {
			t.Fatalf("picked %v where only %v listens", got, b)
		}

		w.SetListening(a, true)
		run(time.Minute)
		w.AWS.Deregister(g, b.Addr(), 8080)
		run(aws.TypicalTail.ALB.Min - time.Millisecond)
		if got := picks(); got[a] == 0 || !w.AWS.MaySend(b) {
			t.Fatalf("picked %v before the tail of %v is over", got, b)
		}
		run(aws.TypicalTail.ALB.Max - aws.TypicalTail.ALB.Min + time.Second)
		if got := picks(); got[a] != 200 || w.AWS.MaySend(b) {
			t.Fatalf("picked %v after the tail of %v was over", got, b)
		}
	})
}
