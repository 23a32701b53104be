package aws

import (
	"math/rand/v2"
	"net/netip"
	"slices"

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

func compareTargets(a, b *target) int { return CompareIDs(a.id, b.id) }

// pick chooses the target of one request: a healthy one, or any at all if
// none is healthy (fail-open).
func (n *node) pick(g *TargetGroup, r *rand.Rand) *target {
	i := r.Uint64() // drawn even if there is no choice, so that one outcome does not shift the next
	if t := choose(n.views[g], i, func(t *target) bool { return t.healthy && t.open() }); t != nil {
		return t
	}
	return choose(n.views[g], i, (*target).open)
}

// open says whether new work may go to the target. "unhealthy.draining" is the state of
// an NLB's target that gets no new connections.
func (t *target) open() bool { return t.pinned != "unhealthy.draining" }

// choose takes one of the suitable targets, by a random number.
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

// planTail plans when each node stops sending to a target that is draining.
func (a *Account) planTail(g *TargetGroup, t *target) {
	if g.balancer == nil {
		return
	}
	tail := a.Assumptions.Tail.ALB
	if g.balancer.kind == NLB {
		tail = a.Assumptions.Tail.NLB
	}
	entity := g.name + t.id.String()
	last := a.line.Draw(tail, "tail", entity)
	slowest := a.line.Random("slowest", entity).IntN(len(g.balancer.nodes))
	epoch := t.epoch
	for i, n := range g.balancer.nodes {
		d := last
		if i != slowest {
			d = a.line.Draw(timeline.Between(0, last), "learns", n.name+entity)
		}
		a.line.After(d, func() {
			if t.epoch == epoch {
				n.drop(g, t)
			}
		})
	}
}

// led is the group to which a node's rules lead. The node learns of changed rules as late
// as of the targets that were deregistered with them: it sends to the old group while it
// knows a target there.
func (n *node) led(g *TargetGroup) *TargetGroup {
	for g.next != nil && len(n.views[g]) == 0 {
		g = g.next
	}
	return g
}

// Pick is one client's request at the load balancer of the group: it says where
// one of the nodes sends it; false if that node knows no target.
func (g *TargetGroup) Pick(r *rand.Rand) (TargetID, bool) {
	nodes := g.nodes()
	if len(nodes) == 0 {
		return TargetID{}, false
	}
	n := nodes[r.IntN(len(nodes))]
	t := n.pick(n.led(g), r)
	if t == nil {
		return TargetID{}, false
	}
	return t.id, true
}

// Pick is a request of no particular client; see [TargetGroup.Pick].
func (a *Account) Pick(g *TargetGroup) (netip.AddrPort, bool) {
	id, ok := g.Pick(a.line.Random("pick", g.name))
	return netip.AddrPortFrom(id.IP, uint16(id.Port)), ok
}

// MaySend says whether a node of any load balancer may still send something new
// to an address.
func (a *Account) MaySend(addr netip.AddrPort) bool {
	return a.known(func(id TargetID) bool { return id == TargetID{IP: addr.Addr(), Port: int(addr.Port())} })
}

// known says whether any node has such a target in its view.
func (a *Account) known(is func(TargetID) bool) bool {
	for _, lb := range a.balancers {
		for _, n := range lb.nodes {
			for _, view := range n.views {
				if slices.ContainsFunc(view, func(t *target) bool { return is(t.id) }) {
					return true
				}
			}
		}
	}
	return false
}

// Choosable says whether a node of any load balancer may still send something new
// to such a target, or will again because one is registered and not draining in a group
// that a load balancer uses.
func (a *Account) Choosable(is func(TargetID) bool) bool {
	return a.known(is) || slices.ContainsFunc(a.balancers, func(lb *LoadBalancer) bool {
		return slices.ContainsFunc(lb.groups, func(g *TargetGroup) bool {
			return slices.ContainsFunc(g.Registered(), is)
		})
	})
}
