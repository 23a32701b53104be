package e2e

import (
	"context"
	"encoding/json"
	"encoding/pem"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// injection is what the chart's policy is told by the values of a form, and what follows
// from them for a pod.
type injection struct {
	values    string
	server    string
	alb, nlb  int64
	volume    corev1.VolumeSource
	installer *corev1.Container // the init container, without what it takes from the pod
	secrets   []corev1.LocalObjectReference
	cases     []injectCase // of this form alone
}

// clientName is the name of the volume with the client, and of the init container that
// fills it.
const clientName = "drain-wait-client"

var injections = map[string]injection{
	"init container": {
		values: `{image: {repository: registry.example.com/drain-wait, tag: v1}, inject: {enabled: true}}`,
		server: "http://drain-wait.drain-wait:8080",
		alb:    20, nlb: 120,
		volume: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}},
		installer: &corev1.Container{
			Name: clientName, Image: "registry.example.com/drain-wait:v1", ImagePullPolicy: corev1.PullAlways,
			Command:      []string{"/prestop", "install", "/client"},
			VolumeMounts: []corev1.VolumeMount{{Name: clientName, MountPath: "/client"}},
			SecurityContext: &corev1.SecurityContext{
				RunAsNonRoot: new(true), AllowPrivilegeEscalation: new(false), ReadOnlyRootFilesystem: new(true),
				Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			TerminationMessagePath: "/dev/termination-log", TerminationMessagePolicy: corev1.TerminationMessageReadFile,
		},
		cases: []injectCase{
			{"a container of the name", "asks", podWith("hostname: a", plainApp, `{name: drain-wait-client, image: a}`), toNone},
			{"annotations that cannot grow", "asks", annotated("a: " + strings.Repeat("ü", 1<<17-20)), toNone},
			{"an init container of the name", "asks", podWith("initContainers: [{name: drain-wait-client, image: a}]", plainApp), toNone},
			{"an emptyDir of the name", "asks", podWith("volumes: [{name: drain-wait-client, emptyDir: {}}]", plainApp), toNone},
			{"a webhook that moves images", "asks", webhooked("mirror", plainApp), wish{hooks: []string{"app", "istio-proxy"}}},
		},
	},
	"image volume": {
		values: `{fullnameOverride: blue, image: {repository: registry.example.com/drain-wait, digest: "sha256:` + imageDigest + `", pullPolicy: Always},
			imagePullSecrets: [{name: registry}, {name: mirror}], settleSeconds: {alb: 30, nlb: 240}, terminationGracePeriodSeconds: 600,
			inject: {enabled: true, client: imageVolume}}`,
		server: "http://blue.drain-wait:8080",
		alb:    30, nlb: 240,
		volume:  corev1.VolumeSource{Image: &corev1.ImageVolumeSource{Reference: "registry.example.com/drain-wait@sha256:" + imageDigest, PullPolicy: corev1.PullAlways}},
		secrets: []corev1.LocalObjectReference{{Name: "registry"}, {Name: "mirror"}},
		cases: []injectCase{
			{"a container of the name", "asks", podWith("hostname: a", plainApp, `{name: drain-wait-client, image: a}`), wish{hooks: []string{"app", clientName}}},
			{"an init container of the name", "asks", podWith("initContainers: [{name: drain-wait-client, image: a}]", plainApp), toApp},
			{"an emptyDir of the name", "asks", podWith("volumes: [{name: drain-wait-client, emptyDir: {}}]", plainApp), toNone},
		},
	},
}

const imageDigest = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

// wish is what should become of a pod. Without hooks it is what it would be without the
// policy.
type wish struct {
	hooks  []string // the containers that get one
	nlb    bool
	settle string // that the pod asks for
}

// hook is what the containers of a pod should run, and the settle time, in seconds.
func (in *injection) hook(w wish) (command []string, settle int64) {
	settle = in.alb
	if w.nlb {
		settle = in.nlb
	}
	var own []string
	if w.settle != "" {
		_, _ = fmt.Sscan(w.settle, &settle)
		own = []string{"--settle=" + w.settle}
	}
	return append([]string{"/drain-wait/prestop", "--server=" + in.server, fmt.Sprint("--fallback=", settle+5)}, own...), settle
}

// inject makes of a pod what the policy should make of it.
func (in *injection) inject(p *corev1.Pod, w wish) {
	if len(w.hooks) == 0 {
		return
	}
	hook, settle := in.hook(w)
	*p.Spec.TerminationGracePeriodSeconds += settle + 30
	p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: clientName, VolumeSource: in.volume})
	for _, s := range in.secrets {
		if !slices.Contains(p.Spec.ImagePullSecrets, s) {
			p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, s)
		}
	}
	for i := range p.Spec.Containers {
		c := &p.Spec.Containers[i]
		if slices.Contains(w.hooks, c.Name) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: clientName, MountPath: "/drain-wait", ReadOnly: true})
			if c.Lifecycle == nil {
				c.Lifecycle = new(corev1.Lifecycle)
			}
			c.Lifecycle.PreStop = &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: hook}}
		}
	}
	if in.installer != nil {
		in.install(p)
	}
}

// install adds what the form with an init container adds besides.
func (in *injection) install(p *corev1.Pod) {
	c := in.installer.DeepCopy()
	c.SecurityContext.RunAsUser = new(int64(65532))
	if s := p.Spec.SecurityContext; s != nil && s.RunAsUser != nil && *s.RunAsUser != 0 {
		c.SecurityContext.RunAsUser = s.RunAsUser
	}
	shared := func(of corev1.ResourceList) corev1.ResourceList {
		of = maps.Clone(of)
		maps.DeleteFunc(of, func(name corev1.ResourceName, _ resource.Quantity) bool {
			return name != corev1.ResourceCPU && name != corev1.ResourceMemory && name != corev1.ResourceEphemeralStorage
		})
		return of
	}
	for _, m := range p.Spec.Containers[0].VolumeMounts {
		if tokenVolume.MatchString(m.Name) { // from the API server, as for every container
			c.VolumeMounts = append(c.VolumeMounts, m)
		}
	}
	if p.Labels[webhookLabel] == "mirror" {
		c.Image = mirrored(c.Image)
	}
	if slices.ContainsFunc(p.Spec.Containers, func(c corev1.Container) bool { return c.ImagePullPolicy != corev1.PullAlways }) {
		c.ImagePullPolicy = corev1.PullIfNotPresent
	}
	r := p.Spec.Containers[0].Resources
	c.Resources = corev1.ResourceRequirements{Limits: shared(r.Limits), Requests: shared(r.Requests)}
	p.Spec.InitContainers = append(p.Spec.InitContainers, *c)
	const evictable = "cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes"
	if p.Annotations == nil {
		p.Annotations = make(map[string]string)
	}
	p.Annotations[evictable] = strings.TrimPrefix(p.Annotations[evictable]+","+clientName, ",")
}

// The namespaces of the cases, with their labels and annotations, and with objects that
// constrain the pods in them.
var injectNamespaces = map[string]struct{ metadata, objects string }{
	"asks":       {metadata: `labels: {drain-wait/inject: "true"}`},
	"plain":      {},
	"declines":   {metadata: `labels: {drain-wait/inject: "false"}`},
	"nlb":        {metadata: `{labels: {drain-wait/inject: "true"}, annotations: {drain-wait/load-balancer: nlb}}`},
	"alb":        {metadata: `{labels: {drain-wait/inject: "true"}, annotations: {drain-wait/load-balancer: alb}}`},
	"restricted": {metadata: `labels: {drain-wait/inject: "true", pod-security.kubernetes.io/enforce: restricted}`},
	serviceName:  {metadata: `labels: {drain-wait/inject: "true"}`},
	"limited": {metadata: `labels: {drain-wait/inject: "true"}`, objects: `
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Container
    min: {cpu: 200m, memory: 100Mi, ephemeral-storage: 50Mi}
    max: {cpu: "1", memory: 1Gi, ephemeral-storage: 1Gi}
    maxLimitRequestRatio: {cpu: 2, memory: 2}
  - type: Pod
    max: {cpu: "1", memory: 1Gi}
`},
	"defaults": {metadata: `labels: {drain-wait/inject: "true"}`, objects: `
apiVersion: v1
kind: LimitRange
metadata: {name: limits}
spec:
  limits:
  - type: Container
    defaultRequest: {cpu: 100m, memory: 64Mi}
    default: {cpu: 200m, memory: 128Mi}
`},
	"quota": {metadata: `labels: {drain-wait/inject: "true"}`, objects: `
apiVersion: v1
kind: ResourceQuota
metadata: {name: quota}
spec:
  hard: &hard {requests.cpu: 400m, requests.memory: 256Mi, limits.cpu: 800m, limits.memory: 256Mi, pods: "4"}
status: # as by the controller, which does not run here
  hard: *hard
  used: {requests.cpu: "0", requests.memory: "0", limits.cpu: "0", limits.memory: "0", pods: "0"}
`},
	"secrets": {metadata: `labels: {drain-wait/inject: "true"}`, objects: `
apiVersion: v1
kind: ServiceAccount
metadata: {name: app}
imagePullSecrets: [{name: account}, {name: mirror}]
`},
}

// injectCase is a pod to create in a namespace, and what should become of it. In its
// specification, "app" and "web" are containers that have nothing but a name and an image.
type injectCase struct {
	name, namespace string
	pod             string // its metadata and its specification
	wish
}

var toApp, toNone = wish{hooks: []string{"app"}}, wish{}

const (
	plainApp = `{name: app, image: e2e.example/app}`
	plainWeb = `{name: web, image: e2e.example/web}`
	ownHook  = `{name: own, image: e2e.example/own, lifecycle: {preStop: {sleep: {seconds: 5}}}}`
	asking   = `metadata: {labels: {drain-wait/inject: "true"}}`
)

// podOf is a pod of containers. What comes before them belongs to its specification.
func podOf(metadata, spec string, containers ...string) string {
	return fmt.Sprintf("{%s, spec: {%s, containers: [%s]}}", metadata, spec, strings.Join(containers, ", "))
}

// podWith is a pod without anything in its metadata.
func podWith(spec string, containers ...string) string {
	return podOf("metadata: {}", spec, containers...)
}

// annotated is a pod with annotations.
func annotated(annotations string) string {
	return podOf("metadata: {annotations: {"+annotations+"}}", "hostname: a", plainApp)
}

var injectCases = []injectCase{
	// Who asks.
	{"the namespace asks", "asks", podWith("hostname: a", plainApp), toApp},
	{"the pod asks", "plain", podOf(asking, "hostname: a", plainApp), toApp},
	{"both ask", "asks", podOf(asking, "hostname: a", plainApp), toApp},
	{"nobody asks", "plain", podWith("hostname: a", plainApp), toNone},
	{"the pod declines", "asks", podOf(`metadata: {labels: {drain-wait/inject: "false"}}`, "hostname: a", plainApp), toNone},
	{"the pod says neither", "asks", podOf(`metadata: {labels: {drain-wait/inject: "yes"}}`, "hostname: a", plainApp), toNone},
	{"the pod says nothing at all", "asks", podOf(`metadata: {labels: {drain-wait/inject: ""}}`, "hostname: a", plainApp), toNone},
	{"the namespace declines", "declines", podWith("hostname: a", plainApp), toNone},
	{"the namespace declines and the pod asks", "declines", podOf(asking, "hostname: a", plainApp), toApp},
	{"an annotation is no label", "plain", annotated(`drain-wait/inject: "true"`), toNone},

	// Who is left out.
	{"host network", "asks", podWith("hostNetwork: true", plainApp), toNone},
	{"static pod", "asks", podOf(`metadata: {annotations: {kubernetes.io/config.mirror: a}}`, "nodeName: node-1", plainApp), toNone},
	{"Windows", "asks", podWith("os: {name: windows}", plainApp), toNone},
	{"Windows by its node", "asks", podWith("nodeSelector: {kubernetes.io/os: windows}", plainApp), toNone},
	{"Windows by its affinity", "asks", podWith(`affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
		{matchExpressions: [{key: kubernetes.io/os, operator: In, values: [windows]}]}]}}}`, plainApp), toNone},
	{"Windows by its options", "asks", podWith("securityContext: {windowsOptions: {runAsUserName: ContainerUser}}", plainApp), toNone},
	{"Windows by a container's options", "asks", podWith("hostname: a", `{name: app, image: a, securityContext: {windowsOptions: {runAsUserName: ContainerUser}}}`), toNone},
	{"not Windows by its affinity", "asks", podWith(`affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: {nodeSelectorTerms: [
		{matchExpressions: [{key: kubernetes.io/os, operator: NotIn, values: [windows]}, {key: kubernetes.io/arch, operator: Exists}]}]}}}`, plainApp), toApp},
	{"Linux by name", "asks", podWith("os: {name: linux}, nodeSelector: {kubernetes.io/os: linux}", plainApp), toApp},
	{"the service itself", serviceName, podOf(asking, "hostname: a", plainApp), toNone},
	{"the system", "kube-system", podOf(asking, "hostname: a", plainApp), toNone},
	{"a job", "asks", podWith("restartPolicy: Never", plainApp), toNone},
	{"a job that restarts", "asks", podWith("restartPolicy: OnFailure", plainApp), toNone},
	{"a job that asks", "asks", podOf(asking, "restartPolicy: Never", plainApp), toApp},

	// Which containers.
	{"two containers", "asks", podWith("hostname: a", plainApp, plainWeb), wish{hooks: []string{"app", "web"}}},
	{"an own hook", "asks", podWith("hostname: a", ownHook, plainApp), toApp},
	{"own hooks only", "asks", podWith("hostname: a", ownHook), toNone},
	{"an own hook of httpGet", "asks", podWith("hostname: a", `{name: own, image: a, lifecycle: {preStop: {httpGet: {port: 80}}}}`), toNone},
	{"a postStart", "asks", podWith("hostname: a", `{name: app, image: a, lifecycle: {postStart: {exec: {command: [x]}}}}`), toApp},
	{"a stop signal", "asks", podWith("os: {name: linux}", `{name: app, image: a, lifecycle: {stopSignal: SIGQUIT}}`), toApp},
	{"an empty lifecycle", "asks", podWith("hostname: a", `{name: app, image: a, lifecycle: {}}`), toApp},
	{"init containers and native sidecars", "asks", podWith(
		`initContainers: [{name: migrate, image: a}, {name: proxy, image: a, restartPolicy: Always}]`, plainApp), toApp},
	{"a native sidecar with a hook", "asks", podWith(
		`initContainers: [{name: proxy, image: a, restartPolicy: Always, lifecycle: {preStop: {sleep: {seconds: 5}}}}]`, plainApp), toApp},
	{"a hundred containers", "asks", podWith("hostname: a", manyContainers(100)...), wish{hooks: manyNames(100)}},

	// How long.
	{"no grace period", "asks", podWith("terminationGracePeriodSeconds: 0", plainApp), toApp},
	{"less than no grace period", "asks", podWith("terminationGracePeriodSeconds: -1", plainApp), toApp},
	{"a long grace period", "asks", podWith("terminationGracePeriodSeconds: 86400", plainApp), toApp},
	{"a grace period that no double holds", "asks", podWith("terminationGracePeriodSeconds: 9007199254740992", plainApp), toNone},
	{"a grace period that cannot grow", "asks", podWith("terminationGracePeriodSeconds: 9223372036854775807", plainApp), toNone},
	{"a deadline and a probe's grace period", "asks", podWith("activeDeadlineSeconds: 10",
		`{name: app, image: a, livenessProbe: {httpGet: {port: 80}, terminationGracePeriodSeconds: 5}}`), toApp},

	// Which load balancer.
	{"NLB", "asks", annotated("drain-wait/load-balancer: nlb"), wish{hooks: toApp.hooks, nlb: true}},
	{"NLB in other letters", "asks", annotated("drain-wait/load-balancer: NLB"), wish{hooks: toApp.hooks, nlb: true}},
	{"in doubt the longer time", "asks", annotated("drain-wait/load-balancer: both"), wish{hooks: toApp.hooks, nlb: true}},
	{"ALB", "asks", annotated(`drain-wait/load-balancer: " ALB "`), toApp},
	{"no load balancer is named", "asks", annotated(`drain-wait/load-balancer: ""`), toApp},
	{"NLB for the namespace", "nlb", podWith("hostname: a", plainApp), wish{hooks: toApp.hooks, nlb: true}},
	{"ALB in a namespace of NLBs", "nlb", annotated("drain-wait/load-balancer: alb"), toApp},
	{"NLB in a namespace of ALBs", "alb", annotated("drain-wait/load-balancer: nlb"), wish{hooks: toApp.hooks, nlb: true}},
	{"ALB for the namespace", "alb", podWith("hostname: a", plainApp), toApp},
	{"a settle time", "asks", annotated(`drain-wait/settle: "45"`), wish{hooks: toApp.hooks, settle: "45"}},
	{"a settle time behind an NLB", "asks", annotated(`drain-wait/settle: "200", drain-wait/load-balancer: nlb`), wish{hooks: toApp.hooks, settle: "200"}},
	{"a settle time of none", "asks", annotated(`drain-wait/settle: "0"`), wish{hooks: toApp.hooks, settle: "0"}},
	{"a settle time with a unit", "asks", annotated(`drain-wait/settle: 45s`), toApp},
	{"a settle time below zero", "asks", annotated(`drain-wait/settle: "-45"`), toApp},
	{"a settle time beyond all numbers", "asks", annotated(`drain-wait/settle: "99999999999999999999"`), toApp},
	{"a settle time that injects", "asks", annotated(`drain-wait/settle: "45 --strict"`), toApp},
	{"a settle time on two lines", "asks", annotated(`drain-wait/settle: "45\n"`), toApp},

	// What is there already.
	{"other volumes and mounts", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: app, image: a, volumeMounts: [{name: data, mountPath: /data}]}`, plainWeb), wish{hooks: []string{"app", "web"}}},
	{"a volume of the name", "asks", podWith("volumes: [{name: drain-wait-client, configMap: {name: a}}]", plainApp), toNone},
	{"a mount at the path", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: own, image: a, volumeMounts: [{name: data, mountPath: /drain-wait}]}`, plainApp), toApp},
	{"a mount at the path in other words", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: own, image: a, volumeMounts: [{name: data, mountPath: //drain-wait/.}]}`, plainApp), toApp},
	{"a mount below the path", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: own, image: a, volumeMounts: [{name: data, mountPath: /drain-wait/data}]}`, plainApp), toApp},
	{"a mount beside the path", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: app, image: a, volumeMounts: [{name: data, mountPath: /drain-wait-data}]}`), toApp},
	{"a device at the path", "asks", podWith("volumes: [{name: data, persistentVolumeClaim: {claimName: a}}]",
		`{name: own, image: a, volumeDevices: [{name: data, devicePath: /drain-wait}]}`, plainApp), toApp},
	{"a container of our image, where the path is a program", "asks", podWith("hostname: a", `{name: own, image: "registry.example.com/drain-wait:v0"}`, plainApp), toApp},
	{"a container of an image whose name goes on", "asks", podWith("hostname: a", `{name: other, image: "registry.example.com/drain-wait-shop:v1"}`, plainApp), wish{hooks: []string{"other", "app"}}},
	{"nothing but a mount at the path", "asks", podWith("volumes: [{name: data, emptyDir: {}}]",
		`{name: own, image: a, volumeMounts: [{name: data, mountPath: /drain-wait}]}`), toNone},
	{"volumes that stay on the node", "asks", podOf(`metadata: {annotations: {cluster-autoscaler.kubernetes.io/safe-to-evict-local-volumes: "data"}}`,
		"volumes: [{name: data, emptyDir: {}}]", plainApp), toApp},
	{"a pull secret", "asks", podWith("imagePullSecrets: [{name: mirror}]", plainApp), toApp},
	{"pull secrets of the account", "secrets", podWith("serviceAccountName: app", plainApp), toApp},
	{"a token", "asks", podWith("automountServiceAccountToken: true", plainApp), toApp},
	{"a pod of everything else", "asks", podWith(`priority: 0, schedulingGates: [{name: a}], hostUsers: false, shareProcessNamespace: true,
		dnsPolicy: Default, readinessGates: [{conditionType: a.example/b}], tolerations: [{operator: Exists}], topologySpreadConstraints: [],
		securityContext: {fsGroup: 5, supplementalGroups: [6]}`, `{name: app, image: a, restartPolicy: OnFailure, restartPolicyRules: [], tty: true}`), toApp},

	// Who must accept it.
	{"pod security", "restricted", podWith("securityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}", restrictedApp("")), toApp},
	{"pod security by container", "restricted", podWith("hostname: a", restrictedApp("runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}, ")), toApp},
	{"a user", "asks", podWith("securityContext: {runAsUser: 1000}", plainApp), toApp},
	{"root", "asks", podWith("securityContext: {runAsUser: 0}", plainApp), toApp},
	{"limits", "limited", podWith("hostname: a", `{name: app, image: a, resources: {requests: {cpu: 300m, memory: 200Mi, ephemeral-storage: 60Mi},
		limits: {cpu: 500m, memory: 300Mi, ephemeral-storage: 70Mi}}}`), toApp},
	{"limits that two containers exhaust", "limited", podWith("hostname: a", limited("app"), limited("web")), wish{hooks: []string{"app", "web"}}},
	{"limits by default", "defaults", podWith("hostname: a", plainApp), toApp},
	// Two forms create it twice each, which is all that the quota has.
	{"a quota that the pods exhaust", "quota", podWith("hostname: a",
		`{name: app, image: a, resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: 200m, memory: 64Mi}}}`), toApp},
	{"a device and huge pages", "asks", podWith("hostname: a",
		`{name: app, image: a, resources: {requests: {cpu: "1"}, limits: {cpu: "1", memory: 1Gi, hugepages-2Mi: 2Mi, example.com/gpu: "1"}}}`), toApp},
	{"a claim", "asks", podWith("resourceClaims: [{name: gpu, resourceClaimName: a}]", `{name: app, image: a, resources: {claims: [{name: gpu}]}}`), toApp},
	{"resources of the pod", "asks", podWith(`resources: {requests: {cpu: "1"}, limits: {cpu: "1", memory: 1Gi}}`, limited("app"), plainWeb), wish{hooks: []string{"app", "web"}}},

	{"images that are pulled if not present", "asks", podWith("hostname: a", `{name: app, image: a, imagePullPolicy: IfNotPresent}`, ownHook), toApp},

	// After a webhook.
	{"a mesh's container", "asks", webhooked("sidecar", plainApp), wish{hooks: []string{"app", "istio-proxy"}}},
	{"a mesh's container before the others", "asks", webhooked("sidecar first", plainApp), wish{hooks: []string{"istio-proxy", "app"}}},
	{"a mesh's container beside an own hook", "asks", webhooked("sidecar", ownHook), wish{hooks: []string{"istio-proxy"}}},
	{"a mesh's native sidecar", "asks", webhooked("native sidecar", plainApp), toApp},
	{"a readiness gate", "asks", webhooked("gate", plainApp), toApp},
}

func manyContainers(n int) (out []string) {
	for _, name := range manyNames(n) {
		out = append(out, fmt.Sprintf("{name: %s, image: a}", name))
	}
	return out
}

func manyNames(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("c", i))
	}
	return out
}

func limited(name string) string {
	return fmt.Sprintf(`{name: %s, image: a, resources: {requests: {cpu: 500m, memory: 512Mi}, limits: {cpu: 500m, memory: 512Mi}}}`, name)
}

func restrictedApp(more string) string {
	return `{name: app, image: a, securityContext: {` + more + `allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}}`
}

// webhooked is a pod to which a webhook does something.
func webhooked(what string, containers ...string) string {
	return podOf(fmt.Sprintf("metadata: {labels: {%s: %q}}", webhookLabel, strings.ReplaceAll(what, " ", "-")), "hostname: a", containers...)
}

// webhookLabel is the label of pods to which the webhook of the tests does something, and
// says what. A webhook comes after the policy, which is then invoked again.
const webhookLabel = "e2e.example/webhook"

// startWebhook makes the API server call a webhook for the pods that have its label.
func (tb *testbed) startWebhook(t *testing.T) {
	t.Helper()
	srv := httptest.NewTLSServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		var review admissionv1.AdmissionReview
		var p corev1.Pod
		body, err := io.ReadAll(r.Body)
		if err == nil {
			err = json.Unmarshal(body, &review)
		}
		if err == nil {
			err = json.Unmarshal(review.Request.Object.Raw, &p)
		}
		if err != nil {
			http.Error(rw, err.Error(), http.StatusBadRequest)
			return
		}
		review.Response = &admissionv1.AdmissionResponse{
			UID: review.Request.UID, Allowed: true, PatchType: new(admissionv1.PatchTypeJSONPatch), Patch: webhookPatch(&p),
		}
		_ = json.NewEncoder(rw).Encode(review)
	}))
	t.Cleanup(srv.Close)
	_, err := tb.kube.AdmissionregistrationV1().MutatingWebhookConfigurations().Create(t.Context(), &admissionregistrationv1.MutatingWebhookConfiguration{
		ObjectMeta: metav1.ObjectMeta{Name: "e2e"},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:         "e2e.example.com",
			ClientConfig: admissionregistrationv1.WebhookClientConfig{URL: &srv.URL, CABundle: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw})},
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create},
				Rule:       admissionregistrationv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
			}},
			ObjectSelector:          &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: webhookLabel, Operator: metav1.LabelSelectorOpExists}}},
			SideEffects:             new(admissionregistrationv1.SideEffectClassNone),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	until(t, "webhook", func() error {
		p, err := tb.createPod(t, "asks", webhooked("gate", plainApp), true)
		if err == nil && len(p.Spec.ReadinessGates) == 0 {
			err = fmt.Errorf("it was not called")
		}
		return err
	})
}

// webhookPatch is what the webhook does to a pod.
func webhookPatch(p *corev1.Pod) []byte {
	proxy := corev1.Container{Name: "istio-proxy", Image: "e2e.example/proxy"}
	type operation struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	var patch []operation
	add := func(path string, value any) { patch = append(patch, operation{"add", path, value}) }
	switch what := p.Labels[webhookLabel]; what {
	case "sidecar": // a mesh's plain container
		proxy.Lifecycle = &corev1.Lifecycle{PostStart: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"wait"}}}}
		add("/spec/containers/-", proxy)
	case "sidecar-first": // which the others have to wait for
		add("/spec/containers/0", proxy)
	case "native-sidecar":
		proxy.RestartPolicy = new(corev1.ContainerRestartPolicyAlways)
		add("/spec/initContainers", slices.Concat([]corev1.Container{proxy}, p.Spec.InitContainers))
	case "mirror": // moves images as they are then, and adds a container
		for i, c := range p.Spec.InitContainers {
			add(fmt.Sprintf("/spec/initContainers/%d/image", i), mirrored(c.Image))
		}
		add("/spec/containers/-", proxy)
	default: // what LBC's webhook adds to a pod behind a load balancer
		add("/spec/readinessGates", []corev1.PodReadinessGate{{ConditionType: corev1.PodConditionType(webhookGates[what])}})
	}
	text, _ := json.Marshal(patch)
	return text
}

// webhookGates are the readiness gates of LBC and of EKS Auto Mode, and some that only look
// like one.
var webhookGates = map[string]string{
	"gate":           string(gateOf(bindings.Group, "k8s-web-1")),
	"gate-auto-mode": "target-health.eks.amazonaws.com/k8s-web-1",
	"gate-inside":    "a.example/target-health.elbv2.k8s.aws",
	"gate-beside":    "target-health.elbv2.k8s.aws.example/k8s-web-1",
}

func mirrored(image string) string { return "mirror.example.com/" + image }

// createPod creates a pod from its metadata and specification, and then deletes it. A dry
// run goes as far as the end of admission.
func (tb *testbed) createPod(t *testing.T, namespace, text string, dry bool) (*corev1.Pod, error) {
	t.Helper()
	p := new(corev1.Pod)
	if err := yaml.UnmarshalStrict([]byte(text), p); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	if p.Spec.AutomountServiceAccountToken == nil {
		p.Spec.AutomountServiceAccountToken = new(false)
	}
	return tb.create(t, namespace, p, dry)
}

func (tb *testbed) create(t *testing.T, namespace string, p *corev1.Pod, dry bool) (*corev1.Pod, error) {
	t.Helper()
	p.Name = "case"
	var options metav1.CreateOptions
	if dry {
		options.DryRun = []string{metav1.DryRunAll}
	}
	pods := tb.kube.CoreV1().Pods(namespace)
	ctx := context.WithoutCancel(t.Context()) // which has ended where a policy's end is awaited
	p, err := pods.Create(ctx, p, options)
	if err != nil || dry {
		return p, err
	}
	if err := pods.Delete(ctx, p.Name, metav1.DeleteOptions{GracePeriodSeconds: new(int64)}); err != nil {
		t.Fatal(err)
	}
	return p, nil
}

// tokenVolume is the name of the volume with a token, which is drawn for each pod.
var tokenVolume = regexp.MustCompile(`kube-api-access-[a-z0-9]+`)

// plainText is all of a pod that does not differ from one creation to the next.
func plainText(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	p = p.DeepCopy()
	p.ObjectMeta = metav1.ObjectMeta{Labels: p.Labels, Annotations: p.Annotations}
	p.Status.Conditions = nil
	text, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return tokenVolume.ReplaceAllString(string(text), "kube-api-access")
}

// difference are the lines that only one of two texts has.
func difference(want, got string) string {
	var out strings.Builder
	wanted, found := strings.Split(want, "\n"), strings.Split(got, "\n")
	for _, line := range wanted {
		if !slices.Contains(found, line) {
			fmt.Fprintf(&out, "- %s\n", line)
		}
	}
	for _, line := range found {
		if !slices.Contains(wanted, line) {
			fmt.Fprintf(&out, "+ %s\n", line)
		}
	}
	return out.String()
}

// policyObjects are the objects with which the chart injects.
func policyObjects(t *testing.T, values string) (objects []*unstructured.Unstructured) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "values.yaml")
	write(t, file, []byte(values))
	for _, o := range chart(t, file) {
		if o.GroupVersionKind().Group == admissionregistrationv1.GroupName {
			objects = append(objects, o)
		}
	}
	if len(objects) != 3 {
		t.Fatalf("%d objects inject, want the policy and its two bindings", len(objects))
	}
	return objects
}

// usePolicy applies the chart's policy, and returns when it acts: on a pod that asks, and on
// one whose namespace does.
func (tb *testbed) usePolicy(t *testing.T, values string, askingPod, silentPod string) {
	t.Helper()
	objects := policyObjects(t, values)
	acts := func(want bool) func() error {
		return func() error {
			for _, text := range []string{askingPod, silentPod} {
				p, err := tb.createPod(t, "asks", text, true)
				if err == nil && (p.Spec.Containers[0].Lifecycle != nil) != want {
					err = fmt.Errorf("it acts: %t", !want)
				}
				if err != nil {
					return err
				}
			}
			return nil
		}
	}
	t.Cleanup(func() {
		tb.remove(t, objects...)
		until(t, "end of the policy", acts(false))
	})
	tb.apply(t, objects...)
	until(t, "policy", acts(true))
}

// remove deletes a policy and its bindings.
func (tb *testbed) remove(t *testing.T, objects ...*unstructured.Unstructured) {
	t.Helper()
	for _, o := range objects {
		remove := tb.kube.AdmissionregistrationV1().MutatingAdmissionPolicyBindings().Delete
		if o.GetKind() == "MutatingAdmissionPolicy" {
			remove = tb.kube.AdmissionregistrationV1().MutatingAdmissionPolicies().Delete
		}
		if err := remove(context.WithoutCancel(t.Context()), o.GetName(), metav1.DeleteOptions{}); err != nil {
			t.Error(err)
		}
	}
}

// startInjection starts a cluster with the namespaces of the cases and with the webhook.
func startInjection(t *testing.T) *testbed {
	t.Helper()
	tb := &testbed{T: t, dir: t.TempDir()}
	tb.cluster = startCluster(t, tb.dir, controllers)
	for name, n := range injectNamespaces {
		object := &unstructured.Unstructured{Object: map[string]any{"apiVersion": "v1", "kind": "Namespace"}}
		var m metav1.ObjectMeta
		if err := yaml.UnmarshalStrict([]byte(n.metadata), &m); err != nil {
			t.Fatal(err)
		}
		object.SetName(name)
		object.SetLabels(m.Labels)
		object.SetAnnotations(m.Annotations)
		tb.apply(t, object)
		tb.createNamespace(t, name)
		if n.objects != "" {
			var u unstructured.Unstructured
			if err := yaml.UnmarshalStrict([]byte(n.objects), &u.Object); err != nil {
				t.Fatal(err)
			}
			u.SetNamespace(name)
			tb.apply(t, &u)
			if u.GetKind() == "ResourceQuota" {
				quotas := tb.dynamic.Resource(corev1.SchemeGroupVersion.WithResource("resourcequotas")).Namespace(name)
				if _, err := quotas.ApplyStatus(t.Context(), u.GetName(), &u, metav1.ApplyOptions{FieldManager: "e2e"}); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	for _, namespace := range []string{"limited", "quota"} {
		until(t, "refusal in "+namespace, func() error {
			small := `{name: app, image: a, resources: {limits: {cpu: 10m}}}`
			_, err := tb.createPod(t, namespace, podWith("hostname: a", small), true)
			if err == nil {
				return fmt.Errorf("%s is accepted", small)
			} else if !apierrors.IsForbidden(err) {
				return err
			}
			return nil
		})
	}
	tb.startWebhook(t)
	return tb
}

// What becomes of pods, with the chart's policy and without it. Nothing else changes, and
// none is refused.
func TestInject(t *testing.T) {
	t.Parallel()
	tb := startInjection(t)
	for _, name := range slices.Sorted(maps.Keys(injections)) {
		in := injections[name]
		cases := slices.Concat(injectCases, in.cases)
		pods := tb.unchanged(t, cases)
		t.Run(name, func(t *testing.T) {
			tb.usePolicy(t, in.values, podOf(asking, "hostname: a", plainApp), podWith("hostname: a", plainApp))
			tb.checkAll(t, &in, cases, pods)
		})
		if got := tb.policyErrors(t); got > 0 {
			t.Errorf("%d expressions failed", got)
		}
	}
}

// policyErrors is how often the API server says that a policy failed.
func (tb *testbed) policyErrors(t *testing.T) (n int) {
	t.Helper()
	text, err := tb.kube.CoreV1().RESTClient().Get().AbsPath("/metrics").DoRaw(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	const metric = "apiserver_mutating_admission_policy_check_total{"
	for line := range strings.Lines(string(text)) {
		labels, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		if strings.HasPrefix(labels, metric) && !strings.Contains(labels, `error_type="no_error"`) {
			failed := 0
			if _, err := fmt.Sscan(value, &failed); err != nil {
				t.Fatalf("%s: %v", line, err)
			}
			n += failed
		}
	}
	return n
}

// gatedPod is a pod with a readiness gate.
func gatedPod(gate string) string {
	return podWith(fmt.Sprintf("readinessGates: [{conditionType: %q}]", gate), plainApp)
}

// askingGate is a pod that asks, and to which the webhook adds a gate.
const askingGate = `{metadata: {labels: {drain-wait/inject: "true", ` + webhookLabel + `: gate}}, spec: {containers: [` + plainApp + `]}}`

// someForms are the forms in which the policy concerns only some of the pods that ask.
var someForms = map[string]struct {
	values string
	cases  []injectCase
}{
	"gated": {`gatedOnly: true}}`, []injectCase{
		{"no gate", "asks", podWith("hostname: a", plainApp), toNone},
		{"no gate but a label", "plain", podOf(asking, "hostname: a", plainApp), toNone},
		{"a gate", "asks", gatedPod(webhookGates["gate"]), toApp},
		{"a gate from a webhook", "asks", webhooked("gate", plainApp), toApp},
		{"a gate from a webhook of Auto Mode", "asks", webhooked("gate-auto-mode", plainApp), toApp},
		{"a gate and a label", "plain", askingGate, toApp},
		{"a gate and no label", "plain", webhooked("gate", plainApp), toNone},
		{"another gate", "asks", gatedPod("a.example/b"), toNone},
		{"a gate that names LBC", "asks", webhooked("gate-inside", plainApp), toNone},
		{"a gate of a longer name", "asks", webhooked("gate-beside", plainApp), toNone},
		{"a mesh without a gate", "asks", webhooked("sidecar", plainApp), toNone},
	}},
	"namespaces": {`client: initContainer}, namespaces: [asks, nlb]}`, []injectCase{
		{"a namespace that is served", "asks", podWith("hostname: a", plainApp), toApp},
		{"another one", "nlb", podWith("hostname: a", plainApp), wish{hooks: toApp.hooks, nlb: true}},
		{"a namespace that is not", "alb", podWith("hostname: a", plainApp), toNone},
		{"a pod that asks in one", "plain", podOf(asking, "hostname: a", plainApp), toNone},
	}},
}

// With gatedOnly, the pods that have a readiness gate are injected, even if a webhook adds
// it after the policy was invoked. With namespaces, only pods of these.
func TestInjectSome(t *testing.T) {
	t.Parallel()
	tb := startInjection(t)
	in := injections["init container"]
	for name, form := range someForms {
		pods := tb.unchanged(t, form.cases)
		t.Run(name, func(t *testing.T) {
			tb.usePolicy(t, "{image: {repository: registry.example.com/drain-wait, tag: v1}, inject: {enabled: true, "+form.values, askingGate, webhooked("gate", plainApp))
			tb.checkAll(t, &in, form.cases, pods)
		})
	}
	if n := tb.policyErrors(t); n > 0 {
		t.Errorf("%d expressions failed", n)
	}
}

// unchanged are the pods of cases where there is no policy.
func (tb *testbed) unchanged(t *testing.T, cases []injectCase) (pods []*corev1.Pod) {
	t.Helper()
	for _, c := range cases {
		p, err := tb.createPod(t, c.namespace, c.pod, true)
		if err != nil {
			t.Fatalf("%s: refused without the policy: %v", c.name, err)
		}
		pods = append(pods, p)
	}
	return pods
}

// checkAll checks what becomes of pods that were unchanged without the policy.
func (tb *testbed) checkAll(t *testing.T, in *injection, cases []injectCase, pods []*corev1.Pod) {
	t.Helper()
	for i, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			in.inject(pods[i], c.wish)
			tb.check(t, c, pods[i])
		})
	}
}

// check creates the pod of a case, and what became of it once more, as a backup does that is
// played back.
func (tb *testbed) check(t *testing.T, c injectCase, want *corev1.Pod) {
	t.Helper()
	got, err := tb.createPod(t, c.namespace, c.pod, false)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	compare := func(want, got *corev1.Pod) {
		t.Helper()
		if want, got := plainText(t, want), plainText(t, got); want != got {
			t.Errorf("(-want +got)\n%s\ngot all of\n%s", difference(want, got), got)
		}
	}
	compare(want, got)
	again := got.DeepCopy()
	again.ObjectMeta = metav1.ObjectMeta{Labels: maps.Clone(got.Labels), Annotations: got.Annotations}
	delete(again.Labels, webhookLabel)
	delete(got.Labels, webhookLabel)
	if again, err = tb.create(t, c.namespace, again, false); err != nil {
		t.Fatalf("refused when played back: %v", err)
	}
	compare(got, again)
}

// The client knows the flags of the hook. With --help it does nothing else, and it fails if
// another flag is wrong.
func TestInjectedHook(t *testing.T) {
	for name, in := range injections {
		command, _ := in.hook(wish{settle: "45"})
		cmd := exec.Command(program("prestop"), append(command[1:], "--help")...)
		cmd.Env = append(os.Environ(), "DRAIN_WAIT_MAX_DELAY=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %q: %v: %s", name, command, err, out)
		}
	}
}

var injectPods = flag.Int("inject-pods", 0, "how many pods of each kind TestInjectCost creates")

// TestInjectCost prints what the policy costs. It creates pods by turns: that are injected,
// that decline, and that decline but have all that the others are given.
func TestInjectCost(t *testing.T) {
	if *injectPods == 0 {
		t.Skip("a measurement: give -inject-pods")
	}
	tb := startInjection(t)
	for name, in := range injections {
		t.Run(name, func(t *testing.T) { tb.measure(t, in.values) })
	}
}

// measure creates the pods with a form of the chart.
func (tb *testbed) measure(t *testing.T, values string) {
	tb.usePolicy(t, values, podOf(asking, "hostname: a", plainApp), podWith("hostname: a", plainApp))
	injected := &corev1.Pod{Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "a"}, {Name: "web", Image: "a"}}}}
	declined := injected.DeepCopy()
	declined.Labels = map[string]string{"drain-wait/inject": "false"}
	byHand, err := tb.create(t, "asks", injected.DeepCopy(), true)
	if err != nil {
		t.Fatal(err)
	}
	byHand.ObjectMeta = metav1.ObjectMeta{Labels: declined.Labels, Annotations: byHand.Annotations}
	kinds := []struct {
		name string
		pod  *corev1.Pod
		took []time.Duration
	}{{name: "injected", pod: injected}, {name: "declined", pod: declined}, {name: "by hand", pod: byHand}}
	for range *injectPods {
		for i := range kinds {
			k := &kinds[i]
			k.pod.Name, k.pod.GenerateName = "", "cost-"
			began := time.Now()
			got, err := tb.kube.CoreV1().Pods("asks").Create(t.Context(), k.pod, metav1.CreateOptions{})
			k.took = append(k.took, time.Since(began))
			if err != nil || (got.Spec.Containers[1].Lifecycle == nil) != (k.name == "declined") {
				t.Fatalf("%s: %v, %v", k.name, got, err)
			}
		}
	}
	ms := func(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }
	for _, k := range kinds {
		var sum time.Duration
		for _, d := range k.took {
			sum += d
		}
		slices.Sort(k.took)
		n := len(k.took)
		t.Logf("%s: %d pods, mean %.2f ms, median %.2f ms, p99 %.2f ms", k.name, n, ms(sum/time.Duration(n)), ms(k.took[n/2]), ms(k.took[n*99/100]))
	}
}
