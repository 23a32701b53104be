package kube_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/sim"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/memnet"
)

// cluster is a world in a bubble, and what a client needs to reach its cluster.
type cluster struct {
	*sim.World
	t      *testing.T
	config *rest.Config
}

// inBubble runs f beside a new world as it is by default.
func inBubble(t *testing.T, f func(t *testing.T, c cluster)) {
	t.Helper()
	inWorld(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, f)
}

// inWorld runs f beside a new world. The goroutine of f is the one that may
// call Run and touch the world's state.
func inWorld(t *testing.T, cfg sim.Config, f func(t *testing.T, c cluster)) {
	t.Helper()
	cfg.Quiesce = synctest.Wait
	synctest.Test(t, func(t *testing.T) {
		w := sim.New(cfg)
		defer w.Close()
		f(t, cluster{w, t, &rest.Config{Host: "http://cluster", QPS: -1, Transport: memnet.Transport(w.Kube.Handler())}})
	})
}

func (c cluster) clientset() *kubernetes.Clientset { return kubernetes.NewForConfigOrDie(c.config) }

// run carries the world on.
func (c cluster) run(d time.Duration) { c.Run(c.t.Context(), c.Now()+d) }

// ask runs f, which waits for answers of the world, and runs the world meanwhile.
func (c cluster) ask(f func()) {
	c.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	c.run(time.Second)
	select {
	case <-done:
	default:
		c.t.Fatal("no answer within a second")
	}
}

// podInformer starts an informer of pods and waits until it has synced. log
// returns what its handler was told, in order.
func (c cluster) podInformer() (store cache.Store, log func() []string) {
	c.t.Helper()
	factory := informers.NewSharedInformerFactory(c.clientset(), 0)
	informer := factory.Core().V1().Pods().Informer()
	log = record(c.t, informer)
	c.start(informer.HasSyncedChecker(), factory.Start, factory.Shutdown)
	return informer.GetStore(), log
}

// start starts informers and stops them when the test is over.
func (c cluster) start(synced cache.DoneChecker, start func(<-chan struct{}), shutdown func()) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	c.t.Cleanup(func() {
		cancel()
		shutdown()
	})
	start(ctx.Done())
	c.ask(func() { cache.WaitFor(ctx, "", synced) })
}

// record returns a function that returns what an informer's handler was told.
func record(t *testing.T, informer cache.SharedIndexInformer) func() []string {
	t.Helper()
	var (
		mu  sync.Mutex
		log []string
	)
	note := func(event string, obj any) {
		mu.Lock()
		defer mu.Unlock()
		key, _ := cache.DeletionHandlingMetaNamespaceKeyFunc(obj)
		log = append(log, event+" "+key)
	}
	_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { note("add", obj) },
		UpdateFunc: func(_, obj any) { note("update", obj) },
		DeleteFunc: func(obj any) { note("delete", obj) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return func() []string {
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(log)
	}
}

// collectWatch drains a watch. The returned function tells its events so far and
// stops it.
func collectWatch(wi watch.Interface) func() []string {
	var (
		mu     sync.Mutex
		events []string
	)
	go func() {
		for e := range wi.ResultChan() {
			mu.Lock()
			events = append(events, describe(string(e.Type), e.Object))
			mu.Unlock()
		}
	}()
	return func() []string {
		defer wi.Stop()
		mu.Lock()
		defer mu.Unlock()
		return slices.Clone(events)
	}
}

func describe(eventType string, obj any) string {
	if status, ok := obj.(*metav1.Status); ok {
		return fmt.Sprintf("%s %d %s", eventType, status.Code, status.Reason)
	}
	o := obj.(metav1.Object)
	return fmt.Sprintf("%s %s %s", eventType, o.GetName(), o.GetResourceVersion())
}

func newPod(name string, l map[string]string) *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Labels: l}}
}

func refuseWatchList(r *http.Request) bool { return r.URL.Query().Has("sendInitialEvents") }

func TestInformerFollowsWorld(t *testing.T) {
	for _, tt := range []struct {
		name   string
		refuse bool
		want   map[string]int
	}{
		{"WatchList", false, map[string]int{"watch pods": 1}},
		{"refused WatchList", true, map[string]int{"watch pods": 2, "list pods": 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c cluster) {
				if tt.refuse {
					c.Kube.Fail(refuseWatchList, http.StatusUnprocessableEntity)
				}
				a, b := newPod("a", nil), newPod("b", nil)
				c.Kube.Apply(a)
				c.Kube.Apply(b)
				store, log := c.podInformer()
				a.Labels = map[string]string{"v": "2"}
				c.Kube.Apply(a)
				c.Kube.Remove(b)
				c.Kube.Apply(newPod("c", nil))
				c.run(time.Second)

				got := log()
				slices.Sort(got[:2]) // an informer takes the initial state from a map
				want := []string{"add shop/a", "add shop/b", "update shop/a", "delete shop/b", "add shop/c"}
				if d := cmp.Diff(want, got); d != "" {
					t.Errorf("informer events (-want +got):\n%s", d)
				}
				obj, _, _ := store.GetByKey("shop/a")
				a.TypeMeta = metav1.TypeMeta{} // client-go drops it
				if d := cmp.Diff(a, obj); d != "" {
					t.Errorf("pod in the informer's store (-want +got):\n%s", d)
				}
				if d := cmp.Diff(tt.want, c.Kube.Requests()); d != "" {
					t.Errorf("requests (-want +got):\n%s", d)
				}
			})
		})
	}
}

// churn plans 300 changes of ten pods in 300 ms. The result fills with all of
// them in order.
func churn(w *sim.World) *[]string {
	truth := new([]string)
	w.Kube.OnChange(func(eventType string, obj metav1.Object) { *truth = append(*truth, describe(eventType, obj)) })
	for i := range 300 {
		w.After(time.Duration(i)*time.Millisecond, func() {
			name := fmt.Sprint("pod-", i%10)
			if p, ok := kube.Get[corev1.Pod](w.Kube, "shop", name); ok && i%3 == 0 {
				w.Kube.Remove(p)
			} else {
				w.Kube.Apply(newPod(name, map[string]string{"v": fmt.Sprint(i)}))
			}
		})
	}
	return truth
}

// since is the part of the truth that came after a revision.
func since(truth []string, revision string) []string {
	i := slices.IndexFunc(truth, func(e string) bool { return strings.HasSuffix(e, " "+revision) })
	return truth[i+1:]
}

func TestWatchTellsEachChangeOnceInOrder(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		truth := churn(c.World)
		pods := c.clientset().CoreV1().Pods("shop")
		const watches = 30
		revisions, events := make([]string, watches), make([]func() []string, watches)
		c.ask(func() {
			var wg sync.WaitGroup
			for i := range watches {
				wg.Go(func() {
					time.Sleep(time.Duration(i) * 10 * time.Millisecond)
					l, err := pods.List(t.Context(), metav1.ListOptions{})
					if err != nil {
						t.Error(err)
						return
					}
					// Some register long after their list.
					time.Sleep(time.Duration(i%7) * 20 * time.Millisecond)
					revisions[i] = l.ResourceVersion
					wi, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: l.ResourceVersion})
					if err != nil {
						t.Error(err)
						return
					}
					events[i] = collectWatch(wi)
				})
			}
			wg.Wait()
		})
		for i := range watches {
			if d := cmp.Diff(since(*truth, revisions[i]), events[i]()); d != "" {
				t.Errorf("watch %d from %s (-want +got):\n%s", i, revisions[i], d)
			}
		}
	})
}

func TestWatchListBeginsWithTheStateOfItsBookmark(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		truth := churn(c.World)
		c.run(100 * time.Millisecond)
		var events func() []string
		c.ask(func() {
			wi, err := c.clientset().CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{
				SendInitialEvents:    new(true),
				AllowWatchBookmarks:  true,
				ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
			})
			if err != nil {
				t.Error(err)
				return
			}
			events = collectWatch(wi)
		})
		got := events()
		bookmark := slices.IndexFunc(got, func(e string) bool { return strings.HasPrefix(e, "BOOKMARK") })
		if bookmark < 0 {
			t.Fatalf("no bookmark in %q", got)
		}
		revision := got[bookmark][strings.LastIndex(got[bookmark], " ")+1:]
		after := since(*truth, revision)
		if d := cmp.Diff(after, got[bookmark+1:]); d != "" {
			t.Errorf("after the bookmark (-want +got):\n%s", d)
		}
		want := stateAfter((*truth)[:len(*truth)-len(after)])
		if d := cmp.Diff(want, got[:bookmark]); d != "" {
			t.Errorf("before the bookmark (-want +got):\n%s", d)
		}
	})
}

// stateAfter is how a WatchList shows the state to which events lead.
func stateAfter(events []string) []string {
	var state []string
	for _, e := range events {
		f := strings.Fields(e)
		state = slices.DeleteFunc(state, func(s string) bool { return strings.Fields(s)[1] == f[1] })
		if f[0] != "DELETED" {
			state = append(state, "ADDED "+f[1]+" "+f[2])
		}
	}
	slices.Sort(state)
	return state
}

func TestCutWatchResumesWithoutLoss(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		b := newPod("b", nil)
		c.Kube.Apply(newPod("a", nil))
		c.Kube.Apply(b)
		store, log := c.podInformer()
		c.run(time.Second) // after a shorter watch, an informer would list again
		c.Kube.CutWatches()
		c.Kube.Remove(b)
		c.Kube.Apply(newPod("c", nil))
		c.run(5 * time.Second)
		c.Kube.CutWatches()
		c.Kube.Apply(b)
		c.run(5 * time.Second)

		want := []string{"delete shop/b", "add shop/c", "add shop/b"}
		if d := cmp.Diff(want, log()[2:]); d != "" {
			t.Errorf("informer events after the first cut (-want +got):\n%s", d)
		}
		if n := len(store.ListKeys()); n != 3 {
			t.Errorf("%d pods in the store, want 3", n)
		}
		if d := cmp.Diff(map[string]int{"watch pods": 3}, c.Kube.Requests()); d != "" {
			t.Errorf("requests (-want +got):\n%s", d)
		}
	})
}

func TestExpiredWatchListsAgain(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.Fail(refuseWatchList, http.StatusUnprocessableEntity)
		a := newPod("a", nil)
		c.Kube.Apply(a)
		store, _ := c.podInformer()
		c.Kube.Remove(a)
		c.Kube.Apply(newPod("b", nil))
		c.Kube.ExpireWatches()
		c.run(5 * time.Second)
		if d := cmp.Diff([]string{"shop/b"}, store.ListKeys()); d != "" {
			t.Errorf("store (-want +got):\n%s", d)
		}
		if n := c.Kube.Requests()["list pods"]; n != 2 {
			t.Errorf("%d lists, want 2", n)
		}
	})
}

func TestWatchOfForgottenRevision(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		const historySize = 4096 // of one resource
		for i := range historySize + 2 {
			c.Kube.Apply(newPod("a", map[string]string{"v": fmt.Sprint(i)}))
		}
		c.run(time.Minute)
		check := func(revision, want string) {
			t.Helper()
			var events func() []string
			c.ask(func() {
				wi, err := c.clientset().CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: revision})
				if err != nil {
					t.Error(err)
					return
				}
				events = collectWatch(wi)
			})
			if got := events(); len(got) == 0 || got[0] != want {
				t.Errorf("events from %s are %.1q, want %q first", revision, got, want)
			}
		}
		check("2", "ERROR 410 Expired")
		check("3", "MODIFIED a 4")
		c.Kube.ExpireWatches()
		check("3", "ERROR 410 Expired")
	})
}

func TestWatchEndsAtItsTimeout(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.Apply(newPod("a", nil))
		var lasted time.Duration
		go func() {
			begin := time.Now()
			wi, err := c.clientset().CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{TimeoutSeconds: new(int64(10))})
			if err != nil {
				t.Error(err)
				return
			}
			for range wi.ResultChan() {
			}
			lasted = time.Since(begin)
		}()
		c.run(time.Minute)
		if got := lasted.Truncate(time.Second); got != 10*time.Second {
			t.Errorf("watch lasted %v, want 10s", lasted)
		}
	})
}

func TestSelectors(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		web := map[string]string{"app": "web"}
		a, b := newPod("a", web), newPod("b", nil)
		c.Kube.Apply(a) // 2
		c.Kube.Apply(b) // 3
		pods := c.clientset().CoreV1().Pods("")
		var labelled, named func() []string
		c.ask(func() {
			byLabel := metav1.ListOptions{LabelSelector: "app=web"}
			if l, err := pods.List(t.Context(), byLabel); err != nil || len(l.Items) != 1 || l.Items[0].Name != "a" {
				t.Errorf("list by label: %v, %v", l, err)
			}
			byName := metav1.SingleObject(metav1.ObjectMeta{Name: "b"})
			l, err := pods.List(t.Context(), byName)
			if err != nil || len(l.Items) != 1 || l.Items[0].Name != "b" {
				t.Errorf("list by name: %v, %v", l, err)
			}
			byLabel.ResourceVersion, byName.ResourceVersion = l.ResourceVersion, l.ResourceVersion
			wl, err1 := pods.Watch(t.Context(), byLabel)
			wn, err2 := pods.Watch(t.Context(), byName)
			if err := errors.Join(err1, err2); err != nil {
				t.Error(err)
				return
			}
			labelled, named = collectWatch(wl), collectWatch(wn)
			_, err = pods.List(t.Context(), metav1.ListOptions{FieldSelector: "spec.color=red"})
			if !apierrors.IsBadRequest(err) {
				t.Errorf("list by an unknown field: %v, want a bad request", err)
			}
		})
		b.Labels = map[string]string{"app": "web"}
		c.Kube.Apply(b) // 4
		a.Annotations = map[string]string{"v": "2"}
		c.Kube.Apply(a) // 5
		delete(b.Labels, "app")
		c.Kube.Apply(b) // 6
		b.Annotations = map[string]string{"v": "2"}
		c.Kube.Apply(b)                    // 7
		c.Kube.Apply(newPod("c", web))     // 8
		c.Kube.Remove(newPod("a", web))    // 9
		c.Kube.Apply(newPod("other", nil)) // 10
		c.run(time.Second)
		if d := cmp.Diff([]string{"ADDED b 4", "MODIFIED a 5", "DELETED b 6", "ADDED c 8", "DELETED a 9"}, labelled()); d != "" {
			t.Errorf("watch by label (-want +got):\n%s", d)
		}
		if d := cmp.Diff([]string{"MODIFIED b 4", "MODIFIED b 6", "MODIFIED b 7"}, named()); d != "" {
			t.Errorf("watch by name (-want +got):\n%s", d)
		}
	})
}

func TestObjectsAreStamped(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		p := newPod("a", nil)
		c.Kube.Apply(p)
		first := p.DeepCopy()
		second := map[string]string{"v": "2"}
		again := newPod("a", second)
		c.Kube.Apply(again)
		if again.UID != first.UID || !again.CreationTimestamp.Equal(&first.CreationTimestamp) || again.ResourceVersion == first.ResourceVersion {
			t.Errorf("an update made %+v of %+v", again.ObjectMeta, first.ObjectMeta)
		}
		again.Labels = map[string]string{"unseen": "until put"}
		c.ask(func() {
			got, err := c.clientset().CoreV1().Pods("shop").Get(t.Context(), "a", metav1.GetOptions{})
			if err != nil || !maps.Equal(got.Labels, second) || got.UID != first.UID {
				t.Errorf("got %v, %v", got, err)
			}
			_, err = c.clientset().CoreV1().Pods("shop").Get(t.Context(), "b", metav1.GetOptions{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("get of a missing pod: %v, want not found", err)
			}
		})
		c.Kube.Remove(again)
		c.Kube.Apply(newPod("a", nil))
		if p, _ := kube.Get[corev1.Pod](c.World.Kube, "shop", "a"); p.UID == first.UID {
			t.Error("a new pod has the UID of its predecessor")
		}
	})
}

func TestPutOfTheSameIsNoChange(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		a := newPod("a", map[string]string{"v": "1"})
		c.Kube.Apply(a) // 2
		heard := 0
		c.Kube.OnChange(func(string, metav1.Object) { heard++ })
		pods := c.clientset().CoreV1().Pods("shop")
		var events func() []string
		c.ask(func() {
			wi, err := pods.Watch(t.Context(), metav1.ListOptions{ResourceVersion: "2"})
			if err != nil {
				t.Error(err)
				return
			}
			events = collectWatch(wi)
		})
		same := newPod("a", map[string]string{"v": "1"})
		for _, p := range []*corev1.Pod{a, same, same.DeepCopy()} {
			c.Kube.Apply(p)
			if p.ResourceVersion != "2" || p.UID != a.UID || !p.CreationTimestamp.Equal(&a.CreationTimestamp) {
				t.Errorf("a put of the same made %+v of %+v", p.ObjectMeta, a.ObjectMeta)
			}
		}
		c.run(time.Second)
		if heard != 0 {
			t.Errorf("controllers heard of %d changes, want none", heard)
		}
		c.ask(func() {
			l, err := pods.List(t.Context(), metav1.ListOptions{})
			if err != nil || l.ResourceVersion != "2" || len(l.Items) != 1 || l.Items[0].ResourceVersion != "2" {
				t.Errorf("list after puts of the same: %+v, %v", l, err)
			}
		})
		// What was put last is the world's own: a change to it counts.
		p, _ := kube.Get[corev1.Pod](c.World.Kube, "shop", "a")
		p.Labels["v"] = "2"
		c.Kube.Apply(p)
		c.run(time.Second)
		if d := cmp.Diff([]string{"MODIFIED a 3"}, events()); d != "" {
			t.Errorf("watch (-want +got):\n%s", d)
		}
	})
}

func TestServedGroups(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		for _, apiVersion := range []string{"", "eks.amazonaws.com/v1"} {
			c.Kube.Apply(&kube.TargetGroupBinding{
				TypeMeta:   metav1.TypeMeta{APIVersion: apiVersion},
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"},
				Spec:       kube.TargetGroupBindingSpec{TargetGroupARN: "arn:" + apiVersion, ServiceRef: kube.ServiceReference{"web", intstr.FromInt32(80)}},
			})
		}
		elbv2 := schema.GroupVersionResource{Group: kube.GroupELBv2, Version: "v1beta1", Resource: "targetgroupbindings"}
		eks := schema.GroupVersionResource{Group: kube.GroupEKS, Version: "v1", Resource: "targetgroupbindings"}

		check := func(want string) {
			t.Helper()
			c.ask(func() {
				if got := strings.Join(discovered(c), " "); got != want {
					t.Errorf("discovered %q, want %q", got, want)
				}
			})
		}
		const always = "v1/namespaces v1/nodes v1/pods v1/services discovery.k8s.io/v1/endpointslices " +
			"networking.k8s.io/v1/ingresses"
		check(always + " elbv2.k8s.aws/v1beta1/targetgroupbindings")
		c.ask(func() {
			_, err := dynamic.NewForConfigOrDie(c.config).Resource(eks).List(t.Context(), metav1.ListOptions{})
			if !apierrors.IsNotFound(err) {
				t.Errorf("list of a group that is not served: %v, want not found", err)
			}
		})
		c.Kube.ServeGroup(kube.GroupEKS, true)
		check(always + " elbv2.k8s.aws/v1beta1/targetgroupbindings eks.amazonaws.com/v1/targetgroupbindings")

		factory := dynamicinformer.NewDynamicSharedInformerFactory(dynamic.NewForConfigOrDie(c.config), 0)
		for _, gvr := range []schema.GroupVersionResource{elbv2, eks} {
			informer := factory.ForResource(gvr).Informer()
			c.start(informer.HasSyncedChecker(), factory.Start, factory.Shutdown)
			obj, _, _ := informer.GetStore().GetByKey("shop/web")
			u, ok := obj.(*unstructured.Unstructured)
			if !ok || u.GetAPIVersion() != gvr.GroupVersion().String() || u.GetKind() != "TargetGroupBinding" {
				t.Errorf("informer of %v has %v", gvr, obj)
			}
		}

		c.Kube.ServeGroup(kube.GroupELBv2, false)
		c.run(5 * time.Second)
		check(always + " eks.amazonaws.com/v1/targetgroupbindings")
		if n := c.Kube.Requests()["watch targetgroupbindings.elbv2.k8s.aws"]; n < 2 {
			t.Errorf("%d watches of the group that is no longer served, want it to be tried again", n)
		}
	})
}

// discovered lists what the discovery client finds.
func discovered(c cluster) []string {
	groups, resources, err := discovery.NewDiscoveryClientForConfigOrDie(c.config).ServerGroupsAndResources()
	if err != nil || len(groups) == 0 {
		c.t.Errorf("discovery: %d groups, %v", len(groups), err)
	}
	var out []string
	for _, l := range resources {
		for _, r := range l.APIResources {
			out = append(out, l.GroupVersion+"/"+r.Name)
		}
	}
	return out
}

func TestDeletePodWithGrace(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		for _, name := range []string{"json", "protobuf", "query", "own"} {
			c.AddPod(sim.PodSpec{Namespace: "shop", Name: name, Grace: 30 * time.Second})
		}
		c.run(10 * time.Second)
		client := c.clientset().CoreV1().RESTClient()
		options := &metav1.DeleteOptions{GracePeriodSeconds: new(int64(5))}
		for _, tt := range []struct {
			name  string
			req   *rest.Request
			grace int64
		}{
			{"json", client.Delete().Body(options), 5},
			{"protobuf", client.Delete().UseProtobufAsDefault().Body(options), 5},
			{"query", client.Delete().Param("gracePeriodSeconds", "7"), 7},
			{"own", client.Delete(), 30},
		} {
			c.ask(func() {
				var p corev1.Pod
				err := tt.req.Namespace("shop").Resource("pods").Name(tt.name).Do(t.Context()).Into(&p)
				if err != nil {
					t.Error(err)
					return
				}
				if g := p.DeletionGracePeriodSeconds; p.DeletionTimestamp == nil || g == nil || *g != tt.grace {
					t.Errorf("%s: pod %+v, want a grace of %d s", tt.name, p.ObjectMeta, tt.grace)
				}
			})
		}
		c.ask(func() {
			if err := c.clientset().CoreV1().Pods("shop").Delete(t.Context(), "none", metav1.DeleteOptions{}); !apierrors.IsNotFound(err) {
				t.Errorf("delete of a missing pod: %v, want not found", err)
			}
		})
	})
}

func TestSkewedClock(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.Kube.SkewClock(-time.Hour)
		p := newPod("a", nil)
		c.Kube.Apply(p)
		c.run(time.Second)
		want := time.Now().Add(-time.Hour)
		if d := p.CreationTimestamp.Sub(want).Abs(); d > 2*time.Second {
			t.Errorf("created at %v, want about %v", p.CreationTimestamp, want)
		}
		c.ask(func() {
			resp, err := (&http.Client{Transport: c.config.Transport}).Get("http://cluster/version")
			if err != nil {
				t.Error(err)
				return
			}
			resp.Body.Close()
			date, err := http.ParseTime(resp.Header.Get("Date"))
			if d := date.Sub(want).Abs(); err != nil || d > 2*time.Second {
				t.Errorf("Date is %q, want about %v", resp.Header.Get("Date"), want)
			}
		})
	})
}

func TestFailKube(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		isList := func(r *http.Request) bool { return r.URL.Path == "/api/v1/pods" }
		for _, tt := range []struct {
			status int
			is     func(error) bool
		}{
			{http.StatusForbidden, apierrors.IsForbidden},
			{http.StatusInternalServerError, apierrors.IsInternalError},
			{http.StatusGone, apierrors.IsResourceExpired},
		} {
			c.Kube.Fail(isList, tt.status)
			c.ask(func() {
				if _, err := c.clientset().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); !tt.is(err) {
					t.Errorf("status %d: %#v", tt.status, err)
				}
				if _, err := c.clientset().CoreV1().Nodes().List(t.Context(), metav1.ListOptions{}); err != nil {
					t.Errorf("list nodes: %v", err)
				}
			})
		}
		c.Kube.Fail(nil, 0)
		c.ask(func() {
			if _, err := c.clientset().CoreV1().Pods("").List(t.Context(), metav1.ListOptions{}); err != nil {
				t.Errorf("list pods after the faults: %v", err)
			}
		})
	})
}

func TestUnknownPaths(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		client := &http.Client{Transport: c.config.Transport}
		for _, tt := range []struct {
			method, path string
			want         int
		}{
			{"GET", "/", 404},
			{"GET", "/api/v2", 404},
			{"GET", "/api/v1/secrets", 404},
			{"GET", "/api/v1/pods/a", 404},
			{"GET", "/api/v1/namespaces/shop/nodes", 404},
			{"GET", "/api/v1/namespaces/shop/pods/a/log", 404},
			{"GET", "/apis/apps/v1/deployments", 404},
			{"GET", "/api/v1/namespaces/shop", 404},
			{"GET", "/api/v1/namespaces", 200},
			{"GET", "/api/v1/pods?labelSelector=!", 400},
			{"GET", "/api/v1/pods?watch=true&resourceVersion=x", 400},
			{"GET", "/api/v1/pods?watch=true&sendInitialEvents=true", 400},
			{"POST", "/api/v1/namespaces/shop/pods", 405},
			{"DELETE", "/api/v1/namespaces/shop/pods", 405},
			{"POST", "/version", 405},
			{"GET", "/readyz", 200},
		} {
			c.ask(func() {
				req, err := http.NewRequestWithContext(t.Context(), tt.method, "http://cluster"+tt.path, nil)
				if err != nil {
					t.Error(err)
					return
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				resp.Body.Close()
				if resp.StatusCode != tt.want {
					t.Errorf("%s %s: %s, want %d", tt.method, tt.path, resp.Status, tt.want)
				}
			})
		}
	})
}

func TestListIsSorted(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		for _, key := range []string{"b/a", "a-b/x", "a/z", "a/b"} {
			ns, name, _ := strings.Cut(key, "/")
			c.Kube.Apply(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}})
		}
		for ns, want := range map[string]string{"": "a/b a/z a-b/x b/a", "a": "a/b a/z", "a-b": "a-b/x", "c": ""} {
			var got []string
			for _, p := range kube.List[corev1.Pod](c.World.Kube, ns) {
				got = append(got, p.Namespace+"/"+p.Name)
			}
			if s := strings.Join(got, " "); s != want {
				t.Errorf("list in %q: %q, want %q", ns, s, want)
			}
		}
	})
}

func TestKubeOverLoopback(t *testing.T) {
	w := sim.New(sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()})
	w.Kube.Apply(newPod("a", map[string]string{"v": "1"}))
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { w.Run(ctx, math.MaxInt64/2) })
	server := httptest.NewServer(w.Kube.Handler())
	factory := informers.NewSharedInformerFactory(kubernetes.NewForConfigOrDie(&rest.Config{Host: server.URL, QPS: -1}), 0)
	defer func() {
		cancel()
		factory.Shutdown()
		w.Close()
		server.Close()
		wg.Wait()
	}()

	updated := make(chan *corev1.Pod, 1)
	pods := factory.Core().V1().Pods()
	_, err := pods.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		UpdateFunc: func(_, obj any) { updated <- obj.(*corev1.Pod) },
	})
	if err != nil {
		t.Fatal(err)
	}
	factory.Start(ctx.Done())
	if !cache.WaitFor(ctx, "", pods.Informer().HasSyncedChecker()) {
		t.Fatal("informer has not synced")
	}
	if l, err := pods.Lister().List(labels.Everything()); err != nil || len(l) != 1 {
		t.Fatalf("lister has %v, %v", l, err)
	}
	if err := w.Do(ctx, "test", func() { w.Kube.Apply(newPod("a", map[string]string{"v": "2"})) }); err != nil {
		t.Fatal(err)
	}
	if p := <-updated; p.Labels["v"] != "2" {
		t.Errorf("updated to %v", p.Labels)
	}
}
