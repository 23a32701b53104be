package service_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// TestFailClosed has worlds in which the Kubernetes API or AWS shows too little
// of what the load balancers do: nothing but a proof may say "go" there.
func TestFailClosed(t *testing.T) {
	for _, group := range []struct {
		name  string
		cases []waitCase
	}{
		{"tie lost", tieLostCases()},
		{"host names beside bindings", besideCases()},
		{"identity", identityCases()},
		{"too late", lateCases()},
		{"host network", hostNetworkCases()},
		{"clock and proxies", clockCases()},
		{"API server", apiServerCases()},
		{"answers that are none", answerCases()},
		{"refusals", refusalCases()},
		{"a budget that is too short", shortCases()},
	} {
		t.Run(group.name, func(t *testing.T) {
			t.Parallel()
			for _, c := range group.cases {
				t.Run(c.name, c.run)
			}
		})
	}
}

// departed is when both the hook had asked and the pod was deregistered.
func departed(s *scene) time.Duration { return max(s.pod.Deregistered, s.pod.Asked) }

// patient gives the hook four minutes.
func patient(p *sim.PodSpec) { p.Hook.MaxDelay = 4 * time.Minute }

// tieLostCases delete a pod some time after what tied it to its target group was
// edited away, as a blue-green switch or a changed Ingress do. The load balancer
// goes on sending for its whole tail.
func tieLostCases() (cases []waitCase) {
	losses := []struct {
		name string
		lose func(*scene)
		// unseen: only a controller that is there learns of it.
		unseen bool
	}{
		{"binding switched", func(s *scene) { s.binding.Spec.ServiceRef.Name = "green"; s.Kube.Apply(s.binding) }, false},
		{"binding deleted", func(s *scene) { s.Kube.Delete(s.binding) }, false},
		{"binding gone", func(s *scene) { s.Kube.Remove(s.binding) }, true},
		{"selector switched", func(s *scene) { s.Kube.SetSelector(s.service, map[string]string{"app": "green"}) }, false},
		{"label taken off", func(s *scene) { s.Kube.SetLabels(web, "web-1", map[string]string{"app": "debug"}) }, false},
		{"Service deleted", func(s *scene) { s.Kube.Delete(s.service) }, false},
	}
	n := 0
	for _, l := range losses {
		for _, before := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, 8 * time.Second} {
			for range 2 {
				world := behind{
					kinds: [][]aws.Kind{{aws.ALB}, {aws.NLB}, {aws.ALB, aws.NLB}}[n%3],
					delay: time.Duration(n/3%2) * 300 * time.Second,
					away:  !l.unseen && n%5 < 2,
				}
				n++
				cases = append(cases, world.lost(l.name, before, l.lose))
			}
		}
	}
	return cases
}

// behind is where the pod is: behind which load balancers, in groups with which
// deregistration delay, and whether the controller is away when it is deleted.
type behind struct {
	kinds []aws.Kind
	delay time.Duration
	away  bool
}

func (b behind) lost(what string, before time.Duration, lose func(*scene)) waitCase {
	c := waitCase{
		name: fmt.Sprintf("%s %s before, %v, delay %s, leader away %t", what, before, b.kinds, b.delay, b.away),
		pod:  patient, prepare: b.prepare, outcome: "drained", event: departed, after: settleALB,
		stop: func(s *scene) {
			if b.away {
				s.LBC.ChangeLeader()
			}
			lose(s)
			s.After(before, func() { _ = s.DeletePod(web, "web-1") })
		},
	}
	if b.kinds[len(b.kinds)-1] == aws.NLB {
		c.after = settleNLB
	}
	// Deregistered counts from the call's return; what leaves at another moment of it is seen at once.
	c.early = 3 * time.Second
	return c
}

// prepare makes the load balancers. The last of the bindings is the scene's.
func (b behind) prepare(s *scene) {
	s.service = s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
	s.Kube.AddService(web, "green", map[string]string{"app": "green"}, webPort)
	s.AddPod(sim.PodSpec{Namespace: web, Name: "green-1", Labels: map[string]string{"app": "green"}, Port: webPort})
	for _, kind := range b.kinds {
		name := "web-" + string(kind)
		s.lb = s.AWS.AddLoadBalancer(name, kind)
		s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: name, Port: webPort, Balancer: s.lb, DeregistrationDelay: &b.delay})
		s.binding = s.LBC.AddBinding(web, name, "web", s.group)
	}
}

// besideCases are load balancers that no binding accounts for, in namespaces
// that have bindings.
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

// outer has a second load balancer, which somebody else than the controller
// fills, in front of the same Service.
func outer(s *scene) {
	ordinary(aws.ALB)(s)
	lb := s.AWS.AddLoadBalancer("outer", aws.ALB)
	s.outer = s.AWS.AddTargetGroup("outer", webPort, lb)
	s.LBC.AddIngress(web, "outer", "web", lb)
}

func leavesOuterLate(s *scene) {
	s.AWS.Register(s.outer, s.pod.IP, webPort)
	s.Advance(time.Minute)
	s.AddClients(s.outer, 20)
	_ = s.DeletePod(web, "web-1")
	s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
	s.After(40*time.Second, func() { s.AWS.Deregister(s.outer, s.pod.IP, webPort) })
}

// identityCases are calls for which the caches show another pod than there is.
func identityCases() []waitCase {
	return []waitCase{
		{
			name: "pod= and ip= disagree", query: "pod=web-2&namespace=default&ip=IP", status: http.StatusNotFound,
			also: says("web-2", webIP),
		},
		{
			name: "a pod made anew under its name", query: "pod=web-1&namespace=default&ip=IP", status: http.StatusNotFound,
			stop: func(s *scene) {
				_ = s.ForceDelete(web, "web-1") // its processes and its hook go on
				s.AddPod(sim.PodSpec{Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort})
			},
			also: says("web-1", webIP),
		},
		{
			// The controller is away: it takes the old one out late, and does not know the new one.
			name: "a pod made anew under its name, and the hook names no address", query: "pod=web-1&namespace=default&max-delay=240",
			pod: patient, outcome: "budget_spent", after: 4 * time.Minute, // both count, and the new one stays
			stop: func(s *scene) {
				s.LBC.ChangeLeader()
				_ = s.ForceDelete(web, "web-1")
				s.AddPod(sim.PodSpec{Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort})
			},
		},
		{
			name: "a pod made anew under its name is not the one that asks", query: "pod=web-1&namespace=default&max-delay=40", outcome: "budget_spent", after: 40 * time.Second,
			stop: func(s *scene) {
				_ = s.ForceDelete(web, "web-1")
				s.AddPod(sim.PodSpec{Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort})
				s.LBC.Stop()
			},
		},
		{
			name: "a pod made anew under its name, and the hook names the address alone", pod: patient, outcome: "drained", after: settleALB, early: time.Second,
			stop: func(s *scene) {
				_ = s.ForceDelete(web, "web-1")
				s.AddPod(sim.PodSpec{Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort})
			},
		},
		{
			// The NLB's group has let go of it and lists it no more, while the NLB sends.
			name: "an address that no pod has, of a pod that was in a group without a delay", pod: patient, outcome: "drained", after: settleNLB, early: time.Second,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				nlb := s.AWS.AddLoadBalancer("tcp", aws.NLB)
				s.outer = s.AWS.AddGroup(aws.TargetGroupSpec{Name: "tcp", Port: webPort, Balancer: nlb, DeregistrationDelay: new(time.Duration)})
				s.LBC.AddBinding(web, "tcp", "web", s.outer)
			},
			stop: func(s *scene) {
				s.AddClients(s.outer, 20)
				_ = s.ForceDelete(web, "web-1")
			},
			also: targets(2),
		},
		{
			name: "the address is new to the cache", outcome: "drained", event: deregistered, after: settleALB, early: time.Second, pod: patient,
			// The watch of pods is a minute behind all the time.
			up:   func(s *scene) { s.Kube.LagWatches("pods", time.Minute) },
			stop: func(s *scene) { s.reuse(30 * time.Second) },
		},
		{
			name: "the address is new to the cache, and the caller names it", query: "ip=IP&namespace=default", outcome: "drained", event: deregistered,
			after: settleALB, early: time.Second, pod: patient,
			up:   func(s *scene) { s.Kube.LagWatches("pods", 50*time.Second) },
			stop: func(s *scene) { s.reuse(40 * time.Second) },
		},
		{
			name: "a pod that is too new for the cache, by name", query: "pod=web-3&namespace=default", outcome: "drained", event: deregistered,
			after: settleALB, early: time.Second, pod: patient,
			up:   func(s *scene) { s.Kube.LagWatches("pods", time.Minute) },
			stop: func(s *scene) { s.reuse(30 * time.Second) },
		},
	}
}

// reuse ends the scene's pod and gives its address to a new one, web-3, which is
// the scene's from then on and is deleted some time later.
func (s *scene) reuse(lives time.Duration) {
	old := s.pod
	_ = s.DeletePodIn(web, "web-1", time.Second)
	s.AdvanceUntil(time.Minute, func() bool { return old.Gone > 0 })
	s.pod = s.AddPod(sim.PodSpec{
		Namespace: web, Name: "web-3", Labels: map[string]string{"app": "web"}, Port: webPort, Grace: 5 * time.Minute,
		Hook: s.hook, Addresses: old.IPs,
	})
	s.Advance(lives)
	_ = s.DeletePod(web, "web-3")
}

// lateCases are registrations and looks that come at an unlucky moment.
func lateCases() []waitCase {
	slow := func(d time.Duration) func(*sim.Config) {
		return func(c *sim.Config) { c.Assumptions.Kube.Latency = timeline.Range{Min: d, Max: d} }
	}
	return []waitCase{
		{
			name: "registered after the first look, and taken out again", pod: patient, outcome: "drained", event: deregistered, after: settleALB + 5*time.Second,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.LBC.Stop() },
			world: func(c *sim.Config) {
				c.NoCheckpoint = true
				c.Assumptions.AWS.RegistrationTime = timeline.Range{Min: time.Millisecond, Max: time.Millisecond}
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(3*time.Second, func() { s.AWS.Register(s.group, s.pod.IP, webPort) })
				s.After(5*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
			early: 5 * time.Second, // a group whose waits all settle is looked at every ten seconds
		},
		{
			name: "back in a group that settled long ago", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			prepare: func(s *scene) {
				behind{kinds: []aws.Kind{aws.NLB, aws.ALB}, delay: 5 * time.Minute}.prepare(s)
				s.LBC.Stop()
				s.outer = s.group
			},
			up: func(s *scene) {
				s.AWS.Register(s.outer, s.pod.IP, webPort)
				s.Advance(time.Minute)
			},
			stop: func(s *scene) {
				s.AWS.Deregister(s.outer, s.pod.IP, webPort)
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(118*time.Second, func() { s.AWS.Register(s.outer, s.pod.IP, webPort) })
				s.After(150*time.Second, func() { s.AWS.Deregister(s.outer, s.pod.IP, webPort) })
			},
		},
		{
			name: "one look in the middle is refused", query: "max-delay=50", outcome: "drained", event: deregistered, after: settleALB + 5*time.Second, early: 5 * time.Second,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(4*time.Second, func() { s.AWS.Fail(refuse("DescribeTargetHealth")) })
				s.After(8*time.Second, func() { s.AWS.Fail(nil) })
				s.After(12*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
		},
		{name: "an API server that takes 5 s for an answer", pod: patient, world: slow(5 * time.Second), outcome: "drained", event: departed, after: settleALB, early: 6 * time.Second},
		{
			name: "Ingresses cannot be listed, and nothing else leads to a group", status: http.StatusServiceUnavailable, after: 2 * time.Second, early: time.Second,
			prepare: func(*scene) {},
			stop: func(s *scene) {
				s.Kube.Fail(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/ingresses") }, http.StatusForbidden)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "the clock of the API server steps back in the middle", query: "namespace=default", outcome: "budget_spent", event: deleted, after: 5*time.Minute - 5*time.Second, early: 2 * time.Second,
			up: func(s *scene) { s.LBC.Stop() },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() { s.Kube.SkewClock(-28 * time.Second); s.Kube.CutWatches() })
				s.After(12*time.Second, func() { s.Kube.SetLabels(web, "web-1", map[string]string{"app": "web", "touched": "yes"}) })
			},
		},
	}
}

func hostNetworkCases() []waitCase {
	onNode := func(p *sim.PodSpec) { patient(p); p.HostNetwork, p.Node = true, "node-1" }
	const query = "pod=web-1&namespace=default"
	return []waitCase{
		{
			name: "a Service without a selector and a slice by hand", query: query, pod: onNode, outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.service.Spec.Selector = nil
				s.service.Spec.Ports[0].TargetPort = intstr.FromInt32(1234) // means nothing without a selector
				s.Kube.Apply(s.service)
			},
			up: func(s *scene) { s.sliceByHand(web, "web-1", webPort); s.Advance(time.Minute) },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(2*time.Second, func() {
					_ = kube.Edit(s.World.Kube, web, "by-hand", func(x *discoveryv1.EndpointSlice) { x.Endpoints = nil })
				})
			},
		},
		{
			name: "the target port is edited while the controller is away", query: query, pod: onNode, outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				s.LBC.ChangeLeader()
				s.service.Spec.Ports[0].TargetPort = intstr.FromInt32(9090)
				s.Kube.Apply(s.service)
				s.Advance(time.Second)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "a neighbour that has not started waits for the port", query: query, pod: onNode, outcome: "drained", event: deregistered, after: settleALB,
			world: func(c *sim.Config) {
				c.Assumptions.StartTime = timeline.Range{Min: 58 * time.Second, Max: 58 * time.Second}
			},
			up: func(s *scene) { s.Advance(time.Minute) },
			stop: func(s *scene) {
				s.AddPod(sim.PodSpec{Namespace: web, Name: "neighbour", Labels: map[string]string{"app": "web"}, Port: 9999, HostNetwork: true, Node: "node-1"})
				s.Advance(3 * time.Second)
				s.LBC.ChangeLeader()
				s.Kube.SetLabels(web, "web-1", map[string]string{"app": "debug"})
				s.Advance(time.Second)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "a slice in another namespace names the pod", pod: patient, world: func(c *sim.Config) { c.NoCheckpoint = true }, outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				s.lb = s.AWS.AddLoadBalancer("web", aws.ALB)
				s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
				s.Kube.AddService("front", "web", nil, webPort)
				s.LBC.AddBinding("front", "web", "web", s.group)
			},
			up: func(s *scene) {
				s.sliceByHand("front", "web-1", webPort)
				s.AWS.Register(s.group, s.pod.IP, webPort) // the simulated controller looks for pods in the binding's namespace
				s.Advance(time.Minute)
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(2*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
		},
	}
}

// sliceByHand has an EndpointSlice of the Service web of a namespace name a pod at
// the address of the scene's.
func (s *scene) sliceByHand(namespace, pod string, port int32) {
	name, protocol := "http", corev1.ProtocolTCP
	yes, no := true, false
	s.Kube.Apply(&discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: namespace, Name: "by-hand", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: &name, Port: &port, Protocol: &protocol}},
		Endpoints: []discoveryv1.Endpoint{{
			Addresses:  []string{s.pod.IP.String()},
			Conditions: discoveryv1.EndpointConditions{Ready: &yes, Serving: &yes, Terminating: &no},
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: web, Name: pod},
		}},
	})
}

func clockCases() []waitCase {
	return []waitCase{
		{
			name: "the clock of the API server jumps ahead in the middle of the wait", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() { s.Kube.SkewClock(10 * time.Minute); s.Kube.CutWatches() })
			},
		},
		{
			name: "a record of a deletion whose kill time has passed", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			// The cache shows the old pod at the address, deleted and overdue.
			stop: func(s *scene) {
				_ = s.DeletePodIn(web, "web-1", 10*time.Second)
				s.Advance(time.Second)
				s.Kube.LagWatches("pods", 2*time.Minute)
				s.reuse(30 * time.Second)
			},
		},
	}
}

func apiServerCases() []waitCase {
	return []waitCase{
		{
			name: "Service and binding are made while the watches are cut", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				s.lb = s.AWS.AddLoadBalancer("web", aws.ALB)
				s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
			},
			up: func(s *scene) {
				s.Kube.LagWatches("", time.Hour)
				s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
				s.LBC.AddBinding(web, "web", "web", s.group)
				s.Advance(time.Minute)
			},
		},
		{
			name: "the API server is away for all of the wait", pod: func(p *sim.PodSpec) { p.Hook.MaxDelay = 40 * time.Second }, outcome: "budget_spent", after: 40 * time.Second,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.Advance(100 * time.Millisecond) // the watch has told of it
				s.Kube.CutWatches()
				s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
			},
			also: warned("could not be read"),
		},
		{
			name: "the API server is away after the live reads", outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() {
					s.Kube.CutWatches()
					s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
				})
			},
		},
		{
			name: "nothing is known, and the API server is away", status: http.StatusServiceUnavailable, after: 2 * time.Second, early: time.Second,
			prepare: func(*scene) {},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.Advance(100 * time.Millisecond)
				s.Kube.CutWatches()
				s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
			},
		},
		{
			name: "the watch of pods is refused, and a new pod asks", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			up: func(s *scene) {
				s.Kube.Fail(func(r *http.Request) bool {
					return r.URL.Path == "/api/v1/pods" && r.URL.Query().Has("watch")
				}, http.StatusForbidden)
				s.Kube.CutWatches()
			},
			stop: func(s *scene) { s.reuse(30 * time.Second) },
		},
	}
}

// answerCases are answers of AWS that say nothing, for half a minute from the
// first look on. The target is healthy all the time until then.
func answerCases() (cases []waitCase) {
	for _, a := range []struct {
		name string
		aws.Fault
	}{
		{"an empty body", aws.Fault{Status: 200, Garble: garble("")}},
		{"OK", aws.Fault{Status: 200, Garble: garble("OK")}},
		{"an XML declaration", aws.Fault{Status: 200, Garble: garble(`<?xml version="1.0"?>`)}},
		{"JSON", aws.Fault{Status: 200, Garble: garble(`{"message": "hello"}`)}},
		{"204", aws.Fault{Status: 204, Garble: garble("")}},
		{"no result", aws.Fault{Status: 200, Garble: garble(`<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"></DescribeTargetHealthResponse>`)}},
		{"no list", aws.Fault{Status: 200, Garble: garble(`<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeTargetHealthResult></DescribeTargetHealthResult></DescribeTargetHealthResponse>`)}},
		{"half of the answer", aws.Fault{Garble: func(answer []byte) []byte { return answer[:len(answer)/2] }}},
		{"a validation error after a good look", aws.Fault{Status: 400, Code: "ValidationError", Message: "not valid"}},
	} {
		good, after := a.Code != "", 30*time.Second
		if good {
			after += 5 * time.Second // what is refused is asked for at the cadence
		}
		cases = append(cases, waitCase{
			name: a.name, pod: patient, outcome: "drained", after: after + settleALB, early: after - 29*time.Second,
			world: func(c *sim.Config) { c.NoCheckpoint = true }, // so that looks are frequent
			stop: func(s *scene) {
				s.LBC.Stop()
				if !good {
					s.AWS.Fail(fault("DescribeTargetHealth", a.Fault))
				}
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(2*time.Second, func() { s.AWS.Fail(fault("DescribeTargetHealth", a.Fault)) })
				s.After(29*time.Second, func() { s.AWS.Fail(nil) })
				s.After(30*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
		})
	}
	return cases
}

// refusalCases are reasons to refuse a wait that show too late: the caller has
// waited, and would wait again.
func refusalCases() []waitCase {
	spent := func(words string) func(*testing.T, *scene, api.Answer) {
		return func(t *testing.T, _ *scene, a api.Answer) {
			t.Helper()
			if !strings.Contains(a.LastError, words) {
				t.Errorf("the last error is %q, want %q in it", a.LastError, words)
			}
		}
	}
	return []waitCase{
		{
			name: "a group that AWS refuses is bound in the middle of the wait", outcome: "budget_spent", after: time.Minute, also: spent("another account or Region"),
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() {
					b := lbc.NewBinding(web, "foreign", "web", s.group)
					b.Spec.TargetGroupARN = strings.Replace(s.group.ARN(), aws.AccountID, "999999999999", 1)
					s.Kube.Apply(b)
				})
			},
		},
		{
			name: "AWS is slow to refuse", outcome: "budget_spent", after: time.Minute, also: spent("AccessDenied"),
			up: func(s *scene) { s.AWS.Fail(fault("", aws.Fault{Hang: true})) },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(4*time.Second, func() { s.AWS.Fail(refuse("DescribeTargetHealth")) })
			},
		},
		{
			name: "what AWS refused a moment ago is refused at once", status: http.StatusBadGateway, also: says("AccessDenied"),
			up: func(s *scene) {
				s.AWS.Fail(refuse("DescribeTargetHealth"))
				s.Await(s.Ask(webIP, "max-delay=10"))
				s.AWS.Fail(fault("", aws.Fault{Hang: true}))
				s.Advance(15 * time.Second)
			},
		},
		{
			name: "and is asked again after half a minute", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			up: func(s *scene) {
				s.AWS.Fail(refuse("DescribeTargetHealth"))
				s.Await(s.Ask(webIP, "max-delay=10"))
				s.AWS.Fail(nil)
				s.Advance(31 * time.Second)
			},
		},
		{
			name: "an address is found in no group, late", query: "ip=10.9.9.9&namespace=default&max-delay=60", outcome: "budget_spent", after: 12 * time.Second, early: 2 * time.Second,
			up: func(s *scene) {
				s.AWS.Fail(fault("", aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}))
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(12*time.Second, func() { s.AWS.Fail(nil) })
			},
		},
	}
}

// shortCases are budgets that cannot hold the settle time. The caller is told,
// and so is the log, at the start.
func shortCases() []waitCase {
	logged := func(words string) (func(*service.Config), func(*testing.T, *scene, api.Answer)) {
		log := new(lockedBuffer)
		early := -1
		return func(c *service.Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) },
			func(t *testing.T, s *scene, a api.Answer) {
				t.Helper()
				warned(words)(t, s, a)
				warned("requests may fail")(t, s, a)
				if early = strings.Index(log.String(), words); early < 0 || early > strings.Index(log.String(), "wait over") {
					t.Errorf("the log does not say %q before the end of the wait:\n%s", words, log)
				}
				if !strings.Contains(log.String(), `level=WARN msg="wait over"`) {
					t.Errorf("the end of the wait is not logged as a warning:\n%s", log)
				}
			}
	}
	nlb := waitCase{name: "a minute behind an NLB", kind: aws.NLB, query: "max-delay=60", outcome: "settle_cut", after: time.Minute}
	nlb.serve, nlb.also = logged("max-delay is 60.0 s, too short to settle for 2m0s")
	grace := waitCase{
		name: "a grace period of 22 s behind an ALB", query: "namespace=default", outcome: "settle_cut", event: deleted, after: 17600 * time.Millisecond, early: time.Second,
		pod: func(p *sim.PodSpec) { p.Grace = 22 * time.Second },
	}
	grace.serve, grace.also = logged("raise terminationGracePeriodSeconds to 55 or more")
	return []waitCase{nlb, grace, {
		name: "a grace period that is short by a moment", query: "namespace=default", outcome: "settle_cut", event: deleted, after: 20 * time.Second, early: time.Second,
		pod:  func(p *sim.PodSpec) { p.Grace = 25 * time.Second },
		also: warned("Raise terminationGracePeriodSeconds by"),
	}}
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex // guards the rest; held for a moment only
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

// TestDeletedGroup: a group that is gone is asked for once more, to confirm it,
// and its trouble is none.
func TestDeletedGroup(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		s.LBC.Stop()
		_ = s.DeletePod(web, "web-1")
		c := s.Ask(webIP, "max-delay=60")
		s.Advance(5 * time.Second)
		s.AWS.DeleteTargetGroup(s.group)
		a := s.Await(c).OK(t)
		if gone := s.AWS.Calls()["DescribeTargetHealth TargetGroupNotFound"]; a.Outcome != "drained" || a.LastError != "" || gone > 2 {
			t.Errorf("%s, last error %q, asked for %d times when it was gone", a.Outcome, a.LastError, gone)
		}
	})
}

// TestNoCredentials: that AWS refuses us shows at the start, not with the first
// hook.
func TestNoCredentials(t *testing.T) {
	log := new(lockedBuffer)
	change := func(c *service.Config) {
		c.Log = slog.New(slog.NewTextHandler(log, nil))
		c.AWS.Credentials = credentials.NewStaticCredentialsProvider("AKIDUNKNOWN", "nothing", "")
	}
	inScene(t, change, func(s *scene) {
		if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "check the credentials of the service") {
			t.Errorf("the log does not tell:\n%s", text)
		}
		if body := s.metrics(t); !strings.Contains(body, "drain_wait_aws_accounts_denied 1\n") {
			t.Errorf("the metrics do not tell:\n%s", body)
		}
	})
}

// TestReadinessFollowsTheWatches: a watch that is refused in mid-life makes a
// replica unready in some minutes, and one that comes back makes it ready again.
func TestReadinessFollowsTheWatches(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		ready := func() (int, string) {
			c := s.Await(s.Get(s.Admin.Client(netip.Addr{}), "http://admin/readyz"))
			return c.Status, string(c.Body)
		}
		s.Advance(10 * time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Fatalf("a quiet cluster makes it unready: %d %s", status, body)
		}
		s.Kube.Fail(func(r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/services") && r.URL.Query().Has("watch")
		}, http.StatusForbidden)
		s.Kube.CutWatches()
		s.Advance(time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Errorf("a minute without a watch makes it unready: %d %s", status, body)
		}
		s.Advance(4 * time.Minute)
		if status, body := ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "services") {
			t.Errorf("five minutes without a watch of Services: %d %s", status, body)
		}
		s.Kube.Fail(nil, 0)
		s.Advance(2 * time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Errorf("it does not get ready again: %d %s", status, body)
		}
	})
}

// garble puts a body in the place of every answer.
func garble(body string) func([]byte) []byte { return func([]byte) []byte { return []byte(body) } }

// TestForwardedCaller: an address that a proxy has is not that of the pod.
func TestForwardedCaller(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		for _, header := range []string{"Via", "Forwarded", "X-Forwarded-For"} {
			c := s.Await(s.AskWith(webIP, "max-delay=60", header))
			if f := c.Failed(t); c.Status != http.StatusNotFound || f.Error != "not_found" || c.Took > time.Second {
				t.Errorf("%s: got %d %s", header, c.Status, c.Body)
			}
		}
		var a api.Answer
		if a = s.Await(s.AskWith(webIP, "ip="+webIP+"&namespace=default", "Via")).OK(t); a.Outcome != "drained" {
			t.Errorf("got %+v", a)
		}
	})
}
