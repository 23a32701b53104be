package cluster

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// What is read of a pod is the same after it was trimmed, and trimming it again
// changes nothing.
func FuzzTrimPod(f *testing.F) {
	for _, object := range []string{
		`{"metadata":{"name":"a","namespace":"b","uid":"x","resourceVersion":"1","labels":{"app":"web"},"creationTimestamp":"2000-01-01T00:00:00Z","deletionTimestamp":"2000-01-01T00:01:00Z","deletionGracePeriodSeconds":20},
		"spec":{"terminationGracePeriodSeconds":90,"initContainers":[{"name":"mesh","restartPolicy":"Always"}],"containers":[{"name":"app","lifecycle":{"preStop":{"exec":{"command":["x"]}}}},{"name":"log","lifecycle":{}}]},
		"status":{"phase":"Running","podIP":"10.0.0.1","conditions":[{"type":"Ready","status":"True"},{"type":"target-health.elbv2.k8s.aws/web","status":"False"}]}}`,
		`{"metadata":{"uid":"x"},"spec":{"hostNetwork":true},"status":{"phase":"Failed","podIPs":[{"ip":"10.0.0.1"},{"ip":"::ffff:10.0.0.2"},{"ip":"junk"}]}}`,
		`{"metadata":{"deletionTimestamp":"0001-01-01T00:00:00Z","deletionGracePeriodSeconds":-1},"spec":{"terminationGracePeriodSeconds":9223372036854775807},"status":{"podIP":"fe80::1%x","podIPs":[]}}`,
		`{"metadata":{"deletionTimestamp":"9999-01-01T00:00:00Z","deletionGracePeriodSeconds":9223372036854775807},"status":{"conditions":[{"type":"target-health.eks.amazonaws.com/"}]}}`, `{}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		whole := new(corev1.Pod)
		if json.Unmarshal(object, whole) != nil {
			return
		}
		if s := &whole.Status; len(s.PodIPs) == 0 && s.PodIP != "" {
			s.PodIPs = []corev1.PodIP{{IP: s.PodIP}} // as the API server has it since 1.16
		}
		x := &Index{kube: new(kube.Client), histories: make(map[types.UID]*history)}
		read := func(p *corev1.Pod) []any {
			gates := make(map[string]bool)
			for _, c := range p.Status.Conditions {
				if name, ok := ties.BindingOfGate(c.Type); ok {
					gates[name] = true
				}
			}
			return []any{x.newPod(p), podAddresses(p), completed(p), gates, p.CreationTimestamp, p.Labels, p.Namespace, p.UID}
		}
		before := read(whole)
		if p := before[0].(*Pod); p.Grace < 0 {
			t.Errorf("grace period %s", p.Grace)
		}
		once, err := trimPod(whole)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(before, read(once.(*corev1.Pod)), cmp.FilterPath(unexported, cmp.Ignore()), cmp.Comparer(sameAddr)); d != "" {
			t.Errorf("what is read (-whole +trimmed):\n%s", d)
		}
		if twice, err := trimPod(once); err != nil || !cmp.Equal(once, twice) {
			t.Errorf("trimmed again, error %v:\n%s", err, cmp.Diff(once, twice))
		}
	})
}
