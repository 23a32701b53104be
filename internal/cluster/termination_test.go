package cluster

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"
)

func TestStays(t *testing.T) {
	const ready = `
kind: Pod
metadata: {name: a}
spec: {nodeName: node-x}
status: {podIP: 10.0.0.1, conditions: [{type: Ready, status: "True"}]}`
	const node = `
kind: Node
metadata: {name: node-x}
status: {conditions: [{type: MemoryPressure, status: "False"}, {type: Ready, status: "True"}]}`
	unready := strings.ReplaceAll(ready, `status: "True"`, `status: "False"`)
	deleted := strings.ReplaceAll(ready, "name: a}", `name: a, deletionTimestamp: "2000-01-01T00:01:00Z"}`)
	for _, tt := range []struct {
		name string
		step []string
		want bool
	}{
		{"ready on a ready node", nil, true},
		{"being deleted", []string{deleted}, false},
		{"gone", []string{"remove " + ready}, false},
		{"another one of its name", []string{"remove " + ready, ready}, false},
		{"not ready", []string{unready}, false},
		{"no condition", []string{"{kind: Pod, metadata: {name: a}, spec: {nodeName: node-x}}"}, false},
		{"node not ready", []string{strings.ReplaceAll(node, `"True"`, `"False"`)}, false},
		{"node unknown", []string{strings.ReplaceAll(node, `"True"`, `"Unknown"`)}, false},
		{"node without conditions", []string{"{kind: Node, metadata: {name: node-x}}"}, false},
		{"node gone", []string{"remove " + node}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, ready+sep+node, func(t *testing.T, w *world) {
				p := w.Index.Pod("default", "a")
				// The caches hear of nothing more, so what is said comes from elsewhere.
				w.FailKube(func(r *http.Request) bool { return r.URL.Query().Has("watch") || strings.HasSuffix(r.URL.Path, "s") }, http.StatusServiceUnavailable)
				w.CutWatches()
				for _, s := range tt.step {
					w.do(s)
				}
				var (
					got bool
					err error
				)
				w.ask(func() { got, err = w.Stays(t.Context(), p) })
				if got != tt.want || err != nil {
					t.Errorf("staying %t and error %v, want %t and none", got, err, tt.want)
				}
				if cached := w.Index.Pod("default", "a"); cached == nil || cached.UID != p.UID || !cached.Ready {
					t.Errorf("the cache has heard of it: %+v", cached)
				}
			})
		})
	}
	for _, tt := range []struct {
		name, path string
		status     int
		want       []string
	}{
		{"pods refused", "/pods/a", http.StatusForbidden, []string{"pod default/a"}},
		{"nodes refused", "/nodes/", http.StatusForbidden, []string{"node node-x", "pod default/a"}},
		{"API server in trouble", "/", http.StatusInternalServerError, []string{"pod default/a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, ready+sep+node, func(t *testing.T, w *world) {
				p := w.Index.Pod("default", "a")
				w.FailKube(func(r *http.Request) bool { return strings.Contains(r.URL.Path, tt.path) }, tt.status)
				var (
					got bool
					err error
				)
				w.ask(func() { got, err = w.Stays(t.Context(), p) })
				if got || err == nil {
					t.Fatalf("staying %t and error %v, want false and one", got, err)
				}
				for _, part := range tt.want {
					if !strings.Contains(err.Error(), part) {
						t.Errorf("error %q does not name the %s", err, part)
					}
				}
			})
		})
	}
	t.Run("the caller gives up", func(t *testing.T) {
		inIndexed(t, Config{}, ready+sep+node, func(t *testing.T, w *world) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
			defer cancel()
			var err error
			w.ask(func() { _, err = w.Stays(ctx, w.Index.Pod("default", "a")) })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
			}
		})
	})
}
