package lbc

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
)

// Expose turns a Service into one of type LoadBalancer whose status names lb.
func Expose(s *corev1.Service, lb *aws.LoadBalancer) {
	s.Spec.Type = corev1.ServiceTypeLoadBalancer
	s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: lb.DNSName()}}
}

// NewIngress is an Ingress for a Service. Its status names the load balancers, and it has
// LBC's finalizer. Without load balancers it is an Ingress that LBC has not seen to yet.
func NewIngress(namespace, name, service string, lbs ...*aws.LoadBalancer) *networkingv1.Ingress {
	path := networkingv1.PathTypePrefix
	i := &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: networkingv1.IngressSpec{Rules: []networkingv1.IngressRule{{
			IngressRuleValue: networkingv1.IngressRuleValue{HTTP: &networkingv1.HTTPIngressRuleValue{
				Paths: []networkingv1.HTTPIngressPath{{
					Path:     "/",
					PathType: &path,
					Backend: networkingv1.IngressBackend{Service: &networkingv1.IngressServiceBackend{
						Name: service, Port: networkingv1.ServiceBackendPort{Number: 80},
					}},
				}},
			}},
		}}},
	}
	for _, lb := range lbs {
		i.Finalizers = []string{ingressFinalizer}
		i.Status.LoadBalancer.Ingress = append(i.Status.LoadBalancer.Ingress,
			networkingv1.IngressLoadBalancerIngress{Hostname: strings.ToLower(lb.DNSName())})
	}
	return i
}

// AddIngress creates an Ingress; see [NewIngress].
func (l *Controller) AddIngress(namespace, name, service string, lbs ...*aws.LoadBalancer) *networkingv1.Ingress {
	i := NewIngress(namespace, name, service, lbs...)
	l.cluster.Apply(i)
	return i
}

// NewBinding is the TargetGroupBinding of port 80 of a Service and a target group. It has
// the labels that LBC gives to a binding for an Ingress (ALB) or a Service (NLB) that has
// the name of that Service. LBC adds its finalizer, checkpoint and status.
//
// For unusual cases, change the binding before it is applied. With TargetGroupName and no
// TargetGroupARN, LBC resolves the name. Without TargetGroupProtocol it is a binding of
// LBC before 2.14. IAMRoleARNToAssume names the role that a group needs, see
// [aws.Account.RequireRole]. With the APIVersion eks.amazonaws.com/v1 it is a binding of
// EKS Auto Mode, see [kube.Cluster.ServeGroup]; it then loses those labels when it is
// applied, because nobody has published what Auto Mode writes.
func NewBinding(namespace, name, service string, g *aws.TargetGroup) *kube.TargetGroupBinding {
	b := &kube.TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	b.Spec.TargetGroupARN = g.ARN()
	b.Spec.TargetType, b.Spec.TargetGroupProtocol = new(g.TargetType()), new(g.Protocol())
	if g.IPv6() {
		b.Spec.IPAddressType = new("ipv6")
	}
	b.Spec.ServiceRef.Name = service
	b.Spec.ServiceRef.Port = intstr.FromInt32(80)
	b.Spec.Networking = map[string]any{"ingress": []any{map[string]any{
		"from":  []any{map[string]any{"securityGroup": map[string]any{"groupID": "sg-0simulated"}}},
		"ports": []any{map[string]any{"protocol": "TCP", "port": g.Port()}},
	}}}
	if g.Balancer() != nil {
		resource := "ingress"
		if g.Balancer().Kind() == aws.NLB {
			resource = "service"
		}
		b.LabelAsLBC(resource, namespace, service)
	}
	return b
}

// AddHiddenBinding creates a TargetGroupBinding of EKS Auto Mode, whose API group is
// not served unless [kube.Cluster.ServeGroup] says so. The world's LBC fills the target
// group, and nobody can see why. It stands for anything else that fills groups.
func (l *Controller) AddHiddenBinding(namespace, name, service string, g *aws.TargetGroup) *kube.TargetGroupBinding {
	b := NewBinding(namespace, name, service, g)
	b.APIVersion = kube.GroupEKS + "/v1"
	l.cluster.Apply(b)
	return b
}

// AddBinding creates a TargetGroupBinding; see [NewBinding].
func (l *Controller) AddBinding(namespace, name, service string, g *aws.TargetGroup) *kube.TargetGroupBinding {
	b := NewBinding(namespace, name, service, g)
	l.cluster.Apply(b)
	return b
}
