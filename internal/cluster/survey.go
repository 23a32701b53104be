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
)

// Candidate is a binding, present or former, that may hold a pod.
type Candidate struct {
	Binding
	// Former says that it was deleted, that its Service or group was switched, or
	// that the API server serves its kind no longer.
	Former bool
	// Tied says that something ties it to the pod, or did in the pod's lifetime.
	// Else only a look that began at Since or later tells whether its group lists
	// the pod.
	Tied  bool
	Since time.Time
	// Seen says that a look at its group was taken in before.
	Seen bool
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
	// Candidates are in order of name. Those that are neither tied to the pod nor
	// uncertain are left out, and so are uncertain ones whose targets are not pods.
	Candidates []Candidate
	// Hostnames are those to follow, in order of From and name.
	Hostnames []Hostname
	// NoAddress names the Ingresses and LoadBalancer Services, as "Ingress ns/name",
	// that are tied to the pod, have no address at all, and that no binding
	// accounts for.
	NoAddress []string
	// MissingIngresses are those that were named and are not there.
	MissingIngresses []string
	// Forgotten says that a former binding had to be dropped which could still
	// concern the pod: it cannot be said that it is not registered.
	Forgotten bool
}

// Survey says what may lead to a pod, by the caches, the newest live lists and
// what is remembered. ingresses are names of Ingresses of its namespace whose
// load balancers count in any case.
func (x *Index) Survey(p *Pod, ingresses []string) Survey {
	if p.raw != nil {
		x.note(p.raw)
		x.tieAll(p.raw)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	v := x.view(p)
	var s Survey
	if at, ok := x.forgotten[p.Namespace]; ok {
		s.Forgotten = !before(at, v.born)
	}
	for _, r := range v.candidates() {
		s.Candidates = append(s.Candidates, v.candidate(r))
	}
	var named []origin
	for _, name := range ingresses {
		o := origin{kindIngress, p.Namespace, name}
		named = append(named, o)
		if !slices.ContainsFunc(v.records, func(r *record) bool { return r.from == o && !r.former() }) {
			s.MissingIngresses = append(s.MissingIngresses, name)
		}
	}
	s.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()
	return s
}

// view is what there is that can concern one pod. It is used with the lock.
type view struct {
	x       *Index
	pod     *Pod
	history *history // what ties it
	born    time.Time
	since   time.Time // zero for a pod that was watched well
	// records are those of the namespaces of the pod and of its Services.
	records []*record
}

// view is called with the lock.
func (x *Index) view(p *Pod) view {
	h := x.histories[p.id()]
	if h == nil { // an address that is not watched
		h = &history{namespace: p.Namespace, late: true}
	}
	v := view{x: x, pod: p, history: h, born: x.born(h), since: x.since(p, h)}
	for ns := range h.namespaces() {
		v.records = slices.AppendSeq(v.records, maps.Values(x.records[ns]))
	}
	return v
}

// candidates are the records of bindings that concern the pod or may do so, in
// order of name, what is present first.
func (v *view) candidates() []*record {
	unrelated := func(r *record) bool {
		unknown := r.from.namespace == v.history.namespace && r.spec.registers() && (r.swept.Before(v.since) || v.pod.UID == "")
		return r.binding == nil || !unknown && !r.ties(v.history, v.born)
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
	if c.Tied = r.ties(v.history, v.born); !c.Tied {
		c.Since = v.since
	}
	c.PublishesNotReady = r.everywhere && r.binding.DeletionTimestamp == nil && v.publishesNotReady(r.service)
	if v.pod.HostNetwork {
		c.OtherPorts = v.otherPorts(r.service)
	}
	return c
}

// publishesNotReady says whether a Service selects the pod and publishes addresses
// that are not ready, by all pictures.
func (v *view) publishesNotReady(service string) bool {
	namespace, _, _ := strings.Cut(service, "/")
	if v.pod.raw == nil || namespace != v.pod.Namespace {
		return false
	}
	for _, picture := range v.x.pictures(namespace) {
		s := get[corev1.Service](picture.services, service)
		if s == nil || s.DeletionTimestamp != nil || !s.Spec.PublishNotReadyAddresses || !selects(s, v.pod.raw.Labels) {
			return false
		}
	}
	return true
}

// otherPorts are [Candidate.OtherPorts]: a port is left to another pod only where
// all pictures do so.
func (v *view) otherPorts(service string) []int {
	namespace, _, _ := strings.Cut(service, "/")
	var ports map[int]bool
	for i, picture := range v.x.pictures(namespace) {
		others := portsOfOthers(v.pod, by[*discoveryv1.EndpointSlice](picture.slices, byService, service))
		if i == 0 {
			ports = others
		}
		maps.DeleteFunc(ports, func(port int, _ bool) bool { return !others[port] })
	}
	return slices.Sorted(maps.Keys(ports))
}

func portsOfOthers(p *Pod, all []*discoveryv1.EndpointSlice) map[int]bool {
	others, own := make(map[int]bool), make(map[int]bool)
	for _, s := range all {
		for i := range s.Endpoints {
			e := &s.Endpoints[i]
			key := refKey(s, e)
			if key == "" || len(e.Addresses) == 0 || !p.has(e.Addresses[0]) {
				continue
			}
			ports := others
			if isOf(s, e, p.raw) {
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

// has says whether an address is one of the pod's.
func (p *Pod) has(address string) bool {
	ip, err := netip.ParseAddr(address)
	return err == nil && slices.Contains(p.IPs, ip.Unmap())
}
