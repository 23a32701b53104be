package sim

import (
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/retry"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/measured"
	"drainwait/internal/sim/timeline"
)

// idle is the bed of the measurements, on which nothing else happened: every lag is as
// short as it can be, and an AWS call takes api.
func idle(api time.Duration) func(*Assumptions) {
	return func(as *Assumptions) {
		as.AWS.APILatency = timeline.Between(api, api)
		for _, r := range []*timeline.Range{&as.LBC.Lag, &as.EndpointLag, &as.KubeletLag, &as.Kube.Latency, &as.Kube.WatchLag} {
			r.Max = r.Min
		}
	}
}

// busy is the same bed during a rollout.
func busy(as *Assumptions) {
	as.AWS.APILatency = timeline.Between(60*time.Millisecond, 60*time.Millisecond)
}

// near says whether got is want, give or take a part of it.
func near(got, want time.Duration, part float64) bool {
	return math.Abs(float64(got-want)) <= part*float64(want)
}

// step is something that LBC did, and when.
type step struct {
	what string
	at   time.Duration
}

// steps notes what LBC does about the test's binding from now on. Calls are noted when
// AWS has them.
func (t *lbcTest) steps() *[]step {
	log := new([]step)
	checkpoint := t.checkpoint()
	t.w.Kube.OnChange(func(_ string, obj metav1.Object) {
		switch o := obj.(type) {
		case *discoveryv1.EndpointSlice:
			*log = append(*log, step{"slice", t.w.Present()})
		case *kube.TargetGroupBinding:
			if now := o.Annotations[checkpointAnnotation]; now != checkpoint {
				what := "checkpoint"
				if checkpoint = now; now == "" {
					what = "empty"
				}
				*log = append(*log, step{what, t.w.Present()})
			}
		}
	})
	t.w.LBC.Fail(func(op, resource string) *aws.Fault {
		if resource == t.g.ARN() {
			*log = append(*log, step{op, t.w.Present()})
		}
		return nil
	})
	return log
}

// find is when a step was first, 0 if it was not.
func find(log []step, what string) time.Duration {
	if i := slices.IndexFunc(log, func(s step) bool { return s.what == what }); i >= 0 {
		return log[i].at
	}
	return 0
}

// look makes LBC look at the group's targets once more, so that it knows that they are
// healthy.
func (t *lbcTest) look() {
	t.binding.Spec.VPCID = fmt.Sprint("vpc-", t.binding.Generation)
	t.w.Kube.Apply(t.binding)
	t.run(2 * time.Second)
}

// TestOrder: empty checkpoint, DeregisterTargets, new checkpoint, as fast as the real LBC
// on an idle machine.
func TestOrder(t *testing.T) {
	want := measured.LBC()
	testLBC(t, idle(6*time.Millisecond), func(t *lbcTest) {
		t.look()
		log := t.steps()
		_ = t.w.DeletePod("shop", "a")
		t.run(time.Second)
		var order []string
		for _, s := range *log {
			if slices.Contains(want.Order, s.what) {
				order = append(order, s.what)
			}
		}
		if !slices.Equal(order, want.Order) {
			t.Errorf("the order is %q, want %q", order, want.Order)
		}
		began := find(*log, "slice")
		for i, what := range []string{"empty", "checkpoint"} {
			if got := find(*log, what) - began; !near(got, want.OrderTimes[i], 0.2) {
				t.Errorf("%s %v after the slice, want about %v", what, got, want.OrderTimes[i])
			}
		}
		if gone := find(*log, "DeregisterTargets") - began; gone > want.OrderTimes[2] {
			t.Errorf("gone %v after the slice, want it no later than it was seen, after %v", gone, want.OrderTimes[2])
		}
	})
}

// TestSeenGone plays a poller that checkpoints nudge.
func TestSeenGone(t *testing.T) {
	var lags []time.Duration
	for seed := range uint64(25) {
		testSeed(t, seed, busy, func(t *worldTest) {
			x := newLBCTest(t)
			seen := make(chan time.Duration, 10)
			t.w.Kube.OnChange(func(_ string, obj metav1.Object) {
				if b, ok := obj.(*kube.TargetGroupBinding); !ok || b.Annotations[checkpointAnnotation] == "" {
					return
				}
				t.w.After(t.w.Draw(t.w.cfg.Assumptions.Kube.WatchLag, "poller", "watch"), func() {
					go func() {
						out, err := t.elb.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: new(x.g.ARN())})
						if err == nil && slices.Equal(healthRows(out), []string{podDraining}) {
							seen <- t.w.Now()
						}
					}()
				})
			})
			_ = t.w.DeletePod("shop", "a")
			t.run(5 * time.Second)
			lags = append(lags, <-seen-x.pod.DeregisteredByController)
		})
	}
	checkSpread(t, lags, measured.LBC().SeenGone, 0.3)
}

// checkSpread checks that times are spread about as the measured ones. The shortest may be
// anything between the measured shortest one and median.
func checkSpread(t *testing.T, got []time.Duration, want measured.Spread, part float64) {
	t.Helper()
	slices.Sort(got)
	shortest, median, longest := got[0], got[len(got)/2], got[len(got)-1]
	t.Logf("%v, %v, %v; measured %v", shortest, median, longest, want)
	if shortest > want.Median || !near(median, want.Median, part) || !near(longest, want.Max, part) {
		t.Errorf("shortest, median and longest are %v, %v, %v; want about %v", shortest, median, longest, want)
	}
}

// TestRollouts rolls ten pods, with and without gates.
func TestRollouts(t *testing.T) {
	want := measured.LBC()
	for _, tt := range []struct {
		name string
		gate []string
		want measured.Spread
		part float64
	}{
		{"without gates", nil, want.RolloutLag, 0.25},
		{"with gates", []string{lbc.GatePrefix + "web"}, want.GatedRolloutLag, 0.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var lags []time.Duration
			for seed := range uint64(10) {
				testSeed(t, seed, busy, func(t *worldTest) {
					calls := 0
					lags = append(lags, t.rollTen(tt.gate, &calls)...)
					if n := want.RolloutDescribes; calls < n/3 || calls > n*3/2 {
						t.Errorf("LBC made %d calls of DescribeTargetHealth, want about %d", calls, n)
					}
				})
			}
			checkSpread(t, lags, tt.want, tt.part)
		})
	}
}

// rollTen rolls ten pods, and returns how long after each deletion DeregisterTargets was
// called. It counts LBC's calls of DescribeTargetHealth.
func (t *worldTest) rollTen(gates []string, calls *int) (lags []time.Duration) {
	t.Helper()
	labels := map[string]string{"app": "web"}
	g := t.w.AWS.AddTargetGroup("web", 8080, t.w.AWS.AddLoadBalancer("web", aws.ALB))
	t.w.Kube.AddService("shop", "web", labels, 8080)
	t.w.LBC.AddBinding("shop", "web", "web", g)
	d := t.w.AddDeployment(PodSpec{
		Namespace: "shop", Name: "web", Labels: labels, Port: 8080, Grace: time.Minute, Gates: gates, Hook: Hook{Sleep: 20 * time.Second},
	}, 10)
	t.w.LBC.Fail(func(op, _ string) *aws.Fault {
		if op == "DescribeTargetHealth" {
			*calls++
		}
		return nil
	})
	over := false
	t.w.WhenUp(d, nil, func() {
		*calls = 0
		t.w.Rollout(d, nil, func() { over = true })
	})
	t.run(30 * time.Minute)
	for _, p := range t.w.Pods() {
		if p.Deleted > 0 {
			lags = append(lags, p.DeregisteredByController-p.Deleted-t.w.cfg.Assumptions.AWS.APILatency.Min/2)
		}
	}
	if !over || len(lags) != 10 {
		t.Fatalf("the rollout is over: %v; %d pods were deleted", over, len(lags))
	}
	return lags
}

// TestPodEvents: LBC looks again when a pod changes that waits for its gate, though
// nothing else changes.
func TestPodEvents(t *testing.T) {
	want := measured.LBC().PodEvents
	testLBC(t, nil, func(t *lbcTest) {
		b := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Labels: map[string]string{"app": "web"}, Port: 8080, Gates: []string{lbc.GatePrefix + "web"}})
		t.w.AWS.SetTarget(t.g, b.IP, 8080, "initial", "Elb.RegistrationInProgress")
		t.run(30 * time.Second)
		t.w.cfg.Assumptions.EndpointLag = timeline.Between(time.Hour, time.Hour)
		t.w.cfg.Assumptions.LBC.Requeue = time.Hour
		t.run(15 * time.Second) // the last pass that was planned
		log := t.steps()
		if err := kube.Edit(t.w.Kube, "shop", "b", func(p *corev1.Pod) { p.Annotations = map[string]string{"a": "b"} }); err != nil {
			t.Fatal(err)
		}
		t.run(2 * time.Second)
		if find(*log, "DescribeTargetHealth") == 0 || find(*log, "slice") > 0 {
			t.Errorf("after a change of the pod: %v, want that %s", *log, want)
		}
	})
}

// TestCacheLife: as long as LBC trusts its list, it does not learn that a healthy target
// has gone.
func TestCacheLife(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		var first time.Duration // list of all targets
		t.w.LBC.Fail(func(op, _ string) *aws.Fault {
			if op == "DescribeTargetHealth" && first == 0 {
				first = t.w.Present()
			}
			return nil
		})
		x := newLBCTest(t)
		x.look()
		t.w.AWS.RemoveTarget(x.g, x.pod.IP, 8080)
		t.w.Run(t.Context(), first+measured.LBC().CacheLife-3*time.Second)
		x.look()
		t.want("while LBC trusts its list", x.g)
		t.run(2 * time.Second)
		x.look()
		t.want("after that", x.g, "10.0.0.1:8080 us-east-1b initial Elb.RegistrationInProgress")
	})
}

// TestBackoff compares the assumptions about LBC's waits with the code that LBC runs, and
// with what was measured.
func TestBackoff(t *testing.T) {
	want, as := measured.LBC(), lbc.DefaultAssumptions()
	limiter := workqueue.NewTypedItemExponentialFailureRateLimiter[string](as.Backoff.Min, as.Backoff.Max)
	for i := range 30 {
		if got, doubled := limiter.When("web"), min(want.RefusedWait<<i, as.Backoff.Max); got != doubled {
			t.Errorf("after %d failures client-go waits %v, want %v", i+1, got, doubled)
		}
	}
	if as.Retry.Max != want.RegisterWait || as.Tries < len(want.DeregisterTries) {
		t.Errorf("LBC waits for %v at most and tries %d times, want it as measured: %v, %d times", as.Retry.Max, as.Tries, want.RegisterWait, len(want.DeregisterTries))
	}
	sdk := retry.NewExponentialJitterBackoff(as.Retry.Max)
	for tries := 1; tries < as.Tries; tries++ {
		limit, exact := lbc.RetryLimit(as.Retry, tries)
		longest := time.Duration(0)
		for range 1000 {
			d, err := sdk.BackoffDelay(tries, nil)
			if err != nil || d > limit || exact && d != limit {
				t.Fatalf("after %d tries the SDK waits %v (%v), want %v at most, or exactly: %v", tries, d, err, limit, exact)
			}
			longest = max(longest, d)
		}
		if longest < limit*9/10 {
			t.Errorf("after %d tries the SDK never waits longer than %v; want up to %v", tries, longest, limit)
		}
		if tries < len(want.DeregisterTries) {
			if gap := want.DeregisterTries[tries] - want.DeregisterTries[tries-1]; gap > limit || exact {
				t.Errorf("LBC waited %v after %d tries, want %v at most", gap, tries, limit)
			}
		}
	}
}

// TestThrottledRegistration: a RegisterTargets that waits in the SDK for its next try
// registers a pod that has died meanwhile. LBC removes it at once.
func TestThrottledRegistration(t *testing.T) {
	testLBC(t, idle(10*time.Millisecond), func(t *lbcTest) {
		throttled := true
		landed := time.Duration(0)
		t.w.LBC.Fail(func(op, _ string) *aws.Fault {
			switch {
			case op != "RegisterTargets":
			case throttled:
				return &aws.Fault{Status: 400, Code: "Throttling"}
			default:
				landed = t.w.Present()
			}
			return nil
		})
		b := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Labels: map[string]string{"app": "web"}, Port: 8080})
		t.run(20 * time.Second)
		_ = t.w.DeletePodIn("shop", "b", 0)
		t.run(5 * time.Second)
		if landed > 0 || b.Gone == 0 {
			t.Fatalf("registered at %v, gone at %v; want it gone first", landed, b.Gone)
		}
		throttled = false
		t.run(time.Minute)
		left := b.DeregisteredByController
		if landed < b.Gone || left < landed || left > landed+measured.LBC().LateRemoval {
			t.Errorf("gone at %v, registered at %v, deregistered %v later; want %v at most", b.Gone, landed, left-landed, measured.LBC().LateRemoval)
		}
	})
}

// TestPublishedLeaves: behind a Service that publishes pods that are not ready, a pod is
// deregistered when its object is gone.
func TestPublishedLeaves(t *testing.T) {
	testLBC(t, idle(60*time.Millisecond), func(t *lbcTest) {
		if err := kube.Edit(t.w.Kube, "shop", "web", func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true }); err != nil {
			t.Fatal(err)
		}
		t.look()
		log := t.steps()
		_ = t.w.DeletePod("shop", "a")
		t.run(2 * time.Minute)
		left := find(*log, "DeregisterTargets")
		if t.pod.Gone == 0 || left < t.pod.Gone || left > t.pod.Gone+measured.LBC().PublishedLag {
			t.Errorf("gone at %v, DeregisterTargets %v later; want %v at most", t.pod.Gone, left-t.pod.Gone, measured.LBC().PublishedLag)
		}
	})
}

// TestHostNames: LBC writes the name of a load balancer in lower case.
func TestHostNames(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		lb := t.w.AWS.AddLoadBalancer("Shop", aws.ALB)
		got := lbc.NewIngress("shop", "web", "web", lb).Status.LoadBalancer.Ingress[0].Hostname
		if lb.DNSName()[0] != 'S' || got[0] != 's' {
			t.Errorf("AWS says %s, the Ingress says %s; want %s", lb.DNSName(), got, measured.LBC().HostName)
		}
	})
}
