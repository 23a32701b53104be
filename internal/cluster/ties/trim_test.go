package ties

import (
	"bytes"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"
)

// Of an object nothing is kept that is not read, and what is unknown is passed on. That
// the rest stays is what FuzzTrim and FuzzTrimBinding show.
func TestTrim(t *testing.T) {
	for _, tt := range []struct {
		name string
		trim cache.TransformFunc
		full metav1.Object
		yaml string
	}{
		{"Service", Services.Trim, new(corev1.Service), `
kind: Service
metadata: {name: web, annotations: {junk: junk}}
spec: {type: LoadBalancer, selector: {app: web}, clusterIP: junk, publishNotReadyAddresses: true, ports: [{name: http, port: 80, targetPort: web, nodePort: 30000}]}
status: {loadBalancer: {ingress: [{hostname: x}]}, conditions: [{type: junk}]}`},
		{"EndpointSlice", Slices.Trim, new(discoveryv1.EndpointSlice), `
kind: EndpointSlice
metadata: {name: web-x, namespace: default, labels: {kubernetes.io/service-name: web, junk: junk}}
addressType: IPv4
ports: [{name: junk, port: 80}]
endpoints:
- {addresses: [10.0.0.1, junk], nodeName: junk, targetRef: {kind: Pod, namespace: other, name: a, uid: x}, conditions: {ready: false, serving: true}}
- {addresses: [10.0.0.2], targetRef: {kind: Pod, name: b, uid: z}}
- {addresses: [10.0.0.3]}`},
		{"Ingress", Ingresses.Trim, new(networkingv1.Ingress), `
kind: Ingress
metadata: {name: web, annotations: {junk: junk, alb.ingress.kubernetes.io/group.name: g}}
spec:
  ingressClassName: junk
  tls: [{secretName: junk}]
  defaultBackend: {service: {name: web, port: {number: 80}}}
  rules: [{host: www, http: {paths: [{path: /, backend: {service: {name: api}}}]}}]
status: {loadBalancer: {ingress: [{hostname: x}]}}`},
		{"binding", TrimBinding, new(unstructured.Unstructured), `
kind: TargetGroupBinding
metadata: {name: web, finalizers: [junk], annotations: {junk: junk, elbv2.k8s.aws/checkpoint: ""}}
spec: {targetGroupARN: "arn:web", serviceRef: {name: web, port: 80}, vpcID: junk}
status: {observedGeneration: 1}`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := yaml.UnmarshalStrict([]byte(tt.yaml), tt.full); err != nil {
				t.Fatal(err)
			}
			trimmed, err := tt.trim(tt.full)
			if err != nil {
				t.Fatal(err)
			}
			text, err := json.Marshal(trimmed)
			if err != nil || bytes.Contains(text, []byte("junk")) {
				t.Errorf("error %v: %s", err, text)
			}
			unknown := cache.DeletedFinalStateUnknown{Key: "default/web"}
			if got, err := tt.trim(unknown); got != unknown || err != nil {
				t.Errorf("of a tombstone, trim made %v and error %v", got, err)
			}
		})
	}
}
