package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/measured"
)

// The waits of the imitation after a failure, without a clock: those of the real SDK and of
// the real client-go, and those that were measured.
func TestControllerWaits(t *testing.T) {
	want, as := measured.LBC(), sim.DefaultAssumptions().LBC
	limiter := newLimiter(as)
	for i := range 12 {
		if got := limiter.When(bindingKey{}); got != scaled(want.RefusedWait<<i) {
			t.Errorf("after %d failed passes LBC waits %v; want %v", i+1, got, scaled(want.RefusedWait<<i))
		}
	}
	r := newRetryer(as)
	throttled, refused := errorCode("Throttling"), errorCode("AccessDenied")
	if r.MaxAttempts() != as.Tries || !r.IsErrorRetryable(throttled) || r.IsErrorRetryable(refused) {
		t.Errorf("%d tries, after throttling: %v, after a refusal: %v", r.MaxAttempts(), r.IsErrorRetryable(throttled), r.IsErrorRetryable(refused))
	}
	for tries := 1; tries < as.Tries; tries++ {
		limit, exact := lbc.RetryLimit(as.Retry, tries)
		longest := time.Duration(0)
		for range 1000 {
			d, err := r.RetryDelay(tries, throttled)
			if err != nil || d > scaled(limit) || exact && d != scaled(want.RegisterWait) {
				t.Fatalf("after %d tries LBC waits %v (%v); want %v at most, or exactly: %v", tries, d, err, scaled(limit), exact)
			}
			longest = max(longest, d)
		}
		if tries < len(want.DeregisterTries) {
			if gap := want.DeregisterTries[tries] - want.DeregisterTries[tries-1]; longest < scaled(gap) {
				t.Errorf("after %d tries LBC waits up to %v; want it to wait %v", tries, longest, scaled(gap))
			}
		}
	}
}

// errorCode is an error of AWS, as the SDK's retryer looks at it.
type errorCode string

func (c errorCode) Error() string     { return string(c) }
func (c errorCode) ErrorCode() string { return string(c) }

// faults are what the AWS of a test does to calls of LBC.
type faults struct {
	mu    sync.Mutex // guards the rest
	codes map[string]string
	left  map[string]int
	tries map[string][]time.Time
}

// startFaults makes a testbed's AWS fail calls when it is told to.
func (tb *testbed) startFaults(t *testing.T) *faults {
	t.Helper()
	f := &faults{codes: make(map[string]string), left: make(map[string]int), tries: make(map[string][]time.Time)}
	if err := tb.world.Do(t.Context(), "faults", func() { tb.world.AWS.Fail(f.fault) }); err != nil {
		t.Fatal(err)
	}
	return f
}

func (f *faults) fault(operation, resource string) *aws.Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := operation + " " + resource
	f.tries[k] = append(f.tries[k], time.Now())
	if f.left[k] == 0 {
		return nil
	}
	f.left[k]--
	return &aws.Fault{Status: 400, Code: f.codes[k], Message: "as the test wants it"}
}

// set fails the next n calls of an operation on an application's group. It forgets
// earlier tries.
func (f *faults) set(a *application, operation, code string, n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	k := operation + " " + a.ARN()
	f.codes[k], f.left[k], f.tries[k] = code, n, nil
}

// triesOf are the times of the calls of an operation since the last set.
func (f *faults) triesOf(a *application, operation string) []time.Time {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.tries[operation+" "+a.ARN()])
}

// many is a number of calls that no test makes.
const many = 1 << 30

func (a *application) key() bindingKey { return bindingKey{Namespace: a.name, Name: a.name} }

// awaitEvent returns the first event of an application since a moment that is as wanted.
func (tb *testbed) awaitEvent(t *testing.T, a *application, since time.Time, what string, of netip.Addr) (found event) {
	t.Helper()
	until(t, fmt.Sprintf("%s of %s", what, a.name), func() error {
		for _, found = range tb.lbc.events(a.key(), since) {
			if found.what == what && (!of.IsValid() || slices.Contains(found.targets, of.String())) {
				return nil
			}
		}
		return errors.New("not yet")
	})
	return found
}

// named are the names of those events that are among some.
func named(events []event, among []string) (names []string) {
	for _, e := range events {
		if slices.Contains(among, e.what) {
			names = append(names, e.what)
		}
	}
	return names
}

func (tb *testbed) binding(t *testing.T, a *application) *unstructured.Unstructured {
	t.Helper()
	b, err := tb.dynamic.Resource(bindings).Namespace(a.name).Get(t.Context(), a.name, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// leave deletes a pod of an application whose hook asks the service.
func (tb *testbed) leave(t *testing.T, a *application) report {
	t.Helper()
	for _, p := range tb.kubelet.pods(a.name) {
		if p.Gone.IsZero() && p.Deleted.IsZero() {
			tb.deletePod(t, p)
			return p
		}
	}
	t.Fatalf("%s has no pod", a.name)
	return report{}
}

// checkLeft checks that a pod's hook was told that the pod is drained, and not before the
// settle time after its deregistration was over.
func (tb *testbed) checkLeft(t *testing.T, p report, left time.Time) {
	t.Helper()
	got := tb.awaitGone(t, p)
	got.checkDrained(t, p.Name)
	if held := got.HookEnded.Sub(left); held < settleALB {
		t.Errorf("%s: hook ended %v after the deregistration; want %v or later", p.Name, held, settleALB)
	}
}

// What the imitation does is held against what was measured of the real LBC: the order of
// what it does, and times that it must not fall short of. Whatever goes wrong there, hooks
// are told that their pods are drained when that is so.
func TestControllerAsMeasured(t *testing.T) {
	t.Parallel()
	want := measured.LBC()
	tb := newTestbed(t)
	tb.startNamed(t)
	f := tb.startFaults(t)
	began := time.Now()
	apps := make(map[string]*application)
	for _, name := range []string{"order", "throttled", "refused", "leader"} {
		apps[name] = tb.createApplication(t, aws.ALB, name, 2, withHook(120, plainHook...))
	}
	tcp := tb.createExposed(t, bindings.Group, aws.NLB, "tcp")
	for _, a := range apps {
		tb.awaitRollout(t, a.name)
	}

	t.Run("order", func(t *testing.T) {
		a, since := apps["order"], time.Now()
		p := tb.leave(t, a)
		left := tb.awaitEvent(t, a, since, "DeregisterTargets", p.Pod.addr.Addr())
		tb.awaitEvent(t, a, left.at, eventCheckpoint, netip.Addr{})
		if got := named(tb.lbc.events(a.key(), since), want.Order); !slices.Equal(got[:min(3, len(got))], want.Order) {
			t.Errorf("the order is %q; want %q first", got, want.Order)
		}
		b := tb.binding(t, a)
		if c := b.GetAnnotations()[checkpointAnnotation]; !regexp.MustCompile(want.Checkpoint).MatchString(c) {
			t.Errorf("the checkpoint is %q", c)
		}
		if b.GetAnnotations()[want.CheckpointTimestamp] == "" || !slices.Equal(b.GetFinalizers(), []string{want.Finalizer}) {
			t.Errorf("annotations %v and finalizers %v", b.GetAnnotations(), b.GetFinalizers())
		}
		for i, a := range []*application{a, tcp} {
			for _, label := range []string{"namespace", "name"} {
				if got := tb.binding(t, a).GetLabels()[want.StackLabels[i]+label]; got != a.name {
					t.Errorf("label %s%s is %q; want %q", want.StackLabels[i], label, got, a.name)
				}
			}
		}
		tb.checkLeft(t, p, left.at)
	})
	t.Run("throttled", func(t *testing.T) {
		a, since := apps["throttled"], time.Now()
		f.set(a, "DeregisterTargets", "Throttling", 2)
		p := tb.leave(t, a)
		left := tb.awaitEvent(t, a, since, "DeregisterTargets", p.Pod.addr.Addr())
		if tries := f.triesOf(a, "DeregisterTargets"); len(tries) != 3 || left.at.Before(tries[2]) {
			t.Errorf("LBC tried at %v and succeeded at %v; want it to be the third try", tries, left.at)
		}
		if got := tb.lbc.events(a.key(), since); slices.ContainsFunc(got, func(e event) bool { return e.what == eventFails }) {
			t.Errorf("a pass failed, although the SDK tries again: %v", got)
		}
		tb.checkLeft(t, p, left.at)
	})
	t.Run("refused", func(t *testing.T) {
		const times = 6
		a, since := apps["refused"], time.Now()
		f.set(a, "DeregisterTargets", "AccessDenied", times)
		p := tb.leave(t, a)
		left := tb.awaitEvent(t, a, since, "DeregisterTargets", p.Pod.addr.Addr())
		var waits, doubled []time.Duration
		for i, e := range slices.DeleteFunc(tb.lbc.events(a.key(), since), func(e event) bool { return e.what != eventFails }) {
			waits, doubled = append(waits, e.wait), append(doubled, scaled(want.RefusedWait<<i))
		}
		if len(waits) != times || !slices.Equal(waits, doubled) {
			t.Errorf("after %d refusals LBC planned to wait %v; want %v", times, waits, doubled)
		}
		tb.checkLeft(t, p, left.at)
	})
	t.Run("another leader", func(t *testing.T) {
		a, since := apps["leader"], time.Now()
		f.set(a, "DeregisterTargets", "Throttling", many)
		p := tb.leave(t, a)
		until(t, "try", func() error {
			if len(f.triesOf(a, "DeregisterTargets")) == 0 {
				return errors.New("none yet")
			}
			return nil
		})
		killed := time.Now()
		gap := tb.lbc.changeLeader() // in the middle of that
		f.set(a, "DeregisterTargets", "", 0)
		left := tb.awaitEvent(t, a, since, "DeregisterTargets", p.Pod.addr.Addr())
		if first := f.triesOf(a, "DeregisterTargets")[0]; first.Before(killed.Add(gap)) {
			t.Errorf("LBC tried %v after the death of its leader; want the gap of %v to be over", first.Sub(killed), gap)
		}
		as := tb.lbc.as.LeaderGap
		if lo, hi := slices.Min(want.LeaderLag), slices.Max(want.LeaderLag); gap < scaled(as.Min) || as.Min > lo || as.Max < hi {
			t.Errorf("the gap is %v of %v; want what holds %v and %v", gap, as, lo, hi)
		}
		tb.checkLeft(t, p, left.at)
	})
	t.Run("late registration", func(t *testing.T) {
		left := tb.registerLate(t, f)
		t.Logf("deregistered %v after its registration; measured %v", left, want.LateRemoval)
	})
	t.Run("published", func(t *testing.T) {
		p, left := tb.leavePublished(t)
		if left.Before(p.HookEnded) {
			t.Errorf("deregistered %v before the hook ended; want it %v after the pod's object was gone", p.HookEnded.Sub(left), want.PublishedLag)
		}
	})
	t.Run("deleted binding", func(t *testing.T) {
		a, since := apps["order"], time.Now()
		if err := tb.dynamic.Resource(bindings).Namespace(a.name).Delete(t.Context(), a.name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		tb.awaitEvent(t, a, since, eventReleased, netip.Addr{})
		if got := named(tb.lbc.events(a.key(), since), []string{"DeregisterTargets", eventReleased, eventEmpty, eventCheckpoint}); !slices.Equal(got, []string{"DeregisterTargets", eventReleased}) {
			t.Errorf("the order is %q; want the finalizer %s to go last", got, want.Finalizer)
		}
	})
	t.Run("host name", func(t *testing.T) {
		i, err := tb.kube.NetworkingV1().Ingresses("order").Get(t.Context(), "order", metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		i.Status.LoadBalancer.Ingress[0].Hostname = strings.ToUpper(i.Status.LoadBalancer.Ingress[0].Hostname)
		if _, err := tb.kube.NetworkingV1().Ingresses("order").UpdateStatus(t.Context(), i, metav1.UpdateOptions{}); !apierrors.IsInvalid(err) {
			t.Errorf("with capital letters: %v; want it to be invalid, and %s", err, want.HostName)
		}
	})
	for _, a := range apps {
		tb.checkAsks(t, a, began, scaled(want.CacheLife))
	}
}

// registerLate throttles a RegisterTargets until its pod is dead. It returns how long after
// the registration the pod was deregistered.
func (tb *testbed) registerLate(t *testing.T, f *faults) time.Duration {
	t.Helper()
	since := time.Now()
	a := tb.createExposed(t, bindings.Group, aws.ALB, "late")
	f.set(a, "RegisterTargets", "Throttling", many)
	template := withHook(60)
	template.Spec.Containers[0].Lifecycle = nil
	tb.createDeployment(t, a.name, a.name, 1, template)
	until(t, "try to register", func() error {
		if len(f.triesOf(a, "RegisterTargets")) == 0 {
			return errors.New("none yet")
		}
		return nil
	})
	p := tb.kubelet.pods(a.name)[0]
	if _, err := tb.kube.AppsV1().Deployments(a.name).Patch(t.Context(), a.name, types.MergePatchType, []byte(`{"spec":{"replicas":0}}`), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	p = tb.awaitGone(t, p)
	f.set(a, "RegisterTargets", "", 0)
	landed := tb.awaitEvent(t, a, since, "RegisterTargets", p.Pod.addr.Addr())
	if landed.at.Before(p.Gone) {
		t.Errorf("registered at %v; want it after the pod was gone at %v", landed.at, p.Gone)
	}
	return tb.awaitEvent(t, a, landed.at, "DeregisterTargets", p.Pod.addr.Addr()).at.Sub(landed.at)
}

// leavePublished deletes a pod behind a Service that publishes pods that are not ready. It
// returns when the pod was deregistered.
func (tb *testbed) leavePublished(t *testing.T) (report, time.Time) {
	t.Helper()
	a := tb.createExposed(t, bindings.Group, aws.ALB, "published")
	publish := []byte(`{"spec":{"publishNotReadyAddresses":true}}`)
	if _, err := tb.kube.CoreV1().Services(a.name).Patch(t.Context(), a.name, types.MergePatchType, publish, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
	tb.createDeployment(t, a.name, a.name, 1, withHook(60, "sleep", "2"))
	tb.awaitRollout(t, a.name)
	p := tb.kubelet.pods(a.name)[0]
	since := time.Now()
	tb.awaitEvent(t, a, time.Time{}, "RegisterTargets", p.Pod.addr.Addr())
	tb.deletePod(t, p)
	p = tb.awaitGone(t, p)
	return p, tb.awaitEvent(t, a, since, "DeregisterTargets", p.Pod.addr.Addr()).at
}

// checkAsks checks that no leader lists all targets of an application while it trusts what
// it knows, and that it asks for some of them.
func (tb *testbed) checkAsks(t *testing.T, a *application, since time.Time, trust time.Duration) {
	t.Helper()
	var last time.Time
	all, some := 0, 0
	for _, e := range tb.lbc.events(a.key(), since) {
		switch {
		case e.what == eventLeads:
			last = time.Time{}
		case e.what != "DescribeTargetHealth":
		case e.targets != nil:
			some++
		default:
			if age := e.at.Sub(last); age < trust {
				t.Errorf("%s: LBC lists all targets after %v; want %v or later", a.name, age, trust)
			}
			last = e.at
			all++
		}
	}
	if all == 0 || some == 0 {
		t.Errorf("%s: LBC lists all targets %d times, and some %d times; want both", a.name, all, some)
	}
}
