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
	// Hostnames are those to follow, in order of From.
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
		x.see(p.raw, false)
		x.tieAll(p.raw)
	}
	v := x.view(p)
	s := Survey{Forgotten: v.forgotten}
	for _, c := range v.candidates {
		c.PublishesNotReady = !c.Former && v.presentEverywhere(c.Binding) && x.publishesNotReady(p, c.Namespace+"/"+c.Service)
		if p.HostNetwork {
			c.OtherPorts = x.otherPorts(p, c.Namespace, c.Service)
		}
		s.Candidates = append(s.Candidates, c)
	}
	x.addHostnames(&s, p, v, ingresses)
	return s
}

// view is what is remembered that concerns one pod, at one time.
type view struct {
	pod        past // what ties it
	born       time.Time
	since      time.Time // zero for a pod that was watched well
	candidates []Candidate
	hosts      []hostRecord
	forgotten  bool
	// everywhere are, by namespace, the bindings that all that we have show: the
	// cache and, where there is one, the live list.
	everywhere map[string][]*Binding
}

func (x *Index) view(p *Pod) view {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.past[p.id()]
	if h == nil { // an address that is not watched
		h = &past{namespace: p.Namespace, late: true}
	}
	v := view{pod: h.clone(), born: x.born(h.created), since: x.since(p, h), everywhere: make(map[string][]*Binding)}
	if at, ok := x.forgotten[p.Namespace]; ok {
		v.forgotten = !before(at, v.born)
	}
	for ns := range v.namespaces() {
		for _, rs := range x.records[ns] {
			for _, r := range rs {
				v.addRecord(r)
			}
		}
		for _, h := range x.hosts[ns] {
			v.hosts = append(v.hosts, h.all()...)
		}
		v.everywhere[ns] = x.bindingsEverywhere(ns)
	}
	slices.SortFunc(v.candidates, func(a, b Candidate) int {
		return cmp.Or(strings.Compare(a.Name, b.Name), boolRank(b.Former)-boolRank(a.Former), strings.Compare(a.Namespace, b.Namespace),
			strings.Compare(a.Service, b.Service), strings.Compare(a.TargetGroupARN, b.TargetGroupARN))
	})
	return v
}

func (h *past) clone() past {
	c := *h
	c.services, c.gates, c.listed = slices.Clone(h.services), slices.Clone(h.gates), slices.Clone(h.listed)
	return c
}

// namespaces are that of the pod and those of its Services.
func (v *view) namespaces() iter.Seq[string] {
	all := map[string]bool{v.pod.namespace: true}
	for _, s := range v.pod.services {
		ns, _, _ := strings.Cut(s, "/")
		all[ns] = true
	}
	return maps.Keys(all)
}

// addRecord adds a candidate where a binding concerns the pod or may do so.
func (v *view) addRecord(r *record) {
	c := Candidate{Binding: r.Binding, Former: r.former(), Tied: r.ties(&v.pod, v.born), Seen: !r.swept.IsZero()}
	if !c.Tied {
		if v.since.IsZero() || r.Namespace != v.pod.namespace || !r.registers() || !r.swept.Before(v.since) {
			return
		}
		c.Since = v.since
	}
	v.candidates = append(v.candidates, c)
}

// bindingsEverywhere are the bindings of a namespace that both the cache and the
// newest live list show, or the cache where there is no list. Called with the
// lock.
func (x *Index) bindingsEverywhere(namespace string) []*Binding {
	live := x.liveListLocked(namespace)
	var out []*Binding
	for _, s := range x.bindings {
		for _, b := range by[*Binding](s.current(), byNamespace, namespace) {
			if l := live.bindings[b.id()]; live.began.IsZero() || l != nil && l.BindingSpec == b.BindingSpec {
				out = append(out, b)
			}
		}
	}
	return out
}

func (v *view) presentEverywhere(b Binding) bool {
	return slices.ContainsFunc(v.everywhere[b.Namespace], func(o *Binding) bool {
		return o.id() == b.id() && o.BindingSpec == b.BindingSpec
	})
}

// publishesNotReady says whether a Service selects a pod and publishes addresses
// that are not ready, by the cache and by the live list if there is one.
func (x *Index) publishesNotReady(p *Pod, service string) bool {
	namespace, name, _ := strings.Cut(service, "/")
	publishes := func(s *corev1.Service) bool {
		return s != nil && p.raw != nil && namespace == p.Namespace && s.Spec.PublishNotReadyAddresses && selects(s, p.raw.Labels)
	}
	if !publishes(get[corev1.Service](x.services, service)) {
		return false
	}
	live := x.liveList(namespace)
	return live.began.IsZero() || slices.ContainsFunc(live.services, func(s *corev1.Service) bool { return s.Name == name && publishes(s) })
}

// otherPorts are [Candidate.OtherPorts], by the cache and by the live list if
// there is one: a port is left to another pod only where both do so.
func (x *Index) otherPorts(p *Pod, namespace, service string) []int {
	if p.raw == nil {
		return nil
	}
	key := namespace + "/" + service
	ports := portsOfOthers(p, by[*discoveryv1.EndpointSlice](x.slices, byService, key))
	if live := x.liveList(namespace); !live.began.IsZero() {
		ours := slices.DeleteFunc(slices.Clone(live.slices), func(s *discoveryv1.EndpointSlice) bool { return serviceOf(s) != key })
		also := portsOfOthers(p, ours)
		maps.DeleteFunc(ports, func(port int, _ bool) bool { return !also[port] })
	}
	if len(ports) == 0 {
		return nil
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
