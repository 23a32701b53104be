package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/sim"
)

func TestNotTerminating(t *testing.T) {
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
				w.Kube.Fail(func(r *http.Request) bool { return r.URL.Query().Has("watch") || strings.HasSuffix(r.URL.Path, "s") }, http.StatusServiceUnavailable)
				w.Kube.CutWatches()
				for _, s := range tt.step {
					w.do(s)
				}
				var (
					got bool
					err error
				)
				w.await(func() { got, err = w.NotTerminating(t.Context(), netip.Addr{}, p) })
				if got != tt.want || err != nil {
					t.Errorf("not terminating: %t, error %v; want %t and none", got, err, tt.want)
				}
				if cached := w.Index.Pod("default", "a"); cached == nil || cached.raw != p.raw {
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
				w.Kube.Fail(func(r *http.Request) bool { return strings.Contains(r.URL.Path, tt.path) }, tt.status)
				var (
					got bool
					err error
				)
				w.await(func() { got, err = w.NotTerminating(t.Context(), netip.Addr{}, p) })
				if got || err == nil {
					t.Fatalf("not terminating: %t, error %v; want false and one", got, err)
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
			w.await(func() { _, err = w.NotTerminating(ctx, netip.Addr{}, w.Index.Pod("default", "a")) })
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Errorf("error %v, want %v", err, context.DeadlineExceeded)
			}
		})
	})
}

// A deletion is never taken back, and it only comes nearer.
func TestDeletionIsRemembered(t *testing.T) {
	deleted := func(at string, grace int) string {
		return fmt.Sprintf("{kind: Pod, metadata: {name: a, deletionTimestamp: '2000-01-01T00:%sZ', deletionGracePeriodSeconds: %d, finalizers: [x/y]}, spec: {terminationGracePeriodSeconds: 300}, status: {phase: Running, podIP: 10.0.0.1}}", at, grace)
	}
	const alive = "{kind: Pod, metadata: {name: a}, spec: {terminationGracePeriodSeconds: 300}, status: {phase: Running, podIP: 10.0.0.1}}"
	clock := func(minute, second int) time.Time { return time.Date(2000, 1, 1, 0, minute, second, 0, time.UTC) }
	for _, tt := range []struct {
		name  string
		steps []string
		kill  time.Time
		grace time.Duration
		seen  int // the step that shows the deletion first; -1 for none
	}{
		{"alive", []string{alive}, time.Time{}, 300 * time.Second, -1},
		{"deleted", []string{alive, deleted("05:00", 60)}, clock(5, 0), 60 * time.Second, 1},
		{"shown as alive again", []string{deleted("05:00", 60), alive}, clock(5, 0), 60 * time.Second, 0},
		{"shortened", []string{deleted("05:00", 60), deleted("04:10", 10)}, clock(4, 10), 10 * time.Second, 0},
		{"an older state later", []string{deleted("04:10", 10), deleted("05:00", 60)}, clock(4, 10), 10 * time.Second, 0},
		{"sooner, and a longer grace", []string{deleted("05:00", 20), deleted("04:10", 60)}, clock(4, 10), 20 * time.Second, 0},
		{"later, and a shorter grace", []string{deleted("05:00", 60), deleted("05:10", 20)}, clock(5, 0), 20 * time.Second, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, alive, func(t *testing.T, w *world) {
				uid := w.Index.Pod("default", "a").UID
				var began time.Time
				for i, s := range tt.steps {
					if i == tt.seen {
						began = time.Now()
					}
					obj := parse(t, s)[0].(*corev1.Pod)
					obj.UID = uid
					trimmed, _ := trimPod(obj)
					w.podChanged(nil, trimmed.(*corev1.Pod))
					w.pass(time.Second)
				}
				p := w.Index.Pod("default", "a")
				if !p.KillAt.Equal(tt.kill) || p.Grace != tt.grace || !p.DeletionSeen.Equal(began) {
					t.Errorf("kill %s, grace %s, seen %s; want %s, %s, %s", p.KillAt, p.Grace, p.DeletionSeen, tt.kill, tt.grace, began)
				}
			})
		})
	}
}

// A watch that is behind shows a pod alive after a live read has shown its
// deletion.
func TestStaleEventsDoNotUndelete(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		_ = w.AddPod(sim.PodSpec{Namespace: "default", Name: "a", Port: 80, Grace: 60 * time.Second, Hook: sim.Hook{Hold: true}})
		w.pass(20 * time.Second)
		w.Kube.LagWatches("pods", 20*time.Second)
		w.Kube.SetLabels("default", "a", map[string]string{"x": "y"})
		w.pass(10 * time.Second)
		kill := time.Now().Add(60 * time.Second)
		if err := w.DeletePod("default", "a"); err != nil {
			t.Fatal(err)
		}
		before := w.Index.Pod("default", "a")
		live, err := w.identify(PodRef{Namespace: "default", Pod: "a"})
		if err != nil || !before.KillAt.IsZero() {
			t.Fatalf("error %v; killed at %s", err, before.KillAt)
		}
		w.pass(12 * time.Second) // the event of the label has come
		for name, p := range map[string]*Pod{"cache": w.Index.Pod("default", "a"), "refreshed": w.Refresh(before), "live": w.Refresh(live)} {
			if d := kill.Sub(p.KillAt).Abs(); d > time.Second || !p.DeletionSeen.Equal(live.DeletionSeen) {
				t.Errorf("%s: killed at %s, want %s; seen at %s, want %s", name, p.KillAt, kill, p.DeletionSeen, live.DeletionSeen)
			}
		}
	})
}

// What NotTerminating reads is remembered, too.
func TestNotTerminatingSeesADeletion(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		_ = w.AddPod(sim.PodSpec{Namespace: "default", Name: "a", Port: 80, Grace: 60 * time.Second, Hook: sim.Hook{Hold: true}})
		w.pass(20 * time.Second)
		w.Kube.LagWatches("pods", time.Hour)
		if err := w.DeletePod("default", "a"); err != nil {
			t.Fatal(err)
		}
		p := w.Index.Pod("default", "a")
		w.await(func() { _, _ = w.NotTerminating(t.Context(), netip.Addr{}, p) })
		if w.Refresh(p).KillAt.IsZero() {
			t.Error("the deletion is not known")
		}
	})
}
