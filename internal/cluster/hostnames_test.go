package cluster

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestHostnames(t *testing.T) {
	const objects = `
kind: Service
metadata: {name: web}
spec: {selector: {app: web}}
---
kind: Service
metadata: {name: api}
spec: {selector: {app: api}}
---
kind: Ingress
metadata: {name: web}
spec:
  rules:
  - {host: www.example.com}
  - http: {paths: [{path: /, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}
status: {loadBalancer: {ingress: [{hostname: web-1.elb.example}, {hostname: nlb-of-web-1.elb.example}]}}
---
kind: Ingress
metadata: {name: both}
spec:
  defaultBackend: {service: {name: api, port: {number: 80}}}
  rules: [{http: {paths: [{path: /, pathType: Prefix, backend: {resource: {kind: Bucket, name: web}}}, {path: /w, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
status: {loadBalancer: {ingress: [{hostname: both-1.elb.example}]}}
---
kind: Ingress
metadata: {name: default}
spec: {defaultBackend: {service: {name: api, port: {number: 80}}}}
status: {loadBalancer: {ingress: [{hostname: api-1.elb.example}]}}
---
kind: Ingress
metadata: {name: new-api}
spec: {defaultBackend: {service: {name: api, port: {number: 80}}}}
---
kind: Ingress
metadata: {name: new-web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
---
kind: Ingress
metadata: {name: by-ip}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
status: {loadBalancer: {ingress: [{ip: 192.0.2.1}]}}
---
kind: Service
metadata: {name: nlb}
spec: {type: LoadBalancer, selector: {app: web}}
status: {loadBalancer: {ingress: [{hostname: nlb-1.elb.example}]}}
---
kind: Service
metadata: {name: nlb-of-api}
spec: {type: LoadBalancer, selector: {app: api}}
status: {loadBalancer: {ingress: [{hostname: nlb-2.elb.example}]}}
---
kind: Service
metadata: {name: new-nlb}
spec: {type: LoadBalancer, selector: {app: web}}
---
kind: Service
metadata: {name: was-nlb}
spec: {selector: {app: web}}
status: {loadBalancer: {ingress: [{hostname: nlb-3.elb.example}]}}
---
kind: Ingress
metadata: {name: web, namespace: other}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
status: {loadBalancer: {ingress: [{hostname: other-1.elb.example}]}}
---
kind: Service
metadata: {name: web, namespace: third}
spec: {selector: {app: web}}
---
kind: Pod
metadata: {name: a}
---
kind: Pod
metadata: {name: web-pod, namespace: third, labels: {app: web}}
`
	// certain are the names that are Certain; all that the namespace has are listed.
	all := []Hostname{
		{Name: "both-1.elb.example", From: "Ingress default/both", Ingress: true},
		{Name: "api-1.elb.example", From: "Ingress default/default", Ingress: true},
		{Name: "web-1.elb.example", From: "Ingress default/web", Ingress: true},
		{Name: "nlb-of-web-1.elb.example", From: "Ingress default/web", Ingress: true},
		{Name: "nlb-1.elb.example", From: "Service default/nlb"},
		{Name: "nlb-2.elb.example", From: "Service default/nlb-of-api"},
	}
	ofWeb := map[string]bool{"both-1.elb.example": true, "web-1.elb.example": true, "nlb-of-web-1.elb.example": true, "nlb-1.elb.example": true}
	newOfWeb := []string{"Ingress default/new-web", "Service default/new-nlb"}
	for _, tt := range []struct {
		name      string
		pod       string // in namespace default; "" for none
		steps     []string
		certain   map[string]bool
		noAddress []string
	}{
		{"no pod", "", nil, nil, []string{"Ingress default/new-api", "Ingress default/new-web", "Service default/new-nlb"}},
		{"a pod of nothing", "a", nil, nil, nil},
		{"selected", "a", []string{pod("app: web")}, ofWeb, newOfWeb},
		{"once selected", "a", []string{pod("app: web"), pod("app: idle")}, ofWeb, newOfWeb},
		{"in an EndpointSlice", "a", []string{slice("api", "kind: Pod, name: a")}, map[string]bool{"both-1.elb.example": true, "api-1.elb.example": true}, []string{"Ingress default/new-api"}},
		{"the Service of another Ingress", "a", []string{pod("app: api")}, map[string]bool{"both-1.elb.example": true, "api-1.elb.example": true, "nlb-2.elb.example": true}, []string{"Ingress default/new-api"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				var p *Pod
				if tt.pod != "" {
					p = w.Index.Pod("default", tt.pod)
				}
				names, noAddress := w.Hostnames("default", p)
				var want []Hostname
				for _, h := range all {
					h.Certain = tt.certain[h.Name]
					want = append(want, h)
				}
				if d := cmp.Diff(want, names); d != "" {
					t.Errorf("names (-want +got):\n%s", d)
				}
				if d := cmp.Diff(tt.noAddress, noAddress); d != "" {
					t.Errorf("without address (-want +got):\n%s", d)
				}
			})
		})
	}
	t.Run("a pod of another namespace", func(t *testing.T) {
		inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
			names, noAddress := w.Hostnames("default", w.Index.Pod("third", "web-pod"))
			if d := cmp.Diff(all, names); d != "" {
				t.Errorf("names (-want +got):\n%s", d)
			}
			if len(noAddress) > 0 {
				t.Errorf("without address: %q", noAddress)
			}
		})
	})
	t.Run("HasIngress", func(t *testing.T) {
		inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
			for key, want := range map[[2]string]bool{{"default", "web"}: true, {"other", "web"}: true, {"other", "both"}: false, {"default", "nlb"}: false} {
				if got := w.HasIngress(key[0], key[1]); got != want {
					t.Errorf("Ingress %s is there: %t, want %t", key, got, want)
				}
			}
			w.remove("{kind: Ingress, metadata: {name: web}}")
			w.pass(time.Second)
			if w.HasIngress("default", "web") {
				t.Error("an Ingress is still there after its deletion")
			}
		})
	})
}
