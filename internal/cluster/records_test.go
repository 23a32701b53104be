package cluster

import (
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/cluster/ties"
	simkube "drainwait/internal/sim/kube"
)

// What package ties keeps.
const (
	keepFormer = 10 * time.Minute
	lookAgain  = time.Minute
	maxFormers = 1000
)

// tgb is a binding of an ip group.
func tgb(name, service, arn string) string {
	return "{kind: TargetGroupBinding, metadata: {name: " + name + "}, spec: {targetGroupARN: 'arn:" + arn + "', targetType: ip, serviceRef: {name: " + service + ", port: 80}}}"
}

// What a binding said while the pod lived concerns it for good.
func TestFormerBindings(t *testing.T) {
	gated := pod("app: a") + `, conditions: [{type: target-health.elbv2.k8s.aws/tgb-web, status: "True"}]}`
	gated = strings.Replace(gated, "\n, cond", ", cond", 1)
	gated = strings.Replace(gated, "status: {podIP: 10.0.0.1}", "status: {podIP: 10.0.0.1", 1)
	web, green := tgb("tgb-web", "web", "web"), tgb("tgb-web", "green", "web")
	born := []string{noStatus, pod("app: web")}
	then := func(steps ...string) []string { return append(append([]string{}, born...), steps...) }
	for _, tt := range []struct {
		name  string
		steps []string
		want  []string
	}{
		{"present", born, []string{"tgb-web"}},
		{"deleted", then("remove " + web), []string{"tgb-web-"}},
		{"its Service switched", then(green), []string{"tgb-web-"}},
		{"its Service switched, and deleted", then(green, "remove "+green), []string{"tgb-web-"}},
		{"its Service switched to another one of the pod", then(green, service("green", "app: web")), []string{"tgb-web", "tgb-web-"}},
		{"its group switched", then(tgb("tgb-web", "web", "other")), []string{"tgb-web", "tgb-web-"}},
		{"its Service switched to and fro", then(green, web), []string{"tgb-web"}},
		{"made anew", then("remove "+web, web), []string{"tgb-web"}},
		{"made anew with another group", then("remove "+web, tgb("tgb-web", "web", "other")), []string{"tgb-web", "tgb-web-"}},
		{"the Service let go first", then(service("web", "app: green"), "remove "+web), []string{"tgb-web-"}},
		{"the Service was deleted first", then("remove "+service("web", ""), "remove "+web), []string{"tgb-web-"}},
		{"the label was taken off first", then(pod("app: idle"), "remove "+web), []string{"tgb-web-"}},
		{"being deleted", then(strings.ReplaceAll(web, "name: tgb-web}", "name: tgb-web, finalizers: [x/y], deletionTimestamp: '2000-01-01T00:00:01Z'}")), []string{"tgb-web"}},
		{"deleted while watches were down", then("refuse", "remove "+web, "recover"), []string{"tgb-web-"}},
		{"deleted and missed", then("refuse", "remove "+web, "expire", "recover"), []string{"tgb-web-"}},
		{"deleted just before the pod was made", append([]string{"remove " + web}, born...), []string{"tgb-web-"}},
		{"deleted long before the pod was made", append([]string{"remove " + web, "", "", ""}, born...), nil},
		{"deleted long before, and the condition is there", append([]string{"remove " + web, "", "", "", noStatus}, gated), []string{"tgb-web-"}},
		{"the condition was there", []string{noStatus, gated, pod("app: a")}, []string{"tgb-web"}},
		{"former, of a Service that comes to select the pod", []string{noStatus, pod("app: late"), "remove " + web, service("web", "app: late")}, []string{"tgb-web-"}},
		{"of an older pod", []string{"remove " + web, "expire", noStatus, pod("app: a"), "expire"}, []string{"tgb-web-?"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, service("web", "app: web")+sep+web, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				if d := cmp.Diff(tt.want, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
			})
		})
	}
	for name, end := range map[string]func(w *world){
		"the group is no longer served":   func(w *world) { w.Kube.ServeGroup(simkube.GroupELBv2, false) },
		"the version is no longer served": func(w *world) { w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false) },
	} {
		t.Run(name, func(t *testing.T) {
			inIndexed(t, Config{}, service("web", "app: web")+sep+web, func(t *testing.T, w *world) {
				w.do(born...)
				end(w)
				w.pass(time.Minute)
				if d := cmp.Diff([]string{"tgb-web-"}, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
				w.Kube.ServeGroup(simkube.GroupELBv2, true)
				w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", true)
				w.pass(absentRetry + time.Second)
				if d := cmp.Diff([]string{"tgb-web"}, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("when it is back, candidates (-want +got):\n%s", d)
				}
			})
		})
	}
}

// creationTimestamps are by another clock than ends.
func TestFormerBindingsWithSkew(t *testing.T) {
	web := tgb("tgb-web", "web", "web")
	for _, skew := range []time.Duration{-20 * time.Second, 20 * time.Second, -time.Hour, time.Hour} {
		for _, pause := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprint(skew, " ", pause), func(t *testing.T) {
				inWorld(t, Config{}, func(t *testing.T, w *world) {
					w.Kube.SkewClock(skew)
					w.apply(service("web", "app: web") + sep + web)
					defer w.begin()()
					w.pass(20 * time.Second)
					w.do("remove " + web)
					w.pass(pause)
					w.do(noStatus, pod("app: web"))
					got := len(w.candidates(w.Index.Pod("default", "a")))
					// Where the API server's clock is an hour behind, in doubt all are there.
					if want := pause == 0 || skew == -time.Hour; got == 1 != want {
						t.Errorf("%d candidates, want one: %t", got, want)
					}
				})
			})
		}
	}
}

func TestForeignSlices(t *testing.T) {
	far := "{kind: TargetGroupBinding, metadata: {name: far, namespace: other}, spec: {targetGroupARN: 'arn:far', targetType: ip, serviceRef: {name: web, port: 80}}}"
	named := func(ref string) string {
		return "{kind: EndpointSlice, metadata: {name: x, namespace: other, labels: {kubernetes.io/service-name: web}}, endpoints: [{addresses: [10.0.0.1], targetRef: {" + ref + "}}]}"
	}
	for _, tt := range []struct {
		name  string
		steps []string
		want  []string
	}{
		{"named", []string{far, named("kind: Pod, namespace: default, name: a")}, []string{"other/far"}},
		{"named without a namespace", []string{far, named("kind: Pod, name: a")}, nil},
		{"named in another namespace", []string{far, named("kind: Pod, namespace: third, name: a")}, nil},
		{"no longer named", []string{far, named("kind: Pod, namespace: default, name: a"), named("kind: Pod, name: b")}, []string{"other/far"}},
		{"older, and another binding is there", []string{far, strings.ReplaceAll(strings.ReplaceAll(far, "name: web", "name: api"), "name: far", "name: more"), named("kind: Pod, namespace: default, name: a"), "expire"}, []string{"other/far"}},
		{"the binding was deleted", []string{far, named("kind: Pod, namespace: default, name: a"), "remove " + far}, []string{"other/far-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
				w.do(noStatus, pod("app: a"))
				wake := make(chan struct{}, 1)
				defer w.Watch(w.Index.Pod("default", "a"), wake)()
				for _, s := range tt.steps {
					select {
					case <-wake:
					default:
					}
					w.do(s)
				}
				if d := cmp.Diff(tt.want, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
				if tt.name == "the binding was deleted" && len(wake) == 0 {
					t.Error("not woken by the binding of another namespace")
				}
			})
		})
	}
}

// listing is what a look at a group shows: each address, and whether it is in
// rotation.
func lookAt(targets ...string) map[netip.Addr]bool {
	m := make(map[netip.Addr]bool)
	for _, s := range targets {
		ip, draining := strings.CutSuffix(s, " draining")
		m[netip.MustParseAddr(ip)] = !draining
	}
	return m
}

// sweep takes in a look at the group of a binding that began now.
func (w *world) sweep(arn string, targets ...string) {
	w.Swept(ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn:" + arn}}, time.Now(), lookAt(targets...))
}

func TestSwept(t *testing.T) {
	objects := tgb("one", "web", "one") + sep + tgb("two", "web", "two")
	const live = "{kind: Pod, metadata: {name: a}, status: {phase: Running, podIP: 10.0.0.1}}"
	for _, tt := range []struct {
		name  string
		sweep func(w *world)
		want  []string
	}{
		{"not swept", func(*world) {}, []string{"one?", "two?"}},
		{"swept, nothing listed", func(w *world) { w.sweep("one") }, []string{"two?"}},
		{"swept, another listed", func(w *world) { w.sweep("one", "10.0.0.2") }, []string{"two?"}},
		{"listed", func(w *world) { w.sweep("one", "10.0.0.1") }, []string{"one", "two?"}},
		{"listed as draining", func(w *world) { w.sweep("one", "10.0.0.1 draining") }, []string{"one", "two?"}},
		{"listed before, not any more", func(w *world) { w.sweep("one", "10.0.0.1"); w.pass(time.Second); w.sweep("one") }, []string{"one", "two?"}},
		{"another group of that name", func(w *world) {
			w.Swept(ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn:one", RoleARN: "arn:role"}}, time.Now(), lookAt("10.0.0.1"))
		}, []string{"one?", "two?"}},
		{"a look that began too early", func(w *world) {
			w.Swept(ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn:one"}}, time.Now().Add(-2*time.Second), lookAt())
		}, []string{"one?", "two?"}},
		{"an old look after a new one", func(w *world) {
			w.sweep("one")
			w.Swept(ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn:one"}}, time.Now().Add(-time.Hour), lookAt())
		}, []string{"two?"}},
		{"swept before a gap", func(w *world) { w.sweep("one", "10.0.0.1"); w.sweep("two"); w.do("expire") }, []string{"one", "two?"}},
		{"swept after a gap", func(w *world) { w.do("expire"); w.sweep("one"); w.sweep("two") }, nil},
		{"swept before the address was known", func(w *world) {
			w.sweep("one")
			w.do("{kind: Pod, metadata: {name: a}, status: {phase: Running, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}")
		}, []string{"one?", "two?"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, objects+sep+live, func(t *testing.T, w *world) {
				wake := make(chan struct{}, 1)
				p := w.Index.Pod("default", "a")
				defer w.Watch(p, wake)()
				tt.sweep(w)
				s := w.Survey(w.Refresh(p), nil)
				if d := cmp.Diff(tt.want, show(s.Candidates)); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
				for _, c := range s.Candidates {
					if wasSeen := c.Name == "one" && tt.want[0] != "one?" || strings.Contains(tt.name, "gap") || strings.Contains(tt.name, "known") && c.Name == "one" || strings.Contains(tt.name, "too early") && c.Name == "one"; c.Seen != wasSeen {
						t.Errorf("%s: seen %t", c.Name, c.Seen)
					}
					if c.Tied != c.Since.IsZero() {
						t.Errorf("%s: tied %t, since %v", c.Name, c.Tied, c.Since)
					}
				}
				if listed := len(tt.want) > 0 && tt.want[0] == "one"; listed && len(wake) == 0 {
					t.Error("not woken")
				}
			})
		})
	}
}

// A look that is taken in again says something new of a binding that came since.
func TestSweptAgain(t *testing.T) {
	inIndexed(t, Config{}, tgb("one", "web", "one"), func(t *testing.T, w *world) {
		b, began := ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn:one"}}, time.Now()
		w.Swept(b, began, lookAt())
		w.do(tgb("twin", "blue", "one"))
		if got := w.due(); got != "twin" {
			t.Errorf("due with a new binding of the group: %q", got)
		}
		w.Swept(b, began, lookAt())
		if got := w.due(); got != "" {
			t.Errorf("due when the look was taken in again: %q", got)
		}
	})
}

// An address that no pod has is tied to what lists it from then on.
func TestAddress(t *testing.T) {
	inIndexed(t, Config{}, tgb("one", "web", "one")+sep+tgb("two", "web", "two")+sep+tgb("gone", "web", "gone")+sep+strings.ReplaceAll(tgb("far", "web", "far"), "name: far", "name: far, namespace: other"), func(t *testing.T, w *world) {
		w.do("remove " + tgb("gone", "web", "gone"))
		w.sweep("one")
		w.pass(time.Second)
		p := w.Address("default", netip.MustParseAddr("::ffff:10.9.9.9"))
		want := []string{"gone-?", "one?", "two?"}
		if d := cmp.Diff(want, w.candidates(p)); d != "" {
			t.Errorf("not watched yet (-want +got):\n%s", d)
		}
		wake := make(chan struct{}, 1)
		stop := w.Watch(p, wake)
		for _, step := range []struct {
			sweep func()
			want  []string
		}{
			{func() {}, want},
			{func() { w.sweep("one", "10.9.9.9") }, []string{"gone-?", "one", "two?"}},
			// A look that does not list it rules nothing out for others who ask.
			{func() { w.sweep("two", "10.9.9.8") }, []string{"gone-?", "one", "two?"}},
			{func() { w.sweep("gone") }, []string{"gone-?", "one", "two?"}},
		} {
			step.sweep()
			if d := cmp.Diff(step.want, w.candidates(w.Refresh(p))); d != "" {
				t.Errorf("candidates (-want +got):\n%s", d)
			}
		}
		if len(wake) == 0 {
			t.Error("not woken")
		}
		stop()
		if len(w.histories) > 0 {
			t.Errorf("kept: %+v", w.histories)
		}
		if p.UID != "" || p.Name != "" || p.Key() != "default/" {
			t.Errorf("%+v", p)
		}
	})
}

// due are the names of the bindings that are still to be swept.
func (w *world) due() string {
	var out []string
	for _, c := range w.Unswept() {
		s := c.Name
		if c.Former {
			s += "-"
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func TestUnswept(t *testing.T) {
	objects := tgb("one", "web", "one") + sep + tgb("twin", "blue", "one") + sep + tgb("two", "web", "two") + sep +
		"{kind: TargetGroupBinding, metadata: {name: unknown}, spec: {targetGroupName: unknown, serviceRef: {name: web, port: 80}}}" + sep +
		"{kind: TargetGroupBinding, metadata: {name: nodes}, spec: {targetGroupARN: 'arn:nodes', targetType: instance, serviceRef: {name: web, port: 80}}}"
	const other = "{kind: Pod, metadata: {name: other}, status: {phase: Running, podIP: 10.0.0.9}}"
	inIndexed(t, Config{}, objects+sep+other, func(t *testing.T, w *world) {
		check := func(want string) {
			t.Helper()
			if got := w.due(); got != want {
				t.Errorf("due: %q, want %q", got, want)
			}
		}
		sweepAll := func() {
			for _, c := range w.Unswept() {
				w.Swept(c.Binding, time.Now(), lookAt())
			}
		}
		check("one two unknown")
		w.sweep("one")
		check("two unknown")
		sweepAll()
		check("")
		w.pass(10 * time.Minute)
		check("")
		w.do(tgb("new", "web", "new"))
		check("new")
		sweepAll()
		gone := time.Now()
		w.do("remove " + tgb("two", "web", "two"))
		check("two-")
		since := w.Unswept()[0].Since
		if since.Before(gone) {
			t.Errorf("a look since %s counts, but it went at %s", since, gone)
		}
		w.Swept(w.Unswept()[0].Binding, since.Add(-time.Millisecond), lookAt())
		check("two-")
		w.sweep("two", "10.0.0.9")
		check("")
		w.pass(lookAgain - time.Second)
		check("")
		w.pass(time.Second)
		check("two-")
		w.sweep("two", "10.0.0.9 draining", "10.7.7.7")
		check("")
		w.pass(10 * lookAgain)
		check("")
		w.do(tgb("two", "web", "two"), "remove "+tgb("two", "web", "two"))
		check("two-") // it has been back in between
		w.sweep("two", "10.0.0.9")
		w.pass(lookAgain)
		check("two-")
		w.sweep("two")
		w.do("expire")
		if got := w.due(); got != "new one two- unknown" {
			t.Errorf("after a gap: %q", got)
		}
	})
}

// A gap is a list that does not go on where a watch ended, of any resource that
// ties.
func TestGaps(t *testing.T) {
	for _, tt := range []struct {
		resource string
		gap      bool
	}{{"pods", true}, {"services", true}, {"endpointslices", true}, {"targetgroupbindings", true}} {
		t.Run(tt.resource, func(t *testing.T) {
			inIndexed(t, Config{}, tgb("one", "web", "one"), func(t *testing.T, w *world) {
				w.do(noStatus, pod("app: a"))
				if got := w.candidates(w.Index.Pod("default", "a")); got != nil {
					t.Errorf("candidates %q before a gap", got)
				}
				w.Kube.CutWatches(tt.resource)
				w.pass(time.Minute)
				if got := w.candidates(w.Index.Pod("default", "a")); got != nil {
					t.Errorf("candidates %q after the routine end of a watch", got)
				}
				w.Kube.Fail(func(r *http.Request) bool {
					return strings.HasSuffix(r.URL.Path, "/"+tt.resource) && r.URL.Query().Has("watch") && !r.URL.Query().Has("sendInitialEvents")
				}, http.StatusGone)
				w.Kube.CutWatches(tt.resource)
				w.pass(5 * time.Second)
				w.Kube.Fail(nil, 0)
				w.pass(time.Minute)
				if d := cmp.Diff([]string{"one?"}, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("after a gap (-want +got):\n%s", d)
				}
				w.sweep("one")
				if got := w.candidates(w.Index.Pod("default", "a")); got != nil {
					t.Errorf("candidates %q after the sweep", got)
				}
			})
		})
	}
}

// oldPod is a pod that any record concerns which is kept of Service web or of a
// binding of one of these names.
func (w *world) oldPod(namespace string, bindings ...string) *Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "old", UID: types.UID(fmt.Sprint("old", namespace, bindings)), Labels: map[string]string{"app": "web"}}}
	for _, name := range bindings {
		p.Status.Conditions = append(p.Status.Conditions, corev1.PodCondition{Type: corev1.PodConditionType("target-health.elbv2.k8s.aws/" + name)})
	}
	return w.newPod(p)
}

func TestFormersAreKeptAndDropped(t *testing.T) {
	web := tgb("one", "web", "one")
	const other = "{kind: Pod, metadata: {name: b}, status: {phase: Running, podIP: 10.0.0.2}}"
	for _, tt := range []struct {
		name  string
		steps []string
		look  []string // targets of a look after the end; nil for none
		after time.Duration
		want  int
	}{
		{"cleared, too soon", nil, []string{}, keepFormer - 2*time.Minute, 1},
		{"cleared", nil, []string{}, keepFormer + tidyEvery, 0},
		{"an address of nobody in rotation", nil, []string{"10.7.7.7"}, keepFormer + tidyEvery, 0},
		{"a pod that the look ties to it", nil, []string{"10.0.0.2 draining"}, time.Hour, 1},
		{"never looked at", nil, nil, time.Hour, 1},
		{"an address of the namespace in rotation", nil, []string{"10.0.0.2"}, time.Hour, 1},
		{"a pod that is tied lives", []string{noStatus, pod("app: web")}, []string{}, time.Hour, 1},
		{"a pod that was tied is gone", []string{noStatus, pod("app: web"), "remove " + noStatus}, []string{}, keepFormer + tidyEvery, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, service("web", "app: web")+sep+web+sep+other, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				w.do("remove " + web)
				if tt.look != nil {
					w.sweep("one", tt.look...)
				}
				w.pass(tt.after)
				if got := len(w.candidates(w.oldPod("default", "one"))); got != tt.want {
					t.Errorf("%d former bindings, want %d", got, tt.want)
				}
			})
		})
	}
	t.Run("a watched pod that is gone keeps them", func(t *testing.T) {
		inIndexed(t, Config{}, service("web", "app: web")+sep+web, func(t *testing.T, w *world) {
			w.do(noStatus, pod("app: web"))
			p := w.Index.Pod("default", "a")
			stop := w.Watch(p, make(chan struct{}, 1))
			w.do("remove "+web, "remove "+noStatus)
			w.sweep("one")
			w.pass(time.Hour)
			if d := cmp.Diff([]string{"one-"}, w.candidates(p)); d != "" {
				t.Errorf("candidates (-want +got):\n%s", d)
			}
			stop()
			w.pass(2 * tidyEvery)
			if len(w.candidates(w.oldPod("default", "one"))) != 0 {
				t.Error("kept after the watch")
			}
		})
	})
}

// end makes a former binding, cleared or not.
func (w *world) end(namespace, name string, cleared bool) {
	b := &ties.Binding{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}, API: simkube.GroupELBv2}
	b.ServiceRef.Name = "web"
	b.TargetGroupARN = "arn:" + namespace + "/" + name
	w.bindingChanged(nil, b)
	if cleared {
		w.pass(time.Millisecond)
		w.Swept(*b, time.Now(), lookAt())
	}
}

func TestAtMostAThousandFormers(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		w.do(noStatus, "{kind: Pod, metadata: {name: a, namespace: other}}")
		w.end("default", "first", false)
		w.pass(time.Second)
		w.end("default", "cleared", true)
		for i := range maxFormers - 1 {
			w.end("other", fmt.Sprint(i), false)
		}
		formers := func() int {
			names := []string{"first", "cleared", "last"}
			for i := range maxFormers {
				names = append(names, fmt.Sprint(i))
			}
			return len(w.candidates(w.oldPod("default", names...))) + len(w.candidates(w.oldPod("other", names...)))
		}
		has := func(name string) bool { return len(w.candidates(w.oldPod("default", name))) > 0 }
		if formers() != maxFormers || !has("first") || has("cleared") {
			t.Errorf("%d former bindings; the first: %t, the cleared one: %t", formers(), has("first"), has("cleared"))
		}
		forgotten := func(ns string) bool { return w.Survey(w.Index.Pod(ns, "a"), nil).Forgotten }
		if forgotten("default") || forgotten("other") {
			t.Error("something is said to be forgotten")
		}
		w.end("other", "last", false)
		if formers() != maxFormers || has("first") {
			t.Errorf("%d former bindings; the first: %t", formers(), has("first"))
		}
		if !forgotten("default") || forgotten("other") {
			t.Errorf("forgotten: %t and %t, want true and false", forgotten("default"), forgotten("other"))
		}
		w.pass(5 * time.Second)
		w.do("{kind: Pod, metadata: {name: late}}")
		if w.Survey(w.Index.Pod("default", "late"), nil).Forgotten {
			t.Error("forgotten for a pod that was made later")
		}
		w.do("remove " + noStatus)
		w.pass(2 * tidyEvery)
		if w.Survey(w.oldPod("default"), nil).Forgotten {
			t.Error("not forgotten when those pods are gone")
		}
	})
}

func TestPublishesNotReady(t *testing.T) {
	publishing := strings.ReplaceAll(service("web", "app: web"), "spec: {", "spec: {publishNotReadyAddresses: true, ")
	web := tgb("one", "web", "one")
	for _, tt := range []struct {
		name  string
		steps []string
		want  []string
	}{
		{"publishes", nil, []string{"one!"}},
		{"does not any more", []string{service("web", "app: web")}, []string{"one"}},
		{"does not select it any more", []string{pod("app: idle")}, []string{"one"}},
		{"the Service was deleted", []string{"remove " + publishing}, []string{"one"}},
		{"the binding was deleted", []string{"remove " + web}, []string{"one-"}},
		{"another group", []string{tgb("one", "web", "two")}, []string{"one!", "one-"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, publishing+sep+web, func(t *testing.T, w *world) {
				w.do(noStatus, pod("app: web"))
				w.do(tt.steps...)
				if d := cmp.Diff(tt.want, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
			})
		})
	}
}
