package main

import (
	"bufio"
	"errors"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	monitoringv1 "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring/v1"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	kubeyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"drainwait/internal/cli"
)

const root = "../.."

// TestGenerated checks that deploy has what the chart makes.
func TestGenerated(t *testing.T) {
	files, err := manifests(root)
	if err != nil {
		t.Fatal(err)
	}
	for file, want := range files {
		got, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("%s is not what `make generate` makes (-made +found):\n%s", file, diff)
		}
	}
	// What kustomize alone needs is written by hand.
	found, err := filepath.Glob(filepath.Join(root, "deploy/*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range found {
		if base := filepath.Base(file); files[file] == "" && base != "kustomization.yaml" && base != "namespace.yaml" {
			t.Errorf("nothing makes %s", file)
		}
	}
}

// form is a set of values, and what the chart makes of it.
type form struct {
	files   map[string]string // by path in the chart
	objects []runtime.Object
}

// newForm renders the chart and reads every object strictly.
func newForm(t *testing.T, values map[string]any) *form {
	t.Helper()
	files, err := render(root, values)
	if err != nil {
		t.Fatal(err)
	}
	f := &form{files: files}
	known := runtime.NewScheme()
	if err := errors.Join(scheme.AddToScheme(known), monitoringv1.AddToScheme(known)); err != nil {
		t.Fatal(err)
	}
	strict := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, known, known, kubejson.SerializerOptions{Yaml: true, Strict: true})
	for name, text := range files {
		if path.Ext(name) != ".yaml" {
			continue
		}
		documents := kubeyaml.NewYAMLReader(bufio.NewReader(strings.NewReader(text)))
		for {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			o, _, err := strict.Decode(document, nil, nil)
			if err != nil {
				t.Fatalf("%s: %v\n%s", name, err, document)
			}
			f.objects = append(f.objects, o)
		}
	}
	return f
}

// all are the objects of one type in a form.
func all[T runtime.Object](f *form) (out []T) {
	for _, o := range f.objects {
		if o, ok := o.(T); ok {
			out = append(out, o)
		}
	}
	return out
}

// the is the one object of its type in a form.
func the[T runtime.Object](t *testing.T, f *form) T {
	t.Helper()
	found := all[T](f)
	if len(found) != 1 {
		t.Fatalf("%d objects of the type %T", len(found), *new(T))
	}
	return found[0]
}

func readValues(t *testing.T, file string) (out map[string]any) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "charts/drain-wait", file))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(text, &out); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return out
}

// TestFullest checks that the fullest form sets every value, and to something else than
// the default, except those that leave something out.
func TestFullest(t *testing.T) {
	switches := []string{"serviceAccount.create", "rbac.create", "networkPolicy.enabled"}
	var check func(prefix string, defaults, full map[string]any)
	check = func(prefix string, defaults, full map[string]any) {
		for key, value := range defaults {
			if inner, ok := value.(map[string]any); ok && len(inner) > 0 {
				set, _ := full[key].(map[string]any)
				check(prefix+key+".", inner, set)
				continue
			}
			if set, ok := full[key]; !ok || cmp.Equal(set, value) != slices.Contains(switches, prefix+key) {
				t.Errorf("%s%s is %v in the fullest form, %v by default", prefix, key, set, value)
			}
		}
	}
	check("", readValues(t, "values.yaml"), readValues(t, "ci/full-values.yaml"))
}

// TestForms checks what the forms have in common.
func TestForms(t *testing.T) {
	for name, values := range map[string]map[string]any{
		"default":       nil,
		"fullest":       readValues(t, "ci/full-values.yaml"),
		"one replica":   {"replicas": 1},
		"nothing extra": {"networkPolicy": map[string]any{"enabled": false}, "serviceAccount": map[string]any{"create": false, "name": "mine"}, "rbac": map[string]any{"create": false}},
		"no limits":     {"resources": map[string]any{"limits": nil}},
		"null":          {"commonLabels": nil, "podLabels": nil, "podAnnotations": nil, "serviceAccount": map[string]any{"annotations": nil}, "serviceMonitor": map[string]any{"enabled": true, "labels": nil}},
		"names that YAML takes for something else": {
			"namespaces": []any{"007", "true"}, "priorityClassName": "1e3", "serviceAccount": map[string]any{"name": "0x1f"},
			"networkPolicy": map[string]any{"monitoringNamespace": "1e3"}, "imagePullSecrets": []any{map[string]any{"name": "1"}},
		},
		"keys of ours or of another value": {
			"commonLabels": map[string]any{"team": "a", "release": "b"}, "podLabels": map[string]any{"team": "c"},
			"serviceMonitor": map[string]any{"enabled": true, "labels": map[string]any{"release": "prometheus"}},
			"serviceAccount": map[string]any{"roleArn": "arn:aws:iam::123456789012:role/a", "annotations": map[string]any{"eks.amazonaws.com/role-arn": "b"}},
			"extraEnv":       []any{map[string]any{"name": "GOMEMLIMIT", "value": "1GiB"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := newForm(t, values)
			d := the[*appsv1.Deployment](t, f)
			service := the[*corev1.Service](t, f)
			budget := the[*policyv1.PodDisruptionBudget](t, f)
			if got, want := int32(budget.Spec.MinAvailable.IntValue()), *d.Spec.Replicas-1; got != want {
				t.Errorf("%d of %d pods must be available", got, want+1)
			}
			checkRestricted(t, &d.Spec.Template.Spec)
			checkRestricted(t, &the[*corev1.Pod](t, f).Spec)
			checkFlags(t, d, service)
			for _, a := range all[*corev1.ServiceAccount](f) {
				if a.Name != d.Spec.Template.Spec.ServiceAccountName {
					t.Errorf("the pods run as %s, not as %s", d.Spec.Template.Spec.ServiceAccountName, a.Name)
				}
			}
			url := "http://" + service.Name + "." + service.Namespace + ":8080"
			if got := the[*corev1.Pod](t, f).Spec.Containers[0].Args[0]; got != "--server="+url {
				t.Errorf("helm test asks %s", got)
			}
			maxTime := "300"
			if name == "fullest" {
				maxTime = "360" // longer than the grace period that the notes ask for
			}
			checkNotes(t, f.files["templates/NOTES.txt"], url, maxTime)
		})
	}
}

// checkRestricted checks what the restricted policy of pod security demands.
func checkRestricted(t *testing.T, pod *corev1.PodSpec) {
	t.Helper()
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod has %+v", s)
	}
	for _, c := range pod.Containers {
		if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s has %+v", c.Name, s)
		}
	}
}

// checkFlags checks that the program takes the flags of the Deployment.
func checkFlags(t *testing.T, d *appsv1.Deployment, service *corev1.Service) {
	t.Helper()
	args := d.Spec.Template.Spec.Containers[0].Args
	serve, _, err := cli.Root("").Find(args[:1])
	if err != nil {
		t.Fatal(err)
	}
	if err := serve.ParseFlags(args[1:]); err != nil {
		t.Errorf("%q: %v", args, err)
	}
	if got, want := serve.Flag("own-service").Value.String(), service.Namespace+"/"+service.Name; got != want {
		t.Errorf("--own-service is %s, want %s", got, want)
	}
}

// checkNotes checks that the notes have the hook of the example with curl.
func checkNotes(t *testing.T, notes, url, maxTime string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(root, "deploy/examples/hook-curl.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var example appsv1.Deployment
	if err := yaml.UnmarshalStrict(text, &example); err != nil {
		t.Fatal(err)
	}
	hook := example.Spec.Template.Spec.Containers[0].Lifecycle.PreStop.Exec.Command[2]
	want := strings.NewReplacer("http://drain-wait.drain-wait:8080", url, "--max-time 300", "--max-time "+maxTime).Replace(hook)
	if !strings.Contains(strings.Join(strings.Fields(notes), " "), want) {
		t.Errorf("the notes do not have the hook %s:\n%s", want, notes)
	}
}

// TestValuesArrive checks what the values of the fullest form do.
func TestValuesArrive(t *testing.T) {
	f := newForm(t, readValues(t, "ci/full-values.yaml"))
	d := the[*appsv1.Deployment](t, f)
	pod := d.Spec.Template.Spec
	c := pod.Containers[0]
	want := []string{
		"serve", "--own-service=drain-wait/drain-wait-blue", "--shutdown-grace=595s", "--settle-alb=30s", "--settle-nlb=240s", "--max-waits=15000",
		"--aws-region=us-gov-west-1", "--namespaces=shop,web", "--aws-rate=10", "--log-level=debug",
	}
	if diff := cmp.Diff(want, c.Args); diff != "" {
		t.Errorf("arguments (-want +got):\n%s", diff)
	}
	if want := "registry.example.com:5000/edge/drain-wait@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"; c.Image != want {
		t.Errorf("the image is %s", c.Image)
	}
	if c.Env[0].Name != "GOMEMLIMIT" || c.Env[0].Value != "840MiB" || len(c.Env) != 3 {
		t.Errorf("the environment is %v", c.Env)
	}
	account := the[*corev1.ServiceAccount](t, f)
	if account.Name != "waiter" || account.Annotations["eks.amazonaws.com/role-arn"] != "arn:aws-us-gov:iam::123456789012:role/edge/drain-wait" || len(account.Annotations) != 2 {
		t.Errorf("the account is %s with %v", account.Name, account.Annotations)
	}
	if pod.PriorityClassName != "system-cluster-critical" || pod.ImagePullSecrets[0].Name != "registry" || *pod.TerminationGracePeriodSeconds != 600 {
		t.Errorf("the pod has the class %q, the secrets %v, and a grace period of %d s", pod.PriorityClassName, pod.ImagePullSecrets, *pod.TerminationGracePeriodSeconds)
	}
	if m := the[*monitoringv1.ServiceMonitor](t, f); m.Labels["release"] != "prometheus" || m.Spec.Endpoints[0].Port != "admin" || m.Spec.Endpoints[0].Interval != "15s" {
		t.Errorf("the ServiceMonitor has %v, %v", m.Labels, m.Spec.Endpoints)
	}
	p := the[*admissionregistrationv1.MutatingAdmissionPolicy](t, f)
	for _, b := range all[*admissionregistrationv1.MutatingAdmissionPolicyBinding](f) {
		if p.Name != d.Name || b.Spec.PolicyName != p.Name {
			t.Errorf("%s binds %s, not %s", b.Name, b.Spec.PolicyName, p.Name)
		}
	}
	if notes := f.files["templates/NOTES.txt"]; !strings.Contains(notes, "drain-wait/inject=true") || !strings.Contains(notes, "may not read nodes") || strings.Contains(notes, "Pod Identity") {
		t.Errorf("the notes are\n%s", notes)
	}
}

// TestLint runs what `helm lint` runs.
func TestLint(t *testing.T) {
	for _, values := range []map[string]any{{}, readValues(t, "ci/full-values.yaml")} {
		for _, m := range lint.RunAll(filepath.Join(root, "charts/drain-wait"), values, release).Messages {
			if m.Severity > support.InfoSev {
				t.Error(m)
			}
		}
	}
}

// TestRefusals checks that wrong values are refused, with a message that names the value
// and says what is wrong with it.
func TestRefusals(t *testing.T) {
	for _, c := range []struct{ values, message string }{
		{"replicaCount: 3", "at '': additional properties 'replicaCount' not allowed"},
		{"image: {registry: a.example}", "at '/image': additional properties 'registry' not allowed"},
		{"replicas: 0", "at '/replicas': minimum: got 0, want 1"},
		{"replicas: '2'", "at '/replicas': got string, want integer"},
		{"image: {digest: 'sha256:abc'}", "at '/image/digest': 'sha256:abc' does not match pattern"},
		{"image: {repository: 'a.example/drain-wait:v1'}", "at '/image/repository': 'a.example/drain-wait:v1' does not match pattern"},
		{"image: {pullPolicy: Sometimes}", "at '/image/pullPolicy': value must be one of '', 'Always', 'IfNotPresent', 'Never'"},
		{"serviceAccount: {roleArn: drain-wait}", "at '/serviceAccount/roleArn': 'drain-wait' does not match pattern"},
		{"namespaces: shop", "at '/namespaces': got string, want array"},
		{"namespaces: [Shop]", "at '/namespaces/0': 'Shop' does not match pattern"},
		{"awsRegion: us-east-1a", "at '/awsRegion': 'us-east-1a' does not match pattern"},
		{"settleSeconds: {nlb: 2m}", "at '/settleSeconds/nlb': got string, want integer"},
		{"maxWaits: 0", "at '/maxWaits': minimum: got 0, want 1"},
		{"extraArgs: [log-level=debug]", "at '/extraArgs/0': 'log-level=debug' does not match pattern"},
		{"extraArgs: [--settle-nlb=240s]", "at '/extraArgs/0': 'not' failed"},
		{"extraArgs: [--namespaces]", "at '/extraArgs/0': 'not' failed"},
		{"fullnameOverride: 'on'", "at '/fullnameOverride': 'not' failed"},
		{"podLabels: {app.kubernetes.io/name: a}", "at '/podLabels/app.kubernetes.io~1name': false schema"},
		{"podLabels: {sidecar.istio.io/inject: 'true'}", "at '/podLabels/sidecar.istio.io~1inject': false schema"},
		{"commonLabels: {app.kubernetes.io/name: a}", "at '/commonLabels/app.kubernetes.io~1name': false schema"},
		{"podAnnotations: {linkerd.io/inject: enabled}", "at '/podAnnotations/linkerd.io~1inject': false schema"},
		{"extraEnv: [{nam: A}]", "at '/extraEnv/0': missing property 'name'"},
		{"resources: {limits: {memory: 0.5Gi}}", "at '/resources/limits/memory': '0.5Gi' does not match pattern"},
		{"networkPolicy: {apiServer: {cidrs: [10.0.0.1]}}", "at '/networkPolicy/apiServer/cidrs/0': '10.0.0.1' does not match pattern"},
		{"inject: true", "at '/inject': got boolean, want object"},
		{"inject: {client: sidecar}", "at '/inject/client': value must be one of 'initContainer', 'imageVolume'"},
		{"serviceMonitor: {interval: often}", "at '/serviceMonitor/interval': 'often' does not match pattern"},
		{"settleSeconds: {nlb: 226}", "terminationGracePeriodSeconds is 300: want 301 or more, the longest of settleSeconds and 75"},
	} {
		var values map[string]any
		if err := yaml.UnmarshalStrict([]byte(c.values), &values); err != nil {
			t.Fatal(err)
		}
		if _, err := render(root, values); err == nil || !strings.Contains(err.Error(), c.message) {
			t.Errorf("%s: got %v, want %s", c.values, err, c.message)
		}
	}
}

// TestInjectReused checks the values that `helm upgrade --reuse-values` has after a chart
// that did not know the new ones.
func TestInjectReused(t *testing.T) {
	if f := newForm(t, map[string]any{"inject": nil}); len(all[*admissionregistrationv1.MutatingAdmissionPolicy](f)) > 0 {
		t.Error("it injects")
	}
	f := newForm(t, map[string]any{"inject": map[string]any{"enabled": true, "client": nil, "gatedOnly": nil}})
	if text := f.files["templates/inject.yaml"]; !strings.Contains(text, "/prestop', 'install'") || strings.Contains(text, "variables.gated") {
		t.Errorf("the policy is not that of the default:\n%s", text)
	}
}

// TestInjectNeeds checks that a cluster without the kind gets one sentence, and only if it
// should inject.
func TestInjectNeeds(t *testing.T) {
	if _, err := renderFor(root, nil); err != nil {
		t.Errorf("the default values: %v", err)
	}
	_, err := renderFor(root, map[string]any{"inject": map[string]any{"enabled": true}}, "admissionregistration.k8s.io/v1beta1/MutatingAdmissionPolicy")
	const want = "inject.enabled needs Kubernetes 1.36 or later: the cluster does not serve admissionregistration.k8s.io/v1/MutatingAdmissionPolicy"
	if err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want %s", err, want)
	}
}
