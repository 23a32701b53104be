package sim

import (
	"time"

	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// App is an application behind a load balancer, as LBC sets it up for an
// Ingress: everything from the Deployment to the target group bears its name.
type App struct {
	Namespace, Name string
	Kind            Kind
	Replicas        int
	Port            int
	Grace           time.Duration
	Hook            Hook
}

// AddApp creates the application and all that belongs to it. Its pods have a
// readiness gate for its target group.
func (w *World) AddApp(a App) (*Deployment, *TargetGroup) {
	lb := w.AddLoadBalancer("k8s-"+a.Namespace+"-"+a.Name, a.Kind)
	group := w.AddTargetGroup("k8s-"+a.Namespace+"-"+a.Name, a.Port, lb)
	labels := map[string]string{"app": a.Name}
	w.AddService(a.Namespace, a.Name, labels, a.Port)
	w.AddIngress(a.Namespace, a.Name, a.Name, lb)
	w.AddBinding(a.Namespace, a.Name, a.Name, group)
	return w.AddDeployment(PodSpec{
		Namespace: a.Namespace,
		Name:      a.Name,
		Labels:    labels,
		Port:      a.Port,
		Grace:     a.Grace,
		Gates:     []string{GatePrefix + a.Name},
		Hook:      a.Hook,
	}, a.Replicas), group
}

// AddIngress creates an Ingress for a Service whose status names lb.
func (w *World) AddIngress(namespace, name, service string, lb *LoadBalancer) *networkingv1.Ingress {
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
	if lb != nil {
		i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{Hostname: lb.dnsName}}
	}
	w.put(i)
	return i
}

// AddBinding creates the TargetGroupBinding of a Service and a group of ip
// targets.
func (w *World) AddBinding(namespace, name, service string, g *TargetGroup) *TargetGroupBinding {
	ip := "ip"
	b := &TargetGroupBinding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	b.Spec.TargetGroupARN = g.arn
	b.Spec.TargetType = &ip
	b.Spec.TargetGroupProtocol = &g.protocol
	b.Spec.ServiceRef.Name = service
	b.Spec.ServiceRef.Port = intstr.FromInt32(80)
	w.put(b)
	return b
}
