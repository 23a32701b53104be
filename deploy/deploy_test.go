package deploy_test

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	kubejson "k8s.io/apimachinery/pkg/runtime/serializer/json"
	"k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"drainwait/internal/cli"
	"drainwait/internal/drain"
	"drainwait/internal/elb"
)

// manifest reads an object of the type T. It fails if a field is unknown or is there
// twice.
func manifest[T any](t *testing.T, file string) *T {
	t.Helper()
	obj, ok := decodeManifest(t, file).(any).(*T)
	if !ok {
		t.Fatalf("%s is no %T", file, *new(T))
	}
	return obj
}

func decodeManifest(t *testing.T, file string) runtime.Object {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	strict := kubejson.NewSerializerWithOptions(kubejson.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, kubejson.SerializerOptions{Yaml: true, Strict: true})
	obj, _, err := strict.Decode(text, nil, nil)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return obj
}

// kustomization is what deploy/kustomization.yaml uses of its format.
type kustomization struct {
	metav1.TypeMeta `json:",inline"`
	Resources       []string `json:"resources"`
	Images          []struct {
		Name    string `json:"name"`
		NewName string `json:"newName"`
		NewTag  string `json:"newTag"`
	} `json:"images"`
}

// TestManifests reads every manifest strictly, and checks that the kustomization has
// them all.
func TestManifests(t *testing.T) {
	text, err := os.ReadFile("kustomization.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var k kustomization
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	files, _ := filepath.Glob("*.yaml")
	var names []string
	for _, f := range files {
		if name := filepath.Base(f); name != "kustomization.yaml" {
			names = append(names, name)
		}
	}
	if diff := cmp.Diff(names, slices.Sorted(slices.Values(k.Resources))); diff != "" {
		t.Errorf("resources of the kustomization (-files +named):\n%s", diff)
	}
	d := manifest[appsv1.Deployment](t, "deployment.yaml")
	if image, _, _ := strings.Cut(d.Spec.Template.Spec.Containers[0].Image, ":"); len(k.Images) != 1 || k.Images[0].Name != image {
		t.Errorf("the kustomization sets the images %v", k.Images)
	}
	examples, _ := filepath.Glob("examples/*.yaml")
	if len(examples) < 4 {
		t.Errorf("only %q", examples)
	}
	for _, f := range append(files, examples...) {
		if f != "kustomization.yaml" {
			decodeManifest(t, f)
		}
	}
}

// TestManifestsFit checks what the manifests say about each other.
func TestManifestsFit(t *testing.T) {
	namespace := manifest[corev1.Namespace](t, "namespace.yaml").Name
	account := manifest[corev1.ServiceAccount](t, "serviceaccount.yaml")
	role := manifest[rbacv1.ClusterRole](t, "clusterrole.yaml")
	binding := manifest[rbacv1.ClusterRoleBinding](t, "clusterrolebinding.yaml")
	d := manifest[appsv1.Deployment](t, "deployment.yaml")
	service := manifest[corev1.Service](t, "service.yaml")
	budget := manifest[policyv1.PodDisruptionBudget](t, "poddisruptionbudget.yaml")
	network := manifest[networkingv1.NetworkPolicy](t, "networkpolicy.yaml")
	for _, o := range []metav1.Object{account, d, service, budget, network} {
		if o.GetNamespace() != namespace {
			t.Errorf("%T %s is in namespace %s", o, o.GetName(), o.GetNamespace())
		}
	}
	pod := d.Spec.Template
	for _, s := range []labels.Selector{
		selector(t, d.Spec.Selector), selector(t, budget.Spec.Selector), selector(t, &network.Spec.PodSelector),
		labels.SelectorFromSet(service.Spec.Selector),
	} {
		if s.Empty() || !s.Matches(labels.Set(pod.Labels)) {
			t.Errorf("%s does not select the pods", s)
		}
	}
	want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account.Name, Namespace: namespace}}
	if pod.Spec.ServiceAccountName != account.Name || binding.RoleRef.Name != role.Name || !cmp.Equal(binding.Subjects, want) {
		t.Errorf("the pod runs as %s; the role %s is bound to %v", pod.Spec.ServiceAccountName, binding.RoleRef.Name, binding.Subjects)
	}
	if replicas := int(*d.Spec.Replicas); budget.Spec.MinAvailable.IntValue() != replicas-1 || d.Spec.Strategy.RollingUpdate.MaxUnavailable.IntValue() != 0 {
		t.Errorf("%d replicas, %s of which must be available", replicas, budget.Spec.MinAvailable)
	}
	c := pod.Spec.Containers[0]
	ports := make(map[string]int32)
	for _, p := range c.Ports {
		ports[p.Name] = p.ContainerPort
	}
	for _, p := range service.Spec.Ports {
		if ports[p.TargetPort.StrVal] != p.Port {
			t.Errorf("port %s of the Service leads to %s", p.Name, p.TargetPort.StrVal)
		}
	}
	for _, p := range network.Spec.Ingress[0].Ports {
		if ports[p.Port.StrVal] == 0 {
			t.Errorf("the NetworkPolicy opens %s", p.Port)
		}
	}
	for _, p := range []*corev1.Probe{c.ReadinessProbe, c.LivenessProbe} {
		if ports[p.HTTPGet.Port.StrVal] != 9090 {
			t.Errorf("a probe asks port %s", p.HTTPGet.Port.StrVal)
		}
	}
}

func selector(t *testing.T, s *metav1.LabelSelector) labels.Selector {
	t.Helper()
	out, err := metav1.LabelSelectorAsSelector(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestDeploymentFlags checks that the command has the flags of the Deployment, and
// that the grace period holds the times in them.
func TestDeploymentFlags(t *testing.T) {
	pod := manifest[appsv1.Deployment](t, "deployment.yaml").Spec.Template.Spec
	args := pod.Containers[0].Args
	serve, _, err := cli.Root("").Find(args[:1])
	if err != nil {
		t.Fatal(err)
	}
	if args[0] != serve.Name() {
		t.Fatalf("the command is %s", args[0])
	}
	if err := serve.ParseFlags(args[1:]); err != nil {
		t.Fatal(err)
	}
	f := serve.Flags()
	if got, want := f.Lookup("own-service").Value.String(), "drain-wait/"+manifest[corev1.Service](t, "service.yaml").Name; got != want {
		t.Errorf("--own-service is %s, want %s", got, want)
	}
	// The defaults of the chart are those of the program.
	for _, name := range []string{"shutdown-grace", "settle-alb", "settle-nlb", "max-waits"} {
		if flag := f.Lookup(name); !flag.Changed || flag.Value.String() != flag.DefValue {
			t.Errorf("--%s is %s, and %s by default", name, flag.Value, flag.DefValue)
		}
	}
	shutdown, err1 := f.GetDuration("shutdown-grace")
	quiet, err2 := f.GetDuration("shutdown-quiet")
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	// Waits that are cut at the end get their 503 within a second.
	grace := time.Duration(*pod.TerminationGracePeriodSeconds) * time.Second
	if grace < shutdown+2*time.Second {
		t.Errorf("the grace period %s does not hold --shutdown-grace %s", grace, shutdown)
	}
	// The last wait that the service takes must have time for the longest settle time,
	// and one more minute for a controller that is late.
	if need := quiet + drain.DefaultConfig().SettleNLB + time.Minute; shutdown < need {
		t.Errorf("--shutdown-grace is %s, want %s or more", shutdown, need)
	}
}

// TestRestricted checks what the restricted policy of pod security demands. A test in
// test/e2e shows that an API server accepts it.
func TestRestricted(t *testing.T) {
	pod := manifest[appsv1.Deployment](t, "deployment.yaml").Spec.Template.Spec
	if s := pod.SecurityContext; !*s.RunAsNonRoot || *s.RunAsUser == 0 || s.SeccompProfile.Type != corev1.SeccompProfileTypeRuntimeDefault {
		t.Errorf("the pod has %+v", s)
	}
	for _, c := range pod.Containers {
		if s := c.SecurityContext; *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || !slices.Contains(s.Capabilities.Drop, "ALL") || len(s.Capabilities.Add) > 0 {
			t.Errorf("container %s has %+v", c.Name, s)
		}
	}
	if got := manifest[corev1.Namespace](t, "namespace.yaml").Labels["pod-security.kubernetes.io/enforce"]; got != "restricted" {
		t.Errorf("the namespace enforces %q", got)
	}
}

// TestClusterRole checks that the service may only read, and nothing that is secret.
func TestClusterRole(t *testing.T) {
	for _, r := range manifest[rbacv1.ClusterRole](t, "clusterrole.yaml").Rules {
		for _, verb := range r.Verbs {
			if !slices.Contains([]string{"get", "list", "watch"}, verb) {
				t.Errorf("%v %v: verb %s", r.APIGroups, r.Resources, verb)
			}
		}
		all := slices.Concat(r.APIGroups, r.Resources, r.Verbs)
		if slices.Contains(all, "*") || slices.Contains(all, "secrets") || slices.Contains(all, "configmaps") || len(r.NonResourceURLs) > 0 {
			t.Errorf("too much: %v", r)
		}
	}
}

type iamPolicy struct {
	Version   string
	Statement []struct {
		Effect   string
		Action   any // a string or a list of them
		Resource string
	}
}

func readPolicy(t *testing.T, file string) (p iamPolicy) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	in := json.NewDecoder(strings.NewReader(string(text)))
	in.DisallowUnknownFields()
	if err := in.Decode(&p); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if p.Version != "2012-10-17" || len(p.Statement) != 1 || p.Statement[0].Effect != "Allow" {
		t.Fatalf("%s: %+v", file, p)
	}
	return p
}

// TestIAMPolicy compares the policy with the calls that the program can make.
func TestIAMPolicy(t *testing.T) {
	var calls []any
	for m := range reflect.TypeFor[elb.API]().Methods() { // sorted by name
		calls = append(calls, "elasticloadbalancing:"+m.Name)
	}
	s := readPolicy(t, "iam-policy.json").Statement[0]
	if diff := cmp.Diff(any(calls), s.Action); diff != "" || s.Resource != "*" {
		t.Errorf("on %s (-called +granted):\n%s", s.Resource, diff)
	}
	s = readPolicy(t, "iam-policy-cross-account.json").Statement[0]
	// The session tags of Pod Identity go along when a second role is assumed.
	if !cmp.Equal(s.Action, any([]any{"sts:AssumeRole", "sts:TagSession"})) || !strings.HasPrefix(s.Resource, "arn:aws:iam::") {
		t.Errorf("across accounts: %+v", s)
	}
}

// eksctlConfig is what the files for eksctl use of a ClusterConfig.
type eksctlConfig struct {
	metav1.TypeMeta `json:",inline"`
	Metadata        struct{ Name, Region string } `json:"metadata"`
	IAM             struct {
		PodIdentityAssociations []struct {
			Namespace, ServiceAccountName, RoleName string
			PermissionPolicy                        any
		}
		WithOIDC        bool
		ServiceAccounts []struct {
			Metadata     struct{ Name, Namespace string }
			RoleName     string
			RoleOnly     bool // the manifests have the account
			AttachPolicy any
		}
	} `json:"iam"`
}

// TestEksctl checks that the roles that eksctl makes have the policy that the program
// needs, for the account that it runs as.
func TestEksctl(t *testing.T) {
	account := manifest[corev1.ServiceAccount](t, "serviceaccount.yaml")
	policy := readJSON(t, "iam-policy.json")
	read := func(file string) (c eksctlConfig) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := yaml.UnmarshalStrict(text, &c); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if c.APIVersion != "eksctl.io/v1alpha5" || c.Kind != "ClusterConfig" || !strings.Contains(string(text), " -f deploy/"+file) {
			t.Errorf("%s is a %s %s, or does not say how it is used", file, c.APIVersion, c.Kind)
		}
		return c
	}
	pods := read("iam/eksctl-pod-identity.yaml").IAM.PodIdentityAssociations
	if len(pods) != 1 || pods[0].Namespace != account.Namespace || pods[0].ServiceAccountName != account.Name {
		t.Fatalf("Pod Identity: %+v", pods)
	}
	if diff := cmp.Diff(policy, pods[0].PermissionPolicy); diff != "" {
		t.Errorf("Pod Identity (-iam-policy.json +eksctl):\n%s", diff)
	}
	irsa := read("iam/eksctl-irsa.yaml").IAM
	if len(irsa.ServiceAccounts) != 1 || !irsa.WithOIDC || !irsa.ServiceAccounts[0].RoleOnly ||
		irsa.ServiceAccounts[0].Metadata.Namespace != account.Namespace || irsa.ServiceAccounts[0].Metadata.Name != account.Name {
		t.Fatalf("IRSA: %+v", irsa)
	}
	if diff := cmp.Diff(policy, irsa.ServiceAccounts[0].AttachPolicy); diff != "" {
		t.Errorf("IRSA (-iam-policy.json +eksctl):\n%s", diff)
	}
}

// TestTrust checks who may assume the role.
func TestTrust(t *testing.T) {
	account := manifest[corev1.ServiceAccount](t, "serviceaccount.yaml")
	statement := func(s map[string]any) any {
		s["Effect"] = "Allow"
		return map[string]any{"Version": "2012-10-17", "Statement": []any{s}}
	}
	for file, want := range map[string]any{
		"iam/trust-pod-identity.json": statement(map[string]any{
			"Principal": map[string]any{"Service": "pods.eks.amazonaws.com"},
			"Action":    []any{"sts:AssumeRole", "sts:TagSession"},
		}),
		"iam/trust-irsa.json": statement(map[string]any{
			"Principal": map[string]any{"Federated": "arn:PARTITION:iam::ACCOUNT:oidc-provider/PROVIDER"},
			"Action":    "sts:AssumeRoleWithWebIdentity",
			"Condition": map[string]any{"StringEquals": map[string]any{
				"PROVIDER:aud": "sts.amazonaws.com",
				"PROVIDER:sub": "system:serviceaccount:" + account.Namespace + ":" + account.Name,
			}},
		}),
	} {
		if diff := cmp.Diff(want, readJSON(t, file)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", file, diff)
		}
	}
}

// TestTerraform checks that the module takes its policies from the files, and that its
// account is the one of the manifests.
func TestTerraform(t *testing.T) {
	text, err := os.ReadFile("iam/terraform/main.tf")
	if err != nil {
		t.Fatal(err)
	}
	module := strings.Join(strings.Fields(string(text)), " ")
	account := manifest[corev1.ServiceAccount](t, "serviceaccount.yaml")
	for _, part := range []string{
		`policy = file("${path.module}/../../iam-policy.json")`,
		`jsondecode(file("${path.module}/../../iam-policy-cross-account.json"))`,
		`file("${path.module}/../trust-pod-identity.json")`,
		`"The namespace of the service." type = string default = "` + account.Namespace + `"`,
		`"The service account of the service." type = string default = "` + account.Name + `"`,
	} {
		if !strings.Contains(module, part) {
			t.Errorf("the module does not have %s", part)
		}
	}
	if strings.Contains(module, "elasticloadbalancing:") {
		t.Error("the module has a policy of its own")
	}
}

// TestInstallFiles checks that the files are there that the commands of install.md name.
func TestInstallFiles(t *testing.T) {
	text, err := os.ReadFile("../docs/install.md")
	if err != nil {
		t.Fatal(err)
	}
	files := regexp.MustCompile(`(?:file://|[ \[])(deploy/[\w./-]+\w)`).FindAllStringSubmatch(string(text), -1)
	if len(files) < 8 {
		t.Errorf("only %q", files)
	}
	for _, f := range files {
		if _, err := os.Stat("../" + f[1]); err != nil {
			t.Error(err)
		}
	}
}

func readJSON(t *testing.T, file string) (v any) {
	t.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return v
}

// TestHookExamples checks that each example's pod lives long enough for a wait behind
// its load balancer, that the line with curl is the same everywhere, and that the line
// asks the Service that is deployed.
func TestHookExamples(t *testing.T) {
	service := manifest[corev1.Service](t, "service.yaml")
	settleTimes := map[string]int64{"hook-curl.yaml": 20, "hook-client-init-container.yaml": 20, "hook-client-in-image.yaml": 120}
	hooks, _ := filepath.Glob("examples/hook-*.yaml")
	for _, file := range hooks {
		settle, ok := settleTimes[filepath.Base(file)]
		if !ok {
			t.Errorf("%s: behind which load balancer?", file)
		}
		pod := manifest[appsv1.Deployment](t, file).Spec.Template.Spec
		grace := *pod.TerminationGracePeriodSeconds
		if grace < settle+65 {
			t.Errorf("%s: a grace period of %d s is too short for a settle time of %d s, a controller that is late, and a shutdown", file, grace, settle)
		}
		if hook := pod.Containers[0].Lifecycle.PreStop.Exec.Command; strings.HasSuffix(file, "curl.yaml") {
			checkCurl(t, hook, service, grace)
		}
	}
	egress := manifest[networkingv1.NetworkPolicy](t, "examples/egress-networkpolicy.yaml").Spec.Egress[0]
	pod := manifest[appsv1.Deployment](t, "deployment.yaml").Spec.Template
	if !selector(t, egress.To[0].PodSelector).Matches(labels.Set(pod.Labels)) || egress.Ports[0].Port.IntVal != service.Spec.Ports[0].Port {
		t.Errorf("egress to %+v", egress)
	}
	if got := egress.To[0].NamespaceSelector.MatchLabels[corev1.LabelMetadataName]; got != service.Namespace {
		t.Errorf("egress to namespace %s", got)
	}
}

// checkCurl checks the line with curl in an example, in README.md and in install.md.
func checkCurl(t *testing.T, hook []string, service *corev1.Service, grace int64) {
	t.Helper()
	const options = "curl -fsS --noproxy '*' --keepalive-time 5 --retry 2 --retry-delay 1 --retry-connrefused --connect-timeout 2 --max-time 300 "
	url := fmt.Sprintf("http://%s.%s:%d/drain-delay", service.Name, service.Namespace, service.Spec.Ports[0].Port)
	line := options + url + " || sleep 25"
	if want := []string{"/bin/sh", "-c", line}; !slices.Equal(hook, want) {
		t.Errorf("the hook is %q, want %q", hook, want)
	}
	if grace >= 300 {
		t.Errorf("curl gives up before a grace period of %d s is over", grace)
	}
	for _, file := range []string{"../README.md", "../docs/install.md"} {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), line) {
			t.Errorf("%s does not have the line %s", file, line)
		}
	}
}

// TestMemoryLimit: the garbage collector works harder before the kernel kills. What is
// left is for memory that Go does not count.
func TestMemoryLimit(t *testing.T) {
	c := manifest[appsv1.Deployment](t, "deployment.yaml").Spec.Template.Spec.Containers[0]
	i := slices.IndexFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == "GOMEMLIMIT" })
	if i < 0 {
		t.Fatal("GOMEMLIMIT is not set")
	}
	soft, err := resource.ParseQuantity(strings.TrimSuffix(c.Env[i].Value, "B")) // Go writes MiB for Mi
	if err != nil {
		t.Fatal(err)
	}
	if part := soft.AsApproximateFloat64() / c.Resources.Limits.Memory().AsApproximateFloat64(); part < 0.8 || part > 0.9 {
		t.Errorf("GOMEMLIMIT is %.0f %% of the memory limit, want 80 to 90", 100*part)
	}
}
