package sim

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"drainwait/internal/sim/aws"
)

// clients are people who send a steady load through one load balancer.
type clients struct {
	group  *aws.TargetGroup
	gap    time.Duration // mean time between two requests
	random *rand.Rand    // a separate source, so what happens to a request does not change the next one
	stats  Stats
}

// Stats is what the clients of a world saw.
type Stats struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// Why requests failed: "no target" if a load balancer had none, "refused" if
	// the application had stopped, "cut" if it was killed during the request.
	Reasons map[string]int `json:"reasons"`
}

// AddClients starts a steady load through the load balancer of g: rate requests per
// second of world time.
func (w *World) AddClients(g *aws.TargetGroup, rate float64) {
	c := &clients{
		group:  g,
		gap:    time.Duration(float64(time.Second) / rate),
		random: w.Random("clients", g.Name()),
		stats:  Stats{Reasons: make(map[string]int)},
	}
	w.clients = append(w.clients, c)
	w.After(c.gap, func() { w.request(c) })
}

// StopClients ends all load.
func (w *World) StopClients() {
	for _, c := range w.clients {
		c.group = nil
	}
}

// Stats sums up what the clients saw so far.
func (w *World) Stats() Stats {
	sum := Stats{Reasons: make(map[string]int)}
	for _, c := range w.clients {
		sum.Requests += c.stats.Requests
		sum.Failed += c.stats.Failed
		for why, n := range c.stats.Reasons {
			sum.Reasons[why] += n
		}
	}
	return sum
}

// request is one client's request, and the plan for the next.
func (w *World) request(c *clients) {
	if c.group == nil {
		return
	}
	w.After(c.gap/2+time.Duration(c.random.Int64N(int64(c.gap))), func() { w.request(c) })
	takes := w.cfg.Assumptions.ServiceTime
	serve := takes.Min + time.Duration(c.random.Int64N(int64(takes.Max-takes.Min+1)))

	c.stats.Requests++
	fail := func(why string) {
		c.stats.Failed++
		c.stats.Reasons[why]++
	}
	if c.group.Balancer() == nil {
		fail("no load balancer")
		return
	}
	t, ok := c.group.Pick(c.random)
	if !ok {
		fail("no target")
		return
	}
	l := w.listeners[t]
	if l == nil {
		fail("refused")
		return
	}
	l.pod.arrival(w.Present(), c.group.Balancer().Kind())
	if !l.serving {
		l.pod.report.Failed++
		fail("refused")
		return
	}
	starts := l.starts
	w.After(serve, func() {
		if l.gone || l.starts != starts {
			l.pod.report.Failed++
			fail("cut")
		}
	})
}

// SetListening says whether an application outside the world answers at an
// address. Health checks find out later. It is for tests that run their own pods and
// send them real requests, see [aws.Account.Pick]: the world then only plays AWS.
func (w *World) SetListening(addr netip.AddrPort, on bool) {
	id := aws.TargetID{IP: addr.Addr(), Port: int(addr.Port())}
	w.outside[id] = on
	w.AWS.HealthChanged([]aws.TargetID{id})
}
