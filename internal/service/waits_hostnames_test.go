package service_test

import (
	"net/http"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
)

func hostnameCases() []waitCase {
	return []waitCase{
		byHand(waitCase{name: "of an Ingress", prepare: unbound(aws.ALB, nil), outcome: "drained", event: deregistered, after: settleALB}),
		byHand(waitCase{name: "of a Service", kind: aws.NLB, prepare: unbound(aws.NLB, nil), pod: longer, outcome: "drained", event: deregistered, after: settleNLB}),
		byHand(waitCase{
			name: "in capitals, with a prefix", outcome: "drained", event: deregistered, after: settleALB,
			prepare: unbound(aws.ALB, func(s *scene) {
				i := lbc.NewIngress(web, "web", "web")
				i.Status.LoadBalancer.Ingress = append(i.Status.LoadBalancer.Ingress, ingressOf("dualstack."+strings.ToUpper(s.lb.DNSName())))
				s.Kube.Apply(i)
			}),
		}),
		{
			name: "of a load balancer that is none of ours", status: http.StatusUnprocessableEntity, after: 0,
			prepare: unbound(aws.ALB, func(s *scene) {
				i := lbc.NewIngress(web, "web", "web")
				i.Status.LoadBalancer.Ingress = append(i.Status.LoadBalancer.Ingress, ingressOf("somebody-1.us-east-1.elb.amazonaws.com"))
				s.Kube.Apply(i)
			}),
			also: says("unsupported_targets", "ELBv2 knows no such load balancer"),
		},
		{
			name: "an Ingress without address", status: http.StatusNotFound, after: 0,
			prepare: unbound(aws.ALB, func(s *scene) { s.Kube.Apply(lbc.NewIngress(web, "web", "web")) }),
			also:    says("Ingress default/web has neither an address nor a TargetGroupBinding"),
		},
		{
			name: "AWS refuses to look", status: http.StatusBadGateway, after: 0,
			prepare: unbound(aws.ALB, func(s *scene) { s.AWS.Fail(refuse("DescribeLoadBalancers")) }),
			also:    says("refused_by_aws", "grant elasticloadbalancing:DescribeLoadBalancers"),
		},
		{
			name: "of an ingress controller's NLB that sends elsewhere", outcome: "not_registered", after: 0,
			prepare: unbound(aws.ALB, func(s *scene) {
				nlb := s.AWS.AddLoadBalancer("nginx", aws.NLB)
				s.AWS.AddTargetGroup("nginx", webPort, nlb)
				s.Kube.Apply(lbc.NewIngress(web, "web", "web", nlb))
			}),
		},
		byHand(waitCase{
			name: "of an Ingress that is named, where no binding concerns the pod", query: "ip=IP&namespace=default&ingress=web",
			outcome: "drained", event: deregistered, after: settleALB,
			prepare: unbound(aws.ALB, func(s *scene) {
				s.Kube.AddService(web, "shop", map[string]string{"app": "shop"}, webPort)
				s.LBC.AddBinding(web, "shop", "shop", s.AWS.AddTargetGroup("shop", webPort, s.AWS.AddLoadBalancer("shop", aws.ALB)))
			}),
		}),
	}
}

func ingressOf(hostname string) networkingv1.IngressLoadBalancerIngress {
	return networkingv1.IngressLoadBalancerIngress{Hostname: hostname}
}

// besideCases are load balancers without a binding, in namespaces that have bindings.
func besideCases() []waitCase {
	// shop is another team's application with a binding.
	shop := func(s *scene) {
		s.Kube.AddService(web, "shop", map[string]string{"app": "shop"}, webPort)
		s.LBC.AddBinding(web, "shop", "shop", s.AWS.AddTargetGroup("shop", webPort, s.AWS.AddLoadBalancer("shop", aws.ALB)))
	}
	return []waitCase{
		byHand(waitCase{
			name: "a Service that is not the controller's", kind: aws.NLB, pod: patient, outcome: "drained", event: deregistered, after: settleNLB,
			prepare: unbound(aws.NLB, shop),
		}),
		byHand(waitCase{
			name: "an Ingress that is not the controller's", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			prepare: unbound(aws.ALB, shop),
		}),
		{
			name: "a named Ingress whose group something else fills, while a binding concerns the pod", query: "ip=IP&namespace=default&ingress=outer&max-delay=240",
			pod: patient, outcome: "drained", after: 40*time.Second + settleALB, early: time.Second, also: targets(2),
			prepare: outer,
			stop:    leavesOuterLate,
		},
		{
			name: "an Ingress of the pod's Service whose group something else fills, while a binding concerns the pod",
			pod:  patient, outcome: "drained", after: 40*time.Second + settleALB, early: time.Second, also: targets(2),
			prepare: outer,
			stop:    leavesOuterLate,
		},
		{
			name: "a group put behind the load balancer after its groups were asked for",
			pod:  patient, outcome: "drained", after: 40*time.Second + settleALB, early: time.Second,
			prepare: unbound(aws.ALB, nil),
			up: func(s *scene) {
				s.AWS.Register(s.group, s.pod.IP, webPort)
				s.Await(s.Ask(webIP, "max-delay=1")) // asks for the groups
				s.Advance(time.Minute)
			},
			stop: func(s *scene) {
				late := s.AWS.AddTargetGroup("late", webPort, s.lb)
				s.AWS.Register(late, s.pod.IP, webPort)
				s.Advance(30 * time.Second)
				_ = s.DeletePod(web, "web-1")
				s.AWS.Deregister(s.group, s.pod.IP, webPort)
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(40*time.Second, func() { s.AWS.Deregister(late, s.pod.IP, webPort) })
			},
			also: targets(2),
		},
		{
			name: "the load balancer cannot be asked for", pod: patient, outcome: "budget_spent", after: 4 * time.Minute,
			prepare: func(s *scene) { outer(s) },
			up: func(s *scene) {
				s.AWS.Fail(fault("DescribeLoadBalancers", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}))
			},
		},
	}
}
