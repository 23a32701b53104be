package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/ties"
)

// show writes candidates down: "web" is tied, "web?" is not, "web!" publishes
// addresses that are not ready, "web-" is former, "web:8080" is another pod's at
// that port; "ns/web" is of another namespace than default.
func show(cs []ties.Candidate) []string {
	var out []string
	for _, c := range cs {
		s := c.Name
		if c.Namespace != "default" {
			s = c.Namespace + "/" + s
		}
		if c.Former {
			s += "-"
		}
		for _, port := range c.OtherPorts {
			s += fmt.Sprint(":", port)
		}
		if c.PublishesNotReady {
			s += "!"
		}
		if !c.Tied {
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

func TestTies(t *testing.T) {
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
		{"the same, and the watches expired", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "refuse", pod("app: idle"), "remove " + service("blue", ""), "expire", "recover"}, []string{"tgb-blue", "tgb-web?"}},
		{"what came and went while changes were lost", "", []string{noStatus, pod("app: a"), "refuse", service("blue", "app: a"), "remove " + service("blue", ""), "expire", "recover"}, []string{"tgb-blue?", "tgb-web?"}},
		{"the Services of a pod that had the name before", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "remove " + pod(""), noStatus, pod("app: a")}, nil},
		{"the same, its deletion missed", service("blue", "app: blue"), []string{noStatus, pod("app: blue"), "refuse", "remove " + pod(""), pod("app: a"), "expire", "recover"}, []string{"tgb-blue?", "tgb-web?"}},

		{"older than the index", pod("app: a"), nil, []string{"tgb-blue?", "tgb-web?"}},
		{"older than the index, and selected", pod("app: blue") + sep + service("blue", "app: blue"), nil, []string{"tgb-blue", "tgb-web?"}},

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
				p := w.Index.Pod("default", "a")
				if d := cmp.Diff(tt.want, w.candidates(p)); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
				if slices.ContainsFunc(w.histories[p.UID].Services, func(s string) bool { return strings.HasSuffix(s, "/") }) {
					t.Error("a Service without a name is tied to the pod")
				}
			})
		})
	}
}

// candidates are those of a survey, written down.
func (w *world) candidates(p *Pod) []string { return show(w.Survey(p, nil).Candidates) }

func TestOtherPorts(t *testing.T) {
	const pods = `
kind: Pod
metadata: {name: a, labels: {app: web}}
spec: {hostNetwork: true}
status: {podIP: 10.1.0.1}
---
kind: Pod
metadata: {name: b}
spec: {hostNetwork: true}
status: {podIP: 10.1.0.1}
---
kind: Service
metadata: {name: web}
spec: {selector: {app: web}, ports: [{port: 80, targetPort: 8080}]}
---
kind: TargetGroupBinding
metadata: {name: tgb-web}
spec: {targetGroupARN: "arn:web", targetType: ip, serviceRef: {name: web, port: 80}}
`
	slice := func(name, service, ports, address, ref string) string {
		return sep + "{kind: EndpointSlice, metadata: {name: " + name + ", labels: {kubernetes.io/service-name: " + service + "}}, ports: [" + ports +
			"], endpoints: [{addresses: [" + address + "], targetRef: {" + ref + "}}]}"
	}
	for _, tt := range []struct {
		name, slices string
		pods         string
		want         string
	}{
		{"no slice", "", pods, "tgb-web"},
		{"ours alone", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: a"), pods, "tgb-web"},
		{"the neighbour's", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: b"), pods, "tgb-web:8080"},
		{"two of the neighbour's", slice("x", "web", "{port: 8081}, {port: 8080}", "10.1.0.1", "kind: Pod, name: b"), pods, "tgb-web:8080:8081"},
		{"both have it", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: b") + slice("u", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: a"), pods, "tgb-web"},
		{"each has one", slice("x", "web", "{port: 8081}", "10.1.0.1", "kind: Pod, name: b") + slice("u", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: a"), pods, "tgb-web:8081"},
		{"on another node", slice("x", "web", "{port: 8080}", "10.1.0.2", "kind: Pod, name: b"), pods, "tgb-web"},
		{"of another Service", slice("x", "api", "{port: 8080}", "10.1.0.1", "kind: Pod, name: b"), pods, "tgb-web"},
		{"of no pod", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Node, name: b"), pods, "tgb-web"},
		{"of a port that is not named", slice("x", "web", "{name: x}", "10.1.0.1", "kind: Pod, name: b"), pods, "tgb-web"},
		{"of a pod that had our name", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: a, uid: former"), pods, "tgb-web:8080"},
		{"of a pod of our name elsewhere", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, namespace: other, name: a"), pods, "tgb-web:8080"},
		{"not in the host network", slice("x", "web", "{port: 8080}", "10.1.0.1", "kind: Pod, name: b"), strings.ReplaceAll(pods, "hostNetwork: true", "hostNetwork: false"), "tgb-web"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, tt.pods+tt.slices, func(t *testing.T, w *world) {
				if d := cmp.Diff([]string{tt.want}, w.candidates(w.Index.Pod("default", "a"))); d != "" {
					t.Errorf("candidates (-want +got):\n%s", d)
				}
			})
		})
	}
}

// What a pod was tied to is kept as long as the pod is there or watched, and no
// longer.
func TestHistoryIsDropped(t *testing.T) {
	objects := bindings + sep + service("blue", "app: blue") + sep + slice("web", "kind: Pod, name: a")
	inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
		w.do(noStatus, pod("app: blue"))
		p := w.Index.Pod("default", "a")
		if len(w.histories) != 1 || len(w.histories[p.UID].Services) != 2 {
			t.Errorf("kept: %+v", w.histories)
		}
		wake := make(chan struct{}, 1)
		stop1, stop2 := w.Watch(p, wake), w.Watch(p, wake)
		w.do("remove "+pod(""), slice("web", "kind: Pod, name: b"), service("blue", "app: green"))
		stop1()
		stop1()
		want := []string{"tgb-blue", "tgb-nodes", "tgb-web"}
		if d := cmp.Diff(want, w.candidates(p)); d != "" {
			t.Errorf("of a pod that is gone and watched (-want +got):\n%s", d)
		}
		stop2()
		if len(w.histories) != 0 {
			t.Errorf("kept: %+v", w.histories)
		}
	})
}

// The handlers may come after the caches: then a Service that is there by now
// selected what the pod was before.
func TestPodChangesAheadOfService(t *testing.T) {
	inIndexed(t, Config{}, service("blue", "app: blue"), func(t *testing.T, w *world) {
		before := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "x"}}
		w.newPod(before)
		before.Labels = map[string]string{"app": "blue"}
		after := before.DeepCopy()
		after.Labels = map[string]string{"app": "idle"}
		w.podChanged(before, after)
		if got := w.histories["x"].Services; !slices.Equal(got, []string{"default/blue"}) {
			t.Errorf("tied to %q", got)
		}
	})
}

// The handler of Services may come before that of a pod that its cache has.
func TestServiceChangesAheadOfPod(t *testing.T) {
	inIndexed(t, Config{}, service("blue", "app: blue")+sep+pod("app: blue"), func(t *testing.T, w *world) {
		p := w.Index.Pod("default", "a")
		delete(w.histories, p.UID)
		w.serviceChanged(nil, parse(t, service("blue", "app: blue"))[0].(*corev1.Service))
		if got := w.histories[p.UID]; got == nil || !slices.Equal(got.Services, []string{"default/blue"}) {
			t.Errorf("remembered: %+v", got)
		}
	})
}
