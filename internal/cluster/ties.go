package cluster

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// past is what was seen of a pod, or of an address that no pod has and that is
// watched, and cannot be read from the cluster any more.
type past struct {
	namespace, name string
	created         time.Time // by the API server's clock
	seen            time.Time // first
	// late says that it had an address then, or that no watch had told of it: it
	// can have been tied to something before.
	late      bool
	ips       []netip.Addr // all that it ever had
	addressed time.Time    // when the last of them was first seen
	services  []string     // namespace/name of those that ever selected it or named it in an EndpointSlice
	gates     []string     // names of bindings whose readiness condition it carries
	listed    []groupKey   // groups that a look showed it in
	end       end

	cached bool        // the informer has it
	pins   int         // watches
	live   *corev1.Pod // the newest that was read live, where that is newer than what the informer has
	read   time.Time   // when it was last read live or asked for
}

// in says whether a Service of a namespace is among those of the pod.
func (h *past) in(namespace string) bool {
	return h != nil && slices.ContainsFunc(h.services, func(s string) bool { return strings.HasPrefix(s, namespace+"/") })
}

// see notes what a pod shows of itself; live is what was read from the API
// server itself. It returns what is known of the pod's end.
func (x *Index) see(p *corev1.Pod, live bool) end {
	now, ips := time.Now(), addresses(p)
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.UID]
	if h == nil {
		h = &past{namespace: p.Namespace, name: p.Name, created: p.CreationTimestamp.Time, seen: now, late: live || len(ips) > 0}
		x.past[p.UID] = h
	}
	for _, ip := range ips {
		if !slices.Contains(h.ips, ip) {
			h.ips, h.addressed = append(h.ips, ip), now
		}
	}
	for _, name := range gates(p) {
		h.gates = add(h.gates, name)
	}
	h.end.see(p)
	h.read = now
	if live && (h.live == nil || laterVersion(p.ResourceVersion, h.live.ResourceVersion)) {
		h.live = p
		x.reads[p.UID] = h
	}
	return h.end
}

// learnPod remembers what a live read shows as if the watch had told it.
func (x *Index) learnPod(p *corev1.Pod) *corev1.Pod {
	trimmed, _ := trimPod(p) // no error: it is a pod
	p = trimmed.(*corev1.Pod)
	x.see(p, true)
	x.tieAll(p)
	x.wake(p.Namespace, p.Name)
	return p
}

// liveRead is the newest that was read live of a pod, where that is newer than
// what the cache had.
func (x *Index) liveRead(uid types.UID) *corev1.Pod {
	x.mu.Lock()
	defer x.mu.Unlock()
	if h := x.past[uid]; h != nil {
		return h.live
	}
	return nil
}

// uncached are the pods of a namespace that only live reads showed.
func (x *Index) uncached(namespace string) []*corev1.Pod {
	x.mu.Lock()
	defer x.mu.Unlock()
	var pods []*corev1.Pod
	for _, h := range x.reads {
		if !h.cached && h.live != nil && h.namespace == namespace {
			pods = append(pods, h.live)
		}
	}
	return pods
}

// tie notes that Services, as namespace/name, select a pod or name it in an
// EndpointSlice. It says whether that is new.
func (x *Index) tie(p *corev1.Pod, services ...string) bool {
	if len(services) == 0 {
		return false
	}
	x.mu.Lock()
	known := x.past[p.UID] != nil
	x.mu.Unlock()
	if !known { // the handler of pods is behind
		x.see(p, false)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.UID]
	if h == nil {
		return false // dropped in between
	}
	before := len(h.services)
	for _, s := range services {
		h.services = add(h.services, s)
		x.crossed = x.crossed || !strings.HasPrefix(s, p.Namespace+"/")
	}
	return len(h.services) > before
}

// tieAll ties a pod to all that ties it now, by the caches and by the live lists.
func (x *Index) tieAll(p *corev1.Pod) {
	live := x.liveList(p.Namespace)
	var found []string
	for _, s := range slices.Concat(by[*corev1.Service](x.services, byNamespace, p.Namespace), live.services) {
		if selects(s, p.Labels) {
			found = append(found, s.Namespace+"/"+s.Name)
		}
	}
	for _, s := range slices.Concat(by[*discoveryv1.EndpointSlice](x.slices, byPod, p.Namespace+"/"+p.Name), live.slices) {
		if service := serviceOf(s); service != "" && names(s, p) {
			found = append(found, service)
		}
	}
	x.tie(p, found...)
}

func add[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// pin keeps what is remembered of a pod until unpin.
func (x *Index) pin(p *Pod) {
	if p.raw != nil {
		x.see(p.raw, false)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.id()]
	if h == nil {
		h = &past{namespace: p.Namespace, name: p.Name, ips: p.IPs, seen: time.Now(), late: true}
		x.past[p.id()] = h
	}
	h.pins++
}

// unpin is called with the lock.
func (x *Index) unpin(id types.UID) {
	h := x.past[id]
	h.pins--
	if h.pins == 0 && !h.cached && h.live == nil {
		delete(x.past, id)
	}
}

// keepRead is how long a pod that only a live read showed is remembered without
// a watch.
const keepRead = time.Minute

func (x *Index) tidyPast() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id, h := range x.past {
		if !h.cached && h.pins == 0 && time.Since(h.read) > keepRead {
			delete(x.past, id)
			delete(x.reads, id)
		}
	}
}

// since is when a pod can last have been tied to something that escaped us: a
// look at a group that began then or later tells. Zero for a pod that was
// watched well all its life. Called with the lock.
func (x *Index) since(p *Pod, h *past) time.Time {
	if p.UID == "" {
		return p.since
	}
	var since time.Time
	if h.late {
		since = h.seen
	}
	if !h.seen.After(x.gap) && since.Before(x.gap) {
		since = x.gap
	}
	// A look says nothing of an address that we did not know to be the pod's.
	if !since.IsZero() && since.Before(h.addressed) {
		since = h.addressed
	}
	return since
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
	x.gap = time.Now()
}

func (x *Index) podChanged(before, after *corev1.Pod) {
	if before != nil && (after == nil || before.UID != after.UID) {
		x.uncache(before.UID)
		defer x.wake(before.Namespace, before.Name)
		before = nil
	}
	if after == nil {
		return
	}
	x.see(after, false)
	x.cache(after)
	if before == nil || !maps.Equal(before.Labels, after.Labels) {
		if before != nil {
			x.tieAll(before) // a Service that is there by now selected what the pod was before
		}
		x.tieAll(after)
	}
	x.wake(after.Namespace, after.Name)
}

// cache notes that the informer has a pod.
func (x *Index) cache(p *corev1.Pod) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.UID]
	h.cached = true
	if h.live != nil && !laterVersion(h.live.ResourceVersion, p.ResourceVersion) {
		h.live = nil
		delete(x.reads, p.UID)
	}
}

// uncache notes that it has it no longer.
func (x *Index) uncache(uid types.UID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	delete(x.reads, uid)
	if h := x.past[uid]; h != nil {
		h.cached, h.live = false, nil
		if h.pins == 0 {
			delete(x.past, uid)
		}
	}
}

func (x *Index) serviceChanged(before, after *corev1.Service) {
	if after != nil && (before == nil || !maps.Equal(before.Spec.Selector, after.Spec.Selector)) {
		x.tieSelected(after)
	}
	x.hostChanged(serviceHost(before), serviceHost(after))
	if before == nil || after == nil || !sameService(before, after) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

// tieSelected ties the pods that a Service selects.
func (x *Index) tieSelected(s *corev1.Service) {
	for _, p := range slices.Concat(by[*corev1.Pod](x.pods, byNamespace, s.Namespace), x.uncached(s.Namespace)) {
		if selects(s, p.Labels) && x.tie(p, s.Namespace+"/"+s.Name) {
			x.wake(p.Namespace, p.Name)
		}
	}
}

func (x *Index) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	if after != nil {
		x.tieNamed(after)
	}
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Ports, after.Ports) || !equality.Semantic.DeepEqual(before.Endpoints, after.Endpoints) {
		x.wakeHosts(cmp.Or(after, before).Namespace)
	}
}

// tieNamed ties the pods that an EndpointSlice names.
func (x *Index) tieNamed(s *discoveryv1.EndpointSlice) {
	service := serviceOf(s)
	for _, key := range podKeys(s) {
		namespace, _, _ := strings.Cut(key, "/")
		pods := x.uncached(namespace)
		if p := get[corev1.Pod](x.pods, key); p != nil {
			pods = append(pods, p)
		}
		for _, p := range pods {
			if service != "" && names(s, p) && x.tie(p, service) {
				x.wake(p.Namespace, p.Name)
			}
		}
	}
}

// selects is what a Service's selector means: nothing, where it is empty.
func selects(s *corev1.Service, podLabels map[string]string) bool {
	for k, v := range s.Spec.Selector {
		if have, ok := podLabels[k]; !ok || have != v {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}

// sameService says whether two states of a Service are the same to us.
func sameService(a, b *corev1.Service) bool {
	return equality.Semantic.DeepEqual(a.Spec, b.Spec) && equality.Semantic.DeepEqual(a.Status, b.Status)
}

func trimService(obj any) (any, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	return &corev1.Service{
		ObjectMeta: trimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                     s.Spec.Type,
			Selector:                 s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
		},
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}, nil
}

// serviceOf is the namespace/name of an EndpointSlice's Service; "" for none.
func serviceOf(s *discoveryv1.EndpointSlice) string {
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		return s.Namespace + "/" + name
	}
	return ""
}

// refKey is the namespace/name of the pod that an endpoint names, which can be in
// another namespace than its slice; "" for none.
func refKey(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) string {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
		return ""
	}
	return cmp.Or(e.TargetRef.Namespace, s.Namespace) + "/" + e.TargetRef.Name
}

// isOf says whether an endpoint names a pod. Its UID can be missing where
// something else than Kubernetes wrote the slice.
func isOf(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, p *corev1.Pod) bool {
	return refKey(s, e) == p.Namespace+"/"+p.Name && (e.TargetRef.UID == "" || e.TargetRef.UID == p.UID)
}

// names says whether an EndpointSlice names a pod.
func names(s *discoveryv1.EndpointSlice, p *corev1.Pod) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return isOf(s, &e, p) })
}

// podKeys are the pods that an EndpointSlice names.
func podKeys(s *discoveryv1.EndpointSlice) []string {
	keys := make(map[string]bool)
	for i := range s.Endpoints {
		if key := refKey(s, &s.Endpoints[i]); key != "" {
			keys[key] = true
		}
	}
	return slices.Collect(maps.Keys(keys))
}

// slicePods indexes EndpointSlices by the pods that they name.
func slicePods(obj any) ([]string, error) {
	if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
		return podKeys(s), nil
	}
	return nil, nil
}

// sliceService indexes EndpointSlices by their Service.
func sliceService(obj any) ([]string, error) {
	if s, ok := obj.(*discoveryv1.EndpointSlice); ok {
		return []string{serviceOf(s)}, nil
	}
	return nil, nil
}

// trimSlice keeps the first address of each endpoint alone: LBC registers no
// other (pkg/backend/endpoint_resolver.go).
func trimSlice(obj any) (any, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	out := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta)}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Port: p.Port})
	}
	for _, e := range s.Endpoints {
		if r := e.TargetRef; r != nil {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses: e.Addresses[:min(len(e.Addresses), 1)],
				TargetRef: &corev1.ObjectReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, UID: r.UID},
			})
		}
	}
	return out, nil
}
