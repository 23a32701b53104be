package cluster

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// What is read of an object is the same after it was trimmed, however often; the
// rest is gone.
func TestTrim(t *testing.T) {
	x := &Index{kube: new(kube.Client), histories: make(map[types.UID]*history)}
	for _, tt := range []struct {
		name string
		trim cache.TransformFunc
		yaml string
		read func(obj any) any
	}{
		{"pod", trimPod, `
kind: Pod
metadata: {name: a, uid: x, resourceVersion: "1", labels: {app: web}, annotations: {junk: junk}, finalizers: [junk], deletionTimestamp: "2000-01-01T00:01:00Z", deletionGracePeriodSeconds: 20}
spec:
  nodeName: junk
  terminationGracePeriodSeconds: 90
  initContainers: [{name: setup, image: junk}, {name: mesh, image: junk, restartPolicy: Always}]
  containers:
  - {name: app, image: junk, env: [{name: junk, value: junk}], ports: [{name: junk, containerPort: 80}], lifecycle: {preStop: {exec: {command: [junk]}}}}
status: {phase: Running, podIP: 10.0.0.1, hostIP: 10.1.0.1, message: junk, conditions: [
  {type: Ready, status: "True", message: junk}, {type: ContainersReady, status: "False", lastTransitionTime: "2000-01-01T00:00:04Z"},
  {type: PodScheduled, status: "True", reason: junk}, {type: target-health.elbv2.k8s.aws/web, status: "False"}]}`, func(obj any) any {
			p := obj.(*corev1.Pod).DeepCopy()
			if len(p.Status.PodIPs) == 0 {
				p.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}} // as the API server has it since 1.16
			}
			var gates []string
			for _, c := range p.Status.Conditions {
				if name, ok := ties.BindingOfGate(c.Type); ok {
					gates = append(gates, name)
				}
			}
			return []any{x.newPod(p), podAddresses(p), gates, p.CreationTimestamp, p.Labels}
		}},
		{"completed pod in the host network", trimPod, `
kind: Pod
metadata: {name: a, uid: x}
spec:
  hostNetwork: true
  containers: [{name: app, image: junk}]
status: {phase: Failed, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}`, func(obj any) any {
			addresses := podAddresses(obj.(*corev1.Pod))
			return []any{x.newPod(obj.(*corev1.Pod)), addresses, completed(obj.(*corev1.Pod))}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := parse(t, tt.yaml)[0]
			once, err := tt.trim(full)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.read(full), tt.read(once), cmp.FilterPath(unexported, cmp.Ignore()), cmp.Comparer(sameAddr)); d != "" {
				t.Errorf("what is read (-whole +trimmed):\n%s", d)
			}
			checkTrimmed(t, tt.trim, full, once)
		})
	}
}

// checkTrimmed checks that once, which trim made of full, stays as it is, that
// nothing of the name "junk" is in it, and that trim passes on what it does not
// know.
func checkTrimmed(t *testing.T, trim cache.TransformFunc, full metav1.Object, once any) {
	t.Helper()
	twice, err := trim(once)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(once, twice); d != "" {
		t.Errorf("trimmed again (-once +twice):\n%s", d)
	}
	if before, after := junk(t, full), junk(t, once); before == 0 || after != 0 {
		t.Errorf("junk: %d before, %d after", before, after)
	}
	unknown := cache.DeletedFinalStateUnknown{Key: "default/web"}
	if got, err := trim(unknown); got != unknown || err != nil {
		t.Errorf("of a tombstone, trim made %v and error %v", got, err)
	}
}

func junk(t *testing.T, obj any) int {
	t.Helper()
	text, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(text, []byte("junk"))
}
