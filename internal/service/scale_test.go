package service_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// addApps makes applications with one pod each, which nobody replaces, and with an
// Ingress each.
func addApps(b *servicetest.Bubble, n int, hook sim.Hook) {
	for i := range n {
		a := sim.App{Namespace: web, Name: fmt.Sprint("app-", i), Kind: aws.ALB, Port: webPort}
		b.AddApp(a)
		b.AddPod(sim.PodSpec{
			Namespace: web, Name: a.Name + "-1", Labels: map[string]string{"app": a.Name}, Port: webPort,
			Grace: 5 * time.Minute, Gates: []string{lbc.GatePrefix + a.Name}, Hook: hook,
		})
	}
}

// deleteAll deletes all pods whose names have a prefix at once, and returns their reports.
func deleteAll(b *servicetest.Bubble, prefix string) []*sim.PodReport {
	pods := slices.DeleteFunc(slices.Clone(b.Pods()), func(p *sim.PodReport) bool { return !strings.HasPrefix(p.Name, prefix) })
	for _, p := range pods {
		_ = b.DeletePod(p.Namespace, p.Name)
	}
	return pods
}

// TestManyAppsAtOnce deletes many applications at once. At five requests per second, each
// needs a look that sees it leave while there is time to settle, and a look that
// confirms.
func TestManyAppsAtOnce(t *testing.T) {
	for _, c := range []struct{ apps, want int }{
		{120, 115},
		// After the first twenty groups the controller deregisters four per second:
		// 180 by second 40, and after that it is too late to settle. With 310
		// requests in 60 s, and two for each group, 155 are possible at most.
		{240, 155 * 8 / 10},
	} {
		t.Run(fmt.Sprint(c.apps), func(t *testing.T) {
			servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, nil, func(b *servicetest.Bubble) {
				addApps(b, c.apps, sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute})
				b.Advance(5 * time.Minute) // this is also for the sweep
				outcomes, told := make(map[string]int), 0
				pods := deleteAll(b, "")
				b.Advance(2 * time.Minute)
				for _, p := range pods {
					outcomes[p.Outcome]++
					if p.Late > 0 || p.Premature > 0 {
						t.Errorf("pod %s: %d requests after the answer", p.Name, p.Late)
					}
					if p.Outcome != "drained" && strings.Contains(string(p.Answer), "requests ") {
						told++
					}
				}
				t.Logf("outcomes: %v", outcomes)
				if outcomes["drained"] < c.want {
					t.Errorf("%d of %d drained, want %d or more", outcomes["drained"], c.apps, c.want)
				}
				if told != c.apps-outcomes["drained"] {
					t.Errorf("only %d of those that did not drain are told why", told)
				}
			})
		})
	}
}

// TestCallsAmongManyGroups rolls ten pods of one application among eighty.
func TestCallsAmongManyGroups(t *testing.T) {
	servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, nil, func(b *servicetest.Bubble) {
		addApps(b, 79, sim.Hook{})
		d, _ := b.AddApp(sim.App{
			Namespace: web, Name: "rolled", Kind: aws.ALB, Replicas: 10, Port: webPort, Grace: 2 * time.Minute,
			Hook: sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute},
		})
		b.Advance(5 * time.Minute)
		swept := calls(b)
		if swept > 80+1 { // one more finds out whether AWS answers at all
			t.Errorf("the sweep of 80 groups took %d calls", swept)
		}
		over := false
		b.Rollout(d, nil, func() { over = true })
		if !b.AdvanceUntil(30*time.Minute, func() bool { return over }) {
			t.Fatal("the rollout does not end")
		}
		t.Logf("%d calls in the sweep, %d in the rollout: %v", swept, calls(b)-swept, b.AWS.Calls())
		// Ten new bindings at most, and no groups: the sweep has nothing to do.
		if got := calls(b) - swept; got > 170 {
			t.Errorf("the rollout took %d calls, want 170 at most", got)
		}
		allDrained(b, "rolled-1")
	})
}

// calls counts the calls to AWS over HTTP that were not throttled. The simulated
// controller makes its calls in another way.
func calls(b *servicetest.Bubble) int {
	n := 0
	for call, calls := range b.AWS.Calls() {
		if !strings.HasSuffix(call, " Throttling") {
			n += calls
		}
	}
	return n
}

func allDrained(b *servicetest.Bubble, prefix string) {
	b.Helper()
	for _, p := range b.Pods() {
		if strings.HasPrefix(p.Name, prefix) && (p.Outcome != "drained" || p.Late > 0 || p.Premature > 0) {
			b.Errorf("pod %s: %s, %d late, %d premature\n%s", p.Name, p.Outcome, p.Late, p.Premature, p.Answer)
		}
	}
}

// TestOnePodAmongManyGroups checks that the other groups cost nothing after the sweep,
// and that before the sweep they do not keep a wait from looking at its own group.
func TestOnePodAmongManyGroups(t *testing.T) {
	for _, c := range []struct {
		name   string
		before time.Duration // from the start of the service to the deletion
		calls  int
	}{
		{"after the sweep", 3 * time.Minute, 5},
		{"at once after the start", 10 * time.Second, 210},
	} {
		t.Run(c.name, func(t *testing.T) {
			servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, nil, func(b *servicetest.Bubble) {
				addApps(b, 200, sim.Hook{})
				b.AddApp(sim.App{
					Namespace: web, Name: "one", Kind: aws.ALB, Replicas: 1, Port: webPort, Grace: 5 * time.Minute,
					Hook: sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute},
				})
				b.Advance(3 * time.Minute)
				b.Restart()
				b.Advance(c.before)
				one := podOf(b, "one-1")
				before := calls(b)
				_ = b.DeletePod(web, one.Name)
				b.AdvanceUntil(2*time.Minute, func() bool { return one.Answered > 0 })
				took := calls(b) - before
				t.Logf("%s after %s, %d calls", one.Outcome, one.Answered-one.Asked, took)
				if one.Outcome != "drained" || took > c.calls {
					t.Errorf("%s with %d calls, want drained with %d at most\n%s", one.Outcome, took, c.calls, one.Answer)
				}
			})
		})
	}
}

func podOf(b *servicetest.Bubble, prefix string) *sim.PodReport {
	b.Helper()
	i := slices.IndexFunc(b.Pods(), func(p *sim.PodReport) bool { return strings.HasPrefix(p.Name, prefix) })
	if i < 0 {
		b.Fatalf("no pod %s", prefix)
	}
	return b.Pods()[i]
}

// TestHowSoonDrained checks that the answer comes as soon as the settle time is over,
// counted from the wait's own look that showed the pod gone.
func TestHowSoonDrained(t *testing.T) {
	const ms = time.Millisecond
	for _, c := range []struct {
		name    string
		prepare func(*scene)
		byHand  bool // only the test registers the pods and takes them out
		goal    time.Duration
	}{
		{"by binding", ordinary(aws.ALB), false, 150 * ms},
		{"by host name", unbound(aws.ALB, nil), true, 400 * ms},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := sim.DefaultAssumptions()
			a.AWS.APILatency = timeline.Range{Min: 60 * ms, Max: 60 * ms}
			servicetest.Run(t, sim.Config{Seed: 1, Assumptions: a}, nil, func(b *servicetest.Bubble) {
				s := &scene{Bubble: b}
				c.prepare(s)
				for i := range 11 { // one stays
					b.AddPod(sim.PodSpec{
						Namespace: web, Name: fmt.Sprint("web-", i), Labels: map[string]string{"app": "web"}, Port: webPort,
						Grace: 2 * time.Minute, Hook: sim.Hook{URL: servicetest.URL, MaxDelay: time.Minute},
					})
				}
				b.Advance(time.Minute)
				pods := slices.Clone(b.Pods())[:10]
				for i, p := range pods {
					if c.byHand {
						s.AWS.Register(s.group, p.IP, webPort)
					}
					b.After(time.Minute+time.Duration(i)*7300*ms, func() {
						_ = b.DeletePod(web, p.Name)
						if c.byHand {
							s.After(2*time.Second, func() { s.AWS.Deregister(s.group, p.IP, webPort) })
						}
					})
				}
				b.Advance(5 * time.Minute)
				for _, p := range pods {
					if late := drainedLate(t, p); late > c.goal {
						t.Errorf("pod %s: drained %s after left + settle, want %s at most\n%s", p.Name, late, c.goal, p.Answer)
					}
				}
			})
		})
	}
}

// drainedLate is how long after its own "left" and the settle time a wait got its
// answer.
func drainedLate(t *testing.T, p *sim.PodReport) time.Duration {
	t.Helper()
	var a api.Answer
	if err := json.Unmarshal(p.Answer, &a); err != nil || a.Outcome != "drained" {
		t.Fatalf("pod %s: %d %s, %v", p.Name, p.Status, p.Answer, err)
	}
	for _, step := range a.Targets[0].Timeline {
		if step.Event == "left" {
			left := time.Duration(float64(step.AfterSeconds) * float64(time.Second))
			return p.Answered - p.Asked - left - settleALB
		}
	}
	t.Fatalf("pod %s never left: %s", p.Name, p.Answer)
	return 0
}
