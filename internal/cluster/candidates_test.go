package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// show writes candidates down: "web" is certain, "web?" is not, "web!" publishes
// addresses that are not ready, "web:8080" has its targets at that port.
func show(cs []Candidate) []string {
	var out []string
	for _, c := range cs {
		s := c.Name
		for _, port := range c.Ports {
			s += fmt.Sprint(":", port)
		}
		if c.PublishesNotReady {
			s += "!"
		}
		if !c.Certain {
			s += "?"
		}
		out = append(out, s)
	}
	return out
}

// Bindings of four Services, of which none selects a pod app=a.
const bindings = `
kind: TargetGroupBinding
metadata: {name: tgb-web}
spec: {targetGroupARN: "arn:web", targetType: ip, serviceRef: {name: web, port: 80}}
---
kind: TargetGroupBinding
metadata: {name: tgb-blue}
spec: {targetGroupARN: "arn:blue", targetType: ip, serviceRef: {name: blue, port: 80}}
---
kind: TargetGroupBinding
metadata: {name: tgb-nodes}
spec: {targetGroupARN: "arn:nodes", targetType: instance, serviceRef: {name: web, port: 80}}
---
kind: TargetGroupBinding
metadata: {name: tgb-web, namespace: other}
spec: {targetGroupARN: "arn:other", targetType: ip, serviceRef: {name: web, port: 80}}
`

func pod(labels string) string {
	return `
kind: Pod
metadata: {name: a, labels: {` + labels + `}}
status: {podIP: 10.0.0.1}
`
}

func service(name, selector string) string {
	return `
kind: Service
metadata: {name: ` + name + `}
spec: {selector: {` + selector + `}, ports: [{port: 80, targetPort: 8080}]}
`
}

func slice(service, targetRef string) string {
	return `
kind: EndpointSlice
metadata: {name: slice-of-` + service + `, labels: {kubernetes.io/service-name: ` + service + `}}
endpoints: [{addresses: [10.0.0.1], targetRef: {` + targetRef + `}, conditions: {ready: false}}]
`
}

const noStatus = "{kind: Pod, metadata: {name: a, labels: {app: none}}}"

func TestCandidates(t *testing.T) {
	for _, tt := range []struct {
		name   string
		before string   // there when the index begins, beside the bindings
		steps  []string // what happens then
		want   []string
	}{
		{"nothing ties", service("web", "app: web"), []string{noStatus, pod("app: a")}, nil},
		{"selected", service("web", "app: web"), []string{noStatus, pod("app: web, v: one")}, []string{"tgb-nodes", "tgb-web"}},
		{"not wholly selected", service("web", "app: web, v: two"), []string{noStatus, pod("app: web, v: one")}, nil},
		{"an empty selector selects nothing", service("web", ""), []string{noStatus, pod("app: web")}, nil},
		{"a selector of an empty value", service("web", `extra: ""`), []string{noStatus, pod("app: web")}, nil},
		{"the Service came later", "", []string{noStatus, pod("app: web"), service("web", "app: web")}, []string{"tgb-nodes", "tgb-web"}},
		{"in an EndpointSlice", "", []string{noStatus, pod("app: a"), slice("blue", "kind: Pod, name: a")}, []string{"tgb-blue"}},
		{"in an EndpointSlice before it was seen", slice("blue", "kind: Pod, name: a"), []string{noStatus, pod("app: a")}, []string{"tgb-blue"}},
		{"in an EndpointSlice of no Service", "", []string{noStatus, pod("app: a"), slice("", "kind: Pod, name: a")}, nil},
		{"another pod of that name in an EndpointSlice", "", []string{noStatus, pod("app: a"), slice("blue", "kind: Pod, name: a, uid: another")}, nil},
		{"another kind of that name in an EndpointSlice", "", []string{noStatus, pod("app: a"), slice("blue", "kind: VirtualMachine, name: a")}, nil},
		{"by a readiness condition", "", []string{noStatus, `
kind: Pod
metadata: {name: a}
status: {podIP: 10.0.0.1, conditions: [{type: target-health.elbv2.k8s.aws/tgb-blue, status: "False"}]}`}, []string{"tgb-blue"}},
		{"by a readiness condition of EKS Auto Mode", "", []string{noStatus, `
kind: Pod
metadata: {name: a}
status: {podIP: 10.0.0.1, conditions: [{type: target-health.eks.amazonaws.com/tgb-blue, status: "True"}]}`}, []string{"tgb-blue"}},

		{"the label was changed", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), pod("app: idle")}, []string{"tgb-blue"}},
		{"the label was changed twice", service("blue", "app: blue") + sep + service("web", "app: web"), []string{noStatus, pod("app: blue"), pod("app: web"), pod("app: idle")}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}},
		{"the selector was changed", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), service("blue", "app: green")}, []string{"tgb-blue"}},
		{"the selector was changed to and fro", service("blue", "app: green"), []string{noStatus, pod("app: blue"), service("blue", "app: blue"), service("blue", "app: green")}, []string{"tgb-blue"}},
		{"the Service was deleted", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "remove " + service("blue", "")}, []string{"tgb-blue"}},
		{"an EndpointSlice let go", "", []string{noStatus, pod("app: a"), slice("blue", "kind: Pod, name: a"), slice("blue", "kind: Pod, name: b")}, []string{"tgb-blue"}},
		{"an EndpointSlice was deleted", "", []string{noStatus, pod("app: a"), slice("blue", "kind: Pod, name: a"), "remove " + slice("blue", "kind: Pod, name: a")}, []string{"tgb-blue"}},
		{"label and Service went while watches were down", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "refuse", pod("app: idle"), "remove " + service("blue", ""), "recover"}, []string{"tgb-blue"}},
		{"the same, and the watches expired", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "refuse", pod("app: idle"), "remove " + service("blue", ""), "expire", "recover"}, []string{"tgb-blue", "tgb-nodes?", "tgb-web?"}},
		{"what came and went while changes were lost", "", []string{noStatus, pod("app: a"), "refuse", service("blue", "app: a"), "remove " + service("blue", ""), "expire", "recover"}, []string{"tgb-blue?", "tgb-nodes?", "tgb-web?"}},
		{"the Services of a pod that had the name before", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "remove " + pod(""), noStatus, pod("app: a")}, nil},
		{"the same, its deletion missed", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "refuse", "remove " + pod(""), pod("app: a"), "expire", "recover"}, []string{"tgb-blue?", "tgb-nodes?", "tgb-web?"}},

		{"older than the index", pod("app: a"), nil, []string{"tgb-blue?", "tgb-nodes?", "tgb-web?"}},
		{"older than the index, and selected", pod("app: blue") + sep + service("blue", "app: blue"), nil, []string{"tgb-blue", "tgb-nodes?", "tgb-web?"}},

		{"not ready is published", service("web", "app: web"), []string{noStatus, pod("app: web"), `
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, publishNotReadyAddresses: true}`}, []string{"tgb-nodes!", "tgb-web!"}},
		{"not ready was published when it was selected", `
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, publishNotReadyAddresses: true}`, []string{noStatus, pod("app: web"), pod("app: idle")}, []string{"tgb-nodes", "tgb-web"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, bindings+sep+tt.before, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				got := show(w.Candidates(w.Index.Pod("default", "a")))
				if d := cmp.Diff(tt.want, got); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
				for name := range w.servicesOf(w.Index.Pod("default", "a")) {
					if name == "" {
						t.Error("a Service without a name is tied to the pod")
					}
				}
			})
		})
	}
}

func TestCandidatePorts(t *testing.T) {
	const hostPod = `
kind: Pod
metadata: {name: a, labels: {app: web}}
spec:
  hostNetwork: true
  initContainers:
  - {name: setup, ports: [{name: metrics, containerPort: 1}]}
  - {name: mesh, restartPolicy: Always, ports: [{name: mesh, containerPort: 15000}]}
  containers:
  - {name: app, ports: [{name: http, containerPort: 8080}, {containerPort: 9}]}
  - {name: twin, ports: [{name: both, containerPort: 7002}]}
  - {name: other, ports: [{name: both, containerPort: 7001}]}
status: {podIP: 10.1.0.1}
---
kind: Service
metadata: {name: web}
spec:
  selector: {app: web}
  ports:
  - {name: number, port: 80, targetPort: 8080}
  - {name: named, port: 81, targetPort: http}
  - {name: same, port: 82}
  - {name: sidecar, port: 83, targetPort: mesh}
  - {name: several, port: 84, targetPort: both}
  - {name: unknown, port: 85, targetPort: nobody}
  - {name: setup, port: 86, targetPort: metrics}
  - {name: tcp, port: 87, targetPort: 53, protocol: TCP}
  - {name: udp, port: 87, targetPort: 54, protocol: UDP}
  - {name: tcp-same, port: 88, targetPort: 53, protocol: TCP}
  - {name: udp-same, port: 88, targetPort: 53, protocol: UDP}
  - {name: tcp-known, port: 89, targetPort: 53, protocol: TCP}
  - {name: udp-unknown, port: 89, targetPort: nobody, protocol: UDP}
`
	for _, tt := range []struct {
		name, serviceRef string
		pod              string
		want             []int
	}{
		{"by number", "name: web, port: 80", hostPod, []int{8080}},
		{"by name", "name: web, port: number", hostPod, []int{8080}},
		{"target port by name", "name: web, port: named", hostPod, []int{8080}},
		{"no target port", "name: web, port: 82", hostPod, []int{82}},
		{"target port of a sidecar", "name: web, port: 83", hostPod, []int{15000}},
		{"target port of two containers", "name: web, port: 84", hostPod, []int{7001, 7002}},
		{"two ports of one number", "name: web, port: 87", hostPod, []int{53, 54}},
		{"two ports of one number and one target", "name: web, port: 88", hostPod, []int{53}},
		{"two ports of one number, one unknown", "name: web, port: 89", hostPod, nil},
		{"unknown target port", "name: web, port: 85", hostPod, nil},
		{"target port of an init container", "name: web, port: 86", hostPod, nil},
		{"unknown port", "name: web, port: 8080", hostPod, nil},
		{"unknown port name", "name: web, port: nobody", hostPod, nil},
		{"Service gone", "name: nobody, port: 80", hostPod, nil},
		{"own addresses", "name: web, port: 80", strings.ReplaceAll(hostPod, "hostNetwork: true", "hostNetwork: false"), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			binding := "{kind: TargetGroupBinding, metadata: {name: web}, spec: {serviceRef: {" + tt.serviceRef + "}}}"
			inIndexed(t, Config{}, binding+sep+tt.pod, func(t *testing.T, w *world) {
				cs := w.Candidates(w.Index.Pod("default", "a")) // it is older: each binding is one
				if len(cs) != 1 {
					t.Fatalf("%d candidates, want one", len(cs))
				}
				if d := cmp.Diff(tt.want, cs[0].Ports); d != "" {
					t.Errorf("ports (-want +got):\n%s", d)
				}
			})
		})
	}
}

// What a pod was tied to is kept as long as the pod, and no longer.
func TestPastIsDropped(t *testing.T) {
	objects := bindings + sep + service("blue", "app: blue") + sep + slice("web", "kind: Pod, name: a")
	inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: blue"))
		p := w.Index.Pod("default", "a")
		if len(w.past) != 1 || len(w.past[p.UID].services) != 2 {
			t.Errorf("kept: %+v", w.past)
		}
		w.do("remove "+pod(""), slice("web", "kind: Pod, name: b"), service("blue", "app: green"))
		if len(w.past) != 0 {
			t.Errorf("kept: %+v", w.past)
		}
		// Who still holds the pod is answered from what the pod itself carries.
		if got := show(w.Candidates(p)); len(got) != 0 {
			t.Errorf("candidates %q", got)
		}
	})
}

// The handlers may come after the caches: then a Service that is there by now
// selected what the pod was before.
func TestPodChangesAheadOfService(t *testing.T) {
	inIndexed(t, Config{}, service("blue", "app: blue"), func(t *testing.T, w *world) {
		before := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "x"}}
		w.see(before)
		before.Labels = map[string]string{"app": "blue"}
		after := before.DeepCopy()
		after.Labels = map[string]string{"app": "idle"}
		w.podChanged(before, after)
		if got := w.past["x"].services; !slices.Equal(got, []string{"blue"}) {
			t.Errorf("tied to %q", got)
		}
	})
}
