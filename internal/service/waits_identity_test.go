package service_test

import (
	"net/http"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/api"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/timeline"
)

// identityCases are calls for which the caches show another pod than the real one.
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
			pod: patient, outcome: "budget_spent", after: 4 * time.Minute, // both pods count, and the new one stays
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
			// The NLB's group no longer lists it, while the NLB still sends.
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

// sliceByHand makes an EndpointSlice of a namespace's Service web that names a pod at the
// address of the scene's pod.
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

// TestForwardedCaller: a proxy's address is not the pod's.
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
