package cluster

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/equality"
)

// Hostname is a load balancer's name as a status shows it.
type Hostname struct {
	Name string
	// From is what shows it: "Ingress default/web" or "Service default/web".
	From string
	// Ingress says that From is an Ingress; else it is a Service of type
	// LoadBalancer.
	Ingress bool
	// Tied says that the pod is behind it: that the Service, or one of those
	// that the Ingress' rules or its default backend name, is or was one of the
	// pod's, as in [Index.Candidates].
	Tied bool
	// PublishesNotReady says that every Service of the pod behind it publishes
	// addresses that are not ready.
	PublishesNotReady bool
}

// hostnames lists those of the Ingresses and of the LoadBalancer Services of a
// namespace, in the order of From and, within it, of the status. p may be nil;
// then none is Tied. noAddress lists, in the form of From, the Ingresses and
// LoadBalancer Services that have no address at all, whose backends are p's; all
// of them where p is nil.
func (x *Index) hostnames(namespace string, p *Pod) (names []Hostname, noAddress []string) {
	var services map[string]bool
	if p != nil && p.Namespace == namespace {
		services = x.servicesOf(p)
	}
	add := func(h Hostname, addresses []string, backends ...string) {
		h.Tied = slices.ContainsFunc(backends, func(s string) bool { return services[s] })
		for _, a := range addresses {
			if a != "" {
				h.Name = a
				names = append(names, h)
			}
		}
		if len(addresses) == 0 && (h.Tied || p == nil) {
			noAddress = append(noAddress, h.From)
		}
	}
	for _, i := range by[*networkingv1.Ingress](x.ingresses, byNamespace, namespace) {
		var addresses []string // an IP address alone is a ""
		for _, a := range i.Status.LoadBalancer.Ingress {
			addresses = append(addresses, a.Hostname)
		}
		add(Hostname{From: "Ingress " + namespace + "/" + i.Name, Ingress: true}, addresses, backends(i)...)
	}
	for _, s := range by[*corev1.Service](x.services, byNamespace, namespace) {
		if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
			continue
		}
		var addresses []string
		for _, a := range s.Status.LoadBalancer.Ingress {
			addresses = append(addresses, a.Hostname)
		}
		add(Hostname{From: "Service " + namespace + "/" + s.Name}, addresses, s.Name)
	}
	slices.SortStableFunc(names, func(a, b Hostname) int { return cmp.Compare(a.From, b.From) })
	slices.Sort(noAddress)
	return names, noAddress
}

// HasIngress says whether an Ingress exists.
func (x *Index) HasIngress(namespace, name string) bool {
	return get[networkingv1.Ingress](x.ingresses, namespace+"/"+name) != nil
}

// backends names the Services that an Ingress sends to.
func backends(i *networkingv1.Ingress) []string {
	var names []string
	add := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			names = append(names, b.Service.Name)
		}
	}
	add(i.Spec.DefaultBackend)
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			add(&p.Backend)
		}
	}
	return names
}

func (x *Index) ingressChanged(before, after *networkingv1.Ingress) {
	if before == nil || after == nil || !equality.Semantic.DeepEqual(before.Spec, after.Spec) || !equality.Semantic.DeepEqual(before.Status, after.Status) {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}

func trimIngress(obj any) (any, error) {
	i, ok := obj.(*networkingv1.Ingress)
	if !ok {
		return obj, nil
	}
	return &networkingv1.Ingress{
		ObjectMeta: trimMeta(i.ObjectMeta),
		Spec:       networkingv1.IngressSpec{DefaultBackend: i.Spec.DefaultBackend, Rules: i.Spec.Rules},
		Status:     networkingv1.IngressStatus{LoadBalancer: i.Status.LoadBalancer},
	}, nil
}
