package cluster

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	simkube "drainwait/internal/sim/kube"
)

func TestWatch(t *testing.T) {
	const ingress = `
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}`
	const checkpoint = "{kind: TargetGroupBinding, metadata: {name: tgb-web, annotations: {elbv2.k8s.aws/checkpoint: x}}, spec: {targetGroupARN: 'arn:web', targetType: ip, serviceRef: {name: web, port: 80}}}"
	objects := bindings + sep + service("web", "app: web") + sep + ingress + sep + slice("web", "kind: Pod, name: b") + sep + pod("app: web") + sep + `
kind: Pod
metadata: {name: b}
---
kind: Pod
metadata: {name: a, namespace: other}`
	for _, tt := range []struct {
		name           string
		step           string
		pod, namespace bool // who is woken: who watches the pod, who watches its namespace
	}{
		{"the pod changes", pod("app: idle"), true, false},
		{"the pod is deleted", "remove " + pod(""), true, false},
		{"its deletion begins", strings.ReplaceAll(pod("app: web"), "name: a,", `name: a, deletionTimestamp: "2000-01-01T00:01:00Z",`), true, false},
		{"another pod changes", "{kind: Pod, metadata: {name: b, labels: {app: web}}}", false, false},
		{"a pod of its name in another namespace changes", "{kind: Pod, metadata: {name: a, namespace: other, labels: {app: web}}}", false, false},
		{"an EndpointSlice comes to name it", slice("blue", "kind: Pod, name: a"), true, false},
		{"an EndpointSlice of a Service that selects it comes to name it", slice("web", "kind: Pod, name: a"), false, false},
		{"a Service elsewhere comes to name it", strings.ReplaceAll(slice("far", "kind: Pod, namespace: default, name: a"), "name: slice", "namespace: other, name: slice"), true, false},
		{"an EndpointSlice comes to name another", slice("web", "kind: Pod, name: c"), false, false},
		{"a binding appears", "{kind: TargetGroupBinding, metadata: {name: tgb-new}}", true, true},
		{"a binding changes", strings.ReplaceAll(bindings, "arn:blue", "arn:green"), true, true},
		{"a binding is deleted", "remove {kind: TargetGroupBinding, metadata: {name: tgb-web}}", true, true},
		{"a checkpoint is written", checkpoint, false, false},
		{"a binding of another namespace appears", "{kind: TargetGroupBinding, metadata: {name: tgb-new, namespace: other}}", false, false},
		{"a Service appears", service("new", "app: new"), true, true},
		{"a Service selects otherwise", service("web", "app: idle"), true, true},
		{"a Service gets an address", service("web", "app: web") + "status: {loadBalancer: {ingress: [{hostname: x}]}}", true, true},
		{"a Service comes to publish not-ready addresses", strings.ReplaceAll(service("web", "app: web"), "spec: {", "spec: {publishNotReadyAddresses: true, "), true, true},
		{"a Service gets a label", strings.ReplaceAll(service("web", "app: web"), "name: web", "name: web, labels: {x: z}"), false, false},
		{"a Service is deleted", "remove " + service("web", ""), true, true},
		{"an Ingress appears", strings.ReplaceAll(ingress, "name: web", "name: new"), true, true},
		{"an Ingress sends elsewhere", strings.ReplaceAll(ingress, "service: {name: web", "service: {name: new"), true, true},
		{"an Ingress gets an address", ingress + "\nstatus: {loadBalancer: {ingress: [{hostname: x}]}}", true, true},
		{"an Ingress gets an annotation", strings.ReplaceAll(ingress, "metadata: {", "metadata: {annotations: {x: z}, "), false, false},
		{"an Ingress is deleted", "remove " + ingress, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
				p := w.Index.Pod("default", "a")
				podWake, namespaceWake, stopped := make(chan struct{}, 1), make(chan struct{}, 1), make(chan struct{}, 1)
				stop1, stop2 := w.Watch(p, podWake), w.Watch(w.Address("default", netip.MustParseAddr("10.9.9.9")), namespaceWake)
				w.Watch(p, stopped)()
				w.Watch(w.Address("default", netip.MustParseAddr("10.9.9.9")), stopped)()
				w.do(tt.step)
				if got := len(podWake) == 1; got != tt.pod {
					t.Errorf("who watches the pod was woken: %t, want %t", got, tt.pod)
				}
				if got := len(namespaceWake) == 1; got != tt.namespace {
					t.Errorf("who watches the namespace was woken: %t, want %t", got, tt.namespace)
				}
				if len(stopped) > 0 {
					t.Error("who has stopped was woken")
				}
				stop1()
				stop2()
				if len(w.watchers) > 0 {
					t.Errorf("%d watchers are left", len(w.watchers))
				}
			})
		})
	}
}

// Two waits of one pod, and one that does not take its token.
func TestWatchDoesNotBlock(t *testing.T) {
	inIndexed(t, Config{}, pod("app: a"), func(t *testing.T, w *world) {
		p := w.Index.Pod("default", "a")
		lazy, quick := make(chan struct{}, 1), make(chan struct{}, 1)
		defer w.Watch(p, lazy)()
		defer w.Watch(p, quick)()
		for _, label := range []string{"app: b", "app: c", "app: d"} {
			w.do(pod(label))
			select {
			case <-quick:
			default:
				t.Fatalf("not woken by the change to %s", label)
			}
		}
		if len(lazy) != 1 {
			t.Errorf("%d tokens for who did not take any, want 1", len(lazy))
		}
	})
}

// A group of bindings that goes wakes as its bindings would.
func TestWatchGroupGone(t *testing.T) {
	inIndexed(t, Config{}, bindings, func(t *testing.T, w *world) {
		wake := make(chan struct{}, 1)
		defer w.Watch(w.Address("default", netip.MustParseAddr("10.9.9.9")), wake)()
		w.Kube.ServeGroup(simkube.GroupELBv2, false)
		w.pass(time.Minute)
		if len(wake) != 1 {
			t.Error("not woken")
		}
	})
}
