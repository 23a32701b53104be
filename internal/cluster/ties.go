package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"

	"drainwait/internal/cluster/ties"
)

// Survey says what may lead to a pod, as [ties.Records.Survey] does.
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

// Swept takes in a look at the group of a binding, as [ties.Records.Look] says.
func (x *Index) Swept(b ties.Binding, began time.Time, inRotation map[netip.Addr]bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, h := range x.records.Look(&b, began, inRotation, x.eachHistory) {
		x.wake(h.Namespace, h.Name)
	}
}

// Unswept lists what the sweep has still to look at, as [ties.Records.Unswept] says.
func (x *Index) Unswept() []ties.Candidate {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.records.Unswept(x.kube.Gap())
}

// What the watches tell comes in here. There is a handler for each kind of object,
// and kinds come in no particular order.

func (x *Index) podChanged(before, after *corev1.Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if before != nil && (after == nil || before.UID != after.UID) {
		x.dropRead(before)
		x.forget(before.UID)
		x.wake(before.Namespace, before.Name)
		before = nil
	}
	if after == nil {
		return
	}
	h := x.historyOf(after, false)
	x.dropRead(after)
	if before == nil || !maps.Equal(before.Labels, after.Labels) {
		if before != nil {
			h.Tie(x.records.ServicesOf(before)...) // a Service that is there by now selected what the pod was before
		}
		h.Tie(x.records.ServicesOf(after)...)
	}
	x.wake(after.Namespace, after.Name)
}

func (x *Index) serviceChanged(before, after *corev1.Service) {
	if after != nil && (before == nil || !maps.Equal(before.Spec.Selector, after.Spec.Selector)) {
		x.tie(after.Namespace+"/"+after.Name, ties.Selected(x.seenPods, after))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.records.ServiceChanged(before, after)
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Status, after.Status) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

func (x *Index) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	if after != nil {
		x.tie(ties.ServiceOf(after), ties.Named(x.seenPods, after))
	}
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Ports, after.Ports) || !equality.Semantic.DeepEqual(before.Endpoints, after.Endpoints) {
		namespace := cmp.Or(after, before).Namespace
		x.mu.Lock()
		defer x.mu.Unlock()
		x.wakeAll(func(w *watcher) bool { return w.pod.Namespace == namespace && w.pod.HostNetwork }) // they share their address
	}
}

func (x *Index) ingressChanged(before, after *networkingv1.Ingress) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.records.IngressChanged(before, after)
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Status, after.Status) ||
		!maps.Equal(before.Annotations, after.Annotations) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

// bindingChanged also passes checkpoints on.
func (x *Index) bindingChanged(before, after *ties.Binding) {
	if after != nil && after.TargetGroupARN != "" {
		value, ok := after.Annotations[ties.CheckpointAnnotation]
		x.cfg.OnCheckpoint(after.TargetGroupARN, value, ok)
	} else if before != nil && before.TargetGroupARN != "" {
		x.cfg.OnCheckpoint(before.TargetGroupARN, "", false)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	newest := cmp.Or(after, before)
	x.updateList(newest, after == nil)
	x.records.BindingChanged(before, after)
	if before == nil || after == nil || before.BindingSpec != after.BindingSpec || !maps.Equal(before.Labels, after.Labels) {
		x.wakeNamespace(newest.Namespace)
	}
}

// tie notes that a Service, a namespace/name, selects pods or names them in an
// EndpointSlice.
func (x *Index) tie(service string, pods []*corev1.Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, p := range pods {
		h := x.histories[p.UID]
		if h == nil { // the handler of pods is behind
			h = x.historyOf(p, false)
		}
		if h.Tie(service) {
			x.wake(p.Namespace, p.Name)
		}
	}
}
