package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Pod is what a wait needs to know of a pod. It does not change; a newer one
// comes from [Index.Pod].
type Pod struct {
	Namespace, Name string
	UID             types.UID
	IPs             []netip.Addr
	// HostNetwork says that its addresses are those of its node.
	HostNetwork bool
	// Ready is its condition of that name.
	Ready bool
	// Older says that it can have been a target before we watched, so that
	// Services which selected it then have escaped us. That is so, too, after the
	// watch was interrupted and has missed changes.
	Older bool
	// NeverReady says that we watched it from its creation, that its containers
	// were never ready and no EndpointSlice showed it as ready, as those of a
	// Service that publishes not-ready addresses do: no load balancer ever got it.
	NeverReady bool
	// WithoutPreStop names its containers that have no preStop hook. Native sidecars
	// need none: the kubelet stops them after the containers (KEP-753).
	WithoutPreStop []string
	// Grace is the termination grace period: that of its deletion, which can be
	// shorter, or else that of its specification.
	Grace time.Duration
	// KillAt is when the kubelet kills it, by our clock: the deletionTimestamp,
	// which lies ahead by the grace period, less the [Index.Skew] of now. Zero
	// while the pod is not being deleted.
	KillAt time.Time
	// DeletionSeen is when we first saw that it is being deleted; zero while it is
	// not.
	DeletionSeen time.Time

	labels map[string]string
	gates  []string         // names of bindings whose readiness condition it carries
	ports  map[string][]int // of the containers, by name; kept for the host network only
}

// Key is the pod's namespace/name.
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }

// Errors of a look for a pod.
var (
	// ErrNoPod: no pod that runs has the address.
	ErrNoPod = errors.New("no pod has this address")
	// ErrAmbiguous: the address does not tell the pod, because several have it or
	// because it is a node's.
	ErrAmbiguous = errors.New("this address may be that of more than one pod")
)

// PodAt finds the pod that has an address. Completed pods, which keep theirs,
// do not count. namespace decides between several; one in which none of them
// lives is ignored where the address is unique. Pods in the host network share
// the address with their node and whatever runs there, so such a pod is found
// only where a namespace is given and it is the one match in there.
func (x *Index) PodAt(ip netip.Addr, namespace string) (*Pod, error) {
	pods := by[*corev1.Pod](x.pods, byAddress, ip.Unmap().String())
	if len(pods) == 0 {
		return nil, fmt.Errorf("%w: %s", ErrNoPod, ip)
	}
	elsewhere := func(p *corev1.Pod) bool { return p.Namespace != namespace }
	if here := slices.DeleteFunc(slices.Clone(pods), elsewhere); len(here) == 1 {
		return x.newPod(here[0]), nil
	}
	if len(pods) > 1 || pods[0].Spec.HostNetwork {
		return nil, fmt.Errorf("%w: %s", ErrAmbiguous, ip)
	}
	return x.newPod(pods[0]), nil
}

// Pod finds a pod by name; nil where there is none.
func (x *Index) Pod(namespace, name string) *Pod {
	if p := get[corev1.Pod](x.pods, namespace+"/"+name); p != nil {
		return x.newPod(p)
	}
	return nil
}

func (x *Index) newPod(p *corev1.Pod) *Pod {
	older, neverReady := x.history(p.UID)
	out := &Pod{
		Namespace:   p.Namespace,
		Name:        p.Name,
		UID:         p.UID,
		IPs:         addresses(p),
		HostNetwork: p.Spec.HostNetwork,
		Ready:       conditionTrue(p.Status.Conditions, corev1.PodReady),
		Older:       older,
		NeverReady:  neverReady,
		Grace:       30 * time.Second, // the API server's default
		labels:      p.Labels,
	}
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		out.Grace = time.Duration(*s) * time.Second
	}
	if s := p.DeletionGracePeriodSeconds; s != nil {
		out.Grace = time.Duration(*s) * time.Second
	}
	if p.DeletionTimestamp != nil {
		out.KillAt = p.DeletionTimestamp.Add(-x.Skew())
	}
	for _, c := range p.Spec.Containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			out.WithoutPreStop = append(out.WithoutPreStop, c.Name)
		}
	}
	out.gates = gates(p)
	if p.Spec.HostNetwork {
		out.ports = containerPorts(p)
	}
	return out
}

// gatePrefixes and the name of a TargetGroupBinding make the readiness
// conditions that LBC (docs/deploy/pod_readiness_gate.md) and EKS Auto Mode
// (seen in use; not documented) keep on a pod.
var gatePrefixes = []string{"target-health.elbv2.k8s.aws/", "target-health.eks.amazonaws.com/"}

func bindingOfGate(t corev1.PodConditionType) (name string, ok bool) {
	for _, prefix := range gatePrefixes {
		if name, ok := strings.CutPrefix(string(t), prefix); ok {
			return name, true
		}
	}
	return "", false
}

func gates(p *corev1.Pod) []string {
	var names []string
	for _, c := range p.Status.Conditions {
		if name, ok := bindingOfGate(c.Type); ok {
			names = append(names, name)
		}
	}
	return names
}

func addresses(p *corev1.Pod) []netip.Addr {
	var ips []netip.Addr
	for _, s := range p.Status.PodIPs {
		if ip, err := netip.ParseAddr(s.IP); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

// sidecars are the init containers that run as long as the pod: they can have
// ports that are targets.
func sidecars(p *corev1.Pod) []corev1.Container {
	return slices.DeleteFunc(slices.Clone(p.Spec.InitContainers), func(c corev1.Container) bool {
		return c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways
	})
}

func containerPorts(p *corev1.Pod) map[string][]int {
	ports := make(map[string][]int)
	for _, c := range slices.Concat(p.Spec.Containers, sidecars(p)) {
		for _, port := range c.Ports {
			if port.Name != "" {
				ports[port.Name] = append(ports[port.Name], int(port.ContainerPort))
			}
		}
	}
	return ports
}

func findCondition(cs []corev1.PodCondition, t corev1.PodConditionType) *corev1.PodCondition {
	if i := slices.IndexFunc(cs, func(c corev1.PodCondition) bool { return c.Type == t }); i >= 0 {
		return &cs[i]
	}
	return nil
}

func conditionTrue(cs []corev1.PodCondition, t corev1.PodConditionType) bool {
	c := findCondition(cs, t)
	return c != nil && c.Status == corev1.ConditionTrue
}

// podAddresses indexes pods by all of their addresses. A completed pod keeps
// its address while another may have it already.
func podAddresses(obj any) ([]string, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	var keys []string
	for _, ip := range addresses(p) {
		keys = append(keys, ip.String())
	}
	return keys, nil
}

func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	out := &corev1.Pod{
		ObjectMeta: trimMeta(p.ObjectMeta),
		Spec: corev1.PodSpec{
			HostNetwork:                   p.Spec.HostNetwork,
			TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds,
			Containers:                    trimContainers(p.Spec.Containers, p.Spec.HostNetwork),
			InitContainers:                trimContainers(sidecars(p), p.Spec.HostNetwork),
		},
		Status: corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs},
	}
	out.Labels = p.Labels
	out.DeletionTimestamp, out.DeletionGracePeriodSeconds = p.DeletionTimestamp, p.DeletionGracePeriodSeconds
	if len(out.Status.PodIPs) == 0 && p.Status.PodIP != "" {
		out.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, c := range p.Status.Conditions {
		_, gate := bindingOfGate(c.Type)
		if gate || c.Type == corev1.PodReady || c.Type == corev1.ContainersReady {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: c.Type, Status: c.Status, LastTransitionTime: c.LastTransitionTime})
		}
	}
	return out, nil
}

// hooked stands for any preStop hook.
var hooked = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}

func trimContainers(cs []corev1.Container, ports bool) []corev1.Container {
	var out []corev1.Container
	for _, c := range cs {
		t := corev1.Container{Name: c.Name, RestartPolicy: c.RestartPolicy}
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			t.Lifecycle = hooked
		}
		for _, p := range c.Ports {
			if ports && p.Name != "" {
				t.Ports = append(t.Ports, corev1.ContainerPort{Name: p.Name, ContainerPort: p.ContainerPort})
			}
		}
		out = append(out, t)
	}
	return out
}
