package kube_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"

	"drainwait/internal/sim"
	"drainwait/internal/sim/kube"
)

// TestLaggingWatches: an informer is behind while lists are not. In the end it gets
// everything in order.
func TestLaggingWatches(t *testing.T) {
	for _, resource := range []string{"pods", ""} {
		t.Run("of "+resource, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c cluster) {
				a := newPod("a", nil)
				c.Kube.Apply(a)
				_, log := c.podInformer()
				c.Kube.LagWatches(resource, 30*time.Second)
				a.Labels = map[string]string{"v": "2"}
				c.Kube.Apply(a)
				c.Kube.Apply(newPod("b", nil))
				c.run(25 * time.Second)
				if d := cmp.Diff([]string{"add shop/a"}, log()); d != "" {
					t.Errorf("before the lag is over (-want +got):\n%s", d)
				}
				for version, want := range map[string]int{"": 2, "0": 1, "1000": 2} {
					c.try(func(ctx context.Context) error {
						l, err := c.clientset().CoreV1().Pods("shop").List(ctx, metav1.ListOptions{ResourceVersion: version})
						if err == nil && len(l.Items) != want {
							t.Errorf("a list from %q has %d pods, want %d", version, len(l.Items), want)
						}
						return err
					})
				}
				c.run(5 * time.Second)
				c.Kube.Remove(a)
				c.run(time.Second)
				before := len(log())
				c.Kube.LagWatches(resource, 0)
				c.run(0)
				if got := len(log()); before != 3 || got != 4 {
					t.Errorf("%d events before the lag ends and %d at its end", before, got)
				}
				c.Kube.Apply(newPod("c", nil))
				c.run(time.Second)
				want := []string{"add shop/a", "update shop/a", "add shop/b", "delete shop/a", "add shop/c"}
				if d := cmp.Diff(want, log()); d != "" {
					t.Errorf("in the end (-want +got):\n%s", d)
				}
			})
		})
	}
}

// TestShorterLag: a later change does not overtake a change that is held back, and does
// not release it.
func TestShorterLag(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		_, log := c.podInformer()
		c.Kube.LagWatches("pods", 30*time.Second)
		c.Kube.Apply(newPod("a", nil))
		c.Kube.LagWatches("pods", time.Second)
		c.Kube.Apply(newPod("b", nil))
		c.run(25 * time.Second)
		early := len(log())
		c.run(6 * time.Second)
		if got := fmt.Sprint(early, log()); got != "0 [add shop/a add shop/b]" {
			t.Errorf("early, and in the end: %s", got)
		}
	})
}

// TestLagOfOneResource leaves the others alone.
func TestLagOfOneResource(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.LagWatches("services", time.Minute)
		_, log := c.podInformer()
		c.Kube.Apply(newPod("a", nil))
		c.run(time.Second)
		if d := cmp.Diff([]string{"add shop/a"}, log()); d != "" {
			t.Errorf("pods (-want +got):\n%s", d)
		}
	})
}

// TestCutWatchesLag: what a watch missed while it was away comes as late as for others.
func TestCutWatchesLag(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		_, log := c.podInformer()
		c.run(5 * time.Second)
		c.Kube.LagWatches("pods", 20*time.Second)
		c.Kube.Apply(newPod("a", nil))
		c.Kube.CutWatches("pods")
		c.run(15 * time.Second)
		early := len(log())
		c.run(10 * time.Second)
		if early != 0 || len(log()) != 1 {
			t.Errorf("%d events within the lag, %d after it", early, len(log()))
		}
	})
}

func TestBookmarks(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.Apply(newPod("a", nil)) // 2
		var with, without func() []string
		c.try(func(ctx context.Context) error {
			pods := c.clientset().CoreV1().Pods("")
			o := metav1.ListOptions{ResourceVersion: "2", AllowWatchBookmarks: true}
			wi, err := pods.Watch(ctx, o)
			if err != nil {
				return err
			}
			with = collectWatch(wi)
			o.AllowWatchBookmarks = false
			wi, err = pods.Watch(ctx, o)
			if err == nil {
				without = collectWatch(wi)
			}
			return err
		})
		c.AddNode("n") // 3: not a pod, and yet the bookmark tells of it
		c.run(65 * time.Second)
		c.Kube.LagWatches("pods", time.Hour)
		c.Kube.Apply(newPod("b", nil)) // 4
		c.Kube.Apply(newPod("b", map[string]string{"v": "2"}))
		c.run(65 * time.Second)
		if d := cmp.Diff([]string{"BOOKMARK  3", "BOOKMARK  3"}, with()); d != "" {
			t.Errorf("with bookmarks (-want +got):\n%s", d)
		}
		if got := without(); len(got) > 0 {
			t.Errorf("without bookmarks: %q", got)
		}
	})
}

func TestFieldsOfPods(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.AddPod(sim.PodSpec{Namespace: "shop", Name: "a", IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}})
		c.AddPod(sim.PodSpec{Namespace: "shop", Name: "b", Node: "other"})
		pods := c.clientset().CoreV1().Pods("")
		var watched func() []string
		c.try(func(ctx context.Context) error {
			wi, err := pods.Watch(ctx, metav1.ListOptions{FieldSelector: "status.podIP=10.0.0.1"})
			if err == nil {
				watched = collectWatch(wi)
			}
			return err
		})
		c.run(10 * time.Second)
		for selector, want := range map[string]string{
			"status.podIP=10.0.0.1":      "a",
			"status.podIP=10.0.0.2":      "b",
			"status.podIP=2001:db8::1":   "", // not the primary one
			"spec.nodeName=other":        "b",
			"status.phase=Running":       "a b",
			"status.phase!=Running":      "",
			"metadata.name=a":            "a",
			"metadata.namespace!=shop":   "",
			"status.podIP=10.0.0.1,a.b=": "bad",
		} {
			c.ask(func() {
				l, err := pods.List(t.Context(), metav1.ListOptions{FieldSelector: selector})
				if want == "bad" {
					if !apierrors.IsBadRequest(err) {
						t.Errorf("%s: %v, want a bad request", selector, err)
					}
					return
				}
				if err != nil {
					t.Errorf("%s: %v", selector, err)
					return
				}
				var names []string
				for _, p := range l.Items {
					names = append(names, p.Name)
				}
				if got := strings.Join(names, " "); got != want {
					t.Errorf("%s selects %q, want %q", selector, got, want)
				}
			})
		}
		c.refused("services by address", apierrors.IsBadRequest, func(ctx context.Context) error {
			_, err := c.clientset().CoreV1().Services("").List(ctx, metav1.ListOptions{FieldSelector: "status.podIP=10.0.0.1"})
			return err
		})
		if got := watched(); len(got) == 0 || !strings.HasPrefix(got[0], "ADDED a") {
			t.Errorf("the watch by address tells %q, want it to begin when the pod gets its address", got)
		}
	})
}

// TestServedVersions: a version of a group goes, and the group stays.
func TestServedVersions(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		client := &http.Client{Transport: c.config.Transport}
		status := func(path string) (code int) {
			t.Helper()
			c.try(func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://cluster"+path, http.NoBody)
				if err != nil {
					return err
				}
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				code = resp.StatusCode
				return resp.Body.Close()
			})
			return code
		}
		check := func(when string, want ...int) {
			t.Helper()
			var got []int
			for _, path := range []string{"", "/v1beta1", "/v1beta1/targetgroupbindings", "/v1", "/v1/targetgroupbindings"} {
				got = append(got, status("/apis/"+kube.GroupELBv2+path))
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s: %v, want %v", when, got, want)
			}
		}
		versions := func() (got string) {
			t.Helper()
			c.try(func(context.Context) error {
				groups, err := discovery.NewDiscoveryClientForConfigOrDie(c.config).ServerGroups()
				for _, g := range groups.Groups {
					if g.Name == kube.GroupELBv2 {
						for _, v := range g.Versions {
							got += " " + v.Version
						}
						got += ", preferred " + g.PreferredVersion.Version
					}
				}
				return err
			})
			return got
		}
		check("at first", 200, 200, 200, 404, 404)
		c.Kube.ServeVersion(kube.GroupELBv2, "v1beta1", false)
		check("without its version", 200, 404, 404, 404, 404)
		c.Kube.ServeVersion(kube.GroupELBv2, "v1", true)
		check("with another version", 200, 404, 404, 200, 404)
		if got := versions(); got != " v1, preferred v1" {
			t.Errorf("versions:%s", got)
		}
		c.Kube.ServeGroup(kube.GroupELBv2, false)
		check("without the group", 404, 404, 404, 404, 404)
		c.Kube.ServeGroup(kube.GroupELBv2, true)
		c.Kube.ServeVersion(kube.GroupELBv2, "v1beta1", true)
		check("with all", 200, 200, 200, 200, 404)
		if got := versions(); got != " v1 v1beta1, preferred v1" {
			t.Errorf("versions:%s", got)
		}
		if got := status("/apis/" + kube.GroupEKS); got != 404 {
			t.Errorf("a group that is not served: %d", got)
		}
	})
}

// TestVersionGoesInMidLife ends the watches of the version.
func TestVersionGoesInMidLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		ended := false
		go func() {
			wi, err := c.bindings().Watch(t.Context(), metav1.ListOptions{})
			if err != nil {
				t.Error(err)
				return
			}
			for range wi.ResultChan() {
			}
			ended = true
		}()
		c.run(time.Second)
		c.Kube.ServeVersion(kube.GroupELBv2, "v1beta1", false)
		c.run(time.Second)
		if !ended {
			t.Error("the watch goes on")
		}
	})
}

// TestRefusedWatchInMidLife: the watches of one resource end and do not come back,
// those of another go on.
func TestRefusedWatchInMidLife(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		k := c.clientset().CoreV1()
		var pods, services func() []string
		c.try(func(ctx context.Context) error {
			p, err1 := k.Pods("").Watch(ctx, metav1.ListOptions{})
			s, err2 := k.Services("").Watch(ctx, metav1.ListOptions{})
			if err1 == nil && err2 == nil {
				pods, services = collectWatch(p), collectWatch(s)
			}
			return errors.Join(err1, err2)
		})
		refused := func(r *http.Request) bool { return r.URL.Path == "/api/v1/pods" && r.URL.Query().Has("watch") }
		c.Kube.Fail(refused, http.StatusForbidden)
		c.Kube.Apply(newPod("before", nil))
		c.run(time.Second)
		c.Kube.CutWatches("pods")
		c.Kube.Apply(newPod("after", nil))
		c.Kube.AddService("shop", "after", nil, 80)
		c.run(time.Second)
		if p, s := pods(), services(); len(p) != 1 || len(s) != 1 {
			t.Errorf("the watches tell %q and %q, want what came before the cut, and all", p, s)
		}
		c.refused("another watch", apierrors.IsForbidden, func(ctx context.Context) error {
			_, err := k.Pods("").Watch(ctx, metav1.ListOptions{})
			return err
		})
	})
}

// TestAlwaysExpire: a watch is opened and ends with 410 Gone, whatever it begins with.
func TestAlwaysExpire(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.AlwaysExpire(true)
		for _, o := range []metav1.ListOptions{{}, {ResourceVersion: "1"}} {
			c.try(func(ctx context.Context) error {
				wi, err := c.clientset().CoreV1().Pods("").Watch(ctx, o)
				if err != nil {
					return err
				}
				defer wi.Stop()
				if e := <-wi.ResultChan(); !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
					t.Errorf("the watch from %q tells %v", o.ResourceVersion, e)
				}
				return nil
			})
		}
	})
}
