// Package cluster answers from the Kubernetes API who a pod is and which
// TargetGroupBindings may hold it.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// gatePrefix and the name of a TargetGroupBinding make the readiness condition
// that the AWS Load Balancer Controller keeps on a pod. LBC
// docs/deploy/pod_readiness_gate.md.
const gatePrefix = "target-health.elbv2.k8s.aws/"

// Config makes an [Index].
type Config struct {
	Kubernetes kubernetes.Interface
	Dynamic    dynamic.Interface
	// Namespaces are those that are read; none for all.
	Namespaces []string
	// OnCheckpoint, which may be nil, hears each checkpoint annotation of each
	// binding with an ARN, "" included, as it is read; ok is false where there
	// is none (any more). It must not block.
	OnCheckpoint func(targetGroupARN, value string, ok bool)
	Log          *slog.Logger
}

// Index is a view of the cluster that informers keep up to date.
type Index struct {
	cfg       Config
	factories []informers.SharedInformerFactory
	pods      caches
	services  caches
	slices    caches
	bindings  []*source
	synced    atomic.Bool

	// mu guards what follows; it is never held across a call.
	mu sync.Mutex
	// former holds the Services that once selected a pod or named it in an
	// EndpointSlice and do so no more, by the pod's UID.
	former map[types.UID]map[string]bool
	// watches holds who wants to hear of a pod, by namespace/name.
	watches map[string]map[chan<- struct{}]bool
}

// caches are the informer caches of one resource, one for each namespace that
// is read, or one for all.
type caches []cache.SharedIndexInformer

// by lists what an index holds under a key.
func by[T any](cs caches, index, key string) []T {
	var out []T
	for _, c := range cs {
		objs, err := c.GetIndexer().ByIndex(index, key)
		if err != nil {
			panic(fmt.Sprintf("cluster: %v", err)) // the index was never added: a mistake in this package
		}
		for _, o := range objs {
			out = append(out, o.(T))
		}
	}
	return out
}

const (
	byAddress   = "address"
	byNamespace = cache.NamespaceIndex
	byPod       = "pod"
)

// New makes an Index that knows nothing before [Index.Run].
func New(cfg Config) (*Index, error) {
	x := &Index{
		cfg:     cfg,
		former:  make(map[types.UID]map[string]bool),
		watches: make(map[string]map[chan<- struct{}]bool),
	}
	namespaces := cfg.Namespaces
	if len(namespaces) == 0 {
		namespaces = []string{corev1.NamespaceAll}
	}
	for _, ns := range namespaces {
		f := informers.NewSharedInformerFactoryWithOptions(cfg.Kubernetes, 0, informers.WithNamespace(ns))
		x.factories = append(x.factories, f)
		x.pods = append(x.pods, f.Core().V1().Pods().Informer())
		x.services = append(x.services, f.Core().V1().Services().Informer())
		x.slices = append(x.slices, f.Discovery().V1().EndpointSlices().Informer())
	}
	for _, r := range []struct {
		informers caches
		trim      cache.TransformFunc
		indexers  cache.Indexers
		handler   cache.ResourceEventHandler
	}{
		{x.pods, trimPod, cache.Indexers{byAddress: podAddresses}, handler(x.podChanged)},
		{x.services, trimService, nil, handler(x.serviceChanged)},
		{x.slices, trimSlice, cache.Indexers{byPod: slicePods}, handler(x.sliceChanged)},
	} {
		for _, inf := range r.informers {
			if err := errors.Join(inf.SetTransform(r.trim), inf.AddIndexers(r.indexers)); err != nil {
				return nil, fmt.Errorf("set up informer: %w", err)
			}
			if _, err := inf.AddEventHandler(r.handler); err != nil {
				return nil, fmt.Errorf("set up informer: %w", err)
			}
		}
	}
	for _, g := range bindingGroups {
		x.bindings = append(x.bindings, &source{x: x, gvr: g, namespaces: namespaces, known: make(chan struct{})})
	}
	return x, nil
}

// Run keeps the index up to date until ctx ends, and returns when all of its
// goroutines are gone.
func (x *Index) Run(ctx context.Context) {
	for _, f := range x.factories {
		f.Start(ctx.Done())
	}
	var running sync.WaitGroup
	for _, s := range x.bindings {
		running.Go(func() { s.run(ctx) })
	}
	if x.waitSynced(ctx) {
		x.synced.Store(true)
	}
	<-ctx.Done()
	for _, f := range x.factories {
		f.Shutdown()
	}
	running.Wait()
}

// waitSynced returns true when everything was read once, false when ctx ends
// before.
func (x *Index) waitSynced(ctx context.Context) bool {
	for _, cs := range []caches{x.pods, x.services, x.slices} {
		for _, inf := range cs {
			if !cache.WaitFor(ctx, "", inf.HasSyncedChecker()) {
				return false
			}
		}
	}
	for _, s := range x.bindings {
		select {
		case <-s.known:
		case <-ctx.Done():
			return false
		}
	}
	return true
}

// Ready says whether everything was read once.
func (x *Index) Ready() bool { return x.synced.Load() }

// Pod is what a wait needs to know of a pod.
type Pod struct {
	Namespace, Name string
	UID             types.UID
	IPs             []netip.Addr
	// Grace is the termination grace period: that of its deletion, which can be
	// shorter, or else that of its specification.
	Grace time.Duration
	// KillAt is when the kubelet kills it by the API server's clock: the
	// deletionTimestamp, which lies ahead by the grace period. Zero while the
	// pod is not being deleted.
	KillAt time.Time

	labels labels.Set
	gates  []string // names of bindings whose readiness condition it carries
}

// Key is the pod's namespace/name.
func (p *Pod) Key() string { return p.Namespace + "/" + p.Name }

// Errors of a look for a pod.
var (
	ErrNoPod     = errors.New("no pod has this address")
	ErrAmbiguous = errors.New("more than one pod has this address")
)

// PodAt finds the pod that has an address. Completed pods, which keep theirs,
// do not count. namespace, where not empty, decides between several.
func (x *Index) PodAt(ip netip.Addr, namespace string) (*Pod, error) {
	pods := by[*corev1.Pod](x.pods, byAddress, ip.Unmap().String())
	if len(pods) > 1 && namespace != "" {
		pods = slices.DeleteFunc(pods, func(p *corev1.Pod) bool { return p.Namespace != namespace })
	}
	switch len(pods) {
	case 0:
		return nil, fmt.Errorf("%w: %s", ErrNoPod, ip)
	case 1:
		return newPod(pods[0]), nil
	default:
		return nil, fmt.Errorf("%w: %s", ErrAmbiguous, ip)
	}
}

// Pod finds a pod by name; nil where there is none.
func (x *Index) Pod(namespace, name string) *Pod {
	if p := x.pod(namespace + "/" + name); p != nil {
		return newPod(p)
	}
	return nil
}

func (x *Index) pod(key string) *corev1.Pod {
	for _, c := range x.pods {
		if obj, ok, _ := c.GetIndexer().GetByKey(key); ok {
			return obj.(*corev1.Pod)
		}
	}
	return nil
}

func newPod(p *corev1.Pod) *Pod {
	out := &Pod{
		Namespace: p.Namespace,
		Name:      p.Name,
		UID:       p.UID,
		IPs:       addresses(p),
		Grace:     30 * time.Second, // the API server's default
		labels:    labels.Set(p.Labels),
	}
	if s := p.Spec.TerminationGracePeriodSeconds; s != nil {
		out.Grace = time.Duration(*s) * time.Second
	}
	if s := p.DeletionGracePeriodSeconds; s != nil {
		out.Grace = time.Duration(*s) * time.Second
	}
	if p.DeletionTimestamp != nil {
		out.KillAt = p.DeletionTimestamp.Time
	}
	for _, c := range p.Status.Conditions {
		if name, ok := strings.CutPrefix(string(c.Type), gatePrefix); ok {
			out.gates = append(out.gates, name)
		}
	}
	return out
}

func addresses(p *corev1.Pod) []netip.Addr {
	var ips []netip.Addr
	for _, s := range p.Status.PodIPs {
		if ip, err := netip.ParseAddr(s.IP); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	if len(ips) == 0 {
		if ip, err := netip.ParseAddr(p.Status.PodIP); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

// Candidates lists the bindings that may hold a pod, in order of name: those
// whose Service selects it now or did at any time that we watched, whose
// EndpointSlices name it, or whose readiness condition it carries. A binding's
// Service is always in its own namespace.
func (x *Index) Candidates(p *Pod) []Binding {
	names := x.formerServices(p.UID)
	for _, s := range by[*corev1.Service](x.services, byNamespace, p.Namespace) {
		if selects(s, p.labels) {
			names[s.Name] = true
		}
	}
	for _, s := range by[*discoveryv1.EndpointSlice](x.slices, byPod, p.Key()) {
		names[s.Labels[discoveryv1.LabelServiceName]] = true
	}
	return slices.DeleteFunc(x.Bindings(p.Namespace), func(b Binding) bool {
		return !names[b.Service] && !slices.Contains(p.gates, b.Name)
	})
}

// Bindings lists the bindings of a namespace in order of name.
func (x *Index) Bindings(namespace string) []Binding {
	var out []Binding
	for _, s := range x.bindings {
		for _, b := range by[*Binding](s.current(), byNamespace, namespace) {
			out = append(out, *b)
		}
	}
	slices.SortStableFunc(out, func(a, b Binding) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func (x *Index) formerServices(uid types.UID) map[string]bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	if names := maps.Clone(x.former[uid]); names != nil {
		return names
	}
	return make(map[string]bool)
}

func selects(s *corev1.Service, podLabels labels.Set) bool {
	return len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(podLabels)
}

// Watch puts a token into wake, without blocking, whenever something about a
// pod changes: itself or its candidates. stop ends that.
func (x *Index) Watch(p *Pod, wake chan<- struct{}) (stop func()) {
	k := p.Key()
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.watches[k] == nil {
		x.watches[k] = make(map[chan<- struct{}]bool)
	}
	x.watches[k][wake] = true
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watches[k], wake)
		if len(x.watches[k]) == 0 {
			delete(x.watches, k)
		}
	}
}

// wake tells those who watch one pod.
func (x *Index) wake(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.watches[key] {
		signal(c)
	}
}

// wakeNamespace tells those who watch any pod of a namespace.
func (x *Index) wakeNamespace(namespace string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, cs := range x.watches {
		if strings.HasPrefix(key, namespace+"/") {
			for c := range cs {
				signal(c)
			}
		}
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
