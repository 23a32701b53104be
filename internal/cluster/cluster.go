// Package cluster answers from the Kubernetes API who a pod is and which
// TargetGroupBindings or load balancer names may lead to it, now or formerly:
// what ties a pod to a target group is remembered for as long as the pod lives.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Config makes an [Index].
type Config struct {
	// REST leads to the API server. Its QPS is not used: client-go's default of
	// 5/s would slow the informers down.
	REST *rest.Config
	// Namespaces are those that are read; none for all.
	Namespaces []string
	// OwnService is the namespace/name of the Service in front of the replicas of
	// this very program; empty where there is none.
	OwnService string
	// OnCheckpoint, which may be nil, hears each checkpoint annotation of each
	// binding with an ARN, "" included, as it is read; ok is false where there
	// is none (any more). It must not block.
	OnCheckpoint func(targetGroupARN, value string, ok bool)
	// OnReplicas, which may be nil, hears how many replicas behind OwnService are
	// ready, when it is first known and when it changes. It must not block.
	OnReplicas func(ready int)
	Log        *slog.Logger
}

// Index is a view of the cluster that informers keep up to date, and what is
// remembered beside it.
type Index struct {
	cfg        Config
	namespaces []string // one empty for all
	kube       kubernetes.Interface
	dynamic    dynamic.Interface
	clock      clock
	ages       ages
	work       work
	searches   searches
	factories  []informers.SharedInformerFactory
	resources  []resource // what every cluster serves
	pods       stores
	services   stores
	slices     stores
	ingresses  stores
	bindings   []*bindingWatch
	// reads holds pods as live reads showed them, where that is newer than what
	// the informers have. It changes with the lock.
	reads    cache.Indexer
	seenPods stores // reads, and pods

	// mu guards what follows, and the stores of the bindings. It is held across
	// reads of stores, which call nothing of ours but index functions, and across
	// no other call.
	mu sync.Mutex
	// histories holds what was seen of each pod that exists or is watched.
	histories map[types.UID]*history
	// gap is when the newest list was begun that did not go on where a watch had
	// ended: before it, changes can have been missed.
	gap time.Time
	// records are by namespace.
	records map[string]map[link]*record
	// forgotten is, by namespace, when a former binding was last dropped that
	// could still matter.
	forgotten map[string]time.Time
	lists     map[string]*lists
	// watches holds who wants to hear of a pod, by namespace and name; the name of
	// an address that no pod has is empty.
	watches map[string]map[string][]*watch
}

// New makes an Index that knows nothing before [Index.Run].
func New(cfg Config) (*Index, error) {
	x := &Index{cfg: cfg}
	x.init()
	config := rest.CopyConfig(cfg.REST)
	config.QPS = -1
	config.Wrap(x.wrap)
	var err1, err2 error
	x.kube, err1 = kubernetes.NewForConfig(config)
	x.dynamic, err2 = dynamic.NewForConfig(config)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("make Kubernetes client for %s: %w", config.Host, err)
	}
	x.namespaces = slices.Compact(slices.Sorted(slices.Values(cfg.Namespaces)))
	if len(x.namespaces) == 0 {
		x.namespaces = []string{corev1.NamespaceAll}
	}
	var pods, services, endpoints, ingresses resource
	for _, ns := range x.namespaces {
		f := informers.NewSharedInformerFactoryWithOptions(x.kube, 0, informers.WithNamespace(ns), informers.WithTweakListOptions(x.countGaps))
		x.factories = append(x.factories, f)
		pods.add("/api/v1", ns, "pods", f.Core().V1().Pods().Informer())
		services.add("/api/v1", ns, "services", f.Core().V1().Services().Informer())
		endpoints.add("/apis/discovery.k8s.io/v1", ns, "endpointslices", f.Discovery().V1().EndpointSlices().Informer())
		ingresses.add("/apis/networking.k8s.io/v1", ns, "ingresses", f.Networking().V1().Ingresses().Informer())
	}
	x.resources = []resource{pods, services, endpoints, ingresses}
	x.pods, x.services, x.slices, x.ingresses = pods.stores(), services.stores(), endpoints.stores(), ingresses.stores()
	x.seenPods = append(stores{x.reads}, x.pods...)
	for _, gvr := range bindingGroups {
		x.bindings = append(x.bindings, newBindingWatch(x, gvr))
	}
	err := errors.Join(
		pods.setUp(trimPod, cache.Indexers{byAddress: indexer(podAddresses)}, handler(x.podChanged)),
		services.setUp(trimService, nil, handler(x.serviceChanged)),
		endpoints.setUp(trimSlice, sliceIndexers, handler(x.sliceChanged)),
		ingresses.setUp(trimIngress, nil, handler(x.ingressChanged)),
		x.followReplicas(),
	)
	if err != nil {
		return nil, err
	}
	return x, nil
}

// init makes what is remembered; it is empty.
func (x *Index) init() {
	x.work.init()
	x.searches.init()
	x.clock.warn = func(skew time.Duration) {
		x.cfg.Log.Warn("the clock of the API server is too far from ours to be of use: the end of a pod's grace period is counted from when its deletion is seen; check the clocks",
			"skew", skew)
	}
	x.reads = newStore(nil)
	x.histories = make(map[types.UID]*history)
	x.records = make(map[string]map[link]*record)
	x.forgotten = make(map[string]time.Time)
	x.lists = make(map[string]*lists)
	x.watches = make(map[string]map[string][]*watch)
}

// tidyEvery is how often what is remembered is looked through for what can be
// dropped.
const tidyEvery = time.Minute

// Run keeps the index up to date until ctx ends, and returns when all of its
// goroutines are gone: at once, or within a minute where client-go backs off from
// an API server that refuses connections.
func (x *Index) Run(ctx context.Context) {
	x.ages.heard(x.watchPaths()...)
	for _, f := range x.factories {
		f.Start(ctx.Done())
	}
	var running sync.WaitGroup
	for _, s := range x.bindings {
		running.Go(func() { s.run(ctx) })
	}
	for ctx.Err() == nil {
		pause(ctx, tidyEvery)
		x.tidyHistories()
		x.tidyLists()
		x.tidyRecords()
	}
	x.work.stop()
	for _, f := range x.factories {
		f.Shutdown()
	}
	running.Wait()
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// work is what goes on beside the callers, for all of them: it knows no
// caller's context.
type work struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex // guards the end, so that nothing is added to running after it
}

func (w *work) init() { w.ctx, w.cancel = context.WithCancel(context.Background()) }

// start runs f in its own goroutine, unless the end has come.
func (w *work) start(f func(context.Context)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() == nil {
		w.running.Go(func() { f(w.ctx) })
	}
}

// stop returns when all that was started is over.
func (w *work) stop() {
	w.mu.Lock()
	w.cancel()
	w.mu.Unlock()
	w.running.Wait()
}
