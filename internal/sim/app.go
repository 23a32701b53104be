package sim

import (
	"time"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
)

// App is an application behind a load balancer, as LBC sets it up for an Ingress
// (ALB) or a Service of type LoadBalancer (NLB): everything from the Deployment to
// the target group has its name.
type App struct {
	Namespace, Name string
	Kind            aws.Kind
	Replicas        int
	Port            int
	Grace           time.Duration
	Hook            Hook
}

// AddApp creates the application and everything that belongs to it. Its pods have a
// readiness gate for its target group.
func (w *World) AddApp(a App) (*Deployment, *aws.TargetGroup) {
	lb := w.AWS.AddLoadBalancer("k8s-"+a.Namespace+"-"+a.Name, a.Kind)
	group := w.AWS.AddTargetGroup("k8s-"+a.Namespace+"-"+a.Name, a.Port, lb)
	labels := map[string]string{"app": a.Name}
	service := kube.NewService(a.Namespace, a.Name, labels, a.Port)
	if a.Kind == aws.NLB {
		lbc.Expose(service, lb)
	} else {
		w.LBC.AddIngress(a.Namespace, a.Name, a.Name, lb)
	}
	w.Kube.Apply(service)
	w.LBC.AddBinding(a.Namespace, a.Name, a.Name, group)
	return w.AddDeployment(PodSpec{
		Namespace: a.Namespace,
		Name:      a.Name,
		Labels:    labels,
		Port:      a.Port,
		Grace:     a.Grace,
		Gates:     []string{lbc.GatePrefix + a.Name},
		Hook:      a.Hook,
	}, a.Replicas), group
}
