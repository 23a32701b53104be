package service_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/api"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
)

func discoveryCases() []waitCase {
	return []waitCase{
		{
			name: "an identity filter would match nothing", outcome: "budget_spent", query: "ip=IP&namespace=default&max-delay=30", after: 30 * time.Second,
			// The pod is registered at a port that is neither the group's nor its own.
			up: func(s *scene) {
				s.LBC.Stop()
				s.AWS.RemoveTarget(s.group, s.pod.IP, webPort)
				s.AWS.SetTarget(s.group, s.pod.IP, 9999, "healthy", "")
			},
		},
		{
			name: "two ports of one address", outcome: "drained", after: 40*time.Second + settleALB, early: time.Second,
			up: func(s *scene) {
				s.AWS.SetTarget(s.group, s.pod.IP, 9999, "healthy", "")
				s.After(40*time.Second, func() { // it is long gone from its other port by then
					s.AWS.SetTarget(s.group, s.pod.IP, 9999, "", "")
					s.AWS.Deregister(s.group, s.pod.IP, 9999)
				})
				s.LBC.Stop()
			},
			pod: func(p *sim.PodSpec) { p.Hook.MaxDelay = 2 * time.Minute },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.AWS.Deregister(s.group, s.pod.IP, webPort)
			},
		},
		{
			name: "two groups of two load balancers", outcome: "drained", event: deregistered, after: settleNLB, pod: longer,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				nlb := s.AWS.AddLoadBalancer("tcp", aws.NLB)
				s.LBC.AddBinding(web, "tcp", "web", s.AWS.AddTargetGroup("tcp", webPort, nlb))
			},
			also: targets(2),
		},
		{
			name: "IPv6", outcome: "drained", event: deregistered, after: settleALB,
			pod:     func(p *sim.PodSpec) { p.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} },
			prepare: overIPv6,
		},
		{
			name: "dual stack, in the group by the second address", outcome: "drained", event: deregistered, after: settleALB,
			pod:     func(p *sim.PodSpec) { p.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol} },
			prepare: overIPv6,
		},
		{
			name: "neighbours in the host network", outcome: "drained", event: deregistered, after: settleALB,
			query: "pod=web-1&namespace=default",
			pod:   func(p *sim.PodSpec) { p.HostNetwork, p.Node = true, "node-1" },
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.service.Spec.Ports[0].TargetPort = intstr.FromString("http")
				s.Kube.Apply(s.service)
			},
			up: func(s *scene) { // one of the same Service on the same node, at another port
				s.AddPod(sim.PodSpec{Namespace: web, Name: "neighbour", Labels: map[string]string{"app": "web"}, Port: 9999, HostNetwork: true, Node: "node-1"})
				s.Advance(time.Minute)
			},
		},
		{
			name: "by an address of the host network alone", status: http.StatusNotFound, after: 0, query: "max-delay=60",
			pod:  func(p *sim.PodSpec) { p.HostNetwork, p.Node = true, "node-1" },
			also: says("ip=", "pod=", "namespace="),
		},
		{
			name: "a completed pod has the same address", outcome: "drained", event: deregistered, after: settleALB,
			up: func(s *scene) {
				s.AddPod(sim.PodSpec{Namespace: web, Name: "job", Port: 1, Addresses: []netip.Addr{s.pod.IP}})
				s.Advance(10 * time.Second)
				s.CompletePod(web, "job")
				s.Advance(10 * time.Second)
			},
		},
		{
			name: "no group", outcome: "not_registered", after: 0,
			prepare: func(s *scene) { s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort) },
			also:    targets(0),
		},
		{
			name: "a group of another application", outcome: "not_registered", after: 0,
			prepare: func(s *scene) {
				s.Kube.AddService(web, "shop", map[string]string{"app": "shop"}, webPort)
				s.LBC.AddBinding(web, "shop", "shop", s.AWS.AddTargetGroup("shop", webPort, s.AWS.AddLoadBalancer("shop", aws.ALB)))
			},
		},
		{
			name: "a binding with a name only", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); nameOnly(s) },
		},
		{
			name: "a binding with a name only, and nobody says of which group", outcome: "budget_spent", after: time.Minute,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); nameOnly(s) },
			up: func(s *scene) {
				s.AWS.Fail(fault("DescribeTargetGroups", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}))
			},
		},
		{
			name: "a binding with a name only, of another account", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				nameOnly(s)
				otherAccount(s)
			},
		},
		{
			name: "a binding of another account", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); otherAccount(s) },
		},
		{
			name: "a binding without protocol", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.binding.Spec.TargetGroupProtocol = nil
				s.Kube.Apply(s.binding)
			},
		},
		{
			name: "a binding without protocol, and the type is not known", outcome: "drained", event: deregistered, after: settleNLB, pod: longer,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.binding.Spec.TargetGroupProtocol = nil
				s.Kube.Apply(s.binding)
				s.AWS.Fail(refuse("DescribeTargetGroups"))
			},
			also: warned("the longer settle time applies"),
		},
		{
			name: "EKS Auto Mode", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.Kube.Remove(s.binding)
				s.Kube.ServeGroup(kube.GroupEKS, true)
				b := lbc.NewBinding(web, "web", "web", s.group)
				b.APIVersion = "eks.amazonaws.com/v1"
				s.Kube.Apply(b)
			},
		},
		{
			// Nothing but the binding leads to the group: Gateways are not read.
			name: "Gateway API", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				s.lb = s.AWS.AddLoadBalancer("gateway", aws.ALB)
				s.service = s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
				s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
				s.binding = s.LBC.AddBinding(web, "web", "web", s.group)
				s.binding.Labels = map[string]string{"gateway.k8s.aws.alb/stack-namespace": web, "gateway.k8s.aws.alb/stack-name": "edge"}
				s.Kube.Apply(s.binding)
			},
			also: targets(1),
		},
		{
			name: "a binding that appears in the middle of the wait", outcome: "drained", after: 10*time.Second + settleALB,
			stop: func(s *scene) {
				group := s.AWS.AddTargetGroup("late", webPort, s.lb)
				s.AWS.Register(group, s.pod.IP, webPort)
				s.Advance(time.Minute)
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(9*time.Second, func() { s.AWS.Deregister(group, s.pod.IP, webPort) })
				s.After(10*time.Second, func() { s.LBC.AddBinding(web, "late", "web", group) })
			},
			also: targets(2),
		},
		{
			name: "the selector was switched before the deletion", outcome: "drained", after: settleALB,
			stop: func(s *scene) {
				s.Kube.SetSelector(s.service, map[string]string{"app": "green"})
				s.After(2*time.Second, func() { _ = s.DeletePod(web, "web-1") })
			},
			early: 3 * time.Second, // the hook, not the deregistration, comes last
			event: func(s *scene) time.Duration { return max(s.pod.Deregistered, s.pod.Asked) },
		},
		{
			name: "the labels were taken off before the deletion", outcome: "drained", after: settleALB,
			stop: func(s *scene) {
				s.Kube.SetLabels(web, "web-1", map[string]string{"app": "quarantine"})
				s.After(2*time.Second, func() { _ = s.DeletePod(web, "web-1") })
			},
		},
		{
			name: "instance targets alone", status: http.StatusUnprocessableEntity, after: 0,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.Kube.Remove(s.binding); instances(s); s.group = nil },
			also:    says("unsupported_targets", "instance targets", "target-type: ip"),
		},
		{
			name: "instance targets beside ip targets", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); instances(s) },
			also:    warned("instance targets"),
		},
		{
			name: "publishes not-ready addresses", outcome: "will_not_leave", after: 0,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.service.Spec.PublishNotReadyAddresses = true
				s.Kube.Apply(s.service)
			},
		},
		{
			name: "publishes not-ready addresses, beside a Service that does not", outcome: "will_not_leave", after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				eager := kube.NewService(web, "eager", map[string]string{"app": "web"}, webPort)
				eager.Spec.PublishNotReadyAddresses = true
				s.Kube.Apply(eager)
				s.LBC.AddBinding(web, "eager", "eager", s.AWS.AddTargetGroup("eager", webPort, s.lb))
			},
		},
		{
			name: "an address that no pod has", query: "ip=10.9.9.9&namespace=default", outcome: "drained", after: 5*time.Second + settleALB, // LBC is done, so looks are rare
			up: func(s *scene) {
				s.LBC.Stop()
				s.AWS.Register(s.group, addr("10.9.9.9"), webPort)
				s.Advance(time.Minute)
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(3*time.Second, func() {
					s.AWS.Deregister(s.group, addr("10.9.9.9"), webPort)
					s.AWS.Deregister(s.group, s.pod.IP, webPort)
				})
			},
		},
		{
			name: "an address that nobody has", query: "ip=10.9.9.9&namespace=default", status: http.StatusNotFound, after: 0,
			also: says("no pod has the address 10.9.9.9", "no target group"),
		},
		{
			name: "an address that no pod has, without a namespace", query: "ip=10.9.9.9", status: http.StatusNotFound, after: 0,
			also: says("ip=", "pod=", "namespace="),
		},
		{name: "a pod that is not there", query: "pod=gone&namespace=default", status: http.StatusNotFound, after: 0, also: says("no pod default/gone")},
		{
			name: "an unknown target group", status: http.StatusBadGateway, after: 0,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.binding.Spec.TargetGroupARN = strings.Replace(s.group.ARN(), aws.AccountID, "999999999999", 1)
				s.Kube.Apply(s.binding)
			},
			also: says("refused_by_aws", "another account or Region"),
		},
		{
			name: "an unknown target group that does not concern the pod", outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.Kube.AddService(web, "shop", map[string]string{"app": "shop"}, webPort)
				b := lbc.NewBinding(web, "shop", "shop", s.group)
				b.Spec.TargetGroupARN = strings.Replace(s.group.ARN(), aws.AccountID, "999999999999", 1)
				s.Kube.Apply(b)
			},
		},
		{
			name: "an Ingress that is not there", query: "ip=IP&namespace=default&ingress=wep", outcome: "drained", event: deregistered, after: settleALB,
			also: warned("Ingress default/wep does not exist"),
		},
		{
			name: "nothing but an Ingress that is not there", query: "ip=IP&namespace=default&ingress=wep", status: http.StatusNotFound, after: 0,
			prepare: func(s *scene) { s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort) },
			also:    says("the Ingress of ingress=, default/wep, does not exist"),
		},
	}
}

func targets(n int) func(*testing.T, *scene, api.Answer) {
	return func(t *testing.T, _ *scene, a api.Answer) {
		t.Helper()
		if len(a.Targets) != n {
			t.Errorf("there are %d targets, want %d: %+v", len(a.Targets), n, a.Targets)
		}
	}
}
