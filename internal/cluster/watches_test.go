package cluster

import (
	"bytes"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	simkube "drainwait/internal/sim/kube"
)

// What package kube keeps watches apart by, jitter included.
const (
	longestPause = 15 * time.Second
	steadyAfter  = 5 * time.Second
)

func netipAddr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Bookmarks keep quiet watches young.
func TestQuietWatchesAreReady(t *testing.T) {
	inIndexed(t, Config{OwnService: "own/x", OnReplicas: func(int) {}}, "", func(t *testing.T, w *world) {
		for range 60 {
			w.pass(time.Minute)
			if err := w.Ready(); err != nil || w.kube.WatchAge() > 2*time.Minute {
				t.Fatalf("not ready: %v; age %s", err, w.kube.WatchAge())
			}
		}
		if w.kube.WatchAge() == 0 {
			t.Error("no age at all")
		}
	})
}

// A watch that is not standing any more, or that is silent, makes the index not
// ready after a while.
func TestOldWatchesAreNotReady(t *testing.T) {
	cut := func(path string) func(w *world, resource string) {
		return func(w *world, resource string) {
			w.Kube.Fail(func(r *http.Request) bool {
				return strings.HasSuffix(r.URL.Path, path) && r.URL.Query().Has("watch")
			}, http.StatusForbidden)
			w.Kube.CutWatches(resource)
		}
	}
	for _, tt := range []struct {
		resource string
		trouble  func(w *world, resource string)
		ready    bool
	}{
		{"pods", cut("/pods"), false},
		{"services", cut("/services"), false},
		{"endpointslices", cut("/api/v1/endpointslices"), true},
		{"endpointslices", cut("discovery.k8s.io/v1/endpointslices"), false},
		{"ingresses", cut("/ingresses"), false},
		{"targetgroupbindings", cut("/targetgroupbindings"), false},
		{"endpointslices", cut("/namespaces/own/endpointslices"), true},
		{"pods", func(w *world, _ string) { w.do("refuse") }, false},
	} {
		t.Run(tt.resource, func(t *testing.T) {
			inIndexed(t, Config{OwnService: "own/x", OnReplicas: func(int) {}}, "", func(t *testing.T, w *world) {
				tt.trouble(w, tt.resource)
				w.pass(maxAge - 10*time.Second)
				if err := w.Ready(); err != nil {
					t.Errorf("not ready before %s: %v", maxAge, err)
				}
				w.pass(20 * time.Second)
				err := w.Ready()
				if (err == nil) != tt.ready || (w.kube.WatchAge() > maxAge) == tt.ready {
					t.Errorf("after %s: ready %v, age %s", maxAge, err, w.kube.WatchAge())
				}
				if err != nil && !w.down.Load() && !strings.Contains(err.Error(), tt.resource) {
					t.Errorf("%q does not name %s", err, tt.resource)
				}
				if !w.Synced() {
					t.Error("not read any more")
				}
				w.do("recover")
				if err := w.Ready(); err != nil {
					t.Errorf("when it is over, not ready: %v", err)
				}
			})
		})
	}
}

// Discovery of a group that is not served has an age, too: bindings can have come
// in the meantime.
func TestOldDiscoveryIsNotReady(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		w.pass(10 * time.Minute)
		if err := w.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		w.Kube.Fail(func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/apis/eks.amazonaws.com") }, http.StatusForbidden)
		w.pass(maxAge + time.Minute)
		if err := w.Ready(); err == nil || !strings.Contains(err.Error(), "eks.amazonaws.com") {
			t.Errorf("ready: %v", err)
		}
		w.Kube.Fail(nil, 0)
		w.pass(time.Minute)
		if err := w.Ready(); err != nil {
			t.Errorf("when it is over, not ready: %v", err)
		}
	})
}

func TestVersionNoLongerServed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		group string
		gone  func(w *world)
		ready bool
		log   string
	}{
		{"the version", simkube.GroupELBv2, func(w *world) { w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false) }, false, "no longer serves the version"},
		{"the version, another is there", simkube.GroupELBv2, func(w *world) {
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1", true)
		}, false, "no longer serves the version"},
		{"the group", simkube.GroupELBv2, func(w *world) { w.Kube.ServeGroup(simkube.GroupELBv2, false) }, true, "no longer serves TargetGroupBindings of this API group"},
	} {
		for _, late := range []bool{true, false} {
			t.Run(tt.name, func(t *testing.T) {
				var log bytes.Buffer
				inWorld(t, Config{Log: slog.New(slog.NewTextHandler(&log, nil))}, func(t *testing.T, w *world) {
					if !late {
						tt.gone(w)
					}
					defer w.begin()()
					w.pass(time.Second)
					if late {
						tt.gone(w)
					}
					w.pass(5 * time.Minute)
					err := w.Ready()
					if (err == nil) != tt.ready || err != nil && !strings.Contains(err.Error(), "v1beta1") {
						t.Errorf("ready: %v", err)
					}
					if n := strings.Count(log.String(), tt.log); late && n != 1 || n > 1 {
						t.Errorf("told %d times:\n%s", n, &log)
					}
					w.Kube.ServeGroup(simkube.GroupELBv2, true)
					w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", true)
					w.pass(time.Minute)
					if err := w.Ready(); err != nil {
						t.Errorf("when it is back, not ready: %v", err)
					}
				})
			})
		}
	}
}

// Without Auto Mode, the group of EKS can be there with other kinds.
func TestGroupOfEKSWithoutBindings(t *testing.T) {
	inWorld(t, Config{}, func(t *testing.T, w *world) {
		w.Kube.ServeGroup(simkube.GroupEKS, true)
		w.Kube.ServeVersion(simkube.GroupEKS, "v1", false)
		w.Kube.ServeVersion(simkube.GroupEKS, "v1alpha1", true)
		defer w.begin()()
		w.pass(time.Second)
		if err := w.Ready(); err != nil {
			t.Errorf("not ready: %v", err)
		}
		if known, _, err := w.liveLists(time.Now(), false, time.Second); !known {
			t.Errorf("lists are not known: %v", err)
		}
		// But once its bindings were seen, they do not vanish like that.
		w.Kube.ServeVersion(simkube.GroupEKS, "v1", true)
		w.pass(time.Minute)
		w.Kube.ServeVersion(simkube.GroupEKS, "v1", false)
		w.pass(time.Minute)
		if err := w.Ready(); err == nil {
			t.Error("ready although the version has gone")
		}
	})
}

// Watches that end with 410 Gone for ever begin anew less and less often, and make the
// index not ready. As soon as that is over, all is well. client-go alone would begin anew
// at once, hundreds of times a second.
func TestWatchesThatExpireForEver(t *testing.T) {
	reads := func(w *world) (n int) {
		for what, times := range w.Kube.Requests() {
			if strings.HasPrefix(what, "watch ") || strings.HasPrefix(what, "list ") {
				n += times
			}
		}
		return n
	}
	for name, begin := range map[string]func(*world){
		"as an event": func(w *world) { w.Kube.AlwaysExpire(true) },
		"as an answer": func(w *world) {
			w.Kube.Fail(func(r *http.Request) bool { return r.URL.Query().Has("watch") }, http.StatusGone)
			w.Kube.CutWatches()
		},
	} {
		t.Run(name, func(t *testing.T) {
			inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
				before := reads(w)
				begin(w)
				w.pass(time.Minute)
				// Five kinds, each after 0.1, 0.2, 0.4 ... 6.4, 10 and 10 s, and half as much
				// again at most.
				if n := reads(w) - before; n < 5*8 || n > 5*14 {
					t.Errorf("%d watches and lists in the first minute", n)
				}
				w.pass(maxAge)
				if err := w.Ready(); err == nil {
					t.Error("it is ready, although no watch stands")
				}
				w.Kube.AlwaysExpire(false)
				w.Kube.Fail(nil, 0)
				w.pass(longestPause + steadyAfter)
				if err := w.Ready(); err != nil {
					t.Errorf("when it is over, not ready: %v", err)
				}
				w.pass(3 * time.Minute) // so that client-go, too, begins anew soon
				for _, when := range []string{"after a good time", "four seconds later"} {
					before = reads(w)
					w.Kube.ExpireWatches()
					w.pass(4 * time.Second)
					if n := reads(w) - before; n != 5 {
						t.Errorf("%d watches and lists %s, want one each", n, when)
					}
				}
			})
		})
	}
}
