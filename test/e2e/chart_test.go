package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"
)

// chart are the objects that the Helm chart makes with the values in a file.
func chart(t *testing.T, values string) (objects []*unstructured.Unstructured) {
	t.Helper()
	cmd := exec.Command("go", "run", ".", "-values", values)
	cmd.Dir, cmd.Stderr = "../../tools/chart", os.Stderr
	text, err := cmd.Output()
	if err != nil {
		t.Fatalf("render the chart: %v", err)
	}
	documents := kubeyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(text)))
	for {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		o := new(unstructured.Unstructured)
		if err := errors.Join(err, yaml.UnmarshalStrict(document, &o.Object)); err != nil {
			t.Fatal(err)
		}
		if o.Object != nil {
			objects = append(objects, o)
		}
	}
}

// enforce sets the pod security standard of a namespace.
func (tb *testbed) enforce(t *testing.T, namespace, standard string) {
	t.Helper()
	o := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
	o.SetName(namespace)
	o.SetLabels(map[string]string{"pod-security.kubernetes.io/enforce": standard})
	tb.apply(t, o)
}

// createServiceMonitors makes the cluster serve ServiceMonitors, if their definition is
// there.
func (tb *testbed) createServiceMonitors(t *testing.T) bool {
	t.Helper()
	text, err := os.ReadFile(program("servicemonitors.yaml"))
	if errors.Is(err, fs.ErrNotExist) {
		t.Log("*** SKIPPED: ServiceMonitor ***")
		return false
	}
	o := new(unstructured.Unstructured)
	if err := errors.Join(err, yaml.Unmarshal(text, &o.Object)); err != nil {
		t.Fatal(err)
	}
	tb.apply(t, o)
	until(t, "ServiceMonitors", func() error {
		_, err := tb.dynamic.Resource(schema.GroupVersionResource{Group: "monitoring.coreos.com", Version: "v1", Resource: "servicemonitors"}).List(t.Context(), metav1.ListOptions{})
		return err
	})
	return true
}

// An API server that enforces the restricted policy accepts the fullest form of the
// chart, which serves two namespaces. The service runs with the rights that it grants
// there. All that it lacks is the right to get nodes.
func TestChart(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	tb.lbc.pause() // the pods of this test do not run
	tb.createDefinition(t, "eks.amazonaws.com", "v1")
	for _, name := range []string{serviceName, "shop", "web"} {
		tb.createNamespace(t, name)
		tb.enforce(t, name, "restricted")
	}
	objects := chart(t, "../../charts/drain-wait/ci/full-values.yaml")
	if !tb.createServiceMonitors(t) {
		objects = slices.DeleteFunc(objects, func(o *unstructured.Unstructured) bool { return o.GetKind() == "ServiceMonitor" })
	}
	tb.apply(t, objects...)
	const name = "drain-wait-blue"
	until(t, "pods of the Deployment", func() error {
		d, err := tb.kube.AppsV1().Deployments(serviceName).Get(t.Context(), name, metav1.GetOptions{})
		if err == nil && d.Status.Replicas != *d.Spec.Replicas {
			err = fmt.Errorf("%d of %d: %v", d.Status.Replicas, *d.Spec.Replicas, d.Status.Conditions)
		}
		return err
	})
	tb.enforce(t, "shop", "privileged") // for the pod of an application

	r := tb.startService(t, tb.accountKubeconfig(t, "waiter"), "--namespaces=shop,web", "--own-service="+serviceName+"/"+name)
	r.awaitReady(t)
	n := tb.newNamespace(t, "shop")
	n.createPod()
	query := fmt.Sprintf("namespace=shop&pod=web&ip=%s&", n.address)
	until(t, "answer about a pod without a group", func() error {
		if got := r.ask(t, query+"max-delay=2"); got != "200 not_registered" {
			return errors.New(got)
		}
		return nil
	})
	n.passChartTest(r, objects)
	n.createService(true)
	n.createBinding(bindings.Group)
	until(t, "news of the binding", func() error {
		if got := r.ask(t, query+"max-delay=0"); got != "200 budget_spent" {
			return errors.New(got)
		}
		return nil
	})
	if got := r.ask(t, query+"max-delay=8"); got != "200 budget_spent" { // not_terminating with the right to get nodes
		t.Errorf("the answer is %s", got)
	}
	text, err := os.ReadFile(r.log)
	if err != nil {
		t.Fatal(err)
	}
	refused := 0
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, "forbidden") && !strings.Contains(line, `cannot get resource \"nodes\"`) {
			t.Errorf("a right is missing: %s", line)
		} else if strings.Contains(line, "forbidden") {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused, so the log does not show what is")
	}
}

// passChartTest does what the pod of `helm test` does, as the pod of the namespace.
func (n *namespace) passChartTest(r *replica, objects []*unstructured.Unstructured) {
	n.t.Helper()
	for _, o := range objects {
		if o.GetKind() != "Pod" {
			continue
		}
		var pod corev1.Pod
		n.check(runtime.DefaultUnstructuredConverter.FromUnstructured(o.Object, &pod))
		c := pod.Spec.Containers[0]
		if !slices.Equal(c.Command, []string{"/prestop"}) || !strings.HasPrefix(c.Args[0], "--server=") {
			n.t.Fatalf("the pod runs %q %q", c.Command, c.Args)
		}
		cmd := exec.Command(program("prestop"), append([]string{"--server=" + r.hooks, "--log-file=/dev/stderr"}, c.Args[1:]...)...)
		cmd.Env = []string{"POD_NAME=" + web, "POD_NAMESPACE=" + n.name, "POD_IP=" + n.address.String()}
		if out, err := cmd.CombinedOutput(); err != nil {
			n.t.Errorf("helm test fails: %v\n%s", err, out)
		}
		return
	}
	n.t.Error("the chart has no pod for helm test")
}
