package cluster

import (
	"cmp"
	"iter"
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
	"k8s.io/client-go/tools/cache"
)

// history is what was seen of a pod, or of an address that no pod has and that is
// watched, and cannot be read from the cluster any more.
type history struct {
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
	deletion  deletion
	read      time.Time // when it was last read or asked for
}

// hasServiceIn says whether a Service of a namespace is among those of the pod.
func (h *history) hasServiceIn(namespace string) bool {
	return h != nil && slices.ContainsFunc(h.services, func(s string) bool { return strings.HasPrefix(s, namespace+"/") })
}

// namespaces are that of the pod and those of its Services.
func (h *history) namespaces() iter.Seq[string] {
	all := map[string]bool{h.namespace: true}
	for _, s := range h.services {
		ns, _, _ := strings.Cut(s, "/")
		all[ns] = true
	}
	return maps.Keys(all)
}

// note takes in what a pod shows of itself, and returns what is known of its deletion.
func (x *Index) note(p *corev1.Pod) deletion {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.historyOf(p, false).deletion
}

// historyOf is what is remembered of a pod, with what it shows of itself now; live is
// what was read from the API server itself. Called with the lock.
func (x *Index) historyOf(p *corev1.Pod, live bool) *history {
	now, ips := time.Now(), addresses(p)
	h := x.histories[p.UID]
	if h == nil {
		h = &history{namespace: p.Namespace, name: p.Name, created: p.CreationTimestamp.Time, seen: now, late: live || len(ips) > 0}
		x.histories[p.UID] = h
	}
	for _, ip := range ips {
		if !slices.Contains(h.ips, ip) {
			h.ips, h.addressed = append(h.ips, ip), now
		}
	}
	for _, name := range gates(p) {
		h.gates = add(h.gates, name)
	}
	h.deletion.note(p, &x.clock)
	h.read = now
	return h
}

// rememberPod remembers what a live read shows as if the watch had told it.
func (x *Index) rememberPod(p *corev1.Pod) *corev1.Pod {
	trimmed, _ := trimPod(p) // no error: it is a pod
	p = trimmed.(*corev1.Pod)
	x.mu.Lock()
	x.historyOf(p, true)
	if !slices.ContainsFunc(all[corev1.Pod](x.seenPods, key(p)), func(known *corev1.Pod) bool { return !laterVersion(p.ResourceVersion, known.ResourceVersion) }) {
		_ = x.reads.Update(p) // no error: it has a name
	}
	x.mu.Unlock()
	x.tieAll(p)
	x.wake(p.Namespace, p.Name)
	return p
}

// dropRead drops what was read live of a pod that the informer has told of since.
// Called with the lock.
func (x *Index) dropRead(p *corev1.Pod) {
	read := get[corev1.Pod](stores{x.reads}, key(p))
	if read != nil && !laterVersion(read.ResourceVersion, p.ResourceVersion) {
		_ = x.reads.Delete(read) // no error: it has a name
	}
}

func key(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// tie notes that Services, as namespace/name, select a pod or name it in an
// EndpointSlice. It says whether that is new.
func (x *Index) tie(p *corev1.Pod, services ...string) bool {
	if len(services) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.histories[p.UID]
	if h == nil { // the handler of pods is behind
		h = x.historyOf(p, false)
	}
	before := len(h.services)
	for _, s := range services {
		h.services = add(h.services, s)
	}
	return len(h.services) > before
}

// tieAll ties a pod to all that ties it now, by all pictures.
func (x *Index) tieAll(p *corev1.Pod) {
	x.mu.Lock()
	pictures := x.pictures(p.Namespace)
	x.mu.Unlock()
	var found []string
	for _, picture := range pictures {
		for _, s := range by[*corev1.Service](picture.services, byNamespace, p.Namespace) {
			if selects(s, p.Labels) {
				found = append(found, s.Namespace+"/"+s.Name)
			}
		}
		for _, s := range by[*discoveryv1.EndpointSlice](picture.slices, byPod, key(p)) {
			if service := serviceOf(s); service != "" && names(s, p) {
				found = append(found, service)
			}
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

// keepRead is how long a pod that only a live read showed is remembered without
// a watch.
const keepRead = time.Minute

func (x *Index) tidyHistories() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.histories {
		x.forget(id)
	}
}

// forget drops what is remembered of a pod that nobody watches, that the informer
// does not have, and that no live read has just shown. Called with the lock.
func (x *Index) forget(id types.UID) {
	h := x.histories[id]
	if h == nil || slices.ContainsFunc(x.watches[h.namespace][h.name], func(w *watch) bool { return w.id == id }) {
		return
	}
	key := h.namespace + "/" + h.name
	cached, read := get[corev1.Pod](x.pods, key), get[corev1.Pod](stores{x.reads}, key)
	isRead := read != nil && read.UID == id
	if cached != nil && cached.UID == id || isRead && time.Since(h.read) <= keepRead {
		return
	}
	delete(x.histories, id)
	if isRead {
		_ = x.reads.Delete(read) // no error: it has a name
	}
}

// since is when a pod can last have been tied to something that escaped us: a
// look at a group that began then or later tells. Zero for a pod that was
// watched well all its life. Called with the lock.
func (x *Index) since(p *Pod, h *history) time.Time {
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
		x.mu.Lock()
		x.dropRead(before)
		x.forget(before.UID)
		x.mu.Unlock()
		defer x.wake(before.Namespace, before.Name)
		before = nil
	}
	if after == nil {
		return
	}
	x.mu.Lock()
	x.historyOf(after, false)
	x.dropRead(after)
	x.mu.Unlock()
	if before == nil || !maps.Equal(before.Labels, after.Labels) {
		if before != nil {
			x.tieAll(before) // a Service that is there by now selected what the pod was before
		}
		x.tieAll(after)
	}
	x.wake(after.Namespace, after.Name)
}

func (x *Index) serviceChanged(before, after *corev1.Service) {
	if after != nil && (before == nil || !maps.Equal(before.Spec.Selector, after.Spec.Selector)) {
		x.tieSelected(after)
	}
	x.hostChanged(serviceRecords(before), serviceRecords(after))
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Status, after.Status) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

// tieSelected ties the pods that a Service selects.
func (x *Index) tieSelected(s *corev1.Service) {
	for _, p := range by[*corev1.Pod](x.seenPods, byNamespace, s.Namespace) {
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
	if service == "" {
		return
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, p := range all[corev1.Pod](x.seenPods, refKey(s, e)) {
			if isOf(s, e, p) && x.tie(p, service) {
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

var trimService = trimmer(func(s *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: trimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                     s.Spec.Type,
			Selector:                 s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
		},
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
})

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

var sliceIndexers = cache.Indexers{byPod: indexer(slicePods), byService: indexer(sliceService)}

// slicePods are the pods that an EndpointSlice names.
func slicePods(s *discoveryv1.EndpointSlice) []string {
	var keys []string
	for i := range s.Endpoints {
		if key := refKey(s, &s.Endpoints[i]); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

func sliceService(s *discoveryv1.EndpointSlice) []string { return []string{serviceOf(s)} }

// trimSlice keeps the first address of each endpoint alone: LBC registers no
// other (pkg/backend/endpoint_resolver.go).
var trimSlice = trimmer(func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta, discoveryv1.LabelServiceName)}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Port: p.Port})
	}
	for _, e := range s.Endpoints {
		if r := e.TargetRef; r != nil {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses:  e.Addresses[:min(len(e.Addresses), 1)],
				Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},
				TargetRef:  &corev1.ObjectReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, UID: r.UID},
			})
		}
	}
	return out
})
