package cluster

import (
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestOnReplicas(t *testing.T) {
	own := func(name, endpoints string) string {
		return "{kind: EndpointSlice, metadata: {name: " + name + ", namespace: own, labels: {kubernetes.io/service-name: drain-wait}}, endpoints: [" + endpoints + "]}"
	}
	const (
		a    = "{addresses: [10.0.0.1], targetRef: {kind: Pod, name: a}, conditions: {ready: true}}"
		a6   = `{addresses: ["fd00::1"], targetRef: {kind: Pod, name: a}, conditions: {ready: true}}`
		b    = "{addresses: [10.0.0.2], targetRef: {kind: Pod, name: b}, conditions: {ready: true}}"
		bOff = "{addresses: [10.0.0.2], targetRef: {kind: Pod, name: b}, conditions: {ready: false, serving: true, terminating: true}}"
		bare = "{addresses: [10.0.0.3]}"
	)
	var (
		mu    sync.Mutex
		heard []int
	)
	cfg := Config{
		Namespaces: []string{"default"}, // not our own
		OwnService: "own/drain-wait",
		OnReplicas: func(running int) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, running)
		},
	}
	inWorld(t, cfg, func(t *testing.T, w *world) {
		// Whoever may not read all namespaces can still read our own.
		w.Kube.Fail(func(r *http.Request) bool { return !strings.Contains(r.URL.Path, "/namespaces/") }, http.StatusForbidden)
		w.apply(own("v4", a))
		defer w.begin()()
		w.pass(time.Second)
		for _, tt := range []struct {
			step string
			want []int
		}{
			{"", []int{1}},
			{own("v4", a+","+b), []int{2}},
			{own("v6", a6), nil},
			{own("v4", b), nil},
			{own("v4", a+","+bOff), nil},
			{own("v4", a+","+b+","+bare), []int{3}},
			{"{kind: EndpointSlice, metadata: {name: other, namespace: own, labels: {kubernetes.io/service-name: other}}, endpoints: [" + b + "]}", nil},
			{"{kind: EndpointSlice, metadata: {name: other, namespace: default, labels: {kubernetes.io/service-name: drain-wait}}, endpoints: [" + bare + "]}", nil},
			{"remove " + own("v4", ""), []int{1}},
			{"refuse", nil},
			{"remove " + own("v6", ""), nil},
			{"recover", []int{0}},
		} {
			w.do(tt.step)
			mu.Lock()
			got := heard
			heard = nil
			mu.Unlock()
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Errorf("after %q, heard (-want +got):\n%s", tt.step, d)
			}
		}
	})
}
