package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/resourceversion"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// Pod is what a wait needs to know of a pod. It does not change; a newer one
// comes from [Index.Refresh].
type Pod struct {
	Namespace, Name string // no name for an address that no pod has
	UID             types.UID
	IPs             []netip.Addr
	HostNetwork     bool // its addresses are those of its node
	// WithoutPreStop names its containers that have no preStop hook. Native
	// sidecars need none: the kubelet stops them after the containers (KEP-753).
	WithoutPreStop []string
	// Grace is the termination grace period: the shortest that was seen of its
	// deletion, or else that of its specification.
	Grace time.Duration
	// KillAt is when the kubelet kills it, by our clock: the earliest
	// deletionTimestamp that was seen, which has the grace period in it, less the skew
	// of the API server's clock when the deletion was first seen. Where the skew is too
	// large to be corrected, the grace period counts from when the deletion was seen.
	// Zero while the pod is not being deleted.
	KillAt time.Time
	// DeletionSeen is when we first saw that it is being deleted; zero while it is
	// not. A deletion is never taken back, whatever a watch that is behind shows.
	DeletionSeen time.Time

	raw   *corev1.Pod // trimmed; nil for an address that no pod has
	since time.Time   // when such an address was asked for
}

// Key is the pod's namespace/name.
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }

// Answers where no pod is found.
var (
	ErrNoPod     = errors.New("no such pod")                             // of the name, or none that runs has the address
	ErrAmbiguous = errors.New("more than one pod may have this address") // several have it, or it is a node's
	ErrDisagree  = errors.New("the pod does not have this address")      // it is named with another
)

// PodAt finds the pod in the cache that has an address. Completed pods, which keep
// theirs, do not count. namespace decides between several; where only one has the
// address, it may live elsewhere. A pod in the host network shares the address with
// its node and whatever else runs there. So it is found only where it is the one match
// in the given namespace.
func (x *Index) PodAt(ip netip.Addr, namespace string) (*Pod, error) {
	p, err := choose(kube.ByIndex[corev1.Pod](x.pods, byAddress, ip.Unmap().String()), ip, namespace)
	if err != nil {
		return nil, err
	}
	return x.newPod(p), nil
}

// choose is the rule of [Index.PodAt].
func choose(pods []*corev1.Pod, ip netip.Addr, namespace string) (*corev1.Pod, error) {
	if len(pods) == 0 {
		return nil, fmt.Errorf("%w: none has the address %s", ErrNoPod, ip)
	}
	elsewhere := func(p *corev1.Pod) bool { return p.Namespace != namespace }
	if here := slices.DeleteFunc(slices.Clone(pods), elsewhere); len(here) == 1 {
		return here[0], nil
	}
	if len(pods) > 1 || pods[0].Spec.HostNetwork {
		return nil, fmt.Errorf("%w: %s", ErrAmbiguous, ip)
	}
	return pods[0], nil
}

// Pod finds a pod by name in the cache; nil where there is none.
func (x *Index) Pod(namespace, name string) *Pod {
	if p := kube.Get[corev1.Pod](x.pods, namespace+"/"+name); p != nil {
		return x.newPod(p)
	}
	return nil
}

// Address stands for an address of a namespace that no pod has: a Pod without
// UID and name, which is tied to the groups that looks from now on find it in.
func (x *Index) Address(namespace string, ip netip.Addr) *Pod {
	return &Pod{Namespace: namespace, IPs: []netip.Addr{ip.Unmap()}, since: time.Now()}
}

// Refresh returns the newest that is known of the same pod, from the cache or
// from a live read; p itself where nothing newer is known.
func (x *Index) Refresh(p *Pod) *Pod {
	if p.raw == nil {
		return p
	}
	newest := p.raw
	for _, known := range kube.ByKey[corev1.Pod](x.seenPods, p.Key()) {
		if known.UID == p.UID && laterVersion(known.ResourceVersion, newest.ResourceVersion) {
			newest = known
		}
	}
	q := x.newPod(newest)
	if newest == p.raw && q.KillAt.Equal(p.KillAt) && q.Grace == p.Grace && q.DeletionSeen.Equal(p.DeletionSeen) {
		return p
	}
	return q
}

// laterVersion says whether a resource version is later than another. KEP-5504
// makes them numbers that can be compared; where they are none, it is.
func laterVersion(a, b string) bool {
	c, err := resourceversion.CompareResourceVersion(a, b)
	return err != nil || c > 0
}

// newPod notes what the pod shows of itself and adds what is remembered of it.
func (x *Index) newPod(p *corev1.Pod) *Pod {
	out := &Pod{
		Namespace:   p.Namespace,
		Name:        p.Name,
		UID:         p.UID,
		IPs:         ties.Addresses(p),
		HostNetwork: p.Spec.HostNetwork,
		Grace:       gracePeriod(p),
		raw:         p,
	}
	for _, c := range p.Spec.Containers {
		if c.Lifecycle == nil || c.Lifecycle.PreStop == nil {
			out.WithoutPreStop = append(out.WithoutPreStop, c.Name)
		}
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if d := x.historyOf(p, false).deletion; !d.seen.IsZero() {
		out.DeletionSeen, out.Grace, out.KillAt = d.seen, d.grace, d.kill
	}
	return out
}

// id is the key of the pod's history.
func (p *Pod) id() types.UID {
	if p.UID != "" {
		return p.UID
	}
	return types.UID("address " + p.Namespace + "/" + p.IPs[0].String())
}

func completed(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// podAddresses indexes pods by all of their addresses. A completed pod keeps
// its address while another may have it already.
func podAddresses(p *corev1.Pod) []string {
	if completed(p) {
		return nil
	}
	var keys []string
	for _, ip := range ties.Addresses(p) {
		keys = append(keys, ip.String())
	}
	return keys
}

const byAddress = "address"

// podKind is what is read of pods.
var podKind = kube.Kind{
	Resource: corev1.SchemeGroupVersion.WithResource("pods"), Trim: trimPod,
	Indexers: cache.Indexers{byAddress: func(obj any) ([]string, error) { return podAddresses(obj.(*corev1.Pod)), nil }},
}

var trimPod = kube.Trimmer(func(p *corev1.Pod) *corev1.Pod {
	out := &corev1.Pod{
		ObjectMeta: kube.TrimMeta(p.ObjectMeta),
		Spec:       corev1.PodSpec{HostNetwork: p.Spec.HostNetwork, TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds},
		Status:     corev1.PodStatus{Phase: p.Status.Phase, PodIPs: p.Status.PodIPs},
	}
	out.Labels, out.CreationTimestamp = p.Labels, p.CreationTimestamp
	out.DeletionGracePeriodSeconds = p.DeletionGracePeriodSeconds
	if len(out.Status.PodIPs) == 0 && p.Status.PodIP != "" {
		out.Status.PodIPs = []corev1.PodIP{{IP: p.Status.PodIP}}
	}
	for _, c := range p.Spec.Containers {
		t := corev1.Container{Name: c.Name}
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			t.Lifecycle = hooked
		}
		out.Spec.Containers = append(out.Spec.Containers, t)
	}
	for _, c := range p.Status.Conditions {
		if _, gate := ties.BindingOfGate(c.Type); gate {
			out.Status.Conditions = append(out.Status.Conditions, corev1.PodCondition{Type: c.Type})
		}
	}
	return out
})

// hooked stands for any preStop hook.
var hooked = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{}}
