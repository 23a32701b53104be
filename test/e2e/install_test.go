package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
	"sigs.k8s.io/yaml"

	"drainwait/internal/sim/aws"
)

// A newcomer carries out the README's commands in an empty cluster. Then he upgrades while
// his applications are rolled, and uninstalls. The service's pods run the files of the
// image, as what the API server made of the chart says.
func TestInstallByHelm(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	before := in.everything(t)
	world := filepath.Join(in.dir, "world.yaml")
	write(t, world, fmt.Appendf(nil, "settleSeconds: {alb: %d, nlb: %d}\n", int(settleALB.Seconds()), int(settleNLB.Seconds())))
	other := filepath.Join(in.dir, "other.yaml")
	write(t, other, []byte("replicas: 3\ncommonLabels: {team: edge}\nmaxWaits: 5000\nnetworkPolicy: {monitoringNamespace: monitoring}\n"))

	in.run(t, "helm lint --strict charts/drain-wait")
	install := commandIn("README.md", "helm install", exampleRepository, repository)
	in.run(t, install+" -f "+world+" -f "+other)
	in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait rollout status"))
	in.run(t, commandIn("docs/install.md", "helm -n drain-wait test"))

	in.createApplications(t)
	in.rollApplications(t, commandIn("README.md", "kubectl rollout restart"), func() {
		in.run(t, strings.Replace(install, "helm install", "helm upgrade --reset-values", 1)+" -f "+world)
		in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait rollout status"))
	})
	until(t, "first hooks in the metrics", func() error { // each replica has its own
		out, err := in.shell(commandIn("README.md", "kubectl get --raw"))
		if err == nil && (!strings.Contains(out, `{outcome="drained"} `) || strings.Contains(out, `{outcome="drained"} 0`)) {
			err = errors.New(out)
		}
		return err
	})

	in.run(t, commandIn("docs/install.md", "helm uninstall"))
	in.run(t, commandIn("docs/install.md", "kubectl delete namespace"))
	in.nothingSince(t, before)
}

// The same with kubectl alone, by the overlay that docs/install.md shows, from what deploy
// was before it was changed last.
func TestInstallByKubectl(t *testing.T) {
	t.Parallel()
	in := newInstallation(t)
	before := in.everything(t)
	was := in.oldDeploy(t)
	overlay := filepath.Join(in.dir, "overlay")
	apply := "cd " + overlay + " && " + commandIn("docs/install.md", "kubectl apply -k .")
	in.writeOverlay(t, overlay, was)
	in.run(t, apply)
	in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait rollout status"))

	in.createApplications(t)
	in.rollApplications(t, commandIn("README.md", "kubectl rollout restart"), func() {
		in.writeOverlay(t, overlay, "../../deploy")
		in.run(t, apply)
		in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait rollout status"))
	})
	// Helm takes over what kubectl has applied.
	in.run(t, commandIn("docs/install.md", "helm install --take-ownership", exampleRepository, repository))
	in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait rollout status"))
	in.run(t, commandIn("docs/install.md", "kubectl -n drain-wait delete deployment"))
	in.run(t, "cd "+overlay+" && "+commandIn("docs/install.md", "kubectl delete -k ."))
	in.nothingSince(t, before)
}

// Without an overlay, one's own image in deploy is the one line before `kubectl apply`.
func TestOwnImage(t *testing.T) {
	t.Parallel()
	clone := t.TempDir()
	line := commandIn("docs/install.md", "sed -i.old")
	out, err := shell("cp -r deploy "+clone+" && cd "+clone+" && "+line+" && "+program("clients")+"/kubectl kustomize deploy", nil)
	if err != nil || !strings.Contains(out, "image: "+exampleRepository+":v1\n") {
		t.Errorf("%s: %v\n%s", line, err, out)
	}
}

// Go alone makes the image only to push it, and does that only if it is told to.
func TestImageStays(t *testing.T) {
	t.Parallel()
	out, err := shell("IMAGE_TOOL=go hack/image "+repository+":stays v1", nil)
	if err == nil || !strings.Contains(out, "PUSH=1") {
		t.Errorf("%v\n%s", err, out)
	}
}

// installation is a testbed in which somebody installs the service.
type installation struct {
	*testbed
	apps []*application
}

func newInstallation(t *testing.T) *installation {
	t.Helper()
	if err := pushImage(); err != nil {
		t.Fatal(err)
	}
	in := &installation{testbed: newTestbedWith(t, controllers+","+cleaners)}
	in.followService(t)
	return in
}

// followService gives the service's name the addresses of its endpoints that are ready, as
// kube-proxy does.
func (in *installation) followService(t *testing.T) {
	t.Helper()
	f := informers.NewSharedInformerFactoryWithOptions(in.kube, 0, informers.WithNamespace(serviceName))
	slices := f.Discovery().V1().EndpointSlices()
	changed := func() {
		list, err := slices.Lister().List(labels.Everything())
		if err != nil {
			t.Error(err)
		}
		var addresses []string
		for _, s := range list {
			for _, e := range s.Endpoints {
				if *e.Conditions.Ready && s.Labels[discoveryv1.LabelServiceName] == serviceName {
					addresses = append(addresses, e.Addresses[0])
				}
			}
		}
		in.writeHosts(t, addresses)
	}
	if _, err := slices.Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { changed() },
		UpdateFunc: func(any, any) { changed() },
		DeleteFunc: func(any) { changed() },
	}); err != nil {
		t.Fatal(err)
	}
	f.Start(t.Context().Done())
	t.Cleanup(f.Shutdown)
}

// createApplications applies Deployments with the README's hook, behind an ALB and an NLB.
func (in *installation) createApplications(t *testing.T) {
	t.Helper()
	for name, kind := range map[string]aws.Kind{"shop": aws.ALB, "feed": aws.NLB} {
		a := in.createExposed(t, bindings.Group, kind, name)
		in.apps = append(in.apps, a)
		var template corev1.PodTemplateSpec
		if err := yaml.UnmarshalStrict([]byte(block(document("README.md"), "yaml", "preStop")), &template); err != nil {
			t.Fatal(err)
		}
		gate(&template, gateOf(bindings.Group, name))
		template, selector := labelled(template, name)
		text, err := yaml.Marshal(map[string]any{
			"apiVersion": "apps/v1", "kind": "Deployment",
			"metadata": map[string]any{"name": name},
			"spec":     map[string]any{"replicas": 2, "selector": selector, "template": template},
		})
		if err != nil {
			t.Fatal(err)
		}
		path := filepath.Join(in.dir, name+".yaml")
		write(t, path, text)
		in.run(t, commandIn("README.md", "kubectl apply", "-n shop", "-n "+name, "web.yaml", path))
	}
}

// rollApplications rolls all applications under load with a command, while something else
// is done. No request fails, and each hook is told that its pod is drained.
func (in *installation) rollApplications(t *testing.T, command string, meanwhile func()) {
	t.Helper()
	for _, a := range in.apps {
		in.awaitRollout(t, a.name)
	}
	t.Run("roll", func(t *testing.T) {
		t.Run("meanwhile", func(t *testing.T) {
			t.Parallel()
			meanwhile()
		})
		for _, a := range in.apps {
			t.Run(a.name, func(t *testing.T) {
				t.Parallel()
				requests, failed := in.underLoad(t, a, func() {
					in.run(t, strings.NewReplacer("-n shop", "-n "+a.name, "deployment/web", "deployment/"+a.name).Replace(command))
				})
				if len(failed) > 0 {
					t.Errorf("%d of %d requests failed: %q", len(failed), requests, failed)
				}
				settle := settleALB
				if a.name == "feed" {
					settle = settleNLB
				}
				for _, p := range in.kubelet.pods(a.name) {
					p.checkHook(t, settle)
					if !p.Gone.IsZero() {
						p.checkDrained(t, p.Name)
					}
				}
			})
		}
	})
}

// writeOverlay writes the kustomization that docs/install.md shows, on top of a directory,
// with what the world needs.
func (in *installation) writeOverlay(t *testing.T, overlay, base string) {
	t.Helper()
	if err := os.MkdirAll(overlay, 0o755); err != nil {
		t.Fatal(err)
	}
	from, err1 := filepath.Abs(overlay)
	base, err2 := filepath.Abs(base)
	base, err3 := filepath.Rel(from, base)
	if err := errors.Join(err1, err2, err3); err != nil {
		t.Fatal(err)
	}
	text := block(document("docs/install.md"), "yaml", "kind: Kustomization")
	text = strings.NewReplacer("<clone>/deploy", base, exampleRepository, repository).Replace(text)
	for _, flag := range []string{"--settle-alb=" + settleALB.String(), "--settle-nlb=" + settleNLB.String()} {
		text += "- target: {kind: Deployment}\n  patch: |-\n    - {op: add, path: /spec/template/spec/containers/0/args/-, value: " + flag + "}\n"
	}
	write(t, filepath.Join(overlay, "kustomization.yaml"), []byte(text))
}

// oldDeploy is deploy as it was before its manifests were changed last, or as it is where
// git cannot tell.
func (in *installation) oldDeploy(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(in.dir, "old")
	out, err := in.shell(`commit=$(git log -1 --skip=1 --format=%H -- ':(glob)deploy/*.yaml') && test -n "$commit" && mkdir -p ` + dir +
		` && git archive "$commit" deploy | tar -x -C ` + dir + ` && echo "$commit"`)
	if err != nil {
		t.Logf("*** SKIPPED: the upgrade from an earlier deploy: git does not have it: %v ***", err)
		return "../../deploy"
	}
	t.Logf("upgrade from deploy of %s", strings.TrimSpace(out))
	return filepath.Join(dir, "deploy")
}

// own are the kinds of objects that come and go by themselves, and what each namespace has.
var own = []string{"Event", "Lease", "IPAddress", "ServiceAccount default", "ConfigMap kube-root-ca.crt"}

// everything lists all objects of the cluster, those of the applications apart.
func (in *installation) everything(t *testing.T) map[string]bool {
	t.Helper()
	all, err := in.remaining(t)
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func (in *installation) remaining(t *testing.T) (map[string]bool, error) {
	t.Helper()
	lists, err := in.kube.Discovery().ServerPreferredResources()
	if err != nil {
		return nil, err
	}
	lists = discovery.FilteredBy(discovery.SupportsAllVerbs{Verbs: []string{"list", "delete"}}, lists)
	all := make(map[string]bool)
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			objects, err := in.dynamic.Resource(version.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Name, err)
			}
			for _, o := range objects.Items {
				name, namespace := r.Kind+" "+o.GetName(), o.GetNamespace()
				isOwn := slices.Contains(own, r.Kind) || slices.Contains(own, name)
				isApp := slices.ContainsFunc(in.apps, func(a *application) bool { return namespace == a.name || name == "Namespace "+a.name })
				if !isOwn && !isApp {
					all[name+" in "+namespace] = true
				}
			}
		}
	}
	return all, nil
}

// nothingSince waits until only that is left which was there before.
func (in *installation) nothingSince(t *testing.T, before map[string]bool) {
	t.Helper()
	until(t, "what was installed is gone", func() error {
		all, err := in.remaining(t)
		for name := range all {
			if !before[name] {
				err = errors.Join(err, fmt.Errorf("%s is left", name))
			}
		}
		return err
	})
}

// run carries a command out, which must succeed.
func (in *installation) run(t *testing.T, command string) {
	t.Helper()
	out, err := in.shell(command)
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	t.Logf("$ %s\n%s", command, out)
}

// shell carries a command out, with kubectl and helm at hand.
func (in *installation) shell(command string) (string, error) {
	return shell(command, append(os.Environ(),
		"KUBECONFIG="+filepath.Join(in.cluster.dir, "kubeconfig-admin"),
		"PATH="+program("clients")+string(filepath.ListSeparator)+os.Getenv("PATH"),
		"HELM_CACHE_HOME="+in.dir, "HELM_CONFIG_HOME="+in.dir, "HELM_DATA_HOME="+in.dir,
	))
}

// shell carries a command out in the checkout.
func shell(command string, environment []string) (string, error) {
	cmd := exec.Command("sh", "-c", command)
	cmd.Dir, cmd.Env = "../..", environment
	out, err := cmd.CombinedOutput()
	if err != nil {
		err = fmt.Errorf("%s: %w", command, err)
	}
	return string(out), err
}

// document is the text of a document of the project.
func document(path string) string {
	text, err := os.ReadFile(filepath.Join("../..", path))
	if err != nil {
		panic(err)
	}
	return string(text)
}

// block is the first fenced block of a language in a document that contains something.
func block(text, language, content string) string {
	for {
		_, rest, ok := strings.Cut(text, "```"+language+"\n")
		if !ok {
			panic("no block of " + language + " has " + content)
		}
		var found string
		found, text, _ = strings.Cut(rest, "```")
		if strings.Contains(found, content) {
			return found
		}
	}
}

// commandIn is the command of a document that begins in some way, with other words for
// what it leaves open.
func commandIn(path, prefix string, replace ...string) string {
	text := strings.ReplaceAll(block(document(path), "sh", prefix), "\\\n", "")
	for line := range strings.Lines(text) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, prefix) {
			line, _, _ = strings.Cut(line, "  #")
			return strings.NewReplacer(replace...).Replace(line)
		}
	}
	panic(path + " has no command " + prefix)
}
