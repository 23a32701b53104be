package cluster

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	simkube "drainwait/internal/sim/kube"
)

// lists asks for live lists of the default namespace until they are known, for d
// at most. It returns how often it was told to ask again.
func (w *world) liveLists(since time.Time, ingresses bool, d time.Duration) (known bool, woken int, err error) {
	w.t.Helper()
	wake := make(chan struct{}, 1)
	for end := time.Now().Add(d); ; {
		if known, err = w.Lists("default", since, ingresses, wake); known || time.Now().After(end) {
			return known, woken, err
		}
		for len(wake) == 0 && !time.Now().After(end) {
			w.pass(10 * time.Millisecond)
		}
		select {
		case <-wake:
			woken++
		default:
		}
	}
}

// countLists counts the live lists by resource: those without a resourceVersion.
func countLists(w *world) map[string]int {
	n := make(map[string]int)
	w.Kube.Fail(func(r *http.Request) bool {
		if q := r.URL.Query(); !q.Has("watch") && strings.Contains(r.URL.Path, "/namespaces/default/") {
			if q.Get("resourceVersion") != "" {
				w.t.Error("a list from a cache: " + r.URL.String())
			}
			parts := strings.Split(r.URL.Path, "/")
			n[parts[2]+" "+parts[len(parts)-1]]++
		}
		return false
	}, 0)
	return n
}

func TestLists(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		n := countLists(w)
		stop := w.Watch(w.Address("default", netipAddr("10.9.9.9")), make(chan struct{}, 1))
		began := time.Now()
		if known, woken, err := w.liveLists(began, false, time.Second); !known || err != nil || woken != 1 {
			t.Fatalf("known %t, error %v, woken %d times", known, err, woken)
		}
		one := map[string]int{"v1 services": 1, "discovery.k8s.io endpointslices": 1, "elbv2.k8s.aws targetgroupbindings": 1, "eks.amazonaws.com targetgroupbindings": 1}
		if d := cmp.Diff(one, n); d != "" {
			t.Errorf("lists (-want +got):\n%s", d)
		}
		if known, woken, _ := w.liveLists(began, false, time.Second); !known || woken != 0 {
			t.Error("not known the second time")
		}
		if known, _, _ := w.liveLists(began, true, time.Second); !known || n["networking.k8s.io ingresses"] != 1 {
			t.Errorf("with Ingresses: known %t, lists %v", known, n)
		}
		if known, _, _ := w.liveLists(time.Now(), false, time.Second); !known || n["v1 services"] != 3 || n["networking.k8s.io ingresses"] != 1 {
			t.Errorf("from later on: known %t, lists %v", known, n)
		}
		if known, woken, _ := w.liveLists(began, true, time.Second); !known || woken != 0 {
			t.Error("Ingresses are not known any more")
		}
		stop()
		if len(w.Index.lists) > 0 {
			t.Error("kept although nobody watches the namespace")
		}
	})
}

// All who ask before a list has begun share it; who asks later does not.
func TestListsAreShared(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		n := countLists(w)
		var wakes []chan struct{}
		for range 10 {
			wakes = append(wakes, make(chan struct{}, 1))
		}
		began := time.Now()
		for _, wake := range wakes[:9] {
			if known, _ := w.Lists("default", began, false, wake); known {
				t.Fatal("known at once")
			}
		}
		w.pass(2 * time.Millisecond) // it is under way
		later := time.Now()
		if known, _ := w.Lists("default", later, false, wakes[9]); known {
			t.Error("known by a list that began before")
		}
		w.pass(time.Second)
		for i, wake := range wakes {
			if len(wake) != 1 {
				t.Errorf("%d is not woken", i)
			}
		}
		if known, _ := w.Lists("default", began, false, wakes[0]); !known || n["v1 services"] != 1 {
			t.Errorf("known %t, lists %v", known, n)
		}
		if known, _ := w.Lists("default", later, false, wakes[9]); known {
			t.Error("known by a list that began before")
		}
		w.pass(time.Second)
		if known, _ := w.Lists("default", later, false, wakes[9]); !known || n["v1 services"] != 2 {
			t.Errorf("known %t, lists %v", known, n)
		}
		w.pass(2 * tidyEvery)
		if len(w.Index.lists) > 0 {
			t.Error("kept although nobody watches the namespace")
		}
	})
}

func TestListsTrouble(t *testing.T) {
	for _, tt := range []struct {
		name    string
		trouble func(w *world)
		known   bool
		names   string
	}{
		{"EKS is not served", func(*world) {}, true, ""},
		{"Services fail", func(w *world) { w.failLists("services", 503) }, false, "services of namespace default"},
		{"EndpointSlices are refused", func(w *world) { w.failLists("endpointslices", 403) }, false, "endpointslices"},
		{"Ingresses fail", func(w *world) { w.failLists("ingresses", 500) }, false, "ingresses"},
		{"bindings fail", func(w *world) { w.failLists("targetgroupbindings", 503) }, false, "targetgroupbindings"},
		{"bindings answer 404 although they are served", func(w *world) { w.failLists("targetgroupbindings", 404) }, false, "targetgroupbindings"},
		{"the group is gone", func(w *world) { w.Kube.ServeGroup(simkube.GroupELBv2, false) }, true, ""},
		{"the version is gone", func(w *world) { w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false) }, false, "targetgroupbindings"},
		{"another version is there", func(w *world) {
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1", true)
		}, false, "targetgroupbindings"},
		{"the group is gone, and discovery is refused", func(w *world) {
			w.Kube.ServeGroup(simkube.GroupELBv2, false)
			w.Kube.Fail(func(r *http.Request) bool {
				return strings.HasPrefix(r.URL.Path, "/apis/elbv2.k8s.aws") && !strings.HasSuffix(r.URL.Path, "bindings")
			}, 403)
		}, false, "targetgroupbindings"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
				tt.trouble(w)
				began := time.Now()
				known, woken, err := w.liveLists(began, true, 5*time.Second)
				if known != tt.known || (err == nil) != tt.known {
					t.Fatalf("known %t and error %v", known, err)
				}
				if tt.known {
					return
				}
				if !strings.Contains(err.Error(), tt.names) || woken < 8 || woken > 11 {
					t.Errorf("asked %d times again in five seconds; error %v", woken, err)
				}
				w.Kube.Fail(nil, 0)
				w.Kube.ServeGroup(simkube.GroupELBv2, true)
				w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", true)
				if known, _, err := w.liveLists(began, true, 2*time.Second); !known || err != nil {
					t.Errorf("when it is over: known %t, error %v", known, err)
				}
			})
		})
	}
}

func (w *world) failLists(resource string, status int) {
	w.Kube.Fail(func(r *http.Request) bool {
		return strings.HasSuffix(r.URL.Path, "/namespaces/default/"+resource) && !r.URL.Query().Has("watch")
	}, status)
}

// The watches are an hour behind; what a live list shows ties as well, and for
// good.
func TestListsTie(t *testing.T) {
	web := service("web", "app: web")
	ingress := "{kind: Ingress, metadata: {name: web}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}, status: {loadBalancer: {ingress: [{hostname: web-1.elb.example}]}}}"
	labels := "ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack-name: web"
	made := strings.ReplaceAll(tgb("one", "web", "one"), "name: one}", "name: one, labels: {"+labels+"}}")
	publishing := strings.ReplaceAll(web, "spec: {", "spec: {publishNotReadyAddresses: true, ")
	for _, tt := range []struct {
		name   string
		cached string // shown by the caches, beside a pod app=web
		live   []string
		then   []string // after the list
		want   string   // candidates
		hosts  string
		wake   bool
	}{
		{"a binding", web, []string{tgb("one", "web", "one")}, nil, "one", "", true},
		{"a Service", tgb("one", "web", "one"), []string{web}, nil, "one", "", true},
		{"an EndpointSlice", tgb("one", "web", "one"), []string{slice("web", "kind: Pod, name: a")}, nil, "one", "", true},
		{"a selector that was switched meanwhile", tgb("one", "web", "one"), []string{web}, []string{service("web", "app: green")}, "one", "", true},
		{"a binding that is gone", web + sep + tgb("one", "web", "one"), []string{"remove " + tgb("one", "web", "one")}, nil, "one", "", false},
		{"a binding that was switched", web + sep + tgb("one", "web", "one"), []string{tgb("one", "web", "two")}, nil, "one one", "", true},
		{"an Ingress", web, []string{ingress}, nil, "", "web-1", true},
		{"an Ingress, and its binding is not in the cache", web, []string{ingress, made}, nil, "one", "web-1", true},
		{"an Ingress, and its binding is in both", web + sep + made, []string{ingress}, nil, "one", "", true},
		{"an Ingress, and its binding is gone", web + sep + made + sep + ingress, []string{"remove " + made}, nil, "one", "web-1", false},
		{"publishes not-ready addresses, in both", publishing + sep + tgb("one", "web", "one"), nil, nil, "one!", "", false},
		{"does not publish them any more", publishing + sep + tgb("one", "web", "one"), []string{web}, nil, "one", "", false},
		{"publishes them only by the live list", web + sep + tgb("one", "web", "one"), []string{publishing}, nil, "one", "", false},
		{"publishes them, and the binding is gone", publishing + sep + tgb("one", "web", "one"), []string{"remove " + tgb("one", "web", "one")}, nil, "one", "", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, tt.cached, func(t *testing.T, w *world) {
				w.do(noStatus, pod("app: web"))
				wake := make(chan struct{}, 1)
				p := w.Index.Pod("default", "a")
				defer w.Watch(p, wake)()
				w.Kube.LagWatches("", time.Hour)
				w.do(tt.live...)
				if known, _, err := w.liveLists(time.Now(), true, time.Second); !known {
					t.Fatal(err)
				}
				w.do(tt.then...)
				s := w.Survey(p, nil)
				if got := strings.Join(show(s.Candidates), " "); got != tt.want {
					t.Errorf("candidates %q, want %q", got, tt.want)
				}
				if got := strings.Join(w.hosts(p), " "); got != tt.hosts {
					t.Errorf("host names %q, want %q", got, tt.hosts)
				}
				if got := len(wake) > 0; got != tt.wake {
					t.Errorf("woken %t, want %t", got, tt.wake)
				}
			})
		})
	}
}

// A binding that only a live list showed is former when the list is dropped, or
// when the watch tells that it is gone.
func TestListsAndWatches(t *testing.T) {
	one := tgb("one", "web", "one")
	begin := func(t *testing.T, f func(w *world, p *Pod, stop func())) {
		inIndexed(t, Config{}, service("web", "app: web"), func(t *testing.T, w *world) {
			w.do(noStatus, pod("app: web"))
			p := w.Index.Pod("default", "a")
			stop := w.Watch(p, make(chan struct{}, 1))
			w.Kube.LagWatches("targetgroupbindings", time.Hour)
			w.do(one)
			if known, _, err := w.liveLists(time.Now(), false, time.Second); !known {
				t.Fatal(err)
			}
			f(w, p, stop)
		})
	}
	check := func(t *testing.T, w *world, p *Pod, want string) {
		t.Helper()
		if got := strings.Join(w.candidates(p), " "); got != want {
			t.Errorf("candidates %q, want %q", got, want)
		}
	}
	t.Run("dropped", func(t *testing.T) {
		begin(t, func(w *world, p *Pod, stop func()) {
			check(t, w, p, "one")
			stop()
			check(t, w, p, "one-")
		})
	})
	t.Run("seen by the watch", func(t *testing.T) {
		begin(t, func(w *world, p *Pod, stop func()) {
			w.Kube.LagWatches("targetgroupbindings", 0)
			w.pass(time.Second)
			stop()
			check(t, w, p, "one")
		})
	})
	t.Run("gone by the watch", func(t *testing.T) {
		begin(t, func(w *world, p *Pod, stop func()) {
			defer stop()
			w.do("remove " + one)
			w.Kube.LagWatches("targetgroupbindings", 0)
			w.pass(time.Second)
			check(t, w, p, "one-")
		})
	})
	t.Run("switched by the watch", func(t *testing.T) {
		begin(t, func(w *world, p *Pod, stop func()) {
			defer stop()
			w.do(tgb("one", "web", "two"))
			w.Kube.LagWatches("targetgroupbindings", 0)
			w.pass(time.Second)
			check(t, w, p, "one one-")
		})
	})
	t.Run("gone by the next list", func(t *testing.T) {
		begin(t, func(w *world, p *Pod, stop func()) {
			defer stop()
			w.do("remove " + one)
			if known, _, err := w.liveLists(time.Now(), false, time.Second); !known {
				t.Fatal(err)
			}
			check(t, w, p, "one-")
		})
	})
}

// A port is another pod's only where cache and live list both say so.
func TestListsAndOtherPorts(t *testing.T) {
	objects := at("default/b", "10.0.0.1", hostNetwork) + sep + tgb("one", "web", "one") + sep + service("web", "app: web") + sep
	named := func(pod string) string {
		return "{kind: EndpointSlice, metadata: {name: x, labels: {kubernetes.io/service-name: web}}, ports: [{port: 8080}], endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, name: " + pod + "}}]}"
	}
	for before, want := range map[string]map[string]string{"a": {"a": "one", "b": "one"}, "b": {"a": "one", "b": "one:8080"}} {
		for after, want := range want {
			t.Run(before+after, func(t *testing.T) {
				inIndexed(t, Config{}, objects+named(before), func(t *testing.T, w *world) {
					w.do(noStatus, "{kind: Pod, metadata: {name: a, labels: {app: web}}, spec: {hostNetwork: true}, status: {phase: Running, podIP: 10.0.0.1}}")
					p := w.Index.Pod("default", "a")
					defer w.Watch(p, make(chan struct{}, 1))()
					w.Kube.LagWatches("", time.Hour)
					w.do(named(after))
					if known, _, err := w.liveLists(time.Now(), false, time.Second); !known {
						t.Fatal(err)
					}
					if got := strings.Join(w.candidates(p), " "); got != want {
						t.Errorf("candidates %q, want %q", got, want)
					}
				})
			})
		}
	}
}

// Waits that begin all the time have a namespace listed at a rate, however fast the API
// server answers, and each is answered soon.
func TestListsAreApart(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		n := countLists(w)
		type asked struct {
			since time.Time
			wake  chan struct{}
		}
		var open []asked
		for range 1000 {
			open = append(open, asked{time.Now(), make(chan struct{}, 1)})
			open[len(open)-1].wake <- struct{}{}
			w.pass(10 * time.Millisecond)
			open = slices.DeleteFunc(open, func(a asked) bool {
				select {
				case <-a.wake:
				default:
					return false
				}
				known, _ := w.Lists("default", a.since, false, a.wake)
				if d := time.Since(a.since); d > 2*listEvery {
					t.Errorf("a wait has no list after %s", d)
				}
				return known
			})
		}
		if most := int(10*time.Second/listEvery) + 1; n["v1 services"] > most || n["v1 services"] < most-5 {
			t.Errorf("%d lists in ten seconds, want %d", n["v1 services"], most)
		}
	})
}
