package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
)

// refusedWithin is how long a refusal may take: two seconds and a latency.
const refusedWithin = 2*time.Second + 500*time.Millisecond

// The pods of a StatefulSet keep their names. If a new one is made while the old one
// still runs, the service does not confuse the two. A rolling update costs no request.
func TestStatefulSet(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	r := tb.startNamed(t)
	const replicas = 2
	// The fallback outlasts the tail of an ALB.
	fallback := scaled(25 * time.Second)
	a := tb.createStatefulSet(t, "db", replicas, nameTold(withHook(60, "/prestop", "--strict", "--fallback="+fallback.String())))
	tb.awaitRollout(t, a.name)
	l := tb.startLoad(t, a.TargetGroup)

	t.Run("made anew", func(t *testing.T) {
		old := tb.kubelet.pods(a.name)[0]
		tb.forceDelete(t, old)
		query := fmt.Sprintf("namespace=%s&pod=%s&ip=%s", a.name, old.Name, old.Pod.addr.Addr())
		r.checkUnknown(t, query)
		anew := tb.awaitAnew(t, old)
		r.checkUnknown(t, query)
		tb.awaitRollout(t, a.name)
		r.checkUnknown(t, query)

		got := tb.awaitGone(t, old)
		log, err := os.ReadFile(got.Pod.log)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%s at %s, now at %s: old hook ended after %v: %v %s", old.Name, old.Pod.addr, anew.Pod.addr, got.HookEnded.Sub(got.Deleted), got.HookErr, log)
		if got.HookErr == nil || !strings.Contains(string(log), "404") {
			t.Errorf("old hook: %v %s; want it to be refused with 404", got.HookErr, log)
		}
		if held := got.HookEnded.Sub(got.Deleted); held < fallback {
			t.Errorf("old hook ended after %v; want its fallback of %v", held, fallback)
		}
		if n := r.drained(t, a.name); n != 0 {
			t.Errorf("%d calls were told that the pod is drained", n)
		}
	})
	t.Run("rolling update", func(t *testing.T) {
		before := tb.kubelet.pods(a.name)
		if _, err := tb.kube.AppsV1().StatefulSets(a.name).Patch(t.Context(), a.name, types.MergePatchType, rolled(), metav1.PatchOptions{}); err != nil {
			t.Fatal(err)
		}
		tb.awaitRollout(t, a.name)
		for _, p := range before {
			if p.Gone.IsZero() {
				p = tb.awaitGone(t, p)
				t.Logf("%s, %s: held for %v", p.Name, p.Pod.addr, p.HookEnded.Sub(p.Deleted))
				p.checkHook(t, settleALB)
			}
		}
		if n := r.drained(t, a.name); n != replicas {
			t.Errorf("%d of %d hooks were told that their pod is drained", n, replicas)
		}
	})
	requests, failed := l.end()
	t.Logf("%d requests", requests)
	if len(failed) > 0 {
		t.Errorf("%d of %d requests failed: %q", len(failed), requests, failed)
	}
	r.checkRights(t)
}

// createStatefulSet makes a namespace with a StatefulSet of such pods behind an
// ALB.
func (tb *testbed) createStatefulSet(t *testing.T, name string, replicas int32, template corev1.PodTemplateSpec) *application {
	t.Helper()
	a := tb.createExposed(t, bindings.Group, aws.ALB, name)
	gate(&template, gateOf(bindings.Group, name))
	template, selector := labelled(template, name)
	_, err := tb.kube.AppsV1().StatefulSets(name).Create(t.Context(), &appsv1.StatefulSet{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       appsv1.StatefulSetSpec{ServiceName: name, Replicas: &replicas, Selector: selector, Template: template},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

// nameTold tells a pod's hook its name, its namespace and its address.
func nameTold(template corev1.PodTemplateSpec) corev1.PodTemplateSpec {
	c := &template.Spec.Containers[0]
	for name, path := range map[string]string{"POD_NAME": "metadata.name", "POD_NAMESPACE": "metadata.namespace", "POD_IP": "status.podIP"} {
		c.Env = append(c.Env, corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}})
	}
	return template
}

// forceDelete removes a pod's object while the pod runs.
func (tb *testbed) forceDelete(t *testing.T, r report) {
	t.Helper()
	if err := tb.kube.CoreV1().Pods(r.Namespace).Delete(t.Context(), r.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
}

// awaitAnew waits for the pod that gets the name of a deleted one, and returns it when it
// runs.
func (tb *testbed) awaitAnew(t *testing.T, old report) (anew report) {
	t.Helper()
	until(t, "another pod "+old.Name, func() error {
		for _, anew = range tb.kubelet.pods(old.Namespace) {
			if anew.Name == old.Name && anew.UID != old.UID && anew.Pod != nil {
				return nil
			}
		}
		return errors.New("none runs")
	})
	return anew
}

// checkUnknown checks that a question is refused in time because there is no such pod.
func (r *replica) checkUnknown(t *testing.T, query string) {
	t.Helper()
	began := time.Now()
	got := r.ask(t, query)
	if took := time.Since(began); got != "404 not_found" || took > refusedWithin {
		t.Errorf("%s: %s after %v; want 404 not_found within %v", query, got, took, refusedWithin)
	}
}
