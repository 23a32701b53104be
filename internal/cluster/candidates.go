package cluster

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// Candidate is a binding that may hold a pod.
type Candidate struct {
	Binding
	// Former says that it was deleted, or that its Service or group was switched.
	Former bool
	// OtherPorts are those at the pod's address that are another pod's, in the
	// host network.
	OtherPorts []int
	// PublishesNotReady says that the binding's Service selects the pod and
	// publishes addresses that are not ready: LBC keeps such a pod until it is
	// gone.
	PublishesNotReady bool
	// Tied is false where only a look that began at Since or later tells whether
	// its group lists the pod.
	Tied  bool
	Since time.Time
	// Seen says that a sweep has read its group before.
	Seen bool
}

// Candidates lists the bindings of any target type that may hold a pod, in order
// of name: those whose Service selects it now or did at any time that we
// watched, whose EndpointSlices name or named it, or whose readiness condition
// it carries. For a pod that is Older, all others of its namespace follow suit,
// not Tied. A binding's Service is always in its own namespace.
func (x *Index) Candidates(p *Pod) []Candidate {
	services := x.servicesOf(p)
	var out []Candidate
	for _, b := range x.Bindings(p.Namespace) {
		c := Candidate{Binding: b, Tied: services[b.Service] || slices.Contains(p.gates, b.Name)}
		if !c.Tied && !p.Older {
			continue
		}
		if s := get[corev1.Service](x.services, b.Namespace+"/"+b.Service); s != nil {
			c.PublishesNotReady = s.Spec.PublishNotReadyAddresses && selects(s, p.labels)
		}
		out = append(out, c)
	}
	return out
}

// servicesOf names the Services that select a pod or name it in an
// EndpointSlice, now or at any time that we watched.
func (x *Index) servicesOf(p *Pod) map[string]bool {
	names := make(map[string]bool)
	for _, s := range by[*corev1.Service](x.services, byNamespace, p.Namespace) {
		if selects(s, p.labels) {
			names[s.Name] = true
		}
	}
	for _, s := range by[*discoveryv1.EndpointSlice](x.slices, byPod, p.Key()) {
		if endpoints(s)[p.Key()].is(p.UID) {
			names[s.Labels[discoveryv1.LabelServiceName]] = true
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if h := x.past[p.UID]; h != nil {
		for _, s := range h.services {
			names[s] = true
		}
	}
	delete(names, "") // of a slice without a Service
	return names
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

// targetPorts are the ports of the pod that a port of a Service leads to; nil
// where that cannot be told.
func (p *Pod) targetPorts(s *corev1.Service, port intstr.IntOrString) []int {
	var ports []int
	for _, sp := range s.Spec.Ports {
		if port != intstr.FromInt32(sp.Port) && port != intstr.FromString(sp.Name) {
			continue
		}
		switch t := sp.TargetPort; {
		case t.Type == intstr.Int && t.IntVal != 0:
			ports = append(ports, int(t.IntVal))
		case t.Type == intstr.Int: // left out: the Service's own
			ports = append(ports, int(sp.Port))
		case p.ports[t.StrVal] == nil:
			return nil
		default:
			ports = append(ports, p.ports[t.StrVal]...)
		}
	}
	slices.Sort(ports)
	return slices.Compact(ports)
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
	out := &corev1.Service{
		ObjectMeta: trimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                     s.Spec.Type,
			Selector:                 s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
		},
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
	for _, p := range s.Spec.Ports {
		out.Spec.Ports = append(out.Spec.Ports, corev1.ServicePort{Name: p.Name, Port: p.Port, TargetPort: p.TargetPort})
	}
	return out, nil
}
