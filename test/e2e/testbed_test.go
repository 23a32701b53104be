package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim"
)

// The simulated AWS and the settle time of the service both run five times as
// fast as in the defaults, so the ratio of one to the other is the same: the
// typical tail of an ALB, 12 to 18 s, is 2.4 to 3.6 s here, and the settle time
// of 20 s is 4 s.
const (
	speed     = 5
	settleALB = 4 * time.Second
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
	running sync.WaitGroup // what must be over before the test is
}

// newTestbed starts everything; it ends with the test.
func newTestbed(t *testing.T) *testbed {
	t.Helper()
	tb := &testbed{T: t, dir: t.TempDir()}
	tb.hosts = filepath.Join(tb.dir, "hosts")
	write(t, tb.hosts, []byte("127.0.0.1 localhost\n"))
	tb.cluster = startCluster(t, tb.dir)
	tb.startAWS(t)
	ctx := t.Context() // ends just before the cleanups
	t.Cleanup(func() {
		tb.running.Wait()
		if t.Failed() {
			tb.tellLogs()
		}
	})
	tb.createDefinition(t, bindings.Group, bindings.Version)
	tb.lbc = startController(ctx, t, tb)
	tb.kubelet = startKubelet(ctx, t, tb)
	return tb
}

// tellLogs shows the end of what each program wrote.
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
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	tb.aws = "http://" + l.Addr().String()
	srv := &http.Server{Handler: tb.world.AWSHandler(), ReadHeaderTimeout: 5 * time.Second}
	var running sync.WaitGroup
	running.Go(func() { tb.world.Run(context.Background(), 365*24*time.Hour) })
	running.Go(func() { _ = srv.Serve(l) })
	t.Cleanup(func() {
		tb.world.Close()
		_ = srv.Close()
		running.Wait()
	})
}

// insist repeats what fails for a passing reason, such as an API server that is
// away, until it succeeds or ctx ends.
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

// definition is what LBC's custom resource definition says, as far as it is
// used here: apis/elbv2/v1beta1/targetgroupbinding_types.go.
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

// createDefinition has the cluster serve TargetGroupBindings.
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

// application is a Deployment behind an ALB. Its namespace bears its name.
type application struct {
	*sim.TargetGroup
	name string
}

// createApplication makes a namespace with a Deployment of such pods, its Service
// and its TargetGroupBinding.
func (tb *testbed) createApplication(t *testing.T, name string, replicas int32, template corev1.PodTemplateSpec) *application {
	t.Helper()
	ctx := t.Context()
	a := &application{name: name}
	if err := tb.world.Do(ctx, name, func() {
		a.TargetGroup = tb.world.AddTargetGroup(name, appPort, tb.world.AddLoadBalancer(name, sim.ALB))
	}); err != nil {
		t.Fatal(err)
	}
	tb.createNamespace(t, name)
	labels := map[string]string{"app": name}
	template.Labels = labels
	template.Spec.Containers[0].Image = appImage
	template.Spec.ReadinessGates = []corev1.PodReadinessGate{{ConditionType: corev1.PodConditionType(gatePrefix + name)}}
	none, one := intstr.FromInt32(0), intstr.FromInt32(1)
	_, err1 := tb.kube.AppsV1().Deployments(name).Create(ctx, &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: appsv1.DeploymentSpec{
			Replicas: &replicas,
			Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: template,
			Strategy: appsv1.DeploymentStrategy{RollingUpdate: &appsv1.RollingUpdateDeployment{MaxUnavailable: &none, MaxSurge: &one}},
		},
	}, metav1.CreateOptions{})
	_, err2 := tb.kube.CoreV1().Services(name).Create(ctx, &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: corev1.ServiceSpec{
			Selector: labels,
			Ports:    []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt32(appPort)}},
		},
	}, metav1.CreateOptions{})
	if err := errors.Join(err1, err2); err != nil {
		t.Fatal(err)
	}
	tb.createBinding(t, bindings.Group, name, name, a.TargetGroup)
	return a
}

// createBinding binds a target group to the Service of the same name, as LBC or,
// with its group, EKS Auto Mode does.
func (tb *testbed) createBinding(t *testing.T, group, namespace, name string, g *sim.TargetGroup) {
	t.Helper()
	resource := bindings
	if group != bindings.Group {
		resource.Group, resource.Version = group, "v1"
	}
	_, err := tb.dynamic.Resource(resource).Namespace(namespace).Create(t.Context(), &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": resource.GroupVersion().String(),
		"kind":       "TargetGroupBinding",
		"metadata":   map[string]any{"name": name},
		"spec": map[string]any{
			"targetGroupARN": g.ARN(), "targetType": "ip", "targetGroupProtocol": "HTTP",
			"serviceRef": map[string]any{"name": name, "port": int64(80)},
		},
	}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// createNamespace makes a namespace and waits for the account of its pods.
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

// awaitRollout returns when the Deployment is as its specification wants it, and
// no pod of it is left that is going.
func (tb *testbed) awaitRollout(t *testing.T, a *application) {
	t.Helper()
	until(t, "rollout of "+a.name, func() error {
		d, err := tb.kube.AppsV1().Deployments(a.name).Get(t.Context(), a.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		pods, err := tb.kube.CoreV1().Pods(a.name).List(t.Context(), metav1.ListOptions{})
		if err != nil {
			return err
		}
		want, s := int(*d.Spec.Replicas), d.Status
		if s.ObservedGeneration < d.Generation || int(s.UpdatedReplicas) != want || int(s.AvailableReplicas) != want || len(pods.Items) != want {
			return fmt.Errorf("%d pods, of which %d are updated and %d available; want %d", len(pods.Items), s.UpdatedReplicas, s.AvailableReplicas, want)
		}
		return nil
	})
}

// roll starts a rolling update.
func (tb *testbed) roll(t *testing.T, a *application) {
	t.Helper()
	until(t, "update of "+a.name, func() error {
		d, err := tb.kube.AppsV1().Deployments(a.name).Get(t.Context(), a.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		d.Spec.Template.Annotations = map[string]string{"e2e.example/rolled": time.Now().String()}
		_, err = tb.kube.AppsV1().Deployments(a.name).Update(t.Context(), d, metav1.UpdateOptions{})
		return err
	})
}
