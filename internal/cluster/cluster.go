// Package cluster says who a pod is, and what may lead to it or did in its lifetime:
// which TargetGroupBindings, and which load balancers by name.
package cluster

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// Config makes an [Index].
type Config struct {
	REST       *rest.Config // leads to the API server; see [kube.New]
	Namespaces []string     // that are read; none for all
	// OwnService is the namespace/name of the Service in front of this program's own
	// replicas; empty where there is none.
	OwnService string
	// OnCheckpoint is told the checkpoint annotation of each binding with an ARN whenever
	// it is read; ok is false where there is none (any more). It must not block.
	OnCheckpoint func(targetGroupARN, value string, ok bool)
	// OnReplicas is told how many replicas of OwnService, if there is one, are running,
	// ready or not: when that is first known, and when it changes. It must not block.
	OnReplicas func(running int)
	Metrics    prometheus.Registerer // nil for none
	Log        *slog.Logger
}

// Index is a view of the cluster that watches keep up to date, and what is
// remembered beside it.
type Index struct {
	cfg      Config
	kube     *kube.Client
	bindings []*kube.BindingWatch
	work     work
	searches searches
	reading  *turns // reads of single objects from the API server itself
	pods     kube.Stores
	// reads holds pods as live reads showed them, where the watch is behind. It changes
	// with the lock.
	reads    cache.Indexer
	seenPods kube.Stores // reads, and pods

	// mu guards what follows. It is held across reads of stores, which call nothing
	// of ours but index functions, and across no other call.
	mu sync.Mutex
	// histories holds what was seen of each pod that exists or is watched.
	histories map[types.UID]*history
	records   *ties.Records
	lists     map[string]*lists                // by namespace
	watchers  map[string]map[string][]*watcher // by namespace and name of the pod
}

// New makes an Index that knows nothing before [Index.Run].
func New(cfg Config) (*Index, error) {
	c, err := kube.New(cfg.REST, cfg.Namespaces, cfg.Log)
	if err != nil {
		return nil, err
	}
	x := &Index{
		cfg:       cfg,
		kube:      c,
		reads:     kube.NewStore(nil),
		histories: make(map[types.UID]*history),
		lists:     make(map[string]*lists),
		searches:  searches{turns: newTurns(searchRate, 1), byIP: make(map[netip.Addr]*search)},
		reading:   newTurns(readRate, readBurst),
		watchers:  make(map[string]map[string][]*watcher),
	}
	promauto.With(cfg.Metrics).NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_watch_age_seconds", Help: "How long the quietest watch of the cluster has told nothing; a working one tells something about once a minute.",
	}, func() float64 { return c.WatchAge().Seconds() })
	x.work.ctx, x.work.cancel = context.WithCancel(context.Background())
	var watched ties.Objects
	x.pods = c.Watch(podKind, kube.Handler(x.podChanged))
	watched.Services = c.Watch(ties.Services, kube.Handler(x.serviceChanged))
	watched.Slices = c.Watch(ties.Slices, kube.Handler(x.sliceChanged))
	watched.Ingresses = c.Watch(ties.Ingresses, kube.Handler(x.ingressChanged))
	x.bindings = c.WatchBindings(ties.TrimBinding, kube.Handler(x.bindingChanged))
	x.seenPods = append(kube.Stores{x.reads}, x.pods...)
	x.records = ties.NewRecords(watched, x.bindings, &c.Clock)
	if cfg.OwnService != "" {
		c.WatchReplicas(cfg.OwnService, cfg.OnReplicas)
	}
	return x, nil
}

// Synced says whether everything was read once.
func (x *Index) Synced() bool { return x.kube.Unread() == nil }

// Ready says why the watches cannot be trusted now; nil where they can.
func (x *Index) Ready() error { return x.kube.Ready() }

// tidyEvery is how often the Index drops what concerns nobody any more.
const tidyEvery = time.Minute

// Run keeps the index up to date until ctx ends, and returns when all of its
// goroutines are gone, as [kube.Client.Run] does.
func (x *Index) Run(ctx context.Context) {
	var running sync.WaitGroup
	running.Go(func() { x.kube.Run(ctx) })
	for ctx.Err() == nil {
		kube.Pause(ctx, tidyEvery)
		x.tidy()
	}
	x.work.stop()
	running.Wait()
}

func (x *Index) tidy() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for id := range x.histories {
		x.forget(id)
	}
	for ns := range x.lists {
		if x.watchers[ns] == nil {
			x.dropLists(ns)
		}
	}
	x.records.Tidy(x.eachHistory)
}

// work goes on beside the callers, for all of them: it knows no caller's context.
type work struct {
	ctx     context.Context
	cancel  context.CancelFunc
	running sync.WaitGroup

	mu sync.Mutex // so that nothing is added to running after the end
}

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
