package sim

import (
	"net/netip"
	"slices"
)

// The methods below are for who runs pods outside of the world, and sends them
// real requests: the world then only plays AWS.

// SetListening says whether an application outside of the world answers at an
// address; health checks find out later.
func (w *World) SetListening(addr netip.AddrPort, on bool) {
	c := &container{
		pod:     &pod{ips: []netip.Addr{addr.Addr()}, report: &PodReport{}},
		ports:   map[string]int{"http": int(addr.Port())},
		serving: on,
	}
	w.listeners[targetID{ip: addr.Addr(), port: int(addr.Port())}] = c
	w.healthChange(c)
}

// Pick is one client's request at the load balancer of g: it says where one of
// the nodes sends it; false where that node knows no target.
func (w *World) Pick(g *TargetGroup) (netip.AddrPort, bool) {
	r := w.Random("pick", g.name)
	nodes := g.nodes()
	if len(nodes) == 0 {
		return netip.AddrPort{}, false
	}
	n := nodes[r.IntN(len(nodes))]
	t := n.pick(n.led(g), r)
	if t == nil {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(t.id.ip, uint16(t.id.port)), true
}

// MaySend says whether a node of any load balancer may still send something new
// to an address.
func (w *World) MaySend(addr netip.AddrPort) bool {
	return w.known(targetID{ip: addr.Addr(), port: int(addr.Port())})
}

// known says whether any node has a target in its view.
func (w *World) known(id targetID) bool {
	for _, lb := range w.aws.balancers {
		for _, n := range lb.nodes {
			for _, view := range n.views {
				if _, found := slices.BinarySearchFunc(view, &target{id: id}, compareTargets); found {
					return true
				}
			}
		}
	}
	return false
}
