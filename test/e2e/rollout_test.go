package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// example is a Deployment in deploy/examples.
func example(t *testing.T, name string) *appsv1.Deployment {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy/examples", name+".yaml"))
	if err != nil {
		t.Fatal(err)
	}
	d := new(appsv1.Deployment)
	if err := yaml.UnmarshalStrict(text, d); err != nil {
		t.Fatal(err)
	}
	return d
}

// A rolling update by the real controllers, under load: no request fails with any
// of the hooks that are shipped as examples, and some do without one.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	r := tb.startService(t, tb.serviceKubeconfig(t))
	tb.nameService(t, r)
	r.awaitReady(t)
	t.Run("hook", func(t *testing.T) {
		for _, name := range []string{"hook-curl", "hook-client-init-container", "hook-client-in-image"} {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				a := tb.createApplication(t, name, 3, example(t, name).Spec.Template)
				requests, failed := tb.rollUnderLoad(t, a)
				if len(failed) > 0 {
					t.Errorf("%d of %d requests failed: %q", len(failed), requests, failed)
				}
				for _, p := range tb.kubelet.pods(a.name) {
					if p.MaySend {
						t.Errorf("pod %s stopped while it might still get requests", p.Name)
					}
					if p.HookErr != nil {
						t.Errorf("hook of pod %s: %v %s", p.Name, p.HookErr, p.Output)
					}
				}
			})
		}
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			without := example(t, "hook-curl").Spec.Template
			without.Spec.Containers[0].Lifecycle = nil
			requests, failed := tb.rollUnderLoad(t, tb.createApplication(t, "none", 3, without))
			if len(failed) == 0 {
				t.Errorf("none of %d requests failed: this world does not test anything", requests)
			}
		})
	})
	text, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "forbidden") {
		t.Errorf("the service wants rights that it is not deployed with:\n%s", text)
	}
	if n := strings.Count(string(text), `"outcome":"drained"`); n != 9 {
		t.Errorf("%d of 9 hooks were told that their pod is drained:\n%s", n, text)
	}
}

// rollUnderLoad carries out a rolling update and says what the clients saw.
func (tb *testbed) rollUnderLoad(t *testing.T, a *application) (requests int, failed []string) {
	t.Helper()
	tb.awaitRollout(t, a)
	l := tb.startLoad(t, a)
	tb.roll(t, a)
	tb.awaitRollout(t, a)
	requests, failed = l.end()
	for _, p := range tb.kubelet.pods(a.name) {
		if !p.Gone.IsZero() {
			t.Logf("%s, %s: deleted at %s, gone %v later, hook: %v %s", p.Name, p.Pod.addr,
				p.Deleted.Format(time.StampMilli), p.Gone.Sub(p.Deleted), p.HookErr, p.Output)
		}
	}
	t.Logf("%d requests, %d failed", requests, len(failed))
	return requests, failed
}

// withHook is the template of a pod with a hook and a grace period in seconds.
func withHook(grace int64, hook ...string) corev1.PodTemplateSpec {
	return corev1.PodTemplateSpec{Spec: corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		Containers: []corev1.Container{{
			Name:      "app",
			Lifecycle: &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: hook}}},
		}},
	}}
}
