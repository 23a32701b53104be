package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim/aws"
)

// right is one verb on one resource.
type right struct{ verb, group, resource string }

func (r right) String() string { return strings.Trim(r.verb+" "+r.resource+"."+r.group, ".") }

// losses says what the service loses without each of the rights with which it is
// deployed.
//
// Without the right to list, the service is never ready unless it streams lists, which
// the test turns off. Without the right to watch, the service is ready for some minutes. It sees what is there when it is asked, since it then lists what matters.
// It sees what was there before only with the next full list, up to half a minute later.
// So the test makes a change and, if undo is given, undoes it, and asks at once. The
// answer differs from that of a service with all rights.
var losses = map[right]struct {
	before  func(*namespace) // what the service knows
	change  func(*namespace) // what it does not learn
	undo    func(*namespace) // undoes the change
	query   string
	answer  string // with all rights
	without string
}{
	{"list", "", "pods"}:                                 {},
	{"list", "", "services"}:                             {},
	{"list", "discovery.k8s.io", "endpointslices"}:       {},
	{"list", "networking.k8s.io", "ingresses"}:           {},
	{"list", "elbv2.k8s.aws", "targetgroupbindings"}:     {},
	{"list", "eks.amazonaws.com", "targetgroupbindings"}: {},
	// A pod that was not watched from its beginning may be in any group.
	{"watch", "", "pods"}: {
		before: func(n *namespace) { n.createBinding(bindings.Group) },
		change: (*namespace).createPod,
		query:  "max-delay=2",
		answer: "200 not_registered", without: "200 budget_spent",
	},
	{"watch", "", "services"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true); n.createBinding(bindings.Group) },
		change: (*namespace).publishNotReady,
		query:  "max-delay=2",
		answer: "200 will_not_leave", without: "200 budget_spent",
	},
	{"watch", "discovery.k8s.io", "endpointslices"}: {
		before: func(n *namespace) {
			n.removeTarget() // otherwise a look at the group would tie the pod to it
			n.createPod()
			n.createService(false)
			n.createBinding(bindings.Group)
		},
		change: (*namespace).createSlice,
		undo:   (*namespace).deleteSlice,
		query:  "max-delay=2",
		answer: "200 settle_cut", without: "200 not_registered",
	},
	{"watch", "networking.k8s.io", "ingresses"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true) },
		change: (*namespace).createIngress,
		undo:   (*namespace).deleteIngress,
		query:  "max-delay=2",
		answer: "200 budget_spent", without: "200 not_registered",
	},
	{"watch", "elbv2.k8s.aws", "targetgroupbindings"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true) },
		change: func(n *namespace) { n.createBinding("elbv2.k8s.aws") },
		undo:   func(n *namespace) { n.deleteBinding("elbv2.k8s.aws") },
		query:  "max-delay=2",
		answer: "200 budget_spent", without: "200 not_registered",
	},
	{"watch", "eks.amazonaws.com", "targetgroupbindings"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true) },
		change: func(n *namespace) { n.createBinding("eks.amazonaws.com") },
		undo:   func(n *namespace) { n.deleteBinding("eks.amazonaws.com") },
		query:  "max-delay=2",
		answer: "200 budget_spent", without: "200 not_registered",
	},
	// A container that is only restarted waits for the whole budget.
	{"get", "", "pods"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true); n.createBinding(bindings.Group) },
		query:  "max-delay=8",
		answer: "200 not_terminating", without: "200 budget_spent",
	},
	{"get", "", "nodes"}: {
		before: func(n *namespace) { n.createPod(); n.createService(true); n.createBinding(bindings.Group) },
		query:  "max-delay=8",
		answer: "200 not_terminating", without: "200 budget_spent",
	},
}

// The service needs each right with which it is deployed, and no other.
func TestRights(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	tb.lbc.pause() // the pods of this test do not run
	tb.createDefinition(t, "eks.amazonaws.com", "v1")
	tb.serviceKubeconfig(t) // deploys
	rights := deployedRights(t)
	all := tb.startReplica(t, "all", rights)
	all.awaitReady(t)
	for i, missing := range rights {
		loss, ok := losses[missing]
		if !ok {
			t.Errorf("nothing says what is lost without the right to %v", missing)
			continue
		}
		without := append(append([]right{}, rights[:i]...), rights[i+1:]...)
		t.Run(missing.String(), func(t *testing.T) {
			t.Parallel()
			account := fmt.Sprint("without-", i)
			refusal := fmt.Sprintf("cannot %s resource \\\"%s\\\" in API group \\\"%s\\\"", missing.verb, missing.resource, missing.group)
			if missing.verb == "list" {
				r := tb.startReplica(t, account, without, "KUBE_FEATURE_WatchListClient=false")
				r.awaitLog(t, refusal, 2)
				if err := r.ready(); err == nil {
					t.Fatal("it is ready all the same")
				}
				tb.grant(t, account, rights)
				r.awaitReady(t)
				return
			}
			r := tb.startReplica(t, account, without)
			r.awaitReady(t)
			n := tb.newNamespace(t, account)
			if loss.before != nil {
				loss.before(n)
			}
			query := fmt.Sprintf("namespace=%s&pod=web&ip=%s&", n.name, n.address)
			if missing.verb == "get" {
				until(t, "news of the binding", func() error {
					if got := r.ask(t, query+"max-delay=0"); got != "200 budget_spent" {
						return fmt.Errorf("its answer is %s", got)
					}
					return nil
				})
			} else {
				// Each pause between two tries is twice as long as the one before: the next
				// one is 12 s or more.
				r.awaitLog(t, refusal, 5)
			}
			if loss.change != nil {
				loss.change(n)
			}
			if loss.undo != nil {
				until(t, "news of the change", func() error {
					if got := all.ask(t, query+"max-delay=0"); got != loss.answer {
						return fmt.Errorf("the answer with all rights is %s", got)
					}
					return nil
				})
				loss.undo(n)
			}
			query += loss.query
			if got := r.ask(t, query); got != loss.without {
				t.Errorf("answer without the right to %v: %s; want %s", missing, got, loss.without)
			}
			until(t, "answer with all rights", func() error {
				if got := all.ask(t, query); got != loss.answer {
					return fmt.Errorf("it is %s; want %s", got, loss.answer)
				}
				return nil
			})
		})
	}
}

// deployedRights are what the roles in deploy grant.
func deployedRights(t *testing.T) []right {
	t.Helper()
	seen := make(map[right]bool)
	var rights []right
	for _, o := range rendered(t, "../../deploy") {
		var role rbacv1.ClusterRole
		if o.GetKind() != "ClusterRole" && o.GetKind() != "Role" {
			continue
		}
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &role); err != nil {
			t.Fatal(err)
		}
		for _, rule := range role.Rules {
			for _, g := range rule.APIGroups {
				for _, res := range rule.Resources {
					for _, verb := range rule.Verbs {
						if r := (right{verb, g, res}); !seen[r] {
							seen[r] = true
							rights = append(rights, r)
						}
					}
				}
			}
		}
	}
	if len(rights) < len(losses) {
		t.Errorf("%d rights are granted: %v; losses are known for %d", len(rights), rights, len(losses))
	}
	return rights
}

// grant replaces the rights that an account of the service's namespace has in the whole
// cluster.
func (tb *testbed) grant(t *testing.T, account string, rights []right) {
	t.Helper()
	var rules []any
	for _, r := range rights {
		rules = append(rules, map[string]any{"apiGroups": []any{r.group}, "resources": []any{r.resource}, "verbs": []any{r.verb}})
	}
	const rbac = "rbac.authorization.k8s.io"
	object := func(version, kind string, fields map[string]any) *unstructured.Unstructured {
		fields["apiVersion"], fields["kind"] = version, kind
		fields["metadata"] = map[string]any{"name": account, "namespace": serviceName}
		if kind != "ServiceAccount" {
			fields["metadata"] = map[string]any{"name": account}
		}
		return &unstructured.Unstructured{Object: fields}
	}
	tb.apply(t,
		object("v1", "ServiceAccount", map[string]any{}),
		object(rbac+"/v1", "ClusterRole", map[string]any{"rules": rules}),
		object(rbac+"/v1", "ClusterRoleBinding", map[string]any{
			"roleRef":  map[string]any{"apiGroup": rbac, "kind": "ClusterRole", "name": account},
			"subjects": []any{map[string]any{"kind": "ServiceAccount", "name": account, "namespace": serviceName}},
		}),
	)
}

// startReplica runs the service with an account that has only the given rights.
func (tb *testbed) startReplica(t *testing.T, account string, rights []right, environment ...string) *replica {
	t.Helper()
	tb.grant(t, account, rights)
	return tb.startServiceIn(t, environment, tb.accountKubeconfig(t, account))
}

// awaitLog returns when a replica has logged a text a number of times.
func (r *replica) awaitLog(t *testing.T, want string, times int) {
	t.Helper()
	until(t, want, func() error {
		text, err := os.ReadFile(r.log)
		if n := strings.Count(string(text), want); err == nil && n < times {
			err = fmt.Errorf("logged %d times", n)
		}
		return err
	})
}

// ask makes a request as a hook does and returns status and outcome or error.
func (r *replica) ask(t *testing.T, query string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.hooks+"/drain-delay?"+query, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s %s", resp.Status, body)
	var answer struct{ Outcome, Error string }
	if err := json.Unmarshal(body, &answer); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return fmt.Sprintf("%d %s%s", resp.StatusCode, answer.Outcome, answer.Error)
}

// namespace is a namespace with one pod and what leads to it, all with the name web. The
// pod does not run, but its status says that it does.
type namespace struct {
	t        *testing.T
	tb       *testbed
	name     string
	address  netip.Addr
	group    *aws.TargetGroup
	balancer *aws.LoadBalancer
}

var namespaces atomic.Uint32

// newNamespace makes an empty namespace, and a target group in which the pod's
// address is in rotation.
func (tb *testbed) newNamespace(t *testing.T, name string) *namespace {
	t.Helper()
	n := &namespace{t: t, tb: tb, name: name, address: netip.AddrFrom4([4]byte{10, 79, 0, byte(namespaces.Add(1))})}
	tb.createNamespace(t, name)
	err := tb.world.Do(t.Context(), name, func() {
		n.balancer = tb.world.AWS.AddLoadBalancer(name, aws.ALB)
		n.group = tb.world.AWS.AddTargetGroup(name, appPort, n.balancer)
		tb.world.AWS.Register(n.group, n.address, appPort)
	})
	n.check(err)
	return n
}

func (n *namespace) check(err error) {
	n.t.Helper()
	if err != nil {
		n.t.Fatal(err)
	}
}

const web = "web"

func (n *namespace) createPod() {
	n.t.Helper()
	ctx, pods := n.t.Context(), n.tb.kube.CoreV1().Pods(n.name)
	p, err := pods.Create(ctx, &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: web, Labels: map[string]string{"app": web}},
		Spec:       corev1.PodSpec{NodeName: node, Containers: []corev1.Container{{Name: "app", Image: "e2e.example/never-run"}}},
	}, metav1.CreateOptions{})
	n.check(err)
	n.check(n.tb.patchStatus(ctx, p, corev1.PodStatus{
		Phase: corev1.PodRunning, PodIP: n.address.String(), PodIPs: []corev1.PodIP{{IP: n.address.String()}},
		Conditions: []corev1.PodCondition{condition(corev1.ContainersReady, true), condition(corev1.PodReady, true)},
	}))
}

func (n *namespace) createService(selects bool) {
	n.t.Helper()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: web},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(appPort)}}},
	}
	if selects {
		s.Spec.Selector = map[string]string{"app": web}
	}
	_, err := n.tb.kube.CoreV1().Services(n.name).Create(n.t.Context(), s, metav1.CreateOptions{})
	n.check(err)
}

func (n *namespace) publishNotReady() {
	n.t.Helper()
	services := n.tb.kube.CoreV1().Services(n.name)
	s, err := services.Get(n.t.Context(), web, metav1.GetOptions{})
	n.check(err)
	s.Spec.PublishNotReadyAddresses = true
	_, err = services.Update(n.t.Context(), s, metav1.UpdateOptions{})
	n.check(err)
}

func (n *namespace) createSlice() {
	n.t.Helper()
	_, err := n.tb.kube.DiscoveryV1().EndpointSlices(n.name).Create(n.t.Context(), &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: web, Labels: map[string]string{discoveryv1.LabelServiceName: web}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{n.address.String()}, TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: n.name, Name: web},
		}},
	}, metav1.CreateOptions{})
	n.check(err)
}

func (n *namespace) deleteSlice() {
	n.t.Helper()
	n.check(n.tb.kube.DiscoveryV1().EndpointSlices(n.name).Delete(n.t.Context(), web, metav1.DeleteOptions{}))
}

// removeTarget removes the target from the group's list, as with a deregistration delay
// of 0: the load balancer may still send to it.
func (n *namespace) removeTarget() {
	n.t.Helper()
	n.check(n.tb.world.Do(n.t.Context(), n.name, func() { n.tb.world.AWS.RemoveTarget(n.group, n.address, appPort) }))
}

func (n *namespace) createIngress() {
	n.t.Helper()
	n.tb.createIngress(n.t, n.name, web, n.balancer)
}

func (n *namespace) deleteIngress() {
	n.t.Helper()
	n.check(n.tb.kube.NetworkingV1().Ingresses(n.name).Delete(n.t.Context(), web, metav1.DeleteOptions{}))
}

func (n *namespace) createBinding(api string) {
	n.t.Helper()
	n.tb.createBinding(n.t, binding{api: api, namespace: n.name, name: web, service: web, kind: aws.ALB, TargetGroup: n.group})
}

func (n *namespace) deleteBinding(api string) {
	n.t.Helper()
	n.check(n.tb.dynamic.Resource(bindingsOf(api)).Namespace(n.name).Delete(n.t.Context(), web, metav1.DeleteOptions{}))
}
