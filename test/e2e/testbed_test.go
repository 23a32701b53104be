package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// The simulated AWS and the settle time of the service both run five times as fast as by
// default, so their ratio is the same. The typical tail of an ALB, 12 to 18 s, is 2.4 to
// 3.6 s here, and the settle time of 20 s is 4 s. For an NLB, 105 to 115 s and 120 s are
// 21 to 23 s and 24 s.
const (
	speed     = 5
	settleALB = 4 * time.Second
	settleNLB = 24 * time.Second
)

// scaled is the real length of a duration of the world.
func scaled(d time.Duration) time.Duration { return d / speed }

// testbed is a cluster with real controllers, nodes, LBC and AWS.
type testbed struct {
	*testing.T
	*cluster
	dir     string
	world   *sim.World
	aws     string // URL of its APIs
	hosts   string // path of the pods' /etc/hosts
	lbc     *controller
	kubelet *kubelet
	running sync.WaitGroup // what must end before the test does
}

// newTestbed starts everything. Everything ends with the test.
func newTestbed(t *testing.T) *testbed {
	t.Helper()
	return newTestbedWith(t, controllers)
}

// newTestbedWith is newTestbed with other controllers of Kubernetes.
func newTestbedWith(t *testing.T, controllers string) *testbed {
	t.Helper()
	tb := &testbed{T: t, dir: t.TempDir()}
	tb.hosts = filepath.Join(tb.dir, "hosts")
	tb.writeHosts(t, nil)
	tb.cluster = startCluster(t, tb.dir, controllers)
	tb.startAWS(t)
	ctx := t.Context() // ends just before the cleanups
	t.Cleanup(func() {
		tb.running.Wait()
		if t.Failed() {
			tb.tellLogs()
		}
	})
	tb.createDefinition(t, bindings.Group, bindings.Version)
	tb.lbc = startController(ctx, t, tb, bindings.Group)
	tb.kubelet = startKubelet(ctx, t, tb)
	return tb
}

// tellLogs shows the end of each program's output.
func (tb *testbed) tellLogs() {
	paths, _ := filepath.Glob(filepath.Join(tb.dir, "*.log"))
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil || len(text) == 0 {
			continue
		}
		lines := strings.Split(strings.TrimSpace(string(text)), "\n")
		tb.Logf("%s:\n%s", filepath.Base(path), strings.Join(lines[max(0, len(lines)-40):], "\n"))
	}
}

// startAWS starts the simulated account.
func (tb *testbed) startAWS(t *testing.T) {
	t.Helper()
	tb.world = sim.New(sim.Config{Seed: 1, Speed: speed, Assumptions: sim.DefaultAssumptions()})
	l, err := net.Listen("tcp", netip.AddrPortFrom(hostAddress, 0).String()) // where pods reach it
	if err != nil {
		t.Fatal(err)
	}
	tb.aws = "http://" + l.Addr().String()
	srv := &http.Server{Handler: tb.world.AWS.Handler(), ReadHeaderTimeout: 5 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { tb.world.Run(context.Background(), 365*24*time.Hour) })
	running.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		tb.world.Close()
		_ = srv.Close()
		running.Wait()
	})
}

// insist repeats a call that fails for a passing reason, such as an API server that is
// away, until the call succeeds or ctx ends.
func (tb *testbed) insist(ctx context.Context, try func() error) error {
	for {
		err := try()
		if err == nil || apierrors.IsNotFound(err) || apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
			return err
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			return errors.Join(ctx.Err(), err)
		}
	}
}

// definition is the part of LBC's custom resource definition that the tests use:
// apis/elbv2/v1beta1/targetgroupbinding_types.go.
func definition(group, version string) *unstructured.Unstructured {
	text := map[string]any{"type": "string"}
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "apiextensions.k8s.io/v1",
		"kind":       "CustomResourceDefinition",
		"metadata":   map[string]any{"name": bindings.Resource + "." + group},
		"spec": map[string]any{
			"group": group,
			"names": map[string]any{"kind": "TargetGroupBinding", "listKind": "TargetGroupBindingList", "plural": bindings.Resource, "singular": "targetgroupbinding"},
			"scope": "Namespaced",
			"versions": []any{map[string]any{
				"name": version, "served": true, "storage": true,
				"schema": map[string]any{"openAPIV3Schema": map[string]any{
					"type": "object",
					"properties": map[string]any{"spec": map[string]any{
						"type": "object",
						"properties": map[string]any{
							"targetGroupARN": text, "targetGroupProtocol": text, "targetType": text,
							"serviceRef": map[string]any{
								"type":       "object",
								"properties": map[string]any{"name": text, "port": map[string]any{"x-kubernetes-int-or-string": true}},
							},
						},
					}},
				}},
			}},
		},
	}}
}

// createDefinition makes the cluster serve TargetGroupBindings.
func (tb *testbed) createDefinition(t *testing.T, group, version string) {
	t.Helper()
	definitions := tb.dynamic.Resource(customResourceDefinitions)
	if _, err := definitions.Create(t.Context(), definition(group, version), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	until(t, "TargetGroupBindings", func() error {
		_, err := tb.dynamic.Resource(schema.GroupVersionResource{Group: group, Version: version, Resource: bindings.Resource}).List(t.Context(), metav1.ListOptions{})
		return err
	})
}

// application is what runs behind a load balancer. Its namespace has the same name.
type application struct {
	*aws.TargetGroup
	name string
}

// createApplication makes a namespace with a Deployment of such pods, and everything that
// LBC needs and makes to put it behind a load balancer.
func (tb *testbed) createApplication(t *testing.T, kind aws.Kind, name string, replicas int32, template corev1.PodTemplateSpec) *application {
	t.Helper()
	return tb.createApplicationOf(t, bindings.Group, kind, name, replicas, template)
}

// createApplicationOf is createApplication with a binding of another API group.
func (tb *testbed) createApplicationOf(t *testing.T, group string, kind aws.Kind, name string, replicas int32, template corev1.PodTemplateSpec) *application {
	t.Helper()
	a := tb.createExposed(t, group, kind, name)
	gate(&template, gateOf(group, name))
	tb.createDeployment(t, name, name, replicas, template)
	return a
}

// createExposed makes everything of an application except what runs in it: its namespace,
// its Service, its Ingress (for an ALB), the load balancer that these name in their
// status, and its TargetGroupBinding of an API group.
func (tb *testbed) createExposed(t *testing.T, group string, kind aws.Kind, name string) *application {
	t.Helper()
	tb.createNamespace(t, name)
	g, lb := tb.createGroup(t, kind, name)
	s := service(name, name)
	if kind == aws.NLB {
		s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.AllocateLoadBalancerNodePorts = corev1.ServiceTypeLoadBalancer, new("service.k8s.aws/nlb"), new(false)
	}
	s, err := tb.kube.CoreV1().Services(name).Create(t.Context(), s, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if kind == aws.NLB {
		s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: lb.DNSName()}}
		if _, err := tb.kube.CoreV1().Services(name).UpdateStatus(t.Context(), s, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
	} else {
		tb.createIngress(t, name, name, lb)
	}
	tb.createBinding(t, binding{api: group, namespace: name, name: name, service: name, kind: kind, TargetGroup: g, labels: stack(kind, name, name)})
	return &application{g, name}
}

// createGroup makes a load balancer and its target group.
func (tb *testbed) createGroup(t *testing.T, kind aws.Kind, name string) (g *aws.TargetGroup, lb *aws.LoadBalancer) {
	t.Helper()
	if err := tb.world.Do(t.Context(), name, func() {
		lb = tb.world.AWS.AddLoadBalancer(name, kind)
		g = tb.world.AWS.AddTargetGroup(name, appPort, lb)
	}); err != nil {
		t.Fatal(err)
	}
	return g, lb
}

// gate makes the pods of a template wait until they are healthy in the group of a
// binding.
func gate(template *corev1.PodTemplateSpec, gate corev1.PodConditionType) {
	template.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: gate}}
}

// appLabel is the label by which pods are selected.
const appLabel = "app"

// labelled is a pod template with the label that a Service selects.
func labelled(template corev1.PodTemplateSpec, app string) (corev1.PodTemplateSpec, *metav1.LabelSelector) {
	template.Labels = map[string]string{appLabel: app}
	template.Spec.Containers[0].Image = appImage
	return template, &metav1.LabelSelector{MatchLabels: template.Labels}
}

func (tb *testbed) createDeployment(t *testing.T, namespace, name string, replicas int32, template corev1.PodTemplateSpec) {
	t.Helper()
	template, selector := labelled(template, name)
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	_, err := tb.kube.AppsV1().Deployments(namespace).Create(t.Context(), &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: selector,
			Template: template,
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one}},
		},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// service is a Service that selects the pods of an app.
func service(name, app string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: map[string]string{appLabel: app},
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(appPort)}},
		},
	}
}

func (tb *testbed) createService(t *testing.T, namespace, name, app string) {
	t.Helper()
	if _, err := tb.kube.CoreV1().Services(namespace).Create(t.Context(), service(name, app), metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// createIngress makes an Ingress to the Service of the same name, whose status
// names a load balancer.
func (tb *testbed) createIngress(t *testing.T, namespace, name string, lb *aws.LoadBalancer) {
	t.Helper()
	ingresses := tb.kube.NetworkingV1().Ingresses(namespace)
	i, err := ingresses.Create(t.Context(), &networkingv1.Ingress{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: networkingv1.IngressSpec{DefaultBackend: &networkingv1.IngressBackend{
			Service: &networkingv1.IngressServiceBackend{Name: name, Port: networkingv1.ServiceBackendPort{Number: 80}},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	i.Status.LoadBalancer.Ingress = []networkingv1.IngressLoadBalancerIngress{{Hostname: lb.DNSName()}}
	if _, err := ingresses.UpdateStatus(t.Context(), i, metav1.UpdateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// binding is a TargetGroupBinding to make. Its api is the API group of LBC or of EKS Auto
// Mode.
type binding struct {
	api, namespace, name, service string
	kind                          aws.Kind
	*aws.TargetGroup
	labels map[string]string
}

// stack are the labels by which LBC says what it made a binding for: an Ingress or, for
// an NLB, a Service. LBC pkg/deploy/tracking/provider.go.
func stack(kind aws.Kind, namespace, name string) map[string]string {
	prefix := "ingress.k8s.aws/"
	if kind == aws.NLB {
		prefix = "service.k8s.aws/"
	}
	return map[string]string{prefix + "stack-namespace": namespace, prefix + "stack-name": name}
}

// bindingsOf are the bindings of an API group.
func bindingsOf(api string) schema.GroupVersionResource {
	resource := bindings
	if api != bindings.Group {
		resource.Group, resource.Version = api, "v1"
	}
	return resource
}

func (tb *testbed) createBinding(t *testing.T, b binding) {
	t.Helper()
	resource, protocol := bindingsOf(b.api), "HTTP"
	if b.kind == aws.NLB {
		protocol = "TCP"
	}
	u := &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(),
		"kind":       "TargetGroupBinding",
		"metadata":   map[string]any{"name": b.name},
		"spec": map[string]any{
			"targetGroupARN": b.ARN(), "targetType": "ip", "targetGroupProtocol": protocol,
			"serviceRef": map[string]any{"name": b.service, "port": int64(80)},
		},
	}}
	u.SetLabels(b.labels)
	if _, err := tb.dynamic.Resource(resource).Namespace(b.namespace).Create(t.Context(), u, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

// createNamespace makes a namespace and waits for its pods' service account.
func (tb *testbed) createNamespace(t *testing.T, name string) {
	t.Helper()
	_, err := tb.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil && !apierrors.IsAlreadyExists(err) {
		t.Fatal(err)
	}
	until(t, "default service account", func() error {
		_, err := tb.kube.CoreV1().ServiceAccounts(name).Get(t.Context(), "default", metav1.GetOptions{})
		return err
	})
}

// awaitRollout returns when all Deployments and StatefulSets of a namespace are
// as their specification wants them, and no pod is left that is going.
func (tb *testbed) awaitRollout(t *testing.T, namespace string) {
	t.Helper()
	until(t, "rollout in "+namespace, func() error {
		deployments, err1 := tb.kube.AppsV1().Deployments(namespace).List(t.Context(), metav1.ListOptions{})
		sets, err2 := tb.kube.AppsV1().StatefulSets(namespace).List(t.Context(), metav1.ListOptions{})
		pods, err3 := tb.kube.CoreV1().Pods(namespace).List(t.Context(), metav1.ListOptions{})
		if err := errors.Join(err1, err2, err3); err != nil {
			return err
		}
		want := 0
		reached := func(what string, replicas *int32, observed bool, updated, available int32) error {
			want += int(*replicas)
			if !observed || updated != *replicas || available != *replicas {
				return fmt.Errorf("%s: %d updated, %d available; want %d", what, updated, available, *replicas)
			}
			return nil
		}
		for _, d := range deployments.Items {
			s := d.Status
			if err := reached(d.Name, d.Spec.Replicas, s.ObservedGeneration >= d.Generation, s.UpdatedReplicas, s.AvailableReplicas); err != nil {
				return err
			}
		}
		for _, d := range sets.Items {
			s := d.Status
			if err := reached(d.Name, d.Spec.Replicas, s.ObservedGeneration >= d.Generation, s.UpdatedReplicas, s.AvailableReplicas); err != nil {
				return err
			}
		}
		if len(pods.Items) != want {
			return fmt.Errorf("%d pods; want %d", len(pods.Items), want)
		}
		return nil
	})
}

// rolled is a patch of a Deployment or a StatefulSet that begins a rolling update.
func rolled() []byte {
	return fmt.Appendf(nil, `{"spec":{"template":{"metadata":{"annotations":{"e2e.example/rolled":%q}}}}}`, time.Now())
}

// roll starts a rolling update.
func (tb *testbed) roll(t *testing.T, a *application) {
	t.Helper()
	if _, err := tb.kube.AppsV1().Deployments(a.name).Patch(t.Context(), a.name, types.MergePatchType, rolled(), metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}
