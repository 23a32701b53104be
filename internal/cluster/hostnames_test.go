package cluster

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drainwait/internal/cluster/ties"
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
`
	all := []ties.Hostname{
		{Name: "both-1.elb.example", From: "Ingress default/both", Ingress: true},
		{Name: "api-1.elb.example", From: "Ingress default/default", Ingress: true},
		{Name: "nlb-of-web-1.elb.example", From: "Ingress default/web", Ingress: true},
		{Name: "web-1.elb.example", From: "Ingress default/web", Ingress: true},
		{Name: "nlb-1.elb.example", From: "Service default/nlb"},
		{Name: "nlb-2.elb.example", From: "Service default/nlb-of-api"},
	}
	ofWeb := []string{"both-1.elb.example", "web-1.elb.example", "nlb-of-web-1.elb.example", "nlb-1.elb.example"}
	ofAPI := []string{"both-1.elb.example", "api-1.elb.example", "nlb-2.elb.example"}
	newOfWeb := []string{"Ingress default/new-web", "Service default/new-nlb"}
	for _, tt := range []struct {
		name      string
		steps     []string
		older     bool
		ingresses []string
		tied      []string
		noAddress []string
	}{
		{"a pod of nothing", nil, false, nil, nil, nil},
		{"an older pod of nothing", nil, true, nil, nil, nil},
		{"selected", []string{pod("app: web")}, false, nil, ofWeb, newOfWeb},
		{"an older pod, selected", []string{pod("app: web")}, true, nil, ofWeb, newOfWeb},
		{"once selected", []string{pod("app: web"), pod("app: idle")}, false, nil, ofWeb, newOfWeb},
		{"in an EndpointSlice", []string{slice("api", "kind: Pod, name: a")}, false, nil, ofAPI[:2], []string{"Ingress default/new-api"}},
		{"the Service of another Ingress", []string{pod("app: api")}, false, nil, ofAPI, []string{"Ingress default/new-api"}},
		{"named", nil, false, []string{"default", "new-api", "by-ip"}, []string{"api-1.elb.example"}, nil},
		{"named for an older pod", nil, true, []string{"default"}, []string{"api-1.elb.example"}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
				w.do(noStatus)
				if tt.older {
					w.do("expire")
				}
				w.do(tt.steps...)
				var want []ties.Hostname
				for _, h := range all {
					if h.Tied = slices.Contains(tt.tied, h.Name); h.Tied || tt.older {
						want = append(want, h)
					}
				}
				s := w.Survey(w.Index.Pod("default", "a"), tt.ingresses)
				if d := cmp.Diff(want, s.Hostnames); d != "" {
					t.Errorf("names (-want +got):\n%s", d)
				}
				if d := cmp.Diff(tt.noAddress, s.NoAddress); d != "" {
					t.Errorf("without address (-want +got):\n%s", d)
				}
				if len(s.MissingIngresses) > 0 {
					t.Errorf("missing: %q", s.MissingIngresses)
				}
			})
		})
	}
	t.Run("an address that no pod has", func(t *testing.T) {
		inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
			s := w.Survey(w.Address("default", netip.MustParseAddr("10.9.9.9")), nil)
			if d := cmp.Diff(all, s.Hostnames); d != "" {
				t.Errorf("names (-want +got):\n%s", d)
			}
			if len(s.NoAddress) > 0 {
				t.Errorf("without address: %q", s.NoAddress)
			}
		})
	})
	t.Run("missing", func(t *testing.T) {
		inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
			w.do(noStatus, "remove {kind: Ingress, metadata: {name: new-web}}")
			s := w.Survey(w.Index.Pod("default", "a"), []string{"web", "new-web", "nlb", "both", "nobody"})
			if d := cmp.Diff([]string{"new-web", "nlb", "nobody"}, s.MissingIngresses); d != "" {
				t.Errorf("missing (-want +got):\n%s", d)
			}
		})
	})
}

// hosts writes host names down: "web-1" is tied, "web-1?" is not, "web-1!"
// publishes addresses that are not ready.
func (w *world) hosts(p *Pod) []string {
	var out []string
	for _, h := range w.Survey(p, nil).Hostnames {
		s := strings.TrimSuffix(h.Name, ".elb.example")
		if h.PublishesNotReady {
			s += "!"
		}
		if !h.Tied {
			s += "?"
		}
		out = append(out, s)
	}
	return out
}

// Where bindings that were made for an Ingress or a Service account for it, its
// host name leads to nothing else.
func TestAccounting(t *testing.T) {
	binding := func(name, service, labels string) string {
		return sep + "{kind: TargetGroupBinding, metadata: {name: " + name + ", labels: {" + labels + "}}, spec: {targetGroupARN: 'arn:" + name + "', targetType: ip, serviceRef: {name: " + service + ", port: 80}}}"
	}
	const (
		objects = `
kind: Service
metadata: {name: web}
spec: {selector: {app: web}}
---
kind: Service
metadata: {name: api}
spec: {selector: {tier: api}}
---
kind: Ingress
metadata: {name: both}
spec:
  defaultBackend: {service: {name: api, port: {number: 80}}}
  rules: [{http: {paths: [{path: /w, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
status: {loadBalancer: {ingress: [{hostname: both.elb.example}]}}
---
kind: Ingress
metadata: {name: member, annotations: {alb.ingress.kubernetes.io/group.name: team}}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
status: {loadBalancer: {ingress: [{hostname: team.elb.example}]}}
---
kind: Service
metadata: {name: nlb}
spec: {type: LoadBalancer, selector: {app: web}}
status: {loadBalancer: {ingress: [{hostname: nlb.elb.example}]}}
`
		ofBoth   = "ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack-name: both"
		ofMember = "ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack-name: member"
		ofTeam   = "ingress.k8s.aws/stack: team"
		ofNLB    = "service.k8s.aws/stack-namespace: default, service.k8s.aws/stack-name: nlb"
		web      = "app: web"
	)
	for _, tt := range []struct {
		name     string
		bindings string
		labels   string // of the pod
		older    bool
		want     []string
	}{
		{"no bindings", "", web, false, []string{"both", "team", "nlb"}},
		{"all accounted for", binding("x", "web", ofBoth) + binding("u", "web", ofTeam) + binding("z", "nlb", ofNLB), web, false, nil},
		{"without labels, as Auto Mode's may be", binding("x", "web", "") + binding("z", "nlb", ""), web, false, []string{"both", "team", "nlb"}},
		{"two backends, one bound", binding("x", "web", ofBoth), "app: web, tier: api", false, []string{"both", "team", "nlb"}},
		{"two backends, both bound", binding("x", "web", ofBoth) + binding("u", "api", ofBoth), "app: web, tier: api", false, []string{"team", "nlb"}},
		{"bound for the other backend", binding("x", "api", ofBoth), web, false, []string{"both", "team", "nlb"}},
		{"bound for the backend of another Ingress", binding("x", "web", ofMember), web, false, []string{"both", "team", "nlb"}},
		{"of another namespace", binding("x", "web", "ingress.k8s.aws/stack-namespace: other, ingress.k8s.aws/stack-name: both"), web, false, []string{"both", "team", "nlb"}},
		{"of another IngressGroup", binding("x", "web", "ingress.k8s.aws/stack: others"), web, false, []string{"both", "team", "nlb"}},
		{"of a Service of an Ingress' name", binding("x", "web", "service.k8s.aws/stack-namespace: default, service.k8s.aws/stack-name: both"), web, false, []string{"both", "team", "nlb"}},
		{"of an Ingress of a Service's name", binding("x", "nlb", "ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack-name: nlb"), web, false, []string{"both", "team", "nlb"}},
		{"of another Service", binding("z", "nlb", "service.k8s.aws/stack-namespace: default, service.k8s.aws/stack-name: other"), web, false, []string{"both", "team", "nlb"}},
		{"a pod of nothing", "", "app: idle", false, nil},
		{"an older pod of nothing", "", "app: idle", true, []string{"both?", "team?", "nlb?"}},
		{"an older pod of nothing, accounted for", binding("x", "api", ofBoth) + binding("u", "web", ofTeam) + binding("z", "nlb", ofNLB), "app: idle", true, nil},
		{"an older pod of one backend, bound for the other", binding("x", "api", ofBoth), web, true, []string{"both", "team", "nlb"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, objects+tt.bindings, func(t *testing.T, w *world) {
				w.do(noStatus)
				if tt.older {
					w.do("expire")
				}
				w.do(pod(tt.labels))
				if d := cmp.Diff(tt.want, w.hosts(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("host names (-want +got):\n%s", d)
				}
			})
		})
	}
	t.Run("without address, accounted for", func(t *testing.T) {
		noAddress := "{kind: Ingress, metadata: {name: both}, spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}}"
		for bs, want := range map[string][]string{"": {"Ingress default/both"}, binding("x", "web", ofBoth): nil, binding("x", "web", ofMember): {"Ingress default/both"}} {
			inIndexed(t, Config{}, objects+bs, func(t *testing.T, w *world) {
				w.do(noStatus, noAddress, pod(web))
				if d := cmp.Diff(want, w.Survey(w.Index.Pod("default", "a"), nil).NoAddress); d != "" {
					t.Errorf("with bindings %q (-want +got):\n%s", bs, d)
				}
			})
		}
	})
}

// What was shown while the pod lived counts although it is shown no more.
func TestFormerHostnames(t *testing.T) {
	const ingress = `
kind: Ingress
metadata: {name: web}
spec: {defaultBackend: {service: {name: web, port: {number: 80}}}}
status: {loadBalancer: {ingress: [{hostname: web-1.elb.example}]}}`
	const nlb = `
kind: Service
metadata: {name: nlb}
spec: {type: LoadBalancer, selector: {app: web}}
status: {loadBalancer: {ingress: [{hostname: nlb-1.elb.example}]}}`
	born := []string{noStatus, pod("app: web")}
	for _, tt := range []struct {
		name  string
		steps []string
		want  []string
	}{
		{"shown", born, []string{"web-1", "nlb-1"}},
		{"the Ingress was deleted", append(born, "remove "+ingress), []string{"web-1", "nlb-1"}},
		{"the Service was deleted", append(born, "remove "+nlb), []string{"web-1", "nlb-1"}},
		{"the Service is no LoadBalancer any more", append(born, strings.ReplaceAll(nlb, "type: LoadBalancer, ", "")), []string{"web-1", "nlb-1"}},
		{"the backend was switched", append(born, strings.ReplaceAll(ingress, "{name: web, port", "{name: blue, port")), []string{"web-1", "nlb-1"}},
		{"the host name was taken off", append(born, strings.Split(ingress, "status")[0]), []string{"web-1", "nlb-1"}},
		{"another host name", append(born, strings.ReplaceAll(ingress, "web-1", "web-2")), []string{"web-1", "web-2", "nlb-1"}},
		{"deleted long before the pod was there", append([]string{"remove " + ingress, "", "", "", ""}, born...), []string{"nlb-1"}},
		{"deleted just before the pod was there", append([]string{"remove " + ingress}, born...), []string{"web-1", "nlb-1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, service("web", "app: web")+sep+ingress+sep+nlb, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				if d := cmp.Diff(tt.want, w.hosts(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("host names (-want +got):\n%s", d)
				}
			})
		})
	}
	t.Run("kept and dropped", func(t *testing.T) {
		inIndexed(t, Config{}, service("web", "app: web")+sep+ingress, func(t *testing.T, w *world) {
			w.do(append(born, "remove "+ingress)...)
			w.pass(keepFormer + 2*tidyEvery)
			if d := cmp.Diff([]string{"web-1"}, w.hosts(w.Index.Pod("default", "a"))); d != "" {
				t.Errorf("while the pod lives (-want +got):\n%s", d)
			}
			w.do("remove " + pod(""))
			w.pass(2 * tidyEvery)
			if w.hosts(w.oldPod("default")) != nil {
				t.Error("kept when the pod is gone")
			}
		})
		inIndexed(t, Config{}, service("web", "app: web")+sep+ingress, func(t *testing.T, w *world) {
			w.do("remove " + ingress)
			w.pass(keepFormer - 10*time.Second)
			if w.hosts(w.oldPod("default")) == nil {
				t.Error("dropped before ten minutes")
			}
		})
	})
}

func TestHostnamePublishesNotReady(t *testing.T) {
	const ingress = `
kind: Ingress
metadata: {name: both}
spec:
  defaultBackend: {service: {name: api, port: {number: 80}}}
  rules: [{http: {paths: [{path: /w, pathType: Prefix, backend: {service: {name: web, port: {number: 80}}}}]}}]
status: {loadBalancer: {ingress: [{hostname: both.elb.example}]}}`
	publishing := func(s string) string {
		return strings.ReplaceAll(s, "spec: {", "spec: {publishNotReadyAddresses: true, ")
	}
	web, api := service("web", "app: web"), service("api", "tier: api")
	for _, tt := range []struct {
		name, services, labels string
		want                   []string
	}{
		{"none publishes", web + sep + api, "app: web", []string{"both"}},
		{"the only one of the pod publishes", publishing(web) + sep + api, "app: web", []string{"both!"}},
		{"one of two publishes", publishing(web) + sep + api, "app: web, tier: api", []string{"both"}},
		{"both publish", publishing(web) + sep + publishing(api), "app: web, tier: api", []string{"both!"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, ingress+sep+tt.services, func(t *testing.T, w *world) {
				w.do(noStatus, pod(tt.labels))
				if d := cmp.Diff(tt.want, w.hosts(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("host names (-want +got):\n%s", d)
				}
			})
		})
	}
}
