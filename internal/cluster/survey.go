package cluster

import (
	"iter"
	"net/netip"
	"time"

	"drainwait/internal/cluster/ties"
)

// Survey says what may lead to a pod, by the watches, the newest live lists and
// what is remembered. ingresses are names of Ingresses of its namespace whose
// load balancers count in any case.
func (x *Index) Survey(p *Pod, ingresses []string) ties.Survey {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.raw != nil {
		h := x.historyOf(p.raw, false)
		h.Tie(x.records.ServicesOf(p.raw)...)
		return x.records.Survey(&h.History, p.raw, h.Since(x.kube.Gap()), ingresses)
	}
	h := ties.NewAddress(p.Namespace, p.IPs)
	if watched := x.histories[p.id()]; watched != nil {
		h = watched.History
	}
	return x.records.Survey(&h, nil, p.since, ingresses)
}

// Swept takes in a look at the group of a candidate: when it began, and each
// target with whether it is in rotation. Pods and watched addresses of the
// namespaces whose bindings lead to the group are tied to it from now on where
// it lists them.
func (x *Index) Swept(b ties.Binding, began time.Time, targets iter.Seq2[netip.Addr, bool]) {
	listed := make(map[netip.Addr]bool)
	for ip, inRotation := range targets {
		listed[ip.Unmap()] = listed[ip.Unmap()] || inRotation
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range x.records.Look(&b, began, listed, x.eachHistory) {
		x.wake(h.Namespace, h.Name)
	}
}

// Unswept lists what the sweep has still to look at, as [ties.Records.Unswept] says.
func (x *Index) Unswept() []ties.Candidate {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.records.Unswept(x.kube.Gap())
}
