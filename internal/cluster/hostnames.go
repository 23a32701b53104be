package cluster

import (
	"cmp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Hostname is a load balancer's name as a status shows or showed it.
type Hostname struct {
	Name string
	// From is what shows it: "Ingress default/web" or "Service default/web".
	From string
	// Ingress says that From is an Ingress; else it is a Service of type
	// LoadBalancer.
	Ingress bool
	// Tied says that the pod is behind it: that the Service, or one of those that
	// the Ingress' rules or its default backend name or named, is tied to the pod;
	// or that the Ingress was named by the caller.
	Tied bool
	// PublishesNotReady says that every Service of the pod behind it publishes
	// addresses that are not ready.
	PublishesNotReady bool
}

// groupAnnotation puts an Ingress into an explicit IngressGroup. LBC
// docs/guide/ingress/annotations.md.
const groupAnnotation = "alb.ingress.kubernetes.io/group.name"

// Labels that LBC puts on its bindings to say what they were made for. LBC
// pkg/deploy/tracking/provider.go (StackLabels).
const (
	ingressStack          = "ingress.k8s.aws/stack" // an explicit IngressGroup
	ingressStackNamespace = "ingress.k8s.aws/stack-namespace"
	ingressStackName      = "ingress.k8s.aws/stack-name"
	serviceStackNamespace = "service.k8s.aws/stack-namespace"
	serviceStackName      = "service.k8s.aws/stack-name"
)

var stackLabels = []string{ingressStack, ingressStackNamespace, ingressStackName, serviceStackNamespace, serviceStackName}

// origin is where a host name comes from: an Ingress, or a Service of type LoadBalancer.
type origin struct {
	namespace, name string
	ingress         bool
	group           string // explicit IngressGroup, or ""
}

func (o origin) String() string {
	if o.ingress {
		return "Ingress " + o.namespace + "/" + o.name
	}
	return "Service " + o.namespace + "/" + o.name
}

// hostState is what an Ingress or a LoadBalancer Service shows.
type hostState struct {
	origin
	hostnames []string // of load balancers
	addressed bool     // it has any address, be it an IP address
	backends  []string // names of Services
}

// hostRecord is that a host name leads or led to a Service, or to none that we
// know of where backend is empty.
type hostRecord struct {
	origin
	hostname, backend string
	ended             time.Time // since when that is not shown any more; zero where it is
}

// host is what is remembered of one Ingress or LoadBalancer Service, in the order
// in which it was first seen.
type host struct{ records []*hostRecord }

func (h *host) all() []hostRecord {
	var out []hostRecord
	for _, r := range h.records {
		out = append(out, *r)
	}
	return out
}

// records are what a state amounts to.
func (s *hostState) records() []hostRecord {
	if s == nil {
		return nil
	}
	backends := s.backends
	if len(backends) == 0 {
		backends = []string{""}
	}
	var out []hostRecord
	for _, name := range s.hostnames {
		for _, b := range backends {
			out = append(out, hostRecord{origin: s.origin, hostname: name, backend: b})
		}
	}
	return out
}

func (r *hostRecord) same(o hostRecord) bool {
	return r.hostname == o.hostname && r.backend == o.backend
}

// ingressHost is nil for nil.
func ingressHost(i *networkingv1.Ingress) *hostState {
	if i == nil {
		return nil
	}
	s := &hostState{origin: origin{i.Namespace, i.Name, true, i.Annotations[groupAnnotation]}, backends: backends(i), addressed: len(i.Status.LoadBalancer.Ingress) > 0}
	for _, a := range i.Status.LoadBalancer.Ingress {
		if a.Hostname != "" {
			s.hostnames = append(s.hostnames, a.Hostname)
		}
	}
	return s
}

// serviceHost is nil for what is no LoadBalancer Service.
func serviceHost(svc *corev1.Service) *hostState {
	if svc == nil || svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	s := &hostState{origin: origin{svc.Namespace, svc.Name, false, ""}, backends: []string{svc.Name}, addressed: len(svc.Status.LoadBalancer.Ingress) > 0}
	for _, a := range svc.Status.LoadBalancer.Ingress {
		if a.Hostname != "" {
			s.hostnames = append(s.hostnames, a.Hostname)
		}
	}
	return s
}

func (x *Index) ingressChanged(before, after *networkingv1.Ingress) {
	x.hostChanged(ingressHost(before), ingressHost(after))
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Status, after.Status) ||
		before.Annotations[groupAnnotation] != after.Annotations[groupAnnotation] {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

// hostChanged keeps what an Ingress or a Service said.
func (x *Index) hostChanged(before, after *hostState) {
	x.learnHost(after) // before was learned when it came
	if s := cmp.Or(after, before); s != nil {
		x.settleHost(s.namespace, s.String())
	}
}

// learnHost says whether something is new.
func (x *Index) learnHost(s *hostState) bool {
	records := s.records()
	if len(records) == 0 {
		return false
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	hosts := x.hosts[s.namespace]
	if hosts == nil {
		hosts = make(map[string]*host)
		x.hosts[s.namespace] = hosts
	}
	h := hosts[s.String()]
	if h == nil {
		h = new(host)
		hosts[s.String()] = h
	}
	news := false
	for _, r := range records {
		i := slices.IndexFunc(h.records, func(o *hostRecord) bool { return o.same(r) })
		if i >= 0 {
			h.records[i].group = r.group
			continue
		}
		h.records = append(h.records, &r)
		news = true
	}
	return news
}

// settleHost is like settle, for what an Ingress or a Service showed.
func (x *Index) settleHost(namespace, from string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.hosts[namespace][from]
	if h == nil {
		return
	}
	var shown []hostRecord
	for _, s := range x.hostStates(h.records[0].origin) {
		shown = append(shown, s.records()...)
	}
	for _, r := range h.records {
		switch {
		case slices.ContainsFunc(shown, r.same):
			r.ended = time.Time{}
		case r.ended.IsZero():
			r.ended = time.Now()
		}
	}
}

// hostStates are what the cache and the live list show of an Ingress or a
// Service, as far as it is there. Called with the lock.
func (x *Index) hostStates(o origin) []*hostState {
	var out []*hostState
	add := func(s *hostState) {
		if s != nil {
			out = append(out, s)
		}
	}
	key, live := o.namespace+"/"+o.name, x.liveListLocked(o.namespace)
	if !o.ingress {
		add(serviceHost(get[corev1.Service](x.services, key)))
		for _, s := range live.services {
			if s.Name == o.name {
				add(serviceHost(s))
			}
		}
		return out
	}
	add(ingressHost(get[networkingv1.Ingress](x.ingresses, key)))
	for _, i := range live.ingresses {
		if i.Name == o.name {
			add(ingressHost(i))
		}
	}
	return out
}

// tidyHosts drops what is not shown any more and concerns no pod.
func (x *Index) tidyHosts() {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.bonds()
	for ns, hosts := range x.hosts {
		for from, h := range hosts {
			h.records = slices.DeleteFunc(h.records, func(r *hostRecord) bool {
				return !r.ended.IsZero() && time.Since(r.ended) >= keepFormer && !b.has(ns+"/"+r.backend, r.ended)
			})
			if len(h.records) == 0 {
				delete(hosts, from)
			}
		}
		if len(hosts) == 0 {
			delete(x.hosts, ns)
		}
	}
}

// isStackOf says whether a binding's stack label names an Ingress or a Service.
func (o origin) isStackOf(b *Binding) bool {
	l := b.Labels
	switch {
	case !o.ingress:
		return l[serviceStackName] == o.name && l[serviceStackNamespace] == o.namespace
	case o.group != "":
		return l[ingressStack] == o.group
	default:
		return l[ingressStackName] == o.name && l[ingressStackNamespace] == o.namespace
	}
}

// accountsFor says whether a present binding that was made for an Ingress or a
// Service leads to one of its backends, or to any where backend is empty.
func (v *view) accountsFor(o origin, backend string) bool {
	return slices.ContainsFunc(v.everywhere[o.namespace], func(b *Binding) bool {
		return o.isStackOf(b) && (backend == "" || b.Service == backend)
	})
}

// addHostnames adds what there is to follow by host name.
func (x *Index) addHostnames(s *Survey, p *Pod, v view, ingresses []string) {
	named := make(map[string]bool)
	for _, name := range ingresses {
		named[origin{namespace: p.Namespace, name: name, ingress: true}.String()] = true
		if !x.hasIngress(p.Namespace, name) {
			s.MissingIngresses = append(s.MissingIngresses, name)
		}
	}
	type key struct{ from, name string }
	tied := make(map[key][]string) // backends of the pod
	var order []hostRecord
	for _, r := range v.hosts {
		k := key{r.String(), r.hostname}
		if _, seen := tied[k]; !seen {
			tied[k] = nil
			order = append(order, r)
		}
		if v.tiedTo(r) {
			tied[k] = append(tied[k], r.backend)
		}
	}
	slices.SortStableFunc(order, func(a, b hostRecord) int { return strings.Compare(a.String(), b.String()) })
	for _, r := range order {
		k := key{r.String(), r.hostname}
		h := Hostname{Name: r.hostname, From: k.from, Ingress: r.ingress, Tied: named[k.from] || len(tied[k]) > 0}
		if named[k.from] || v.follows(r.origin, tied[k]) {
			h.PublishesNotReady = x.allPublish(p, r.origin, tied[k])
			s.Hostnames = append(s.Hostnames, h)
		}
	}
	s.NoAddress = x.noAddress(v)
}

// tiedTo says whether a host name leads or led to a Service that is tied to the
// pod.
func (v *view) tiedTo(r hostRecord) bool {
	return slices.Contains(v.pod.services, r.namespace+"/"+r.backend) && !before(r.ended, v.born)
}

// follows says whether a host name is to be followed: not where bindings account
// for all of its backends that are tied to the pod, and, where none is, only for
// a pod whose ties can have escaped us.
func (v *view) follows(o origin, tied []string) bool {
	if len(tied) == 0 {
		return !v.since.IsZero() && o.namespace == v.pod.namespace && !v.accountsFor(o, "")
	}
	return slices.ContainsFunc(tied, func(backend string) bool { return !v.accountsFor(o, backend) })
}

// allPublish says whether all of a pod's Services behind a host name publish
// addresses that are not ready.
func (x *Index) allPublish(p *Pod, o origin, tied []string) bool {
	return len(tied) > 0 && !slices.ContainsFunc(tied, func(b string) bool { return !x.publishesNotReady(p, o.namespace+"/"+b) })
}

// noAddress is [Survey.NoAddress].
func (x *Index) noAddress(v view) []string {
	var out []string
	for ns := range v.namespaces() {
		for from, states := range x.states(ns) {
			tied, addressed, accounted := false, false, false
			for _, s := range states {
				addressed = addressed || s.addressed
				for _, b := range s.backends {
					if slices.Contains(v.pod.services, ns+"/"+b) {
						tied, accounted = true, accounted || v.accountsFor(s.origin, b)
					}
				}
			}
			if tied && !addressed && !accounted {
				out = append(out, from)
			}
		}
	}
	slices.Sort(out)
	return out
}

// states are what the Ingresses and the LoadBalancer Services of a namespace
// show, by the cache and by the live list.
func (x *Index) states(namespace string) map[string][]*hostState {
	live := x.liveList(namespace)
	all := make(map[string][]*hostState)
	take := func(s *hostState) {
		if s != nil {
			all[s.String()] = append(all[s.String()], s)
		}
	}
	for _, i := range slices.Concat(by[*networkingv1.Ingress](x.ingresses, byNamespace, namespace), live.ingresses) {
		take(ingressHost(i))
	}
	for _, s := range slices.Concat(by[*corev1.Service](x.services, byNamespace, namespace), live.services) {
		take(serviceHost(s))
	}
	return all
}

// hasIngress says whether an Ingress is there, by the cache or by the live list.
func (x *Index) hasIngress(namespace, name string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return len(x.hostStates(origin{namespace: namespace, name: name, ingress: true})) > 0
}

// backends names the Services that an Ingress sends to.
func backends(i *networkingv1.Ingress) []string {
	var names []string
	addBackend := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			names = add(names, b.Service.Name)
		}
	}
	addBackend(i.Spec.DefaultBackend)
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			addBackend(&p.Backend)
		}
	}
	return names
}

func trimIngress(obj any) (any, error) {
	i, ok := obj.(*networkingv1.Ingress)
	if !ok {
		return obj, nil
	}
	out := &networkingv1.Ingress{
		ObjectMeta: trimMeta(i.ObjectMeta),
		Spec:       networkingv1.IngressSpec{DefaultBackend: i.Spec.DefaultBackend, Rules: i.Spec.Rules},
		Status:     networkingv1.IngressStatus{LoadBalancer: i.Status.LoadBalancer},
	}
	if group, ok := i.Annotations[groupAnnotation]; ok {
		out.Annotations = map[string]string{groupAnnotation: group}
	}
	return out, nil
}
