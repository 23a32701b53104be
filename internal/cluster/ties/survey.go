package ties

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"drainwait/internal/cluster/kube"
)

// Candidate is a binding, present or former, that may hold a pod.
type Candidate struct {
	Binding
	// Former says that it was deleted, that its Service or group was switched, or
	// that the API server serves its kind no longer.
	Former bool
	// Tied says that something ties it to the pod, or did in the pod's lifetime.
	// Where it is false, only a look that began at Since or later can tell whether
	// its group lists the pod.
	Tied  bool
	Since time.Time
	Seen  bool // a look at its group was taken in before
	// OtherPorts are, for a pod in the host network, the ports at its address that
	// an EndpointSlice of the Service gives to another pod and none gives to it.
	OtherPorts []int
	// PublishesNotReady says that the binding is present, and that its Service
	// selects the pod and publishes addresses that are not ready: LBC keeps such a
	// pod until it is gone.
	PublishesNotReady bool
}

// Survey is what there is to follow for a pod.
type Survey struct {
	// Candidates are in order of name. One that is not tied is there only where its
	// targets may be pods and a tie can have escaped us.
	Candidates []Candidate
	Hostnames  []Hostname // those to follow, in order of From and name
	// NoAddress names Ingresses and LoadBalancer Services, as "Ingress ns/name", that
	// are tied to the pod and have neither an address nor a binding.
	NoAddress        []string
	MissingIngresses []string // that were named and are not there
	// Forgotten says that a former binding had to be dropped that could concern the
	// pod. So nobody can say that the pod is not registered.
	Forgotten bool
}

// Survey says what may lead to a pod, by the watches, the newest live list and what
// is remembered. pod is nil for an address that no pod has; since is [History.Since].
// ingresses name those of its namespace whose load balancers count in any case.
func (rs *Records) Survey(h *History, pod *corev1.Pod, since time.Time, ingresses []string) Survey {
	v := view{rs: rs, history: h, pod: pod, born: h.born(rs.clock), since: since}
	for ns := range h.namespaces() {
		v.records = slices.AppendSeq(v.records, maps.Values(rs.records[ns]))
	}
	var s Survey
	if at, ok := rs.forgotten[h.Namespace]; ok {
		s.Forgotten = !before(at, v.born)
	}
	for _, r := range v.candidates() {
		s.Candidates = append(s.Candidates, v.candidate(r))
	}
	var named []origin
	for _, name := range ingresses {
		o := origin{kindIngress, h.Namespace, name}
		named = append(named, o)
		if !slices.ContainsFunc(v.records, func(r *record) bool { return r.from == o && !r.former() }) {
			s.MissingIngresses = append(s.MissingIngresses, name)
		}
	}
	s.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()
	return s
}

// ServicesOf are those, as namespace/name, that select a pod now or name it in an
// EndpointSlice.
func (rs *Records) ServicesOf(p *corev1.Pod) []string {
	var found []string
	for _, os := range rs.objects(p.Namespace) {
		for _, s := range kube.InNamespace[corev1.Service](os.Services, p.Namespace) {
			if selects(s, p.Labels) {
				found = append(found, s.Namespace+"/"+s.Name)
			}
		}
		for _, s := range kube.ByIndex[discoveryv1.EndpointSlice](os.Slices, byPod, p.Namespace+"/"+p.Name) {
			if service := ServiceOf(s); service != "" && namesPod(s, p) {
				found = append(found, service)
			}
		}
	}
	return found
}

// view is what can concern one pod.
type view struct {
	rs      *Records
	history *History
	pod     *corev1.Pod // nil for an address that no pod has
	born    time.Time
	since   time.Time // zero for a pod that was watched well
	// records are those of the namespaces of the pod and of its Services.
	records []*record
}

func (v *view) ties(r *record) bool { return r.ties(v.history, v.born) }

// candidates are the records of bindings that concern the pod or may do so, in
// order of name, what is present first.
func (v *view) candidates() []*record {
	unrelated := func(r *record) bool {
		unknown := r.from.namespace == v.history.Namespace && r.spec.registers() && (r.swept.Before(v.since) || v.pod == nil)
		return r.binding == nil || !unknown && !v.ties(r)
	}
	rs := slices.DeleteFunc(slices.Clone(v.records), unrelated)
	slices.SortFunc(rs, func(a, b *record) int {
		return cmp.Or(strings.Compare(a.from.name, b.from.name), a.ended.Compare(b.ended), strings.Compare(a.from.namespace, b.from.namespace),
			strings.Compare(a.service, b.service), strings.Compare(a.spec.TargetGroupARN, b.spec.TargetGroupARN))
	})
	return rs
}

func (v *view) candidate(r *record) Candidate {
	c := r.candidate()
	if c.Tied = v.ties(r); !c.Tied {
		c.Since = v.since
	}
	c.PublishesNotReady = r.everywhere && r.binding.DeletionTimestamp == nil && v.publishesNotReady(r.service)
	if v.pod != nil && v.pod.Spec.HostNetwork {
		c.OtherPorts = v.otherPorts(r.service)
	}
	return c
}

// publishesNotReady says whether a Service selects the pod and publishes addresses
// that are not ready, by the watches and by the live list.
func (v *view) publishesNotReady(service string) bool {
	namespace, _, _ := strings.Cut(service, "/")
	if v.pod == nil || namespace != v.pod.Namespace {
		return false
	}
	for _, os := range v.rs.objects(namespace) {
		s := kube.Get[corev1.Service](os.Services, service)
		if s == nil || s.DeletionTimestamp != nil || !s.Spec.PublishNotReadyAddresses || !selects(s, v.pod.Labels) {
			return false
		}
	}
	return true
}

// otherPorts are [Candidate.OtherPorts]: a port is left to another pod only where
// the watches and the live list both do so.
func (v *view) otherPorts(service string) []int {
	namespace, _, _ := strings.Cut(service, "/")
	var ports map[int]bool
	for i, os := range v.rs.objects(namespace) {
		others := portsOfOthers(v.pod, kube.ByIndex[discoveryv1.EndpointSlice](os.Slices, byService, service))
		if i == 0 {
			ports = others
		}
		maps.DeleteFunc(ports, func(port int, _ bool) bool { return !others[port] })
	}
	return slices.Sorted(maps.Keys(ports))
}

func portsOfOthers(p *corev1.Pod, all []*discoveryv1.EndpointSlice) map[int]bool {
	others, own := make(map[int]bool), make(map[int]bool)
	for _, s := range all {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			key := refKey(s, e)
			if key == "" || len(e.Addresses) == 0 || !hasAddress(p, e.Addresses[0]) {
				continue
			}
			ports := others
			if isOf(s, e, p) {
				ports = own
			} else if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue // it may be waiting for this very port
			}
			for _, port := range s.Ports {
				if port.Port != nil {
					ports[int(*port.Port)] = true
				}
			}
		}
	}
	maps.DeleteFunc(others, func(port int, _ bool) bool { return own[port] })
	return others
}

func hasAddress(p *corev1.Pod, address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && slices.Contains(Addresses(p), ip.Unmap())
}
