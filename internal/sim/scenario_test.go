package sim

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// What a binding makes of a pod with both address families and two ports, behind a
// Service with both families and two ports.
func TestControllerFollowsBindings(t *testing.T) {
	const v4, v6 = "10.0.0.1:8080 us-east-1b", "2001:db8::1:8080 us-east-1b"
	for _, tt := range []struct {
		name       string
		group      aws.TargetGroupSpec
		change     func(w *World, s *corev1.Service, b *kube.TargetGroupBinding)
		want       string
		checkpoint bool
	}{
		{"as LBC makes it", aws.TargetGroupSpec{}, nil, v4, true},
		{"before LBC 2.14", aws.TargetGroupSpec{}, func(_ *World, _ *corev1.Service, b *kube.TargetGroupBinding) {
			b.Spec.TargetGroupProtocol = nil
		}, v4, true},
		{"by name", aws.TargetGroupSpec{}, func(_ *World, _ *corev1.Service, b *kube.TargetGroupBinding) {
			b.Spec.TargetGroupARN, b.Spec.TargetGroupName = "", "web"
		}, v4, true},
		{"of EKS Auto Mode", aws.TargetGroupSpec{}, func(w *World, _ *corev1.Service, b *kube.TargetGroupBinding) {
			w.Kube.ServeGroup(kube.GroupEKS, true)
			b.APIVersion = kube.GroupEKS + "/v1"
		}, v4, false},
		{"IPv6", aws.TargetGroupSpec{IPv6: true}, nil, v6, true},
		{"IPv6, of a Service without", aws.TargetGroupSpec{IPv6: true}, func(_ *World, s *corev1.Service, _ *kube.TargetGroupBinding) {
			s.Spec.IPFamilies = s.Spec.IPFamilies[:1]
		}, "", true},
		{"named target port", aws.TargetGroupSpec{}, func(_ *World, s *corev1.Service, _ *kube.TargetGroupBinding) {
			s.Spec.Ports[0].TargetPort = intstr.FromString("admin")
		}, "10.0.0.1:9090 us-east-1b", true},
		{"target port that no container names", aws.TargetGroupSpec{}, func(_ *World, s *corev1.Service, _ *kube.TargetGroupBinding) {
			s.Spec.Ports[0].TargetPort = intstr.FromString("none")
		}, "", true},
		{"second port, by name", aws.TargetGroupSpec{}, func(_ *World, _ *corev1.Service, b *kube.TargetGroupBinding) {
			b.Spec.ServiceRef.Port = intstr.FromString("admin")
		}, "10.0.0.1:9090 us-east-1b", true},
		{"second port, by number", aws.TargetGroupSpec{}, func(_ *World, _ *corev1.Service, b *kube.TargetGroupBinding) {
			b.Spec.ServiceRef.Port = intstr.FromInt(81)
		}, "10.0.0.1:9090 us-east-1b", true},
		{"instance targets", aws.TargetGroupSpec{TargetType: "instance"}, nil, "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testWorld(t, nil, func(t *worldTest) {
				tt.group.Name, tt.group.Port, tt.group.Balancer = "web", 80, t.w.AWS.AddLoadBalancer("web", aws.ALB)
				g, labels := t.w.AWS.AddGroup(tt.group), map[string]string{"app": "web"}
				s := kube.NewService("shop", "web", labels, 8080)
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
				s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: "admin", Port: 81, TargetPort: intstr.FromInt(9090)})
				b := lbc.NewBinding("shop", "web", "web", g)
				if tt.change != nil {
					tt.change(t.w, s, b)
				}
				t.w.Kube.Apply(s)
				t.w.AddPod(PodSpec{
					Namespace: "shop", Name: "a", Labels: labels, Port: 8080, ExtraPorts: map[string]int{"admin": 9090},
					IPFamilies: s.Spec.IPFamilies, Grace: time.Minute, Hook: Hook{Hold: true},
				})
				t.run(30 * time.Second)
				t.w.Kube.Apply(b) // while something else is going on
				t.run(30 * time.Second)
				var healthy, draining []string
				if tt.want != "" {
					healthy, draining = []string{tt.want + " healthy"}, []string{tt.want + " draining Target.DeregistrationInProgress"}
				}
				t.want("ready", g, healthy...)
				if _, ok := t.bound(b.GroupVersionKind().Group, "web").Annotations[checkpointAnnotation]; ok != tt.checkpoint {
					t.Errorf("checkpoint: %v, want %v", ok, tt.checkpoint)
				}
				if err := t.w.DeletePod("shop", "a"); err != nil {
					t.Fatal(err)
				}
				t.run(5 * time.Second)
				t.want("deleted", g, draining...)
			})
		})
	}
}

// What can happen to a pod, and what its target shows 6 s later.
func TestControllerFollowsPods(t *testing.T) {
	const healthy, draining = "healthy", "draining Target.DeregistrationInProgress"
	for _, tt := range []struct {
		name string
		do   func(w *World, s *corev1.Service, g *aws.TargetGroup)
		want string
	}{
		{"deletion", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) { _ = w.DeletePod("shop", "a") }, draining},
		{"completion", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) { w.CompletePod("shop", "a") }, draining},
		{"completion behind a Service that publishes it all the same", func(w *World, s *corev1.Service, _ *aws.TargetGroup) {
			s.Spec.PublishNotReadyAddresses = true
			w.Kube.Apply(s)
			w.CompletePod("shop", "a")
		}, draining},
		{"shutdown of its node", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) { w.ShutdownNode("node-1") }, draining},
		{"liveness restart", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) { w.RestartContainer("shop", "a") }, healthy},
		{"other labels", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) {
			w.Kube.SetLabels("shop", "a", map[string]string{"app": "other"})
		}, draining},
		{"other selector", func(w *World, s *corev1.Service, _ *aws.TargetGroup) {
			w.Kube.SetSelector(s, map[string]string{"app": "other"})
		}, draining},
		{"no Service", func(w *World, s *corev1.Service, _ *aws.TargetGroup) { w.Kube.Remove(s) }, draining},
		{"deletion behind a Service that publishes it all the same", func(w *World, s *corev1.Service, _ *aws.TargetGroup) {
			s.Spec.PublishNotReadyAddresses = true
			w.Kube.Apply(s)
			_ = w.DeletePod("shop", "a")
		}, healthy},
		{"deletion while the controller is stuck", func(w *World, _ *corev1.Service, _ *aws.TargetGroup) {
			w.LBC.Stop()
			_ = w.DeletePod("shop", "a")
		}, healthy},
		{"deregistration by hand", func(w *World, _ *corev1.Service, g *aws.TargetGroup) {
			w.LBC.Stop()
			w.AWS.Deregister(g, w.Pods()[0].IP, 8080)
		}, draining},
		{"deletion of an unhealthy.draining one", func(w *World, _ *corev1.Service, g *aws.TargetGroup) {
			w.AWS.SetTarget(g, w.Pods()[0].IP, 8080, "unhealthy.draining", "Target.FailedHealthChecks")
			w.LBC.Assumptions.LeaderGap = timeline.Range{}
			w.LBC.ChangeLeader() // a new leader does not believe that it is healthy
			_ = w.DeletePod("shop", "a")
			w.After(5*time.Second, func() { w.AWS.SetTarget(g, w.Pods()[0].IP, 8080, "", "") })
		}, healthy},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testWorld(t, nil, func(t *worldTest) {
				labels := map[string]string{"app": "web"}
				g := t.w.AWS.AddTargetGroup("web", 80, t.w.AWS.AddLoadBalancer("web", aws.ALB))
				s := t.w.Kube.AddService("shop", "web", labels, 8080)
				t.w.LBC.AddBinding("shop", "web", "web", g)
				p := t.w.AddPod(PodSpec{
					Namespace: "shop", Name: "a", Labels: labels, Port: 8080, Grace: time.Minute,
					Gates: []string{lbc.GatePrefix + "web"}, Hook: Hook{Hold: true},
				})
				t.run(30 * time.Second)
				tt.do(t.w, s, g)
				t.run(6 * time.Second)
				t.want("6 s later", g, "10.0.0.1:8080 us-east-1b "+tt.want)
				if (p.Deregistered > 0) != (tt.want == draining) {
					t.Errorf("deregistered at %v", p.Deregistered)
				}
			})
		})
	}
}

// The checkpoint of a binding stays empty while a new pod waits for its readiness gate,
// although an old pod is deregistered in that time.
func TestCheckpointWaitsForGates(t *testing.T) {
	slow := func(as *Assumptions) { as.AWS.RegistrationTime = timeline.Between(time.Minute, time.Minute) }
	testWorld(t, slow, func(t *worldTest) {
		d, g := t.w.AddApp(App{Namespace: "shop", Name: "web", Kind: aws.ALB, Replicas: 1, Port: 8080, Grace: time.Minute, Hook: Hook{Hold: true}})
		checkpoint := func() string {
			return t.bound(kube.GroupELBv2, "web").Annotations[checkpointAnnotation]
		}
		t.run(2 * time.Minute)
		before := checkpoint()
		t.w.addReplica(d)
		t.run(10 * time.Second)
		old := t.w.Pods()[0]
		if err := t.w.DeletePod("shop", old.Name); err != nil {
			t.Fatal(err)
		}
		t.run(5 * time.Second)
		if !slices.Contains(t.rows(g), "10.0.0.1:8080 us-east-1b draining Target.DeregistrationInProgress") {
			t.Error("the old pod is not deregistered")
		}
		if before == "" || checkpoint() != "" {
			t.Errorf("checkpoint %q, then %q; want it to become empty and to stay so", before, checkpoint())
		}
		t.run(2 * time.Minute)
		if checkpoint() == "" || checkpoint() == before {
			t.Errorf("checkpoint %q after %q, want a new one", checkpoint(), before)
		}
	})
}

func TestAddressesOfPods(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		both := []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "dual", IPFamilies: both})
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "six", IPFamilies: both[:1]})
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "host-a", HostNetwork: true, Port: 8080})
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "host-b", HostNetwork: true, Port: 8081})
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "elsewhere", HostNetwork: true, Port: 8080, Node: "other"})
		done := t.w.AddPod(PodSpec{Namespace: "shop", Name: "done", Port: 8080})
		t.run(10 * time.Second)
		t.w.CompletePod("shop", "done")
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "heir", Port: 8080, Addresses: done.IPs})
		t.run(10 * time.Second)
		for _, tt := range []struct{ name, want string }{
			{"dual", "Running 2001:db8::1 [{2001:db8::1} {10.0.0.1}] false"},
			{"six", "Running 2001:db8::2 [{2001:db8::2}] false"},
			{"host-a", "Running 10.255.0.1 [{10.255.0.1}] true"},
			{"host-b", "Running 10.255.0.1 [{10.255.0.1}] true"},
			{"elsewhere", "Running 10.255.0.2 [{10.255.0.2}] true"},
			{"done", "Succeeded 10.0.0.6 [{10.0.0.6}] false"},
			{"heir", "Running 10.0.0.6 [{10.0.0.6}] false"},
		} {
			p := t.pod(tt.name)
			if got := fmt.Sprintf("%v %v %v %v", p.Status.Phase, p.Status.PodIP, p.Status.PodIPs, p.Spec.HostNetwork); got != tt.want {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
		}
		for address, want := range map[string]string{"10.255.0.1:8080": "host-a", "10.255.0.1:8081": "host-b", "10.0.0.6:8080": "heir"} {
			if got := t.w.listeners[targetIDs(address)[0]].pod.report.Name; got != want {
				t.Errorf("%s listens at %s, want %s", got, address, want)
			}
		}
	})
}

// The world distinguishes requests for a hostNetwork pod from those for its neighbour on
// another port.
func TestNeighboursOnTheHostNetwork(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		lb := t.w.AWS.AddLoadBalancer("web", aws.ALB)
		g, h := t.w.AWS.AddTargetGroup("a", 8080, lb), t.w.AWS.AddTargetGroup("b", 8081, lb)
		a := t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", HostNetwork: true, Port: 8080})
		b := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", HostNetwork: true, Port: 8081, Grace: time.Minute})
		t.run(10 * time.Second)
		t.w.AWS.Register(g, a.IP, 8080)
		t.w.AWS.Register(h, b.IP, 8081)
		t.run(20 * time.Second)
		t.w.AddClients(g, 10)
		if err := t.w.DeletePod("shop", "b"); err != nil {
			t.Fatal(err)
		}
		t.run(10 * time.Second)
		if a.LastArrival == 0 || b.LastArrival != 0 || t.w.Stats().Failed > 0 {
			t.Errorf("last arrivals %v and %v, stats %+v; want all at the first, and all well", a.LastArrival, b.LastArrival, t.w.Stats())
		}
	})
}

// A Service has an EndpointSlice for each family and for each number of a named port. They
// go with the Service.
func TestEndpointSlices(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		families := []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}
		labels := map[string]string{"app": "web"}
		for i, name := range []string{"a", "b", "c"} {
			t.w.AddPod(PodSpec{Namespace: "shop", Name: name, Labels: labels, Port: 8080 + i/2, IPFamilies: families[:1+i%2]})
		}
		s := kube.NewService("shop", "web", labels, 0)
		s.Spec.Ports[0].TargetPort = intstr.FromString("http")
		s.Spec.IPFamilies = families
		t.w.Kube.Apply(s)
		slicesNow := func() []string {
			t.run(10 * time.Second)
			got := []string{}
			t.must(func(ctx context.Context) error {
				l, err := t.kube().DiscoveryV1().EndpointSlices("shop").List(ctx, metav1.ListOptions{LabelSelector: "kubernetes.io/service-name=web"})
				if err != nil {
					return err
				}
				for _, x := range l.Items {
					row := fmt.Sprint(x.Name, " ", x.AddressType, " ", *x.Ports[0].Port)
					for _, e := range x.Endpoints {
						row += fmt.Sprintf(" %v%s %v", e.Addresses, e.TargetRef.Name, *e.Conditions.Ready)
					}
					got = append(got, row)
				}
				return nil
			})
			return got
		}
		want := []string{
			"web-ipv4-0 IPv4 8080 [10.0.0.1]a true [10.0.0.2]b true",
			"web-ipv4-1 IPv4 8081 [10.0.0.3]c true",
			"web-ipv6-0 IPv6 8080 [2001:db8::2]b true",
		}
		if d := cmp.Diff(want, slicesNow()); d != "" {
			t.Errorf("slices (-want +got):\n%s", d)
		}
		t.w.Kube.Remove(s)
		if d := cmp.Diff([]string{}, slicesNow()); d != "" {
			t.Errorf("slices of no Service (-want +got):\n%s", d)
		}
	})
}

// TestSlicesByHand: slices made by hand are left alone, and LBC follows them.
func TestSlicesByHand(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		g := t.w.AWS.AddTargetGroup("web", 80, t.w.AWS.AddLoadBalancer("web", aws.ALB))
		t.w.LBC.AddBinding("shop", "web", "web", g)
		t.w.Kube.AddService("shop", "web", nil, 8080)
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080})
		t.run(10 * time.Second)
		name, port := "http", int32(8080)
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "mine", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Ports:       []discoveryv1.EndpointPort{{Port: &port}, {Name: &name, Port: &port}},
			Endpoints: []discoveryv1.Endpoint{
				{Addresses: []string{"10.0.0.1"}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Name: "a", Namespace: "elsewhere"}},
				{Addresses: []string{"10.0.0.2"}},
			},
		}
		t.w.Kube.Apply(s)
		t.run(20 * time.Second)
		t.want("by hand", g, "10.0.0.1:8080 us-east-1b healthy")
		if err := kube.Edit(t.w.Kube, "shop", "web", func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": "other"} }); err != nil {
			t.Fatal(err)
		}
		t.run(5 * time.Second)
		if got := t.w.Kube.SlicesOf("shop", "web"); !slices.Contains(got, s) {
			t.Error("the EndpointSlice controller took a slice that is not its own")
		}
	})
}

// state shows a pod as the API has it.
func state(p *corev1.Pod) string {
	return fmt.Sprintf("%s ready=%v deleted=%v", p.Status.Phase, kube.ConditionTrue(p, corev1.PodReady), p.DeletionTimestamp != nil)
}

func TestHooksOfContainers(t *testing.T) {
	var mu sync.Mutex
	var asked []string
	drained := answering(20*time.Second, http.StatusOK, "drained")
	service := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, fmt.Sprint(r.URL, " from ", netip.MustParseAddrPort(r.RemoteAddr).Addr()))
		mu.Unlock()
		drained.ServeHTTP(rw, r)
	})
	inWorldWith(t, service, func(t *testing.T, w *World) {
		ask := Hook{URL: "http://service"}
		late := Hook{URL: "http://service", Delay: 5 * time.Second, Query: "pod=a&max-wait="}
		p := w.AddPod(PodSpec{
			Namespace: "shop", Name: "a", Port: 8080, Grace: time.Minute, Hook: ask,
			Sidecars: []Sidecar{{"late", nil, late}, {"proxy", map[string]int{"proxy": 9090}, Hook{}}},
		})
		w.Run(t.Context(), 10*time.Second)
		if err := w.DeletePod("shop", "a"); err != nil {
			t.Fatal(err)
		}
		w.Run(t.Context(), 15*time.Second)
		app, proxy := w.listening(targetIDs("10.0.0.1:8080")[0]), w.listening(targetIDs("10.0.0.1:9090")[0])
		if !app || proxy {
			t.Errorf("5 s after the deletion the application listens: %v, the container without a hook: %v", app, proxy)
		}
		w.Run(t.Context(), time.Minute)
		mu.Lock()
		want := []string{"/drain-delay?ip=10.0.0.1&namespace=shop from 10.0.0.1", "/drain-delay?pod=a&max-wait= from 10.0.0.1"}
		if d := cmp.Diff(want, asked); d != "" {
			t.Errorf("the service was asked (-want +got):\n%s", d)
		}
		mu.Unlock()
		var got []string
		for _, c := range p.Calls {
			got = append(got, fmt.Sprint(c.Container, " ", (c.Asked-p.Calls[0].Asked).Round(time.Second), " ", c.Answered-c.Asked, " ", c.Outcome))
		}
		if d := cmp.Diff([]string{"app 0s 20s drained", "late 5s 20s drained"}, got); d != "" {
			t.Errorf("calls (-want +got):\n%s", d)
		}
		if held := p.Held().Round(time.Second); held != 20*time.Second || p.Gone-p.Deleted < 25*time.Second || p.Drained != 2 {
			t.Errorf("held for %v, gone after %v, %d times drained", held, p.Gone-p.Deleted, p.Drained)
		}
	})
}

func TestDeletePodIn(t *testing.T) {
	for _, tt := range []struct {
		name       string
		graces     []time.Duration // one each 5 s
		stop, gone time.Duration   // after the first
	}{
		{"once", []time.Duration{20 * time.Second}, 20 * time.Second, 21 * time.Second},
		{"shorter", []time.Duration{50 * time.Second, 10 * time.Second}, 10 * time.Second, 11 * time.Second}, // from the first deletion
		{"longer", []time.Duration{20 * time.Second, 50 * time.Second}, 20 * time.Second, 21 * time.Second},
		{"by force", []time.Duration{20 * time.Second, 0}, 5 * time.Second, 5 * time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorldWith(t, answering(time.Hour, http.StatusOK, "drained"), func(t *testing.T, w *World) {
				p := w.AddPod(PodSpec{Namespace: "shop", Name: "a", Grace: time.Minute, Hook: Hook{URL: "http://service"}})
				w.Run(t.Context(), 10*time.Second)
				for _, g := range tt.graces {
					if err := w.DeletePodIn("shop", "a", g); err != nil {
						t.Fatal(err)
					}
					w.Run(t.Context(), w.Now()+5*time.Second)
				}
				w.Run(t.Context(), 2*time.Minute)
				stop, gone := p.Stopped-p.Deleted, p.Gone-p.Deleted
				if stop.Round(time.Second) != tt.stop || gone < tt.gone-time.Second || gone > tt.gone+time.Second {
					t.Errorf("stopped after %v, gone after %v, want %v and %v", stop, gone, tt.stop, tt.gone)
				}
				if len(p.Calls) != 1 || p.Answered != 0 || p.Outcome != "" {
					t.Errorf("calls %+v, want one that was cut", p.HookCall)
				}
			})
		})
	}
}

func TestRestartContainer(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		p := t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080, Grace: time.Minute, Hook: Hook{Sleep: 20 * time.Second}})
		t.run(10 * time.Second)
		for range 2 {
			began := t.w.Now()
			t.w.RestartContainer("shop", "a")
			t.run(19 * time.Second)
			if got, want := state(t.pod("a")), "Running ready=true deleted=false"; got != want {
				t.Errorf("while the hook runs: %s, want %s", got, want)
			}
			t.run(3 * time.Second)
			if got, want := state(t.pod("a")), "Running ready=false deleted=false"; got != want || p.Stopped < began+20*time.Second {
				t.Errorf("after the hook: %s, want %s; stopped at %v", got, want, p.Stopped)
			}
			t.run(10 * time.Second)
			if got, want := state(t.pod("a")), "Running ready=true deleted=false"; got != want || !t.w.listening(targetIDs("10.0.0.1:8080")[0]) {
				t.Errorf("after the restart: %s, want %s", got, want)
			}
			t.run(time.Minute) // past the end of the grace period
			if got, want := state(t.pod("a")), "Running ready=true deleted=false"; got != want {
				t.Errorf("much later: %s, want %s", got, want)
			}
		}
	})
}

// What the service said about a container does not apply to the next one.
func TestLateEndsWithRestart(t *testing.T) {
	inWorldWith(t, answering(0, http.StatusOK, "drained"), func(t *testing.T, w *World) {
		g := w.AWS.AddTargetGroup("web", 80, w.AWS.AddLoadBalancer("web", aws.ALB))
		p := w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080, Grace: time.Minute, Hook: Hook{URL: "http://service"}})
		w.AWS.Register(g, p.IP, 8080)
		w.Run(t.Context(), 30*time.Second)
		w.AddClients(g, 50)
		w.RestartContainer("shop", "a")
		w.Run(t.Context(), 40*time.Second)
		late := p.Late
		w.Run(t.Context(), time.Minute)
		if late == 0 || p.Late != late || p.LastArrival < 59*time.Second {
			t.Errorf("%d late requests, then %d, the last at %v; want some before the restart and none after", late, p.Late, p.LastArrival)
		}
	})
}

func TestShutdownNode(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		labels := map[string]string{"app": "web"}
		d := t.w.AddDeployment(PodSpec{
			Namespace: "shop", Name: "web", Labels: labels, Port: 8080, Grace: time.Minute, Hook: Hook{Sleep: 20 * time.Second},
		}, 1)
		t.run(10 * time.Second)
		p := t.w.Pods()[0]
		t.w.ShutdownNode("node-1")
		t.run(0)
		t.must(func(ctx context.Context) error {
			n, err := t.kube().CoreV1().Nodes().Get(ctx, "node-1", metav1.GetOptions{})
			if err == nil && n.Status.Conditions[0].Status != corev1.ConditionFalse {
				t.Errorf("node conditions %+v", n.Status.Conditions)
			}
			return err
		})
		for _, step := range []struct {
			after time.Duration
			want  string
		}{
			{6 * time.Second, "Running ready=false deleted=false"},
			{13 * time.Second, "Running ready=false deleted=false"},
			{5 * time.Second, "Failed ready=false deleted=false"},
		} {
			t.run(step.after)
			if got := state(t.pod(p.Name)); got != step.want {
				t.Errorf("%v on: %s, want %s", step.after, got, step.want)
			}
		}
		if p.Stopped.Round(time.Second) != 31*time.Second && p.Stopped.Round(time.Second) != 30*time.Second {
			t.Errorf("stopped at %v, want the end of its hook", p.Stopped)
		}
		if n := len(t.w.Pods()); n != 2 || !d.owns(t.pod(t.w.Pods()[1].Name)) || t.pod(t.w.Pods()[1].Name).Spec.NodeName != "node-2" {
			t.Errorf("%d pods ever, want another one on another node", n)
		}
		if err := t.w.DeletePod("shop", p.Name); err != nil {
			t.Fatal(err)
		}
		t.run(10 * time.Second)
		if p.Gone == 0 {
			t.Error("a pod that was over is not gone after its deletion")
		}
	})
}

func TestIngressNamesBalancers(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		alb, nlb := t.w.AWS.AddLoadBalancer("web", aws.ALB), t.w.AWS.AddLoadBalancer("front", aws.NLB)
		t.w.LBC.AddIngress("shop", "new", "web")
		t.w.LBC.AddIngress("shop", "old", "web", alb, nlb)
		t.w.AddApp(App{Namespace: "tcp", Name: "tcp", Kind: aws.NLB, Port: 443})
		t.must(func(ctx context.Context) error {
			l, err := t.kube().NetworkingV1().Ingresses("").List(ctx, metav1.ListOptions{})
			if err != nil {
				return err
			}
			got := []string{}
			for _, i := range l.Items {
				for _, h := range i.Status.LoadBalancer.Ingress {
					got = append(got, i.Name+" "+h.Hostname)
				}
			}
			if d := cmp.Diff([]string{"old " + alb.DNSName(), "old " + nlb.DNSName()}, got); d != "" {
				t.Errorf("host names (-want +got):\n%s", d)
			}
			s, err := t.kube().CoreV1().Services("tcp").Get(ctx, "tcp", metav1.GetOptions{})
			if err == nil && (s.Spec.Type != corev1.ServiceTypeLoadBalancer || len(s.Status.LoadBalancer.Ingress) != 1) {
				t.Errorf("service %+v %+v", s.Spec, s.Status)
			}
			return err
		})
	})
}
