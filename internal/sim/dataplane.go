package sim

import (
	"math/rand/v2"
	"slices"
	"time"

	"drainwait/internal/sim/timeline"
)

// node is one node of a load balancer, with its own view of what it may send
// to. A view is late: it changes some time after the API's answer did.
type node struct {
	name  string
	views map[*TargetGroup][]*target
}

func (g *TargetGroup) nodes() []*node {
	if g.balancer == nil {
		return nil
	}
	return g.balancer.nodes
}

// add puts a target into the node's view, in place of an earlier registration
// of the same address and port.
func (n *node) add(g *TargetGroup, t *target) {
	i, found := slices.BinarySearchFunc(n.views[g], t, compareTargets)
	if found {
		n.views[g][i] = t
		return
	}
	n.views[g] = slices.Insert(n.views[g], i, t)
}

func (n *node) drop(g *TargetGroup, t *target) {
	if i, found := slices.BinarySearchFunc(n.views[g], t, compareTargets); found && n.views[g][i] == t {
		n.views[g] = slices.Delete(n.views[g], i, i+1)
	}
}

func compareTargets(a, b *target) int { return compareIDs(a.id, b.id) }

// pick chooses the target of one request: a healthy one, or any at all where
// none is healthy (fail-open).
func (n *node) pick(g *TargetGroup, r *rand.Rand) *target {
	i := r.Uint64() // drawn even where there is no choice, so that one outcome does not shift the next
	if t := choose(n.views[g], i, func(t *target) bool { return t.healthy && t.open() }); t != nil {
		return t
	}
	return choose(n.views[g], i, (*target).open)
}

// open says whether new work may be sent to the target: "unhealthy.draining" is
// the state of an NLB's target that gets no new connections.
func (t *target) open() bool { return t.pinned != "unhealthy.draining" }

// choose takes one of the targets that will do, by a random number.
func choose(view []*target, random uint64, will func(*target) bool) *target {
	n := uint64(0)
	for _, t := range view {
		if will(t) {
			n++
		}
	}
	if n == 0 {
		return nil
	}
	i := random % n
	for _, t := range view {
		if !will(t) {
			continue
		}
		if i == 0 {
			return t
		}
		i--
	}
	return nil
}

// planTail plans when each node ceases to send to a target that is draining.
func (w *World) planTail(g *TargetGroup, t *target) {
	if g.balancer == nil {
		return
	}
	tail := w.cfg.Assumptions.Tail.ALB
	if g.balancer.kind == NLB {
		tail = w.cfg.Assumptions.Tail.NLB
	}
	entity := g.name + t.id.String()
	last := w.Draw(tail, "tail", entity)
	slowest := w.Random("slowest", entity).IntN(len(g.balancer.nodes))
	epoch := t.epoch
	for i, n := range g.balancer.nodes {
		d := last
		if i != slowest {
			d = w.Draw(timeline.Between(0, last), "learns", n.name+entity)
		}
		w.After(d, func() {
			if t.epoch == epoch {
				n.drop(g, t)
			}
		})
	}
}

// clients are people who send a steady load through one load balancer.
type clients struct {
	group  *TargetGroup
	gap    time.Duration // mean time between two requests
	random *rand.Rand    // a source of their own: what happens to a request does not change the next
	until  time.Duration
	stats  Stats
}

// Stats is what the clients of a world saw.
type Stats struct {
	Requests int `json:"requests"`
	Failed   int `json:"failed"`
	// Why requests failed: "no target" where a load balancer had none,
	// "refused" where the application had stopped, "cut" where it was killed
	// with the request in hand.
	Reasons map[string]int `json:"reasons"`
}

// AddClients starts a steady load of rate requests in a second of world time
// through the load balancer of g.
func (w *World) AddClients(g *TargetGroup, rate float64) {
	c := &clients{
		group:  g,
		gap:    time.Duration(float64(time.Second) / rate),
		random: w.Random("clients", g.name),
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
	if len(c.group.nodes()) == 0 {
		fail("no load balancer")
		return
	}
	n := c.group.nodes()[c.random.IntN(len(c.group.nodes()))]
	g := n.led(c.group)
	t := n.pick(g, c.random)
	if t == nil {
		fail("no target")
		return
	}
	l := w.listeners[t.id]
	if l == nil {
		fail("refused")
		return
	}
	l.pod.arrival(w.Present(), c.group.balancer.kind)
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

// led is the group that a node's rules lead to. Of a change of the rules it learns
// as late as of the targets that were deregistered with it: it sends to the old
// group while it knows a target there.
func (n *node) led(g *TargetGroup) *TargetGroup {
	for g.next != nil && len(n.views[g]) == 0 {
		g = g.next
	}
	return g
}

// receiver is the pod to which packets for an address and a port go, nil for none
// that the world knows.
func (w *World) receiver(id targetID) *pod {
	if l := w.listeners[id]; l != nil {
		return l.pod
	}
	return w.addresses[id.ip]
}

// choosable says whether a node of any load balancer may still send something
// new to a pod, or will again: because a target of it is registered and not draining
// in a group that a load balancer uses, or a registration is on its way.
func (w *World) choosable(p *pod) bool {
	is := func(id targetID) bool { return slices.Contains(p.ips, id.ip) && w.receiver(id) == p }
	for _, lb := range w.aws.balancers {
		for _, n := range lb.nodes {
			for _, view := range n.views {
				if slices.ContainsFunc(view, func(t *target) bool { return is(t.id) }) {
					return true
				}
			}
		}
		for _, g := range lb.groups {
			for id, t := range g.targets {
				if !t.draining && is(id) {
					return true
				}
			}
		}
	}
	return slices.ContainsFunc(w.lbc.coming, func(r *registration) bool {
		return slices.ContainsFunc(r.endpoints, func(e endpointPod) bool { return is(e.id) })
	})
}
