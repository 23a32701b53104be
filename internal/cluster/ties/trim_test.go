package ties

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

// What is read of an object is the same after it was trimmed, however often; the
// rest is gone.
func TestTrim(t *testing.T) {
	for _, tt := range []struct {
		name string
		trim cache.TransformFunc
		full metav1.Object
		yaml string
		read func(obj any) any
	}{
		{"Service", Services.Trim, new(corev1.Service), `
kind: Service
metadata: {name: web, annotations: {junk: junk}}
spec: {type: LoadBalancer, selector: {app: web}, clusterIP: junk, publishNotReadyAddresses: true, ports: [{name: http, port: 80, targetPort: web, nodePort: 30000}]}
status: {loadBalancer: {ingress: [{hostname: x}]}, conditions: [{type: junk}]}`, func(obj any) any {
			s := obj.(*corev1.Service)
			return []any{s.Spec.Type, s.Spec.Selector, s.Spec.PublishNotReadyAddresses, s.Status.LoadBalancer}
		}},
		{"EndpointSlice", Slices.Trim, new(discoveryv1.EndpointSlice), `
kind: EndpointSlice
metadata: {name: web-x, namespace: default, labels: {kubernetes.io/service-name: web, junk: junk}}
addressType: IPv4
ports: [{name: junk, port: 80}]
endpoints:
- {addresses: [10.0.0.1, junk], nodeName: junk, targetRef: {kind: Pod, namespace: other, name: a, uid: x}, conditions: {ready: false, serving: true}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: b, uid: z}}
- {addresses: [10.0.0.3]}`, func(obj any) any {
			s := obj.(*discoveryv1.EndpointSlice)
			keys := slicePods(s)
			slices.Sort(keys)
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "other", Name: "a", UID: "x"}}
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.2"}}
			return []any{ServiceOf(s), keys, namesPod(s, p), portsOfOthers(p, []*discoveryv1.EndpointSlice{s})}
		}},
		{"Ingress", Ingresses.Trim, new(networkingv1.Ingress), `
kind: Ingress
metadata: {name: web, annotations: {junk: junk, alb.ingress.kubernetes.io/group.name: g}}
spec:
  ingressClassName: junk
  tls: [{secretName: junk}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
  rules: [{host: www, http: {paths: [{path: /, backend: {service: {name: api}}}]}}]
status: {loadBalancer: {ingress: [{hostname: x}]}}`, func(obj any) any {
			i := obj.(*networkingv1.Ingress)
			return []any{ingressRecords(i), i.Status.LoadBalancer}
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			full := tt.full
			if err := yaml.UnmarshalStrict([]byte(tt.yaml), full); err != nil {
				t.Fatal(err)
			}
			once, err := tt.trim(full)
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(tt.read(full), tt.read(once), cmp.AllowUnexported(record{}, link{}, origin{})); d != "" {
				t.Errorf("what is read (-whole +trimmed):\n%s", d)
			}
			checkTrimmed(t, tt.trim, full, once)
		})
	}
	t.Run("binding", func(t *testing.T) {
		full := &unstructured.Unstructured{Object: map[string]any{
			"metadata": map[string]any{"namespace": "default", "name": "web", "finalizers": []any{"junk"}, "annotations": map[string]any{"junk": "junk", CheckpointAnnotation: ""}},
			"spec":     map[string]any{"targetGroupARN": "arn:web", "serviceRef": map[string]any{"name": "web", "port": int64(80)}, "vpcID": "junk"},
			"status":   map[string]any{"observedGeneration": int64(1)},
		}}
		once, err := TrimBinding(full)
		if err != nil {
			t.Fatal(err)
		}
		b := once.(*Binding)
		if value, ok := b.Annotations[CheckpointAnnotation]; b.ServiceRef.Name != "web" || b.TargetGroupARN != "arn:web" || value != "" || !ok {
			t.Errorf("trimmed: %+v", b)
		}
		checkTrimmed(t, TrimBinding, full, once)
	})
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
