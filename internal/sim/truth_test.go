package sim

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/timeline"
)

// TestChoosable follows what load balancers know about one pod.
func TestChoosable(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		lb := t.w.AWS.AddLoadBalancer("web", aws.ALB)
		g, idle := t.w.AWS.AddTargetGroup("web", 80, lb), t.w.AWS.AddTargetGroup("idle", 80, nil)
		p := t.w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080})
		neighbour := t.w.AddPod(PodSpec{Namespace: "shop", Name: "b", Port: 8080})
		t.run(10 * time.Second)
		check := func(what string, want bool) {
			t.Helper()
			if got := t.w.choosable(t.w.pods["shop/a"]); got != want {
				t.Errorf("%s: %v, want %v", what, got, want)
			}
		}
		check("in no group", false)
		t.w.AWS.Register(idle, p.IP, 8080)
		t.w.AWS.Register(g, neighbour.IP, 8080)
		t.run(20 * time.Second)
		check("in a group of no load balancer", false)
		t.w.AWS.Register(g, p.IP, 8080)
		check("registered, and no node knows it", true)
		t.run(20 * time.Second)
		check("registered", true)
		t.w.AWS.Deregister(g, p.IP, 8080)
		check("draining", true)
		t.run(11 * time.Second)
		check("in its tail", true)
		t.run(8 * time.Second)
		check("after its tail", false)
		t.w.AWS.Register(g, p.IP, 8080)
		check("registered again", true)
		t.w.AWS.RemoveTarget(g, p.IP, 8080)
		check("removed", false)
		t.w.AWS.Register(g, p.IP, 9999)
		t.run(20 * time.Second)
		check("registered at a port that it has not", true)
		t.w.AWS.DeleteLoadBalancer(lb)
		check("without the load balancer", false)
	})
}

// stopped is a pod under load behind a group, which is deleted after half a minute,
// while LBC is away, and deregistered 5 s later.
func stopped(t *testing.T, outcome string, after time.Duration) *PodReport {
	t.Helper()
	var p *PodReport
	inWorldWith(t, answering(after, http.StatusOK, outcome), func(t *testing.T, w *World) {
		g := w.AWS.AddTargetGroup("web", 80, w.AWS.AddLoadBalancer("web", aws.ALB))
		p = w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080, Grace: 5 * time.Minute, Hook: Hook{URL: "http://service"}})
		w.AWS.Register(g, p.IP, 8080)
		w.Run(t.Context(), 30*time.Second)
		w.AddClients(g, 50)
		_ = w.DeletePod("shop", "a")
		w.After(5*time.Second, func() { w.AWS.Deregister(g, p.IP, 8080) })
		w.Run(t.Context(), 2*time.Minute)
	})
	return p
}

func TestWrongGo(t *testing.T) {
	for _, tt := range []struct {
		outcome string
		after   time.Duration
		want    string // Drained, NotRegistered, Premature, Choosable
		late    bool
	}{
		{"drained", 10 * time.Second, "1 0 1 true", true},
		{"drained", 30 * time.Second, "1 0 0 false", false},
		{"not_registered", 10 * time.Second, "0 1 1 true", true},
		{"not_registered", 30 * time.Second, "0 1 0 false", false},
		{"budget_spent", 10 * time.Second, "0 0 0 true", false},
	} {
		t.Run(fmt.Sprint(tt.outcome, " after ", tt.after), func(t *testing.T) {
			p := stopped(t, tt.outcome, tt.after)
			if got := fmt.Sprint(p.Drained, p.NotRegistered, p.Premature, p.Calls[0].Choosable); got != tt.want {
				t.Errorf("counted %s, want %s", got, tt.want)
			}
			if p.Late > 0 != tt.late {
				t.Errorf("%d requests came late", p.Late)
			}
			if p.Deregistered == 0 || p.DeregisteredByController != 0 {
				t.Errorf("deregistered at %v, by LBC at %v", p.Deregistered, p.DeregisteredByController)
			}
		})
	}
}

// TestNotTerminating: the answer is wrong if the pod stops for good, or is not
// ready.
func TestNotTerminating(t *testing.T) {
	for _, tt := range []struct {
		name string
		do   func(w *World)
		want string // wrong, Deleted, Unready, NodeUnready
	}{
		{"liveness restart", func(w *World) { w.RestartContainer("shop", "a") }, "0 false false false"},
		{"deletion", func(w *World) { _ = w.DeletePod("shop", "a") }, "1 true false false"},
		{"deletion after the call", func(w *World) {
			w.RestartContainer("shop", "a")
			w.After(4*time.Second, func() { _ = w.DeletePod("shop", "a") })
		}, "1 true false false"},
		{"deletion after the answer", func(w *World) {
			w.RestartContainer("shop", "a")
			w.After(20*time.Second, func() { _ = w.DeletePod("shop", "a") })
		}, "0 false false false"},
		{"shutdown of the node", func(w *World) { w.ShutdownNode("node-1") }, "1 false true true"},
		{"a node that is not ready", func(w *World) {
			n, _ := kube.Get[corev1.Node](w.Kube, "", "node-1")
			w.setNodeReady(n, corev1.ConditionUnknown, "NodeStatusUnknown")
			w.RestartContainer("shop", "a")
		}, "1 false false true"},
		{"not ready", func(w *World) {
			w.pods["shop/a"].unready = true
			w.setConditions(w.pods["shop/a"])
			w.RestartContainer("shop", "a")
		}, "1 false true false"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorldWith(t, answering(10*time.Second, http.StatusOK, "not_terminating"), func(t *testing.T, w *World) {
				p := w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080, Grace: time.Minute, Hook: Hook{URL: "http://service"}})
				w.Run(t.Context(), 10*time.Second)
				tt.do(w)
				w.Run(t.Context(), 40*time.Second)
				c := p.Calls[0]
				if got := fmt.Sprint(p.WrongNotTerminating, c.Deleted, c.Unready, c.NodeUnready); got != tt.want {
					t.Errorf("counted %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// TestWillNotLeave: the answer is wrong if LBC deregisters the pod while its
// processes live.
func TestWillNotLeave(t *testing.T) {
	for _, tt := range []struct {
		name    string
		publish bool
		byHand  bool
		wrong   int
	}{
		{"a Service like most", false, false, 1},
		{"one that publishes what is not ready", true, false, 0},
		{"somebody else deregisters it", true, true, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorldWith(t, answering(0, http.StatusOK, "will_not_leave"), func(t *testing.T, w *World) {
				labels := map[string]string{"app": "web"}
				g := w.AWS.AddTargetGroup("web", 80, w.AWS.AddLoadBalancer("web", aws.ALB))
				s := kube.NewService("shop", "web", labels, 8080)
				s.Spec.PublishNotReadyAddresses = tt.publish
				w.Kube.Apply(s)
				w.LBC.AddBinding("shop", "web", "web", g)
				p := w.AddPod(PodSpec{Namespace: "shop", Name: "a", Labels: labels, Port: 8080, Grace: time.Minute, Hook: Hook{URL: "http://service"}})
				w.Run(t.Context(), 30*time.Second)
				w.cfg.Assumptions.LBC.Lag = timeline.Between(time.Second, time.Second) // after the answer
				if tt.publish {
					w.cfg.Assumptions.LBC.Lag, w.cfg.Assumptions.KubeletLag = timeline.Range{}, timeline.Between(time.Second, time.Second) // before the object is gone
				}
				w.cfg.Assumptions.ShutdownTime = timeline.Between(5*time.Second, 5*time.Second)
				_ = w.DeletePod("shop", "a")
				if tt.byHand {
					w.After(2*time.Second, func() { w.AWS.Deregister(g, p.IP, 8080) })
				}
				w.Run(t.Context(), 50*time.Second)
				if p.WrongWillNotLeave != tt.wrong || p.Gone == 0 || (p.DeregisteredByController == 0) != tt.byHand {
					t.Errorf("%d wrong answers, want %d; gone at %v, deregistered at %v, by LBC at %v",
						p.WrongWillNotLeave, tt.wrong, p.Gone, p.Deregistered, p.DeregisteredByController)
				}
			})
		})
	}
}

// TestNameUsedAgain: a new pod gets the name of an old one whose processes and hook live
// on.
func TestNameUsedAgain(t *testing.T) {
	var mu sync.Mutex // guards asked
	var asked []string
	slow := answering(20*time.Second, http.StatusOK, "drained")
	service := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Query().Get("ip"))
		mu.Unlock()
		slow.ServeHTTP(rw, r)
	})
	inWorldWith(t, service, func(t *testing.T, w *World) {
		spec := PodSpec{Namespace: "shop", Name: "web-0", Port: 8080, Grace: time.Minute, Hook: Hook{URL: "http://service"}}
		a := w.AddPod(spec)
		w.Run(t.Context(), 10*time.Second)
		if err := w.ForceDelete("shop", "web-0"); err != nil {
			t.Fatal(err)
		}
		b := w.AddPod(spec)
		w.Run(t.Context(), 20*time.Second)
		if a.Gone != 10*time.Second || a.UID == b.UID || a.IP == b.IP || a.Stopped != 0 || len(a.Calls) != 1 {
			t.Errorf("10 s after the deletion: %+v and %+v", a, b)
		}
		for _, r := range []*PodReport{a, b} {
			if l := w.listeners[aws.TargetID{IP: r.IP, Port: 8080}]; l == nil || l.pod.report != r || !l.serving {
				t.Errorf("not the right pod listens at %v", r.IP)
			}
		}
		_ = w.DeletePod("shop", "web-0")
		w.Run(t.Context(), 2*time.Minute)
		for _, r := range []*PodReport{a, b} {
			if held := r.Held().Round(time.Second); held != 20*time.Second && held != 21*time.Second || len(r.Calls) != 1 || r.Drained != 1 || r.Gone == 0 {
				t.Errorf("held for %v: %+v", held, r)
			}
		}
		if b.Deleted == a.Deleted || b.Gone < b.Stopped {
			t.Errorf("the second: %+v", b)
		}
		mu.Lock()
		if want := []string{a.IP.String(), b.IP.String()}; !slices.Equal(asked, want) {
			t.Errorf("asked for %v, want %v", asked, want)
		}
		mu.Unlock()
		if err := w.ForceDelete("shop", "web-0"); err == nil {
			t.Error("a pod that is gone could be deleted by force")
		}
	})
}

// TestForceDeletedPodIsKilled at the end of its grace period.
func TestForceDeletedPodIsKilled(t *testing.T) {
	inWorldWith(t, answering(time.Hour, http.StatusOK, "drained"), func(t *testing.T, w *World) {
		p := w.AddPod(PodSpec{Namespace: "shop", Name: "a", Port: 8080, Grace: 30 * time.Second, Hook: Hook{URL: "http://service"}})
		w.Run(t.Context(), 10*time.Second)
		_ = w.ForceDelete("shop", "a")
		w.Run(t.Context(), 2*time.Minute)
		if p.Stopped != 40*time.Second || w.listening(aws.TargetID{IP: p.IP, Port: 8080}) {
			t.Errorf("stopped at %v, and it still listens: %v", p.Stopped, w.listening(aws.TargetID{IP: p.IP, Port: 8080}))
		}
	})
}

// TestAddressUsedAgain: the address of a pod that still runs is given to another.
func TestAddressUsedAgain(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		labels := map[string]string{"app": "web"}
		g := t.w.AWS.AddTargetGroup("web", 80, t.w.AWS.AddLoadBalancer("web", aws.ALB))
		t.w.Kube.AddService("shop", "web", labels, 8080)
		t.w.LBC.AddBinding("shop", "web", "web", g)
		spec := PodSpec{
			Namespace: "shop", Name: "web-0", Labels: labels, Port: 8080, Grace: time.Minute,
			Hook: Hook{Hold: true}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.9.1")},
		}
		a := t.w.AddPod(spec)
		t.run(30 * time.Second)
		old := t.w.pods["shop/web-0"]
		t.w.AddClients(g, 50)
		t.run(time.Second)
		_ = t.w.ForceDelete("shop", "web-0")
		if !t.w.choosable(old) {
			t.Error("the old pod cannot be chosen while the address is its own")
		}
		b := t.w.AddPod(spec)
		given := t.w.Now()
		if t.w.choosable(old) || !t.w.choosable(t.w.pods["shop/web-0"]) {
			t.Error("the old pod can still be chosen, or the new one cannot")
		}
		t.run(30 * time.Second)
		if a.LastArrival > given || b.LastArrival < t.w.Now()-time.Second {
			t.Errorf("given at %v; the last requests came at %v and %v", given, a.LastArrival, b.LastArrival)
		}
		got := fmt.Sprint(a.DeregisteredByController > 0, b.DeregisteredByController > 0, t.rows(g))
		if want := "true false [10.0.9.1:8080 us-east-1b healthy]"; got != want {
			t.Errorf("deregistered, and what is registered: %s, want %s", got, want)
		}
		t.run(time.Minute) // the old one is over
		if l := t.w.listeners[targetIDs("10.0.9.1:8080")[0]]; l.pod.report != b || !l.serving {
			t.Error("with the old pod the new one's port is closed")
		}
		_ = t.w.DeletePod("shop", "web-0")
		t.run(2 * time.Second)
		if d := cmp.Diff(true, b.DeregisteredByController > 0); d != "" {
			t.Errorf("the new pod is deregistered (-want +got):\n%s", d)
		}
	})
}

func TestPodsOfOneName(t *testing.T) {
	testWorld(t, nil, func(t *worldTest) {
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "a"})
		defer func() {
			if recover() == nil {
				t.Error("there can be two pods of one name")
			}
		}()
		t.w.AddPod(PodSpec{Namespace: "shop", Name: "a"})
	})
}
