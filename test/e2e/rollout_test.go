package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"drainwait/internal/sim/aws"
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

// The real controllers carry out a rolling update under load, behind an ALB or an NLB. No
// request fails with any of the example hooks, and some fail without a hook.
func TestRollingUpdate(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	r := tb.startNamed(t)
	t.Run("hook", func(t *testing.T) {
		for _, c := range []struct {
			name, hook string
			kind       aws.Kind
			replicas   int32
			settle     time.Duration
		}{
			{"curl", "hook-curl", aws.ALB, 3, settleALB},
			{"init-container", "hook-client-init-container", aws.ALB, 3, settleALB},
			{"in-image", "hook-client-in-image", aws.ALB, 3, settleALB},
			{"nlb", "hook-client-in-image", aws.NLB, 2, settleNLB},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				a := tb.createApplication(t, c.kind, c.name, c.replicas, example(t, c.hook).Spec.Template)
				requests, failed := tb.rollUnderLoad(t, a)
				if len(failed) > 0 {
					t.Errorf("%d of %d requests failed: %q", len(failed), requests, failed)
				}
				for _, p := range tb.kubelet.pods(a.name) {
					p.checkHook(t, c.settle)
				}
				if n := r.drained(t, a.name); n != int(c.replicas) {
					t.Errorf("%d of %d hooks were told that their pod is drained", n, c.replicas)
				}
			})
		}
		t.Run("none", func(t *testing.T) {
			t.Parallel()
			without := example(t, "hook-curl").Spec.Template
			without.Spec.Containers[0].Lifecycle = nil
			requests, failed := tb.rollUnderLoad(t, tb.createApplication(t, aws.ALB, "none", 3, without))
			if len(failed) == 0 {
				t.Errorf("none of %d requests failed: this world does not test anything", requests)
			}
		})
	})
	r.checkRights(t)
}

// checkHook checks the hook of a pod that is gone.
func (r report) checkHook(t *testing.T, settle time.Duration) {
	t.Helper()
	if err := r.hookError(settle); err != nil {
		t.Error(err)
	}
}

// hookError says what is wrong with the hook of a pod that is gone. It must have succeeded,
// and ended after the settle time and when no load balancer sent to the pod any more.
func (r report) hookError(settle time.Duration) (err error) {
	if r.Gone.IsZero() {
		return nil
	}
	if r.HookErr != nil {
		err = fmt.Errorf("hook of pod %s: %w %s", r.Name, r.HookErr, r.Output)
	}
	if r.MaySend {
		err = errors.Join(err, fmt.Errorf("pod %s stopped while it might still get requests", r.Name))
	}
	if held := r.HookEnded.Sub(r.Deleted); held < settle {
		err = errors.Join(err, fmt.Errorf("hook held pod %s for %v, which is less than the settle time of %v", r.Name, held, settle))
	}
	return err
}

// drained counts the calls for pods of a namespace that a replica answered with drained.
func (r *replica) drained(t *testing.T, namespace string) (n int) {
	t.Helper()
	text, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(text) {
		var entry struct{ Namespace, Outcome string }
		if json.Unmarshal(line, &entry) == nil && entry.Namespace == namespace && entry.Outcome == "drained" {
			n++
		}
	}
	return n
}

// checkRights checks that the API server refused nothing to a replica.
func (r *replica) checkRights(t *testing.T) {
	t.Helper()
	text, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), "forbidden") {
		t.Errorf("the service wants rights that it is not deployed with:\n%s", text)
	}
}

// rollUnderLoad carries out a rolling update, and says what the clients saw.
func (tb *testbed) rollUnderLoad(t *testing.T, a *application) (requests int, failed []error) {
	t.Helper()
	return tb.underLoad(t, a, func() { tb.roll(t, a) })
}

// underLoad is rollUnderLoad with another way to start the rolling update.
func (tb *testbed) underLoad(t *testing.T, a *application, roll func()) (requests int, failed []error) {
	t.Helper()
	tb.awaitRollout(t, a.name)
	l := tb.startLoad(t, a.TargetGroup)
	roll()
	tb.awaitRollout(t, a.name)
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
