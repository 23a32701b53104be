package ties

import (
	"cmp"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// Hostname is a load balancer's name as a status shows or showed it.
type Hostname struct {
	Name    string
	From    string // what shows it: "Ingress default/web" or "Service default/web"
	Ingress bool   // that is an Ingress; else it is a Service of type LoadBalancer
	// Tied says that the pod is behind it: the Service, or one that the Ingress sends
	// or sent to, is tied to the pod; or the caller named the Ingress.
	Tied bool
	// PublishesNotReady says that every Service of the pod behind it publishes
	// addresses that are not ready.
	PublishesNotReady bool
}

func ingressRecords(i *networkingv1.Ingress) []*record {
	if i == nil {
		return nil
	}
	var hostnames, services []string
	for _, a := range i.Status.LoadBalancer.Ingress {
		hostnames = addNew(hostnames, a.Hostname)
	}
	for _, name := range backends(i) {
		services = append(services, i.Namespace+"/"+name)
	}
	if len(services) == 0 {
		services = []string{""}
	}
	return hostRecords(origin{kindIngress, i.Namespace, i.Name}, i.Annotations[groupAnnotation], hostnames, services)
}

// serviceRecords are none for what is no LoadBalancer Service.
func serviceRecords(s *corev1.Service) []*record {
	if s == nil || s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return nil
	}
	var hostnames []string
	for _, a := range s.Status.LoadBalancer.Ingress {
		hostnames = addNew(hostnames, a.Hostname)
	}
	return hostRecords(origin{kindService, s.Namespace, s.Name}, "", hostnames, []string{s.Namespace + "/" + s.Name})
}

func hostRecords(from origin, group string, hostnames, services []string) []*record {
	noAddress := len(hostnames) == 0
	if noAddress {
		hostnames = []string{""}
	}
	var out []*record
	for _, name := range hostnames {
		for _, service := range services {
			out = append(out, &record{link: link{from: from, service: service, hostname: name, noAddress: noAddress}, ingressGroup: group})
		}
	}
	return out
}

// isStackOf says whether a binding was made for the Ingress or the Service of a
// record, by its stack labels.
func (r *record) isStackOf(b *Binding) bool {
	l := b.Labels
	switch {
	case r.from.kind == kindService:
		return l[serviceStackName] == r.from.name && l[serviceStackNamespace] == r.from.namespace
	case r.ingressGroup != "":
		return l[ingressStack] == r.ingressGroup
	default:
		return l[ingressStackName] == r.from.name && l[ingressStackNamespace] == r.from.namespace
	}
}

// accountsFor says whether a present binding was made for the Ingress or the Service
// of a record, and leads to the record's Service, or to any where anyService is true.
func (v *view) accountsFor(r *record, anyService bool) bool {
	return slices.ContainsFunc(v.records, func(b *record) bool {
		return b.binding != nil && b.everywhere && b.from.namespace == r.from.namespace && r.isStackOf(b.binding) && (anyService || b.service == r.service)
	})
}

// hostnames are those to follow. named are Ingresses that the caller names.
func (v *view) hostnames(named []origin) []Hostname {
	type name struct {
		from     origin
		hostname string
	}
	leads := make(map[name][]*record)
	for _, r := range v.records {
		if r.hostname != "" {
			n := name{r.from, r.hostname}
			leads[n] = append(leads[n], r)
		}
	}
	var out []Hostname
	for n, rs := range leads {
		untied := func(r *record) bool { return !v.ties(r) }
		hidesUnready := func(r *record) bool { return !v.publishesNotReady(r.service) }
		tied := slices.DeleteFunc(slices.Clone(rs), untied)
		isNamed := slices.Contains(named, n.from)
		if isNamed || v.follows(rs, tied) {
			out = append(out, Hostname{
				Name: n.hostname, From: n.from.String(), Ingress: n.from.kind == kindIngress,
				Tied: isNamed || len(tied) > 0, PublishesNotReady: len(tied) > 0 && !slices.ContainsFunc(tied, hidesUnready),
			})
		}
	}
	slices.SortFunc(out, func(a, b Hostname) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.Name, b.Name)) })
	return out
}

// follows says whether to follow the host name of some records, some of them tied to
// the pod: not where bindings account for all that tie it; and where none does, only
// for a pod whose ties can have escaped us.
func (v *view) follows(leads, tied []*record) bool {
	if len(tied) == 0 {
		return !v.since.IsZero() && leads[0].from.namespace == v.history.Namespace && slices.ContainsFunc(leads, func(r *record) bool { return !v.accountsFor(r, true) })
	}
	return slices.ContainsFunc(tied, func(r *record) bool { return !v.accountsFor(r, false) })
}

// noAddress is [Survey.NoAddress].
func (v *view) noAddress() []string {
	tied, known := make(map[string]bool), make(map[string]bool)
	for _, r := range v.records {
		if r.binding != nil || r.former() {
			continue
		}
		isTied, from := slices.Contains(v.history.Services, r.service), r.from.String()
		tied[from] = tied[from] || isTied
		known[from] = known[from] || !r.noAddress || isTied && v.accountsFor(r, false)
	}
	maps.DeleteFunc(tied, func(from string, isTied bool) bool { return !isTied || known[from] })
	return slices.Sorted(maps.Keys(tied))
}
