package cluster

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	simkube "drainwait/internal/sim/kube"
	"drainwait/internal/sim/memnet"
)

// drain takes the token out of a channel, and says whether there was one.
func drain(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// What a live read of one wait shows wakes the other waits of the pod: the watch can be
// behind.
func TestIdentifyWakes(t *testing.T) {
	inIndexed(t, Config{}, at("default/a", "10.0.0.1", ""), func(t *testing.T, w *world) {
		wake := make(chan struct{}, 1)
		defer w.Watch(w.Index.Pod("default", "a"), wake)()
		w.Kube.LagWatches("pods", time.Hour)
		w.do(at("default/a", "10.0.0.2", ""))
		if drain(wake) {
			t.Fatal("woken by the watch")
		}
		if _, err := w.identify(PodRef{Namespace: "default", Pod: "a"}); err != nil || !drain(wake) {
			t.Errorf("not woken by a live read; error %v", err)
		}
	})
}

// A pod keeps its UID when its sandbox is made anew, with another address.
func TestIdentifyByAnAddressThatThePodLost(t *testing.T) {
	inIndexed(t, Config{}, at("default/a", "10.0.0.1", ""), func(t *testing.T, w *world) {
		w.Kube.LagWatches("pods", time.Hour)
		w.do(at("default/a", "10.0.0.2", ""))
		if p, err := w.identify(PodRef{IP: netip.MustParseAddr("10.0.0.1")}); !errors.Is(err, ErrNoPod) {
			t.Errorf("got %v and error %v", p, err)
		}
	})
}

// A pod that the watch does not show yet is remembered for a while after its hook: the
// hook of its next container may come.
func TestHistoryOutlivesTheFirstHook(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		w.Kube.LagWatches("pods", time.Hour)
		w.do(at("default/a", "10.0.0.1", ""))
		p, err := w.identify(PodRef{Namespace: "default", Pod: "a"})
		if err != nil {
			t.Fatal(err)
		}
		w.Watch(p, make(chan struct{}, 1))()
		if w.histories[p.UID] == nil {
			t.Error("forgotten with the first hook")
		}
	})
}

// A StatefulSet makes a pod of the same name anew. Nothing is kept of the one before, even
// where the watch has missed its end.
func TestPredecessorIsForgotten(t *testing.T) {
	inIndexed(t, Config{}, noStatus, func(t *testing.T, w *world) {
		w.do(pod("app: a"), "refuse", "remove "+pod(""), pod("app: a"), "expire", "recover")
		w.pass(3 * tidyEvery)
		if p := w.Index.Pod("default", "a"); len(w.histories) != 1 || w.histories[p.UID] == nil {
			t.Errorf("remembered: %+v", w.histories)
		}
	})
}

// The pod may be deleted while its node is read.
func TestNotTerminatingReadsThePodAgain(t *testing.T) {
	const objects = "{kind: Pod, metadata: {name: a}, spec: {nodeName: node-x}, status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: 'True'}]}}" + sep +
		"{kind: Node, metadata: {name: node-x}, status: {conditions: [{type: Ready, status: 'True'}]}}"
	inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
		var read []string
		w.Kube.Fail(func(r *http.Request) bool {
			if strings.HasSuffix(r.URL.Path, "/a") || strings.HasSuffix(r.URL.Path, "/node-x") {
				read = append(read, r.URL.Path)
			}
			return len(read) == 3 // the pod is gone by then
		}, http.StatusNotFound)
		p := w.Index.Pod("default", "a")
		w.await(func() {
			if stays, err := w.NotTerminating(t.Context(), netip.Addr{}, p); stays || err != nil {
				t.Errorf("not terminating: %t, error %v", stays, err)
			}
		})
		if len(read) != 3 || !strings.HasSuffix(read[1], "/node-x") {
			t.Errorf("read %q", read)
		}
	})
}

// A wait that needs the Ingresses gets them with the next list, whoever asks without.
func TestIngressesAreWantedByOne(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		n := countLists(w)
		began := time.Now()
		first, second := make(chan struct{}, 1), make(chan struct{}, 1)
		_, _ = w.Lists("default", began, true, first)
		_, _ = w.Lists("default", began, false, second)
		w.pass(time.Second)
		if known, _ := w.Lists("default", began, true, first); !known || n["networking.k8s.io ingresses"] != 1 {
			t.Errorf("known %t, lists %v", known, n)
		}
		// Who has its answer is not woken by the list of another.
		drain(first)
		drain(second)
		_, _ = w.Lists("default", time.Now(), false, second)
		w.pass(time.Second)
		if drain(first) || !drain(second) {
			t.Error("woken for the list of another, or not for its own")
		}
	})
}

// An error that is over is not told to those who ask later, and the end of one wait takes
// the lists from no other.
func TestListsAfterTrouble(t *testing.T) {
	inIndexed(t, Config{}, at("default/a", "10.0.0.1", "")+at("default/b", "10.0.0.2", ""), func(t *testing.T, w *world) {
		stop := w.Watch(w.Index.Pod("default", "a"), make(chan struct{}, 1))
		defer w.Watch(w.Index.Pod("default", "b"), make(chan struct{}, 1))()
		w.failLists("services", http.StatusServiceUnavailable)
		began := time.Now()
		if known, _, err := w.liveLists(began, false, time.Second); known || err == nil {
			t.Fatalf("known %t, error %v", known, err)
		}
		w.Kube.Fail(nil, 0)
		if known, _, err := w.liveLists(began, false, 2*time.Second); !known {
			t.Fatalf("not known: %v", err)
		}
		if known, err := w.Lists("default", time.Now().Add(time.Nanosecond), false, make(chan struct{}, 1)); known || err != nil {
			t.Errorf("asked anew: known %t, error %v", known, err)
		}
		w.pass(time.Second)
		stop()
		if known, _ := w.Lists("default", began, false, make(chan struct{}, 1)); !known {
			t.Error("forgotten when another wait ended")
		}
	})
}

// An event that is older than a live list does not bring it out of date.
func TestOldEventAfterAList(t *testing.T) {
	inIndexed(t, Config{}, service("web", "app: web")+sep+tgb("one", "web", "first"), func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: web"))
		p := w.Index.Pod("default", "a")
		defer w.Watch(p, make(chan struct{}, 1))()
		w.Kube.LagWatches("targetgroupbindings", 20*time.Second)
		w.do(tgb("one", "web", "second"))
		w.pass(8 * time.Second)
		w.do(tgb("one", "web", "third"))
		if known, _, err := w.liveLists(time.Now(), false, time.Second); !known {
			t.Fatal(err)
		}
		w.pass(13 * time.Second) // the watch shows the second state, and not yet the third
		for _, c := range w.Survey(p, nil).Candidates {
			if present := c.TargetGroupARN != "arn:first"; c.Former == present {
				t.Errorf("%s is former: %t", c.TargetGroupARN, c.Former)
			}
		}
	})
}

// A pod is still found at an address that it had: its target there may be registered yet.
func TestAddressThatThePodHad(t *testing.T) {
	inIndexed(t, Config{}, tgb("one", "web", "one"), func(t *testing.T, w *world) {
		w.do(noStatus, at("default/a", "10.0.0.1", ""), at("default/a", "10.0.0.2", ""))
		w.sweep("one", "10.0.0.1")
		if got := strings.Join(w.candidates(w.Index.Pod("default", "a")), " "); got != "one" {
			t.Errorf("candidates %q", got)
		}
	})
}

// The API server's clock was wrong when it made the pod. A binding that ended later
// concerns it all the same.
func TestCreatedByAClockThatWasWrong(t *testing.T) {
	web := tgb("tgb-web", "web", "web")
	inIndexed(t, Config{}, service("web", "app: web")+sep+web, func(t *testing.T, w *world) {
		w.Kube.SkewClock(20 * time.Minute)
		w.do(noStatus, pod("app: web"))
		w.Kube.SkewClock(0)
		w.pass(time.Minute)
		w.do("remove " + web)
		if got := strings.Join(w.candidates(w.Index.Pod("default", "a")), " "); got != "tgb-web-" {
			t.Errorf("candidates %q", got)
		}
	})
}

// A neighbour on the node that is not ready may only be waiting for the port, which is
// still the pod's.
func TestPortOfANeighbourThatIsNotReady(t *testing.T) {
	objects := at("default/a", "10.1.0.1", hostNetwork) + at("default/b", "10.1.0.1", hostNetwork) + sep + service("web", "") + sep + tgb("one", "web", "one") + sep +
		"{kind: EndpointSlice, metadata: {name: x, labels: {kubernetes.io/service-name: web}}, ports: [{port: 8080}], endpoints: [{addresses: [10.1.0.1], conditions: {ready: READY}, targetRef: {kind: Pod, name: b}}]}"
	for ready, want := range map[string]string{"true": "one:8080?", "false": "one?"} {
		inIndexed(t, Config{}, strings.ReplaceAll(objects, "READY", ready), func(t *testing.T, w *world) {
			if got := strings.Join(w.candidates(w.Index.Pod("default", "a")), " "); got != want {
				t.Errorf("ready %s: candidates %q, want %q", ready, got, want)
			}
		})
	}
}

// A list without Ingresses leaves those of the list before it in force.
func TestIngressOfTheListBefore(t *testing.T) {
	const ingress = "{kind: Ingress, metadata: {name: web}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}"
	inIndexed(t, Config{}, service("web", "app: web"), func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: web"))
		p := w.Index.Pod("default", "a")
		defer w.Watch(p, make(chan struct{}, 1))()
		w.Kube.LagWatches("ingresses", time.Hour)
		w.do(ingress)
		for _, ingresses := range []bool{true, false} {
			if known, _, err := w.liveLists(time.Now(), ingresses, time.Second); !known {
				t.Fatal(err)
			}
			if s := w.Survey(p, []string{"web"}); len(s.MissingIngresses) > 0 || len(s.NoAddress) != 1 {
				t.Errorf("after a list, with Ingresses %t: missing %q, without an address %q", ingresses, s.MissingIngresses, s.NoAddress)
			}
			w.pass(time.Second)
		}
	})
}

// A controller may label a binding later: then it accounts for the Ingress.
func TestBindingIsLabelledLater(t *testing.T) {
	web := tgb("one", "web", "one")
	labelled := strings.ReplaceAll(web, "name: one}", "name: one, labels: {ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack-name: web}}")
	ingress := "{kind: Ingress, metadata: {name: web}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}, status: {loadBalancer: {ingress: [{hostname: web-1.elb.example}]}}}"
	inIndexed(t, Config{}, service("web", "app: web")+sep+web+sep+ingress, func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: web"))
		p := w.Index.Pod("default", "a")
		if got := strings.Join(w.hosts(p), " "); got != "web-1" {
			t.Errorf("before: host names %q", got)
		}
		w.do(labelled)
		if got := w.hosts(p); len(got) > 0 {
			t.Errorf("labelled: host names %q", got)
		}
	})
}

// A former binding elsewhere that ties the pod is not done with while a look shows the pod
// in rotation.
func TestFormerBindingElsewhere(t *testing.T) {
	const far = "{kind: TargetGroupBinding, metadata: {name: far, namespace: other}, spec: {targetGroupARN: 'arn:far', targetType: ip, serviceRef: {name: web, port: 80}}}"
	const named = "{kind: EndpointSlice, metadata: {name: x, namespace: other, labels: {kubernetes.io/service-name: web}}, endpoints: [{addresses: [10.0.0.1], targetRef: {kind: Pod, namespace: default, name: a}}]}"
	inIndexed(t, Config{}, far, func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: a"), named, "remove "+far)
		w.sweep("far", "10.0.0.1")
		w.pass(lookAgain + time.Second)
		if got := w.due(); got != "far-" {
			t.Errorf("due while the pod is in rotation: %q", got)
		}
		w.sweep("far", "10.0.0.1 draining")
		w.pass(lookAgain + time.Second)
		if got := w.due(); got != "" {
			t.Errorf("due when it is not: %q", got)
		}
	})
}

// A dual-stack pod is in rotation if one of its addresses is.
func TestFormerBindingOfADualStackPod(t *testing.T) {
	web := tgb("one", "web", "one")
	inIndexed(t, Config{}, service("web", "app: web")+sep+web, func(t *testing.T, w *world) {
		w.do(noStatus, "{kind: Pod, metadata: {name: a, labels: {app: web}}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}", "remove "+web)
		w.sweep("one", "10.0.0.1", "fd00::1 draining")
		w.pass(lookAgain + time.Second)
		if got := w.due(); got != "one-" {
			t.Errorf("due while an address is in rotation: %q", got)
		}
	})
}

// A look that says nothing new of a pod does not wake its waits.
func TestLookThatTellsNothingNew(t *testing.T) {
	inIndexed(t, Config{}, tgb("one", "web", "one"), func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: a"))
		wake := make(chan struct{}, 1)
		defer w.Watch(w.Index.Pod("default", "a"), wake)()
		for _, news := range []bool{true, false} {
			w.sweep("one", "10.0.0.1")
			if drain(wake) != news {
				t.Errorf("a look that is news: %t; woken: %t", news, !news)
			}
			w.pass(time.Second)
		}
	})
}

// The controller deregisters the pods of a binding or a Service that is being deleted,
// whatever the Service publishes.
func TestBeingDeletedKeepsNoPod(t *testing.T) {
	web := strings.ReplaceAll(service("web", "app: web"), "spec: {", "spec: {publishNotReadyAddresses: true, ")
	going := "finalizers: [x/y], deletionTimestamp: '2000-01-01T00:00:01Z'}"
	for name, tt := range map[string]struct{ service, binding, want string }{
		"both stay":        {web, tgb("one", "web", "one"), "one!"},
		"the Service goes": {strings.ReplaceAll(web, "name: web}", "name: web, "+going), tgb("one", "web", "one"), "one"},
		"the binding goes": {web, strings.ReplaceAll(tgb("one", "web", "one"), "name: one}", "name: one, "+going), "one"},
	} {
		inIndexed(t, Config{}, tt.service+sep+tt.binding, func(t *testing.T, w *world) {
			w.do(noStatus, pod("app: web"))
			if got := strings.Join(w.candidates(w.Index.Pod("default", "a")), " "); got != tt.want {
				t.Errorf("%s: candidates %q, want %q", name, got, tt.want)
			}
		})
	}
}

// An Ingress that is moved to another group moves to another load balancer.
func TestIngressMovesToAnotherGroup(t *testing.T) {
	const ingress = "{kind: Ingress, metadata: {name: web, annotations: {alb.ingress.kubernetes.io/group.name: one}}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}"
	inIndexed(t, Config{}, service("web", "app: web")+sep+ingress, func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: web"))
		wake := make(chan struct{}, 1)
		defer w.Watch(w.Index.Pod("default", "a"), wake)()
		w.do(strings.ReplaceAll(ingress, "group.name: one", "group.name: two"))
		if !drain(wake) {
			t.Error("not woken")
		}
	})
}

// Our own replicas may be in the one namespace that is read. Their watch, which works,
// does not stand for that of all slices, which does not.
func TestOwnReplicasInTheNamespace(t *testing.T) {
	inIndexed(t, Config{Namespaces: []string{"own"}, OwnService: "own/x", OnReplicas: func(int) {}}, "", func(t *testing.T, w *world) {
		w.Kube.Fail(func(r *http.Request) bool {
			q := r.URL.Query()
			return strings.HasSuffix(r.URL.Path, "/endpointslices") && q.Has("watch") && q.Get("labelSelector") == ""
		}, http.StatusForbidden)
		w.Kube.CutWatches("endpointslices")
		w.pass(maxAge + time.Minute)
		if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "endpointslices") {
			t.Errorf("ready: %v", err)
		}
	})
}

// The version is not served, and whether the group is there is not known: that does not
// say that there are no bindings.
func TestGroupThatIsNotKnown(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
		w.Kube.Fail(func(r *http.Request) bool { return r.URL.Path == "/apis/"+simkube.GroupELBv2 }, http.StatusGatewayTimeout)
		defer w.begin()()
		w.pass(time.Minute)
		if err := w.Ready(); err == nil || !strings.Contains(err.Error(), simkube.GroupELBv2) {
			t.Errorf("ready: %v", err)
		}
	})
}

// A neighbour in the host network that takes the port, or leaves it, is news to the pod.
func TestNeighbourWakes(t *testing.T) {
	inIndexed(t, Config{}, at("default/a", "10.1.0.1", hostNetwork)+at("default/b", "10.1.0.1", hostNetwork)+at("default/c", "10.0.0.1", ""), func(t *testing.T, w *world) {
		own, other := make(chan struct{}, 1), make(chan struct{}, 1)
		defer w.Watch(w.Index.Pod("default", "a"), own)()
		defer w.Watch(w.Index.Pod("default", "c"), other)()
		w.do(slice("web", "kind: Pod, name: b"))
		if !drain(own) || drain(other) {
			t.Error("the neighbour is not woken, or a pod with an address of its own is")
		}
	})
}

// What discovery says of the group that EKS shares with other kinds.
func TestKindsOfEKS(t *testing.T) {
	resources := func(version, name string) string {
		return `{"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": "eks.amazonaws.com/` + version + `", "resources": [{"name": "` + name + `", "kind": "X", "namespaced": true, "verbs": ["list"]}]}`
	}
	group := `{"kind": "APIGroup", "apiVersion": "v1", "name": "eks.amazonaws.com", "versions": [{"groupVersion": "eks.amazonaws.com/v2", "version": "v2"}]}`
	for _, tt := range []struct {
		name    string
		answers map[string]string
		ready   bool
	}{
		{"another kind of the version", map[string]string{"/v1": resources("v1", "nodediagnostics")}, true},
		{"another kind of a later version", map[string]string{"": group, "/v2": resources("v2", "nodediagnostics")}, true},
		{"bindings of a later version", map[string]string{"": group, "/v2": resources("v2", "targetgroupbindings")}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				sim := memnet.Transport(w.Kube.Handler())
				x, err := New(Config{Log: slog.New(slog.DiscardHandler), REST: &rest.Config{Host: "http://cluster", Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
					path, ok := strings.CutPrefix(r.URL.Path, "/apis/eks.amazonaws.com")
					if body := tt.answers[path]; ok && body != "" {
						return &http.Response{StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {"application/json"}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
					}
					return sim.RoundTrip(r)
				})}})
				if err != nil {
					t.Fatal(err)
				}
				w.Index = x
				defer w.begin()()
				w.pass(time.Minute)
				if err := w.Ready(); (err == nil) != tt.ready {
					t.Errorf("ready: %v", err)
				}
			})
		})
	}
}

// Each outage of the API server is a line in the log, and so is its end.
func TestOutagesAreLoggedOnce(t *testing.T) {
	var log bytes.Buffer
	inIndexed(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, "", func(t *testing.T, w *world) {
		for n := 1; n <= 2; n++ {
			w.do("refuse")
			w.pass(5 * time.Minute)
			w.do("recover")
			if lost, back := strings.Count(log.String(), "cannot reach the API server"), strings.Count(log.String(), "the API server answers again"); lost != n || back != n {
				t.Errorf("%d outages: told %d times that it is lost and %d times that it answers:\n%s", n, lost, back, &log)
			}
		}
	})
}
