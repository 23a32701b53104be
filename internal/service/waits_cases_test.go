package service_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/api"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// TestWaits has a row for each way in which a wait can go that is not a matter
// of the state alone.
func TestWaits(t *testing.T) {
	for _, group := range []struct {
		name  string
		cases []waitCase
	}{
		{"ordinary", ordinaryCases()},
		{"discovery", discoveryCases()},
		{"hostnames", hostnameCases()},
		{"no deletion", stayingCases()},
		{"budget", budgetCases()},
		{"trouble", troubleCases()},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range group.cases {
				t.Run(c.name, c.run)
			}
		})
	}
}

func ordinaryCases() []waitCase {
	return []waitCase{
		{name: "ALB", outcome: "drained", event: deregistered, after: settleALB},
		{name: "NLB", kind: aws.NLB, query: "ip=IP&namespace=default&max-delay=180", outcome: "drained", event: deregistered, after: settleNLB},
		{name: "by the caller's address alone", query: "max-delay=60", outcome: "drained", event: deregistered, after: settleALB},
		{name: "by name", query: "pod=web-1&namespace=default", outcome: "drained", event: deregistered, after: settleALB},
		{
			name: "by address in another namespace", query: "ip=IP&namespace=other", outcome: "drained", event: deregistered, after: settleALB,
			also: warned("namespace=other is not the namespace of the pod"),
		},
		{
			name: "settle of the caller's", query: "ip=IP&namespace=default&settle=25", outcome: "drained", event: deregistered, after: 25 * time.Second,
		},
		{
			name:    "never ready",
			pod:     func(p *sim.PodSpec) { p.Hook.Query = "pod=web-1&namespace=default" },
			world:   func(c *sim.Config) { c.Assumptions.StartTime = timeline.Range{Min: time.Hour, Max: time.Hour} },
			outcome: "drained", after: settleALB, // like any other
		},
		{
			name: "a container without a hook", outcome: "drained", event: deregistered, after: settleALB,
			pod:  func(p *sim.PodSpec) { p.Sidecars = []sim.Sidecar{{Name: "logs"}} },
			also: warned("container logs of the pod has no preStop hook"),
		},
		{
			name: "returns to healthy while it settles", outcome: "drained",
			stop: func(s *scene) {
				s.LBC.Stop()
				s.AWS.SetTarget(s.group, s.pod.IP, webPort, "draining", "Target.DeregistrationInProgress")
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() { s.AWS.SetTarget(s.group, s.pod.IP, webPort, "healthy", "") })
				s.After(25*time.Second, func() {
					s.AWS.SetTarget(s.group, s.pod.IP, webPort, "", "")
					s.AWS.Deregister(s.group, s.pod.IP, webPort)
				})
			},
			event: deregistered, after: settleALB,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if got := events(a.Targets[0]); got != "left, returned, left, settled" {
					t.Errorf("the timeline is %s", got)
				}
			},
		},
		{
			name: "comes late into draining", outcome: "drained", after: settleALB,
			pod: func(p *sim.PodSpec) { p.Hook.Delay = 50 * time.Second },
		},
		{
			name: "comes late, and a neighbour's wait has seen it leave", outcome: "drained", after: settleALB,
			stop: func(s *scene) {
				s.LBC.Stop()
				s.AWS.Deregister(s.group, s.pod.IP, webPort)
				neighbour := s.Ask(webIP, "pod=web-2&namespace=default&max-delay=50&settle=40")
				s.Advance(4 * time.Second) // it has looked once, and looks again after 5 s
				_ = s.DeletePod(web, "web-1")
				s.After(40*time.Second, neighbour.HangUp)
			},
		},
		{
			name: "deregistration is over before the first look", outcome: "drained", after: settleALB,
			prepare: withoutDelay,
			pod:     func(p *sim.PodSpec) { p.Hook.Delay = 5 * time.Second },
		},
		{
			name: "the checkpoint stays empty", outcome: "drained", event: deregistered, after: settleALB,
			up: (*scene).addPending,
		},
		{
			name: "no checkpoint at all", outcome: "drained", event: deregistered, after: settleALB,
			world: func(c *sim.Config) { c.NoCheckpoint = true },
		},
		{
			name: "the group vanishes", outcome: "drained", after: 10*time.Second + settleALB, early: 5 * time.Second,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(5*time.Second, func() { s.AWS.DeleteTargetGroup(s.group) })
			},
		},
	}
}

// addPending adds a pod whose readiness gate is never served: its target stays in
// its registration, and the checkpoint empty.
func (s *scene) addPending() {
	p := s.AddPod(sim.PodSpec{Namespace: web, Name: "gated", Labels: map[string]string{"app": "web"}, Port: webPort, Gates: []string{lbc.GatePrefix + "web"}})
	s.AWS.SetTarget(s.group, p.IP, webPort, "initial", "Elb.RegistrationInProgress")
	s.Advance(30 * time.Second)
}

// events names the steps of a timeline.
func events(t api.TargetAnswer) string {
	var names []string
	for _, s := range t.Timeline {
		names = append(names, s.Event)
	}
	return strings.Join(names, ", ")
}

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
			also:    says("Ingress default/wep of ingress= does not exist"),
		},
	}
}

// longer gives the hook three minutes.
func longer(p *sim.PodSpec) { p.Hook.MaxDelay = 3 * time.Minute }

func targets(n int) func(*testing.T, *scene, api.Answer) {
	return func(t *testing.T, _ *scene, a api.Answer) {
		t.Helper()
		if len(a.Targets) != n {
			t.Errorf("there are %d targets, want %d: %+v", len(a.Targets), n, a.Targets)
		}
	}
}

// overIPv6 has a group and a Service of that address family.
func overIPv6(s *scene) {
	ordinary(aws.ALB)(s)
	s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: "six", Port: webPort, Balancer: s.lb, IPv6: true})
	s.Kube.Apply(lbc.NewBinding(web, "web", "web", s.group))
	s.service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	s.Kube.Apply(s.service)
}

// withoutDelay has a group whose targets are gone from the list as soon as they
// are deregistered.
func withoutDelay(s *scene) {
	ordinary(aws.ALB)(s)
	s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: "short", Port: webPort, Balancer: s.lb, DeregistrationDelay: new(time.Duration)})
	s.binding.Spec.TargetGroupARN = s.group.ARN()
	s.Kube.Apply(s.binding)
}

func nameOnly(s *scene) {
	s.binding.Spec.TargetGroupARN, s.binding.Spec.TargetGroupName = "", "web"
	s.Kube.Apply(s.binding)
}

// otherAccount hides the group from all but a role.
func otherAccount(s *scene) {
	const role = "arn:aws:iam::" + aws.AccountID + ":role/other"
	s.AWS.AddRole(role, "secret")
	s.AWS.RequireRole(s.group.ARN(), role)
	s.binding.Spec.IAMRoleARNToAssume, s.binding.Spec.AssumeRoleExternalID = role, "secret"
	s.Kube.Apply(s.binding)
}

// instances puts instance targets behind the Service.
func instances(s *scene) {
	group := s.AWS.AddGroup(aws.TargetGroupSpec{Name: "nodes", Port: 30080, Balancer: s.lb, TargetType: "instance"})
	s.AWS.RegisterNamed(group, "i-0123456789abcdef0", 30080)
	s.LBC.AddBinding(web, "nodes", "web", group)
}

// refuse denies an operation of AWS.
func refuse(operation string) func(string, string) *aws.Fault {
	return fault(operation, aws.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "User is not authorized"})
}

func fault(operation string, f aws.Fault) func(string, string) *aws.Fault {
	return func(op, _ string) *aws.Fault {
		if op == operation || operation == "" && strings.HasPrefix(op, "Describe") {
			return &f
		}
		return nil
	}
}

// unbound is a scene where nothing but host names leads to the group: no
// TargetGroupBinding can be seen, and the load balancer's owner is somebody else.
func unbound(kind aws.Kind, change func(*scene)) func(*scene) {
	return func(s *scene) {
		ordinary(kind)(s)
		s.Kube.Remove(s.binding)
		if kind == aws.NLB {
			lbc.Expose(s.service, s.lb)
			s.Kube.Apply(s.service)
			s.Kube.Remove(lbc.NewIngress(web, "web", "web"))
		}
		if change != nil {
			change(s)
		}
	}
}

// byHand registers both pods, and takes web-1 out three seconds after its
// deletion.
func byHand(c waitCase) waitCase {
	c.up = func(s *scene) {
		for _, p := range s.Pods() {
			s.AWS.Register(s.group, p.IP, webPort)
		}
		s.Advance(time.Minute)
	}
	c.stop = func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		s.After(3*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
	}
	return c
}

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

func stayingCases() []waitCase {
	restart := func(s *scene) { s.RestartContainer(web, "web-1") }
	return []waitCase{
		{name: "a liveness restart", outcome: "not_terminating", after: 5 * time.Second, stop: restart},
		{
			name: "a liveness restart while the API server is away", outcome: "not_terminating", after: 30 * time.Second,
			stop: func(s *scene) {
				restart(s)
				s.Kube.Fail(func(r *http.Request) bool { return !strings.Contains(r.URL.RawQuery, "watch") }, http.StatusServiceUnavailable)
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(30*time.Second, func() { s.Kube.Fail(nil, 0) })
			},
		},
		{
			name: "a graceful node shutdown", outcome: "drained", event: deregistered, after: settleALB, pod: longer,
			stop: func(s *scene) { s.ShutdownNode("node-1") },
		},
		{
			name: "the hook comes before the watch tells of the deletion", outcome: "drained", event: deregistered, after: settleALB,
			world: func(c *sim.Config) {
				c.Assumptions.Kube.WatchLag = timeline.Range{Min: 4 * time.Second, Max: 4*time.Second + 1}
			},
		},
		{
			// The checkpoint comes as late, so the cadence of 5 s has to see it leave.
			name: "the watch tells of the deletion after the termination check", outcome: "drained", event: deregistered, after: 5*time.Second + settleALB, early: 5 * time.Second,
			world: func(c *sim.Config) {
				c.Assumptions.Kube.WatchLag = timeline.Range{Min: 8 * time.Second, Max: 8*time.Second + 1}
			},
		},
	}
}

func budgetCases() []waitCase {
	stuck := func(c waitCase) waitCase { // LBC does nothing
		c.up = func(s *scene) { s.LBC.Stop() }
		return c
	}
	const minute = time.Minute
	return []waitCase{
		stuck(waitCase{name: "max-delay", query: "max-delay=90", outcome: "budget_spent", after: 90 * time.Second, early: 10 * time.Millisecond}),
		stuck(waitCase{name: "max-delay as a duration", query: "max-delay=90s", outcome: "budget_spent", after: 90 * time.Second}),
		stuck(waitCase{name: "max-wait", query: "max-wait=90", outcome: "budget_spent", after: 90 * time.Second}),
		stuck(waitCase{
			name: "max-delay of 0 is one look", query: "max-delay=0", outcome: "budget_spent", after: 0,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if a.WaitedSeconds > 0.5 || a.Targets[0].State != "healthy" {
					t.Errorf("one look took %v s and saw %q", a.WaitedSeconds, a.Targets[0].State)
				}
			},
		}),
		stuck(waitCase{
			name: "an enormous max-delay is cut", query: "max-delay=1e9", outcome: "budget_spent", event: deleted, after: 5*minute - 5*time.Second, early: time.Second,
			also: warned("max-delay=1e9 was cut to 1h0m0s"),
		}),
		stuck(waitCase{
			name: "the grace period", query: "max-delay=600", outcome: "budget_spent", event: deleted, after: 5*minute - 5*time.Second, early: time.Second,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if a.BoundedBy != "grace period" {
					t.Errorf("bounded by %s", a.BoundedBy)
				}
			},
		}),
		stuck(waitCase{
			name: "a short grace period, of which a fifth is left", query: "namespace=default", outcome: "budget_spent",
			pod:   func(p *sim.PodSpec) { p.Grace = 10 * time.Second },
			event: deleted, after: 8 * time.Second, early: time.Second,
			also: warned("raise terminationGracePeriodSeconds"),
		}),
		{
			name: "the grace period is shortened in the middle", query: "max-delay=600", outcome: "budget_spent", event: deleted, after: 16 * time.Second, early: time.Second, // 20 s from the first deletion, less a fifth
			up: func(s *scene) { s.LBC.Stop() },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() { _ = s.DeletePodIn(web, "web-1", 20*time.Second) })
			},
		},
		{
			name: "cut while it settles", query: "max-delay=10", outcome: "settle_cut", after: 10 * time.Second,
		},
		stuck(waitCase{
			name: "the API server's clock is ahead", query: "namespace=default", outcome: "budget_spent",
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.Kube.SkewClock(10 * minute) },
			event:   deleted, after: 5*minute - 5*time.Second, early: 2 * time.Second,
		}),
		stuck(waitCase{
			name: "the API server's clock is behind", query: "namespace=default", outcome: "budget_spent",
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.Kube.SkewClock(-10 * minute) },
			event:   deleted, after: 5*minute - 5*time.Second, early: 2 * time.Second,
		}),
		{
			name: "a hook that comes when the budget is over", query: "namespace=default", outcome: "budget_spent", after: 0,
			pod: func(p *sim.PodSpec) { p.Grace, p.Hook.Delay = 30*time.Second, 27*time.Second },
		},
		{name: "max-delay of -1", query: "max-delay=-1", status: http.StatusBadRequest, after: 0, also: says("max-delay", "-1", "0 or more")},
		{name: "max-delay of abc", query: "max-delay=abc", status: http.StatusBadRequest, after: 0, also: says("max-delay", "abc", "whole seconds")},
		{name: "an empty ip", query: "ip=&namespace=default", outcome: "drained", event: deregistered, after: settleALB, also: warned("parameter ip is empty")},
		{
			name: "a misspelt parameter", query: "ip=IP&namespaace=default&max-wait=60", outcome: "drained", event: deregistered, after: settleALB,
			also: warned(`unknown parameter "namespaace" was ignored; did you mean namespace?`),
		},
		{name: "a value of 10,000 characters", query: "namespace=" + strings.Repeat("x", 10000), status: http.StatusBadRequest, after: 0, also: says("namespace", "…")},
		{name: "an address of 10,000 characters", query: "ip=" + strings.Repeat("1", 10000), status: http.StatusBadRequest, after: 0, also: says("ip", "IPv4 or IPv6")},
	}
}

func deleted(s *scene) time.Duration { return s.pod.Deleted }

func troubleCases() []waitCase {
	// mid lets something go wrong with AWS from 2 s to 32 s after the call, so
	// that the wait sees neither the pod leave nor the end of its settle time.
	mid := func(name string, on, off func(*scene)) waitCase {
		return waitCase{
			name: name, outcome: "drained", after: 32 * time.Second, pod: longer,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(2*time.Second, func() { on(s) })
				s.After(3*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
				s.After(32*time.Second, func() { off(s) })
			},
			// The settle time begins with the first look that shows it gone.
			event: func(s *scene) time.Duration { return s.pod.Asked + settleALB },
		}
	}
	failing := func(name string, f aws.Fault) waitCase {
		return mid(name, func(s *scene) { s.AWS.Fail(fault("", f)) }, func(s *scene) { s.AWS.Fail(nil) })
	}
	slow := failing("a connection that hangs", aws.Fault{Hang: true})
	slow.after += 5 * time.Second // the last look that hangs has to time out
	slow.early = 5 * time.Second
	denied := failing("access denied in the middle", aws.Fault{Status: 403, Code: "AccessDenied", Message: "no"})
	denied.after += 5 * time.Second // what is refused is asked for at the cadence
	denied.early = 5 * time.Second
	forGood := func(c waitCase) waitCase {
		c.stop = func(s *scene) {
			_ = s.DeletePod(web, "web-1")
			s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
			s.After(2*time.Second, func() {
				s.AWS.Fail(fault("", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}))
			})
		}
		return c
	}
	return []waitCase{
		failing("throttling", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}),
		failing("internal failures", aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}),
		failing("a group whose health is not available", aws.Fault{Status: 500, Code: "HealthUnavailable", Message: "try again"}),
		denied,
		mid("expired credentials", func(s *scene) { s.AWS.ExpireCredentials(true) }, func(s *scene) { s.AWS.ExpireCredentials(false) }),
		slow,
		forGood(waitCase{
			name: "throttling for good", outcome: "budget_spent", query: "max-delay=60",
			world: func(c *sim.Config) { c.Assumptions.LBC.LeaderGap = timeline.Range{Min: time.Hour, Max: time.Hour} },
			up:    func(s *scene) { s.LBC.ChangeLeader() },
			after: time.Minute,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if !strings.Contains(a.LastError, "Throttling") {
					t.Errorf("the last error is %q", a.LastError)
				}
			},
		}),
		{
			name: "access denied at the start", status: http.StatusBadGateway, after: 0,
			up:   func(s *scene) { s.AWS.Fail(refuse("DescribeTargetHealth")) },
			also: says("refused_by_aws", "grant elasticloadbalancing:DescribeTargetHealth"),
		},
		{
			name: "no role to assume", status: http.StatusBadGateway, after: 0,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.binding.Spec.IAMRoleARNToAssume = "arn:aws:iam::" + aws.AccountID + ":role/none"
				s.Kube.Apply(s.binding)
			},
			also: says("refused_by_aws"),
		},
		{
			name: "the watches are cut and expire in the middle", outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(time.Second, func() { s.Kube.CutWatches() })
				s.After(6*time.Second, func() { s.Kube.ExpireWatches() })
			},
		},
	}
}
