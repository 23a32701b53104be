package sim

import (
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// Assumptions are the numbers of the simulated world: what AWS, the AWS Load
// Balancer Controller (LBC), Kubernetes and applications are taken to do. They
// are kept apart from the settings of the service that is judged in the world,
// which must not be used to choose them. docs/simulator.md is made from the
// comments here.
type Assumptions struct {
	AWS  aws.Assumptions
	Kube kube.Assumptions
	LBC  lbc.Assumptions

	// How long the EndpointSlice controller takes to follow a pod. It acts at
	// once on an idle cluster; the rest is allowance.
	EndpointLag timeline.Range
	// How long the kubelet takes to notice a new or a deleted pod.
	KubeletLag timeline.Range
	// How long the node controller takes to mark the pods of a node as not
	// ready once the node is not. kube-controller-manager's
	// --node-monitor-period is 5 s.
	NodeMonitor timeline.Range
	// From the kubelet's notice of a new pod until its containers are ready:
	// pull from a warm cache, start, first readiness probe.
	StartTime timeline.Range
	// How long an application serves one request.
	ServiceTime timeline.Range
	// From SIGTERM until the process exits. It refuses new connections from
	// the SIGTERM on and finishes those it has.
	ShutdownTime timeline.Range
}

// DefaultAssumptions is an ordinary day in an idle Region and a small cluster.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	return Assumptions{
		AWS:  aws.DefaultAssumptions(),
		Kube: kube.DefaultAssumptions(),
		LBC:  lbc.DefaultAssumptions(),

		EndpointLag:  timeline.Between(10*ms, 200*ms),
		KubeletLag:   timeline.Between(20*ms, 500*ms),
		NodeMonitor:  timeline.Between(0, 5*time.Second),
		StartTime:    timeline.Between(2*time.Second, 5*time.Second),
		ServiceTime:  timeline.Between(5*ms, 200*ms),
		ShutdownTime: timeline.Between(500*ms, time.Second),
	}
}

// Config makes a world.
type Config struct {
	// Seed decides everything that is drawn by chance.
	Seed uint64
	// Speed is how many seconds of world time pass in one real second.
	Speed float64
	// Assumptions are the world's numbers.
	Assumptions Assumptions
	// Quiesce returns when nothing else can happen at this instant. In a
	// synctest bubble it is synctest.Wait; elsewhere nil.
	Quiesce func()
	// HookClient makes the HTTP client of the hook that runs in the pod with
	// this address; nil for one client that calls from the host's address.
	HookClient func(pod netip.Addr) *http.Client
	// NoCheckpoint makes LBC write no checkpoint annotation, as before 2.10.
	NoCheckpoint bool
}

// New makes an empty world whose clock starts now. It does nothing until
// [World.Run]. In a synctest bubble it must be called inside.
func New(cfg Config) *World {
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	w := &World{
		Timeline:  timeline.New(cfg.Seed, cfg.Speed, cfg.Quiesce),
		cfg:       cfg,
		planned:   make(map[string]bool),
		pods:      make(map[string]*pod),
		byUID:     make(map[types.UID]*pod),
		listeners: make(map[aws.TargetID]*container),
		outside:   make(map[aws.TargetID]bool),
		owners:    make(map[place]*pod),
		addresses: make(map[netip.Addr]*pod),
	}
	w.Kube = kube.New(w.Timeline, &w.cfg.Assumptions.Kube, kube.Kubelets{Delete: w.deleteIfRun, Updated: w.updated})
	w.AWS = aws.New(w.Timeline, &w.cfg.Assumptions.AWS, aws.Hosts{
		Listening:  w.listening,
		Registered: func(g *aws.TargetGroup, id aws.TargetID) { w.owners[place{g, id}] = w.receiver(id) },
		Deregistered: func(g *aws.TargetGroup, id aws.TargetID) {
			if p := w.owners[place{g, id}]; p != nil {
				p.deregistered(w.Present(), false)
			}
		},
	})
	w.LBC = lbc.New(w.Timeline, &w.cfg.Assumptions.LBC, w.Kube, w.AWS, w.podsForLBC())
	w.LBC.NoCheckpoint = cfg.NoCheckpoint
	w.Kube.OnChange(w.notice)
	return w
}
