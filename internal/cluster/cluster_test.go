package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"drainwait/internal/sim"
	simkube "drainwait/internal/sim/kube"
	"drainwait/internal/sim/memnet"
)

func TestMain(m *testing.M) {
	// The second of client-go's error handlers slows down a process that has
	// many errors, by a clock that was read outside of any bubble: it would
	// sleep for the years between that clock and the bubble's.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // the API server's troubles are on purpose
	os.Exit(m.Run())
}

// What package kube waits for.
const (
	absentRetry = 30 * time.Second
	maxAge      = 3 * time.Minute
)

// world is a simulated cluster in a bubble and an index of it.
type world struct {
	*sim.World
	*Index
	t    *testing.T
	down *atomic.Bool // connections to the API server are refused
}

// inWorld runs f in a bubble, beside a new world whose index has not begun. The
// goroutine of f is the one that may call Run and touch the world. At the end,
// the bubble fails where a goroutine is left.
func inWorld(t *testing.T, cfg Config, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions(), Quiesce: synctest.Wait})
		defer w.Close()
		down, api := new(atomic.Bool), memnet.Transport(w.Kube.Handler())
		cfg.REST = &rest.Config{Host: "http://cluster", Transport: transportFunc(func(r *http.Request) (*http.Response, error) {
			if down.Load() {
				return nil, syscall.ECONNREFUSED
			}
			return api.RoundTrip(r)
		})}
		cfg.Log = cmp.Or(cfg.Log, slog.New(slog.DiscardHandler))
		if cfg.OnCheckpoint == nil {
			cfg.OnCheckpoint = func(_, _ string, _ bool) {}
		}
		x, err := New(cfg)
		if err != nil {
			t.Fatal(err)
		}
		f(t, &world{w, x, t, down})
	})
}

type transportFunc func(*http.Request) (*http.Response, error)

func (f transportFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// inIndexed is inWorld with an index that has begun; before, objects, if any,
// are there already.
func inIndexed(t *testing.T, cfg Config, objects string, f func(t *testing.T, w *world)) {
	t.Helper()
	inWorld(t, cfg, func(t *testing.T, w *world) {
		w.apply(objects)
		defer w.begin()()
		w.pass(time.Second)
		if err := w.Ready(); err != nil {
			t.Fatalf("index is not ready after a second: %v", err)
		}
		f(t, w)
	})
}

// begin runs the index until stop, which fails the test where it does not end.
func (w *world) begin() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Index.Run(ctx)
	}()
	return func() {
		cancel()
		select {
		case <-done:
		case <-time.After(time.Minute): // a back-off of client-go that knows no context
			w.t.Error("the index goes on after the end of its context")
			<-done
		}
	}
}

// pass lets d go by.
func (w *world) pass(d time.Duration) { w.World.Run(w.t.Context(), w.Now()+d) }

// await runs f, which waits for answers of the world, and the world with it.
func (w *world) await(f func()) {
	w.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	w.pass(time.Second)
	select {
	case <-done:
	default:
		w.t.Fatal("no answer within a second")
	}
}

// do carries out steps, a second each: YAML to apply; "remove" and YAML; or
// trouble with the API server and its end.
func (w *world) do(steps ...string) {
	w.t.Helper()
	for _, s := range steps {
		switch s {
		case "cut": // watches end, and go on where they were
			w.Kube.CutWatches()
		case "expire": // watches cannot go on where they were
			w.Kube.ExpireWatches()
			w.pass(time.Minute)
		case "refuse": // the API server cannot be reached
			w.down.Store(true)
			w.Kube.CutWatches()
		case "fail": // it answers 503, and client-go lists again when that is over
			w.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
			w.Kube.CutWatches()
		case "recover":
			w.down.Store(false)
			w.Kube.Fail(nil, 0)
			w.pass(2 * time.Minute) // client-go tries again after a minute at the latest
		default:
			if text, ok := strings.CutPrefix(s, "remove "); ok {
				w.remove(text)
			} else {
				w.apply(s)
			}
		}
		w.pass(time.Second)
	}
}

// apply creates or updates the objects in a text of YAML documents. The
// namespace is "default" where none is given.
func (w *world) apply(text string) {
	w.t.Helper()
	for _, obj := range parse(w.t, text) {
		w.Kube.Apply(obj)
	}
}

// remove removes the objects in a text like that of apply.
func (w *world) remove(text string) {
	w.t.Helper()
	for _, obj := range parse(w.t, text) {
		w.Kube.Remove(obj)
	}
}

// sep stands between two objects.
const sep = "\n---\n"

func parse(t *testing.T, text string) []metav1.Object {
	t.Helper()
	var objs []metav1.Object
	for d := yaml.NewYAMLOrJSONDecoder(strings.NewReader(text), 4096); ; {
		var raw json.RawMessage
		if err := d.Decode(&raw); errors.Is(err, io.EOF) {
			return objs
		} else if err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		var kind metav1.TypeMeta
		_ = json.Unmarshal(raw, &kind) // the same fails below
		var obj metav1.Object
		switch kind.Kind {
		case "":
			continue
		case "Pod":
			obj = new(corev1.Pod)
		case "Node":
			obj = new(corev1.Node)
		case "Service":
			obj = new(corev1.Service)
		case "EndpointSlice":
			obj = new(discoveryv1.EndpointSlice)
		case "Ingress":
			obj = new(networkingv1.Ingress)
		case "TargetGroupBinding":
			obj = new(simkube.TargetGroupBinding)
		default:
			t.Fatalf("unknown kind %q in:\n%s", kind.Kind, text)
		}
		strict := json.NewDecoder(strings.NewReader(string(raw)))
		strict.DisallowUnknownFields()
		if err := strict.Decode(obj); err != nil {
			t.Fatalf("%v in:\n%s", err, text)
		}
		if obj.GetNamespace() == "" && kind.Kind != "Node" {
			obj.SetNamespace("default")
		}
		objs = append(objs, obj)
	}
}

func TestNewLeavesCallersConfigAlone(t *testing.T) {
	config := &rest.Config{Host: "http://cluster"}
	if _, err := New(Config{REST: config}); err != nil {
		t.Fatal(err)
	}
	if config.QPS != 0 || config.WrapTransport != nil {
		t.Errorf("config is now %+v", config)
	}
}

func TestRunEndsAtAnyTime(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before func(w *world)
	}{
		{"before the first answer", func(*world) {}},
		{"amid the first lists", func(w *world) { w.pass(5 * time.Millisecond) }},
		{"when ready", func(w *world) { w.pass(time.Second) }},
		{"API server away from the start", func(w *world) { w.do("fail"); w.pass(10 * time.Second) }},
		{"API server refuses", func(w *world) { w.pass(time.Second); w.do("refuse"); w.pass(10 * time.Second) }},
		{"API server away later", func(w *world) { w.pass(time.Second); w.do("fail"); w.pass(10 * time.Second) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own := Config{OwnService: "default/own", OnReplicas: func(int) {}}
			inWorld(t, own, func(_ *testing.T, w *world) {
				stop := w.begin()
				tt.before(w)
				stop()
			})
		})
	}
}

func TestReady(t *testing.T) {
	forbid := func(part string) func(*http.Request) bool {
		return func(r *http.Request) bool { return strings.Contains(r.URL.Path, part) }
	}
	for _, tt := range []struct {
		name   string
		match  func(*http.Request) bool
		status int
		want   bool
		names  string // what the error names
	}{
		{"nothing is served of EKS", nil, 0, true, ""},
		{"all is refused", forbid(""), http.StatusForbidden, false, ""},
		{"API server away", forbid(""), http.StatusServiceUnavailable, false, ""},
		{"pods refused", forbid("/pods"), http.StatusForbidden, false, "pods"},
		{"Services refused", forbid("/services"), http.StatusForbidden, false, "services"},
		{"EndpointSlices refused", forbid("/endpointslices"), http.StatusForbidden, false, "endpointslices"},
		{"Ingresses refused", forbid("/ingresses"), http.StatusForbidden, false, "ingresses"},
		{"discovery of a group refused", forbid("/apis/eks.amazonaws.com/v1"), http.StatusForbidden, false, "eks.amazonaws.com"},
		{"discovery of a group times out", forbid("/apis/elbv2.k8s.aws/v1beta1"), http.StatusGatewayTimeout, false, "elbv2.k8s.aws"},
		{"bindings refused", forbid("/targetgroupbindings"), http.StatusForbidden, false, "targetgroupbindings"},
		{"nodes refused", forbid("/nodes"), http.StatusForbidden, true, ""},
		{"replicas refused", forbid("/namespaces/own/"), http.StatusForbidden, true, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			own := Config{OwnService: "own/drain-wait", OnReplicas: func(int) {}}
			inWorld(t, own, func(t *testing.T, w *world) {
				w.Kube.Fail(tt.match, tt.status)
				defer w.begin()()
				w.pass(time.Minute)
				err := w.Ready()
				if got := err == nil; got != tt.want || got != w.Synced() {
					t.Errorf("after a minute: ready %v and synced %t, want %t", err, w.Synced(), tt.want)
				}
				if err != nil && !strings.Contains(err.Error(), tt.names) {
					t.Errorf("%q does not name %s", err, tt.names)
				}
				w.Kube.Fail(nil, 0)
				w.pass(2 * time.Minute)
				if err := w.Ready(); err != nil || !w.Synced() {
					t.Errorf("not ready when the trouble is over: %v", err)
				}
			})
		})
	}
}

// An API server that knows no WatchList: client-go would let 5 lists a second
// through by default. It does not count watches.
func TestListsAreNotSlowedDown(t *testing.T) {
	cfg := Config{Namespaces: strings.Fields("a b c d e f g h i j")}
	inWorld(t, cfg, func(t *testing.T, w *world) {
		w.Kube.Fail(func(r *http.Request) bool { return r.URL.Query().Has("sendInitialEvents") }, http.StatusUnprocessableEntity)
		defer w.begin()()
		w.pass(time.Second)
		if err := w.Ready(); err != nil {
			t.Errorf("not ready after a second: %v", err)
		}
	})
}

func TestNamespaces(t *testing.T) {
	const objects = `
kind: Pod
metadata: {name: a, namespace: one}
status: {podIP: 10.0.0.1}
---
kind: Pod
metadata: {name: b, namespace: two}
status: {podIP: 10.0.0.2}
---
kind: TargetGroupBinding
metadata: {name: web, namespace: one}
---
kind: TargetGroupBinding
metadata: {name: web, namespace: two}
`
	for _, tt := range []struct {
		name       string
		namespaces []string
		one, two   bool
	}{
		{"all", nil, true, true},
		{"one", []string{"one"}, true, false},
		{"one named twice", []string{"one", "one"}, true, false},
		{"both", []string{"two", "one"}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{Namespaces: tt.namespaces}, objects, func(t *testing.T, w *world) {
				for ns, want := range map[string]bool{"one": tt.one, "two": tt.two} {
					name := map[string]string{"one": "a", "two": "b"}[ns]
					if got := w.Pod(ns, name) != nil; got != want {
						t.Errorf("pod of namespace %s found: %t, want %t", ns, got, want)
					}
					if got := len(w.bindingsOf(ns)); got != map[bool]int{true: 1}[want] {
						t.Errorf("%d bindings in namespace %s, should be read: %t", got, ns, want)
					}
				}
			})
		})
	}
}
