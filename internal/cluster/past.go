package cluster

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// past is what was seen of a pod and cannot be read from it any more.
type past struct {
	// missed says that it had an address when it was first seen: it can have been
	// a target before.
	missed   bool
	gaps     uint64      // of the Index when it was first seen
	exposed  bool        // its containers were or may have been ready, or an EndpointSlice showed it as ready
	since    metav1.Time // the last transition of its condition ContainersReady
	services []string    // that select it or name it in an EndpointSlice, or once did
}

// see notes what a pod shows of itself. A transition of ContainersReady that
// leaves it as it was hides one to true.
func (x *Index) see(p *corev1.Pod) {
	ready := findCondition(p.Status.Conditions, corev1.ContainersReady)
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.UID]
	if h == nil {
		h = &past{missed: ready != nil || len(p.Status.PodIPs) > 0, gaps: x.gaps}
		x.past[p.UID] = h
	}
	if ready != nil {
		again := !h.since.IsZero() && !h.since.Equal(&ready.LastTransitionTime)
		h.exposed = h.exposed || again || ready.Status == corev1.ConditionTrue
		h.since = ready.LastTransitionTime
	}
}

// tie notes that a Service selects a pod, or names it in an EndpointSlice where
// it is ready. Nothing is noted of a pod that is gone or not yet seen: when it
// is first seen, all that there is is looked through.
func (x *Index) tie(uid types.UID, service string, ready bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[uid]
	if h == nil {
		return
	}
	h.exposed = h.exposed || ready
	if !slices.Contains(h.services, service) {
		h.services = append(h.services, service)
	}
}

func (x *Index) forget(uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.past, uid)
}

// history answers [Pod.Older] and [Pod.NeverReady].
func (x *Index) history(uid types.UID) (older, neverReady bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[uid]
	older = h == nil || h.missed || h.gaps != x.gaps
	return older, !older && !h.exposed
}

// countGaps sees the options of each list and watch that an informer is about
// to ask for. One that begins with the whole state says nothing of what came
// and went before; any other goes on where the last one ended.
func (x *Index) countGaps(o *metav1.ListOptions) {
	if o.AllowWatchBookmarks && o.SendInitialEvents == nil {
		return
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.gaps++
}

func (x *Index) podChanged(before, after *corev1.Pod) {
	if before != nil && (after == nil || before.UID != after.UID) {
		x.forget(before.UID)
		defer x.wake(before.Namespace + "/" + before.Name)
		before = nil
	}
	if after == nil {
		return
	}
	x.see(after)
	if before == nil || !maps.Equal(before.Labels, after.Labels) {
		for _, s := range by[*corev1.Service](x.services, byNamespace, after.Namespace) {
			if selects(s, after.Labels) || before != nil && selects(s, before.Labels) {
				x.tie(after.UID, s.Name, false)
			}
		}
	}
	key := after.Namespace + "/" + after.Name
	if before == nil {
		for _, s := range by[*discoveryv1.EndpointSlice](x.slices, byPod, key) {
			x.tieEndpoint(s, key, endpoints(s)[key])
		}
	}
	x.wake(key)
}

func (x *Index) serviceChanged(before, after *corev1.Service) {
	if after != nil && (before == nil || !maps.Equal(before.Spec.Selector, after.Spec.Selector)) {
		for _, p := range by[*corev1.Pod](x.pods, byNamespace, after.Namespace) {
			if selects(after, p.Labels) {
				x.tie(p.UID, after.Name, false)
			}
		}
	}
	if before == nil || after == nil || !sameService(before, after) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

func (x *Index) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	was := endpoints(before)
	for key, e := range endpoints(after) {
		if old, ok := was[key]; !ok || old != e {
			x.tieEndpoint(after, key, e)
			x.wake(key)
		}
	}
}

func (x *Index) tieEndpoint(s *discoveryv1.EndpointSlice, key string, e endpoint) {
	if p := get[corev1.Pod](x.pods, key); p != nil && e.is(p.UID) {
		x.tie(p.UID, s.Labels[discoveryv1.LabelServiceName], e.ready)
	}
}

// endpoint is a pod in an EndpointSlice. Its UID can be missing where something
// else than Kubernetes wrote the slice.
type endpoint struct {
	uid   types.UID
	ready bool
}

func (e endpoint) is(uid types.UID) bool { return e.uid == "" || e.uid == uid }

// endpoints maps namespace/name to the pods that a slice names.
func endpoints(s *discoveryv1.EndpointSlice) map[string]endpoint {
	pods := make(map[string]endpoint)
	if s == nil {
		return pods
	}
	for _, e := range s.Endpoints {
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			ready := e.Conditions.Ready == nil || *e.Conditions.Ready // discovery.k8s.io/v1: nil is to be taken as true
			pods[s.Namespace+"/"+e.TargetRef.Name] = endpoint{e.TargetRef.UID, ready}
		}
	}
	return pods
}

// slicePods indexes EndpointSlices by the pods that they name.
func slicePods(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	return slices.Collect(maps.Keys(endpoints(s))), nil
}

func trimSlice(obj any) (any, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	out := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta), AddressType: s.AddressType}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for _, e := range s.Endpoints {
		if r := e.TargetRef; r != nil {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},
				TargetRef:  &corev1.ObjectReference{Kind: r.Kind, Name: r.Name, UID: r.UID},
			})
		}
	}
	return out, nil
}
