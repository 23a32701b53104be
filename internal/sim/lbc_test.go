package sim

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/measured"
	"drainwait/internal/sim/memnet"
	"drainwait/internal/sim/timeline"
)

const (
	podHealthy  = "10.0.0.1:8080 us-east-1b healthy"
	podDraining = "10.0.0.1:8080 us-east-1b draining Target.DeregistrationInProgress"
)

// lbcTest is one pod behind the Service "web" and a binding of that name. The pod is
// registered and healthy.
type lbcTest struct {
	*worldTest
	lb      *aws.LoadBalancer
	g       *aws.TargetGroup
	binding *kube.TargetGroupBinding
	pod     *PodReport
}

func testLBC(t *testing.T, change func(*Assumptions), f func(*lbcTest)) {
	t.Helper()
	testWorld(t, change, func(t *worldTest) { f(newLBCTest(t)) })
}

func newLBCTest(t *worldTest) *lbcTest {
	x := &lbcTest{worldTest: t, lb: t.w.AWS.AddLoadBalancer("web", aws.ALB)}
	x.g = t.w.AWS.AddTargetGroup("web", 8080, x.lb)
	labels := map[string]string{"app": "web"}
	t.w.Kube.AddService("shop", "web", labels, 8080)
	x.binding = t.w.LBC.AddBinding("shop", "web", "web", x.g)
	t.w.LBC.AddIngress("shop", "web", "web", x.lb)
	x.pod = t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", Labels: labels, Port: 8080, Grace: time.Minute, Hook: Hook{Hold: true}})
	t.run(30 * time.Second)
	t.want("at first", x.g, podHealthy)
	return x
}

// exists says whether the binding is there.
func (t *lbcTest) exists() bool { return t.bound(kube.GroupELBv2, "web") == t.binding }

func (t *lbcTest) checkpoint() string { return t.binding.Annotations[checkpointAnnotation] }

// changes is what happened to the binding, and when.
func (t *lbcTest) changes() *[]string {
	log := new([]string)
	t.w.Kube.OnChange(func(event string, obj metav1.Object) {
		if b, ok := obj.(*kube.TargetGroupBinding); ok {
			*log = append(*log, fmt.Sprintf("%s %s %q %v", event, b.Name, b.Annotations[checkpointAnnotation], b.Finalizers))
		}
	})
	return log
}

func TestBindingAsLBCMakesIt(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		client := dynamic.NewForConfigOrDie(&rest.Config{Host: "http://cluster", QPS: -1, Transport: memnet.Transport(t.w.Kube.Handler())})
		t.must(func(ctx context.Context) error {
			u, err := client.Resource(bindings).Namespace("shop").Get(ctx, "web", metav1.GetOptions{})
			if err != nil {
				return err
			}
			stack, finalizer := measured.LBC().StackLabels[0], measured.LBC().Finalizer
			got := fmt.Sprint(u.GetLabels(), u.GetFinalizers(), u.Object["status"], u.GetGeneration())
			want := fmt.Sprintf("map[%[1]sname:web %[1]snamespace:shop] [%[2]s] map[observedGeneration:1] 1", stack, finalizer)
			if got != want {
				t.Errorf("the binding is %s, want %s", got, want)
			}
			if u.Object["spec"].(map[string]any)["networking"] == nil || u.GetAnnotations()[measured.LBC().CheckpointTimestamp] == "" {
				t.Errorf("the binding lacks networking or a timestamp: %v", u.Object)
			}
			return nil
		})
		before := t.checkpoint()
		if !regexp.MustCompile(measured.LBC().Checkpoint).MatchString(before) {
			t.Errorf("the checkpoint is %q", before)
		}
		t.binding.Spec.VPCID = "vpc-1"
		t.w.Kube.Apply(t.binding)
		t.run(2 * time.Second)
		after := t.checkpoint()
		if before[:44] != after[:44] || before[44:] == after[44:] || *t.binding.Status.ObservedGeneration != 2 {
			t.Errorf("another specification made %q of %q, and the observed generation %d", after, before, *t.binding.Status.ObservedGeneration)
		}
		if t.pod.Deregistered != 0 {
			t.Error("another specification made LBC deregister the pod")
		}
	})
	testWorld(t, nil, func(t *worldTest) {
		nlb := lbc.NewBinding("shop", "tcp", "web", t.w.AWS.AddTargetGroup("tcp", 80, t.w.AWS.AddLoadBalancer("tcp", aws.NLB)))
		stack := measured.LBC().StackLabels[1]
		if d := cmp.Diff(map[string]string{stack + "namespace": "shop", stack + "name": "web"}, nlb.Labels); d != "" {
			t.Errorf("labels for an NLB (-want +got):\n%s", d)
		}
		nlb.APIVersion = kube.GroupEKS + "/v1"
		t.w.Kube.Apply(nlb)
		if nlb.Labels != nil {
			t.Errorf("labels of Auto Mode: %v, want none", nlb.Labels)
		}
		nlb.Labels = map[string]string{"mine": "stays"}
		t.w.Kube.Apply(nlb)
		if nlb.Labels == nil {
			t.Error("labels that a test gives to a binding of Auto Mode are gone")
		}
	})
}

func TestDeletedBinding(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.AWS.Register(t.g, targetIDs("10.9.9.9:80")[0].IP, 80) // LBC does not know of it
		t.w.Kube.Delete(t.binding)
		if !t.exists() || t.binding.DeletionTimestamp == nil {
			t.Error("the binding did not stay for its finalizer")
		}
		t.run(time.Second)
		t.want("deleted", t.g, podDraining, "10.9.9.9:80 us-east-1a initial Elb.RegistrationInProgress")
		if t.exists() || t.pod.DeregisteredByController == 0 {
			t.Errorf("a second later the binding is there: %v; deregistered at %v", t.exists(), t.pod.DeregisteredByController)
		}
	})
}

func TestDeletedBindingWithoutLeader(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.LBC.Stop()
		t.w.Kube.Delete(t.binding)
		t.run(time.Minute)
		t.want("without a leader", t.g, podHealthy)
		if !t.exists() {
			t.Error("without a leader the binding is gone")
		}
		t.run(t.w.LBC.ChangeLeader() + 2*time.Second)
		t.want("with a leader", t.g, podDraining)
		if t.exists() {
			t.Error("with a leader the binding is there")
		}
	})
}

// TestDeletedBindingOfAPendingPod no longer waits for its gate.
func TestDeletedBindingOfAPendingPod(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "gated", Labels: map[string]string{"app": "web"}, Port: 8080, Gates: []string{lbc.GatePrefix + "web"}})
		t.run(6 * time.Second)
		before := kube.ConditionTrue(t.pod2("gated"), corev1.PodReady)
		t.w.Kube.Delete(t.binding)
		t.run(2 * time.Second)
		if before || !kube.ConditionTrue(t.pod2("gated"), corev1.PodReady) {
			t.Errorf("ready before: %v, and after the deletion: %v", before, !before)
		}
	})
}

func (t *lbcTest) pod2(name string) *corev1.Pod { return t.worldTest.pod(name) }

// TestRemovedBinding: if the finalizer is stripped, LBC still deregisters what it
// has registered for the binding, and nothing else.
func TestRemovedBinding(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		mine := targetIDs("10.0.0.3:80")[0]
		t.serve("10.0.0.3:80")
		t.w.AWS.Register(t.g, mine.IP, mine.Port)
		t.w.Kube.Remove(t.binding)
		if t.exists() {
			t.Error("the binding is still there")
		}
		t.run(time.Minute)
		t.want("removed", t.g, podDraining, "10.0.0.3:80 us-east-1a healthy")
		t.w.AWS.Register(t.g, t.pod.IP, 8080)
		t.run(time.Minute)
		t.want("registered by hand", t.g, podHealthy, "10.0.0.3:80 us-east-1a healthy")
	})
}

// TestRemovedBindingWithoutLeader: the next leader has never heard of it.
func TestRemovedBindingWithoutLeader(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		gap := t.w.LBC.ChangeLeader()
		t.w.Kube.Remove(t.binding)
		t.run(gap + time.Minute)
		t.want("removed", t.g, podHealthy)
	})
}

func TestSwitchedService(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		green := map[string]string{"app": "green"}
		t.w.Kube.AddService("shop", "green", green, 8080)
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Labels: green, Port: 8080})
		t.run(10 * time.Second)
		if err := kube.Edit(t.w.Kube, "shop", "web", func(b *kube.TargetGroupBinding) { b.Spec.ServiceRef.Name = "green" }); err != nil {
			t.Fatal(err)
		}
		t.run(time.Second)
		t.want("serviceRef "+measured.LBC().ServiceRef, t.g, podDraining, "10.0.0.2:8080 us-east-1c initial Elb.RegistrationInProgress")
	})
}

// TestSwitchedGroup: what is in the old group stays there.
func TestSwitchedGroup(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		other := t.w.AWS.AddTargetGroup("other", 8080, t.lb)
		if err := kube.Edit(t.w.Kube, "shop", "web", func(b *kube.TargetGroupBinding) { b.Spec.TargetGroupARN = other.ARN() }); err != nil {
			t.Fatal(err)
		}
		t.run(20 * time.Second)
		t.want("the new group", other, podHealthy)
		t.want("the old group", t.g, podHealthy)
		t.w.Kube.Remove(t.binding)
		t.run(time.Second)
		t.want("the new group", other, podDraining)
		t.want("the old group", t.g, podHealthy)
	})
}

// TestDeletedIngress follows LBC's calls one by one.
func TestDeletedIngress(t *testing.T) {
	const ms = time.Millisecond
	deleted := measured.LBC().IngressDeleted
	for _, tt := range []struct {
		name string
		do   func(t *lbcTest)
	}{
		{"by the scenario", func(t *lbcTest) { t.w.LBC.DeleteIngress("shop", "web") }},
		{"by anybody", func(t *lbcTest) { t.w.Kube.Delete(lbc.NewIngress("shop", "web", "web")) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fast := func(as *Assumptions) {
				as.LBC.Lag, as.AWS.APILatency = timeline.Between(ms, ms), timeline.Between(ms, ms)
			}
			testLBC(t, fast, func(t *lbcTest) {
				t.w.AddClients(t.g, 100)
				nodesKnow := func() bool { return t.w.choosable(t.w.pods["shop/a"]) }
				began := t.w.Now()
				tt.do(t)
				for _, step := range []struct {
					run  time.Duration
					want string
				}{
					{deleted[0] - ms, "false 0, exists true, balancers 1, groups 1, ingress true, nodes true"},
					{2 * ms, "true 0.1, exists false, balancers 1, groups 1, ingress true, nodes true"},
					{deleted[1] - deleted[0] - 2*ms, "true 0.1, exists false, balancers 1, groups 1, ingress true, nodes true"},
					{2 * ms, "true 0.1, exists false, balancers 0, groups 1, ingress true, nodes false"},
					{deleted[2] - deleted[1] - 2*ms, "true 0.1, exists false, balancers 0, groups 1, ingress true, nodes false"},
					{2 * ms, "true 0.1, exists false, balancers 0, groups 0, ingress false, nodes false"},
					{time.Minute, "true 0.1, exists false, balancers 0, groups 0, ingress false, nodes false"},
				} {
					t.run(step.run)
					_, ingress := kube.Get[networkingv1.Ingress](t.w.Kube, "shop", "web")
					left := max(0, t.pod.DeregisteredByController-began)
					got := fmt.Sprintf("%v %.2g, exists %v, balancers %d, groups %d, ingress %v, nodes %v",
						!t.g.IsRegistered(targetIDs("10.0.0.1:8080")[0]), left.Seconds(), t.exists(),
						len(t.w.AWS.Balancers()), len(t.w.AWS.Groups()), ingress, nodesKnow())
					if got != step.want {
						t.Errorf("%v on: %s, want %s", step.run, got, step.want)
					}
				}
				if s := t.w.Stats(); s.Reasons["no load balancer"] == 0 {
					t.Errorf("no request failed for the lack of a load balancer: %v", s.Reasons)
				}
			})
		})
	}
}

func TestDeletedIngressWithoutLeader(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.LBC.Stop()
		t.w.LBC.DeleteIngress("shop", "web")
		t.run(time.Minute)
		t.want("without a leader", t.g, podHealthy)
		gap := t.w.LBC.Restart()
		t.run(gap + 600*time.Millisecond)
		if _, ok := kube.Get[networkingv1.Ingress](t.w.Kube, "shop", "web"); ok || len(t.w.AWS.Groups()) > 0 {
			t.Errorf("with a leader the Ingress is there: %v, and %d groups", ok, len(t.w.AWS.Groups()))
		}
	})
}

// TestDeletedIngressOfASharedBalancer leaves what another Ingress needs.
func TestDeletedIngressOfASharedBalancer(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		other := t.w.AWS.AddTargetGroup("other", 8080, t.lb)
		t.w.LBC.AddBinding("shop", "other", "other", other)
		t.w.LBC.AddIngress("shop", "other", "other", t.lb)
		t.w.LBC.DeleteIngress("shop", "web")
		t.run(time.Second)
		if len(t.w.AWS.Balancers()) != 1 || !slices.Equal(t.w.AWS.Groups(), []*aws.TargetGroup{other}) {
			t.Errorf("%d load balancers and the groups %v are left", len(t.w.AWS.Balancers()), t.w.AWS.Groups())
		}
	})
}

// TestSwitchedBackend: new group, new binding, and the old ones go.
func TestSwitchedBackend(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		green := map[string]string{"app": "green"}
		t.w.Kube.AddService("shop", "green", green, 8080)
		b := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Labels: green, Port: 8080})
		t.run(10 * time.Second)
		t.w.AddClients(t.g, 100)
		t.run(time.Second)
		log := t.changes()
		group := t.w.LBC.SwitchBackend("shop", "web", "green")
		began := t.w.Now()
		t.run(2 * time.Second)
		order := strings.Join(*log, "\n")
		made, deleted := strings.Index(order, "ADDED green"), strings.Index(order, "MODIFIED web")
		if made < 0 || deleted < made || !strings.Contains(order, "DELETED web") {
			t.Errorf("the bindings went as\n%s\nwant that right after the new one %s", order, measured.LBC().BackendChanged)
		}
		i, _ := kube.Get[networkingv1.Ingress](t.w.Kube, "shop", "web")
		if to := i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name; to != "green" {
			t.Errorf("the Ingress leads to %v", to)
		}
		checkCode(t.worldTest, t.do(t.health(t.g)), "TargetGroupNotFound")
		left := t.pod.DeregisteredByController
		if left < began || left > began+time.Second {
			t.Errorf("switched at %v, deregistered at %v", began, left)
		}
		t.run(time.Minute)
		t.want("the new group", group, "10.0.0.2:8080 us-east-1c healthy")
		if last := t.pod.LastArrival - left; last < time.Second || last > 18*time.Second {
			t.Errorf("the last request came to the old pod %v after its deregistration", last)
		}
		if b.LastArrival < t.w.Now()-time.Second {
			t.Errorf("the last request came to the new pod at %v", b.LastArrival)
		}
		if t.w.choosable(t.w.pods["shop/a"]) {
			t.Error("the old pod can still be chosen")
		}
	})
}

func TestSwitchedBackendWithoutLeader(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.LBC.ChangeLeader()
		t.w.LBC.Stop() // there will be no leader when that gap is over either
		t.w.Kube.AddService("shop", "green", nil, 8080)
		t.w.LBC.SwitchBackend("shop", "web", "green")
		t.run(time.Minute)
		t.want("without a leader", t.g, podHealthy)
		if t.bound(kube.GroupELBv2, "green") != nil {
			t.Error("without a leader there is a new binding")
		}
		t.run(t.w.LBC.ChangeLeader() + 2*time.Second)
		checkCode(t.worldTest, t.do(t.health(t.g)), "TargetGroupNotFound")
	})
}

func TestGaps(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		between := func(what string, gap func() time.Duration, lo, hi time.Duration) {
			t.Helper()
			shortest, longest := time.Hour, time.Duration(0)
			for range 100 {
				g := gap()
				shortest, longest = min(shortest, g), max(longest, g)
			}
			if shortest < lo || longest > hi || longest-shortest < (hi-lo)/2 {
				t.Errorf("%s: gaps from %v to %v, want %v to %v", what, shortest, longest, lo, hi)
			}
		}
		seen := measured.LBC()
		between("another leader", t.w.LBC.ChangeLeader, slices.Min(seen.LeaderLag)-time.Second, slices.Max(seen.LeaderLag)+time.Second)
		between("a restart", t.w.LBC.Restart, seen.LeaseWait[0], seen.RestartedLag.Round(time.Second))
		as := t.w.cfg.Assumptions.LBC
		if lo, hi := slices.Min(seen.LeaderLag), slices.Max(seen.LeaderLag); as.LeaderGap.Min > lo || as.LeaderGap.Max < hi {
			t.Errorf("a change of leaders takes %v, want it to hold %v and %v", as.LeaderGap, lo, hi)
		}
		if most := seen.RestartedAfter + seen.LeaseWait[1]; as.RestartGap.Max < max(most, seen.RestartedLag) {
			t.Errorf("a restart takes %v, want up to %v", as.RestartGap, max(most, seen.RestartedLag))
		}
		gap := t.w.LBC.Restart()
		_ = t.w.DeletePod("shop", "a")
		t.run(gap)
		t.want("before the gap is over", t.g, podHealthy)
		t.run(time.Second)
		t.want("after the gap", t.g, podDraining)
	})
}

// tries notes when LBC makes calls of an operation, and fails them while the function
// while returns true.
func (t *lbcTest) tries(operation string, f aws.Fault, while func(nth int) bool) *[]time.Duration {
	at := new([]time.Duration)
	t.w.LBC.Fail(func(op, resource string) *aws.Fault {
		if op != operation || resource != t.g.ARN() {
			return nil
		}
		if *at = append(*at, t.w.Present()); while(len(*at)) {
			return &f
		}
		return nil
	})
	return at
}

// TestThrottledController: the gaps between tries may double each time, up to 16 s, and
// then are 20 s, as with the SDK.
func TestThrottledController(t *testing.T) {
	bounds := []time.Duration{2, 4, 8, 16, 20, 20, 20, 20, 20}
	long := 0 // gaps longer than half of their limits
	for seed := range 5 {
		testLBC(t, func(as *Assumptions) {
			as.LBC.Lag.Max += time.Duration(seed) // another draw
			as.AWS.APILatency = timeline.Between(time.Millisecond, time.Millisecond)
		}, func(t *lbcTest) {
			for range seed {
				t.w.Random("retry", "web")
			}
			at := t.tries("DeregisterTargets", aws.Fault{Status: 400, Code: "Throttling"}, func(nth int) bool { return nth < 10 })
			_ = t.w.DeletePod("shop", "a")
			t.run(5 * time.Minute)
			if len(*at) != 10 || t.pod.DeregisteredByController < (*at)[9] {
				t.Fatalf("tried at %v, deregistered at %v", *at, t.pod.DeregisteredByController)
			}
			for i, bound := range bounds {
				gap := (*at)[i+1] - (*at)[i]
				if gap > bound*time.Second+2*time.Millisecond || i >= 4 && gap < bound*time.Second {
					t.Errorf("gap %d is %v, want at most %d s", i, gap, bound)
				}
				if i < 4 && gap > bound*time.Second/2 {
					long++
				}
			}
		})
	}
	if long < 5 || long > 15 {
		t.Errorf("%d of 20 gaps are beyond the half of their bounds", long)
	}
}

// TestControllerGivesUp: after ten tries LBC gives up a call, and starts its pass again.
func TestControllerGivesUp(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		at := t.tries("DeregisterTargets", aws.Fault{Status: 503, Code: "ServiceUnavailable"}, func(nth int) bool { return nth <= 10 })
		_ = t.w.DeletePodIn("shop", "a", 10*time.Minute)
		t.run(5 * time.Minute)
		if len(*at) != 11 || (*at)[10]-(*at)[9] > time.Second {
			t.Errorf("tried at %v, want the eleventh try soon after the tenth", *at)
		}
	})
}

// TestDeletedBindingOfNoGroup needs nothing more from AWS.
func TestDeletedBindingOfNoGroup(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.AWS.DeleteTargetGroup(t.g)
		t.w.Kube.Delete(t.binding)
		t.run(2 * time.Second)
		if t.exists() {
			t.Error("the binding is still there")
		}
	})
}

// TestDeletedBindingThatIsRefused stays.
func TestDeletedBindingThatIsRefused(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.tries("DeregisterTargets", aws.Fault{Status: 403, Code: "AccessDenied"}, func(int) bool { return true })
		t.w.Kube.Delete(t.binding)
		t.run(time.Minute)
		t.want("refused", t.g, podHealthy)
		if !t.exists() {
			t.Error("the binding is gone")
		}
	})
}

// TestRefusedController: a refusal fails the reconcile. LBC tries it again after 5 ms, 10
// ms and so on.
func TestRefusedController(t *testing.T) {
	testLBC(t, func(as *Assumptions) { as.AWS.APILatency, as.Kube.Latency = timeline.Range{}, timeline.Range{} }, func(t *lbcTest) {
		at := t.tries("DeregisterTargets", aws.Fault{Status: 403, Code: "AccessDenied"}, func(nth int) bool { return nth <= 8 })
		t.binding.Spec.ServiceRef.Name = "none" // one event, and no more
		t.w.Kube.Apply(t.binding)
		t.run(5 * time.Second)
		if len(*at) != 9 || t.pod.DeregisteredByController == 0 {
			t.Fatalf("tried at %v", *at)
		}
		for i, want := 0, measured.LBC().RefusedWait; i < 8; i, want = i+1, 2*want {
			if gap := ((*at)[i+1] - (*at)[i]).Round(time.Millisecond); gap != want {
				t.Errorf("gap %d is %v, want %v", i, gap, want)
			}
		}
	})
}

// TestRepeatedPasses: however often a binding fails at once, it is tried again once.
func TestRepeatedPasses(t *testing.T) {
	testLBC(t, func(as *Assumptions) {
		as.AWS.APILatency, as.Kube.Latency = timeline.Range{}, timeline.Range{}
		as.LBC.Lag, as.LBC.LeaderGap = timeline.Range{}, timeline.Range{}
	}, func(t *lbcTest) {
		at := t.tries("DeregisterTargets", aws.Fault{Status: 403, Code: "AccessDenied"}, func(int) bool { return true })
		t.w.LBC.Stop()
		t.binding.Spec.ServiceRef.Name = "none"
		t.w.Kube.Apply(t.binding)
		t.w.LBC.ChangeLeader()
		for i := range 4 {
			t.w.After(time.Duration(i)*time.Millisecond, func() { t.w.LBC.ServiceChanged("shop", "none") })
		}
		t.run(4 * time.Millisecond)
		*at = nil
		t.run(10 * time.Millisecond)
		if len(*at) != 1 { // the first failure asks for 5 ms, the others for more
			t.Errorf("tried again at %v", *at)
		}
	})
}

// TestControllerHangs: a call without an answer keeps its binding until the leader
// changes.
func TestControllerHangs(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.tries("DeregisterTargets", aws.Fault{Hang: true}, func(nth int) bool { return nth == 1 })
		_ = t.w.DeletePodIn("shop", "a", 10*time.Minute)
		t.run(2 * time.Minute)
		t.want("hanging", t.g, podHealthy)
		t.run(t.w.LBC.ChangeLeader() + time.Second)
		t.want("with another leader", t.g, podDraining)
	})
}

// TestControllerAsks: LBC's own DescribeTargetHealth calls use the bucket that everybody
// shares.
func TestControllerAsks(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		at := t.tries("DescribeTargetHealth", aws.Fault{}, func(int) bool { return false })
		pod := func(name string) {
			t.w.AddPod(PodSpec{Namespace: "shop", Name: name, Labels: map[string]string{"app": "web"}, Port: 8080})
		}
		asks := func(what string, want int) {
			t.Helper()
			t.run(20 * time.Second)
			if got := len(*at); got != want {
				t.Errorf("%s: %d calls, want %d", what, got, want)
			}
			*at = nil
		}
		pod("b")
		asks("a pod more", 1)                     // for the first pod: not healthy when it was listed
		t.w.AWS.RemoveTarget(t.g, t.pod.IP, 8080) // LBC still believes that it is healthy
		pod("c")
		asks("another", 1) // for the one before
		t.want("as LBC knows it", t.g, "10.0.0.2:8080 us-east-1c healthy", "10.0.0.3:8080 us-east-1a healthy")
		t.run(t.w.LBC.Assumptions.Cache)
		*at = nil
		pod("d")
		asks("after the cache has run out", 1)
		if d := cmp.Diff(4, len(t.rows(t.g))); d != "" {
			t.Errorf("rows after a fresh list (-want +got):\n%s", d)
		}
		var starve func() // others take every token of the bucket
		starve = func() {
			again := time.Millisecond
			if t.w.AWS.Refusal("DescribeTargetHealth", t.g.ARN()) == nil {
				again = 0
			}
			t.w.After(again, starve)
		}
		starve()
		before := len(*at)
		pod("e")
		t.run(20 * time.Second)
		if n := len(*at) - before; n < 3 {
			t.Errorf("with an empty bucket LBC asked %d times, want it to try again", n)
		}
	})
}

// TestControllerSkips: if its checkpoint says that everything is done, LBC asks nothing.
func TestControllerSkips(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.AWS.Deregister(t.g, t.pod.IP, 8080)
		at := t.tries("DescribeTargetHealth", aws.Fault{}, func(int) bool { return false })
		t.w.LBC.ServiceChanged("shop", "web")
		t.run(10 * time.Second)
		if len(*at) > 0 {
			t.Errorf("LBC asked at %v", *at)
		}
		t.want("deregistered by hand", t.g, podDraining)
	})
}

// TestStaleCheckpoints: if LBC does not see what it wrote, it does not write the empty
// checkpoint, or it believes that old work is done.
func TestStaleCheckpoints(t *testing.T) {
	testLBC(t, nil, func(t *lbcTest) {
		t.w.LBC.StaleCheckpoints(time.Hour) // it sees none
		log := t.changes()
		_ = t.w.DeletePod("shop", "a")
		t.run(2 * time.Second)
		t.want("deleted", t.g, podDraining)
		if got := strings.Join(*log, "\n"); t.pod.DeregisteredByController == 0 || strings.Contains(got, `""`) {
			t.Errorf("the checkpoint went as %s, want it never to be empty", got)
		}
	})
	testLBC(t, nil, func(t *lbcTest) {
		first := t.checkpoint()
		if err := kube.Edit(t.w.Kube, "shop", "a", func(p *corev1.Pod) { p.Labels = nil }); err != nil {
			t.Fatal(err)
		}
		t.run(2 * time.Second)
		t.want("without labels", t.g, podDraining)
		t.w.LBC.StaleCheckpoints(10 * time.Second)
		if err := kube.Edit(t.w.Kube, "shop", "a", func(p *corev1.Pod) { p.Labels = map[string]string{"app": "web"} }); err != nil {
			t.Fatal(err)
		}
		t.run(2 * time.Second)
		t.want("with labels again", t.g, podDraining) // LBC has seen no checkpoint but the first
		if t.checkpoint() == first {
			t.Error("the checkpoint is the first one again")
		}
	})
}

// TestLateRegistration: RegisterTargets takes effect when the pod is dead.
func TestLateRegistration(t *testing.T) {
	for _, leader := range []bool{true, false} {
		t.Run(fmt.Sprintf("leader stays: %v", leader), func(t *testing.T) {
			testLBC(t, nil, func(t *lbcTest) {
				t.w.LBC.HangRegistration(20 * time.Second)
				b := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Labels: map[string]string{"app": "web"}, Port: 8080})
				t.run(6 * time.Second)
				p := t.w.pods["shop/b"]
				if !t.w.choosable(p) {
					t.Error("a pod whose registration is on its way counts as safe")
				}
				t.w.LBC.HangRegistration(0)
				_ = t.w.DeletePodIn("shop", "b", 0)
				if !leader {
					t.w.LBC.Stop()
				}
				if t.run(5 * time.Second); !t.w.choosable(p) {
					t.Error("a registration that AWS has does not count")
				}
				t.want("on its way", t.g, podHealthy)
				landed := time.Duration(0)
				for landed == 0 && t.w.Now() < time.Minute {
					if t.run(time.Millisecond); t.g.IsRegistered(targetIDs("10.0.0.2:8080")[0]) {
						landed = t.w.Now()
					}
				}
				if b.Gone == 0 || landed < b.Gone+5*time.Second {
					t.Errorf("the pod was gone at %v, its registration landed at %v", b.Gone, landed)
				}
				t.run(10 * time.Second)
				if leader && (b.DeregisteredByController < landed || b.DeregisteredByController > landed+400*time.Millisecond) {
					t.Errorf("landed at %v, deregistered at %v", landed, b.DeregisteredByController)
				}
				if !leader && (b.DeregisteredByController > 0 || len(t.rows(t.g)) != 2) {
					t.Errorf("without a leader: deregistered at %v, %v", b.DeregisteredByController, t.rows(t.g))
				}
			})
		})
	}
}

// TestHiddenBinding fills a group although nobody can see why.
func TestHiddenBinding(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		labels := map[string]string{"app": "web"}
		lb := t.w.AWS.AddLoadBalancer("web", aws.ALB)
		g, visible := t.w.AWS.AddTargetGroup("web", 8080, lb), t.w.AWS.AddTargetGroup("visible", 8080, lb)
		t.w.Kube.AddService("shop", "web", labels, 8080)
		t.w.LBC.AddIngress("shop", "web", "web", lb)
		b := t.w.LBC.AddHiddenBinding("shop", "web", "web", g)
		if len(b.Labels) > 0 {
			t.Errorf("it has the labels %v, and nobody knows which it should have", b.Labels)
		}
		t.w.LBC.AddBinding("shop", "web", "web", visible)
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", Labels: labels, Port: 8080})
		t.run(30 * time.Second)
		t.want("hidden", g, podHealthy)
		t.want("beside it", visible, podHealthy)
		client := dynamic.NewForConfigOrDie(&rest.Config{Host: "http://cluster", QPS: -1, Transport: memnet.Transport(t.w.Kube.Handler())})
		t.must(func(ctx context.Context) error {
			l, err := client.Resource(bindings).List(ctx, metav1.ListOptions{})
			if err == nil && len(l.Items) != 1 {
				t.Errorf("%d bindings can be seen", len(l.Items))
			}
			return err
		})
		t.w.Kube.Delete(b)
		t.run(time.Second)
		t.want("deleted", g, podDraining)
		t.want("beside it", visible, podHealthy)
	})
}
