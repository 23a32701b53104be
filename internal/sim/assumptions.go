package sim

import (
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
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

	// How long LBC takes from an EndpointSlice change until it acts. Measured
	// with LBC 3.5 on kube-apiserver 1.37: 5 ms on an idle cluster; the rest is
	// allowance for its queue.
	ControllerLag timeline.Range
	// How long LBC waits before it looks again at targets whose pods wait for
	// their readiness gates. LBC, pkg/targetgroupbinding/resource_manager.go,
	// defaultRequeueDuration.
	ControllerRequeue time.Duration
	// How many targets LBC registers or deregisters in one call. LBC pull
	// request #1342: advice of the ELB team.
	ControllerBatch int
	// How many TargetGroupBindings LBC reconciles at once. LBC flag
	// --targetgroupbinding-max-concurrent-reconciles.
	ControllerWorkers int
	// First and longest wait of LBC after a failed reconcile, doubled each
	// time. controller-runtime's default rate limiter.
	ControllerBackoff timeline.Range
	// How long LBC's SDK waits before it tries a throttled call again: anything
	// from nothing to the first, to twice of that before the next try, and so on;
	// where that would be more than the second, it is the second. AWS SDK for Go,
	// aws/retry/jitter_backoff.go. With LBC 3.5 a DeregisterTargets was seen at
	// 0.08, 0.13, 2.87, 10.4 and 15.86 s after a deletion.
	ControllerRetry timeline.Range
	// How often LBC tries a call. LBC pkg/aws/aws_config.go.
	ControllerTries int
	// How long LBC goes by a list of a group's targets; within that time it asks
	// for those alone that were not healthy. LBC
	// pkg/targetgroupbinding/targets_manager.go, defaultTargetsCacheTTL.
	ControllerCache time.Duration
	// How long no controller acts when LBC's leader is killed beside another
	// replica, see [World.ChangeLeader]: the lease has to run out. Measured with
	// LBC 3.5: 22.9 and 28.2 s until the next DeregisterTargets. LBC
	// docs/deploy/scaling.md speaks of 15 s to 2 minutes.
	LeaderGap timeline.Range
	// The same for the only replica, see [World.RestartController]: a new process
	// waits 15 to 17 s for the lease after its own start. Measured with LBC 3.5:
	// 50.9 s for one that was started 30 s after its death.
	RestartGap timeline.Range
	// When LBC makes the calls that delete the load balancer of an Ingress, counted
	// from the Ingress' deletion: DeregisterTargets, DeleteLoadBalancer,
	// DeleteTargetGroup. Measured with LBC 3.5.
	StackDeregister, StackDeleteBalancer, StackDeleteGroup time.Duration
}

// DefaultAssumptions is an ordinary day in an idle Region and a small cluster.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	return Assumptions{
		AWS:  aws.DefaultAssumptions(),
		Kube: kube.DefaultAssumptions(),

		EndpointLag:  timeline.Between(10*ms, 200*ms),
		KubeletLag:   timeline.Between(20*ms, 500*ms),
		NodeMonitor:  timeline.Between(0, 5*time.Second),
		StartTime:    timeline.Between(2*time.Second, 5*time.Second),
		ServiceTime:  timeline.Between(5*ms, 200*ms),
		ShutdownTime: timeline.Between(500*ms, time.Second),

		ControllerLag:     timeline.Between(5*ms, 300*ms),
		ControllerRequeue: 15 * time.Second,
		ControllerBatch:   200,
		ControllerWorkers: 3,
		ControllerBackoff: timeline.Between(5*ms, 1000*time.Second),
		ControllerRetry:   timeline.Between(2*time.Second, 20*time.Second),
		ControllerTries:   10,
		ControllerCache:   5 * time.Minute,
		LeaderGap:         timeline.Between(22*time.Second, 29*time.Second),
		RestartGap:        timeline.Between(15*time.Second, 51*time.Second),

		StackDeregister:     100 * ms,
		StackDeleteBalancer: 330 * ms,
		StackDeleteGroup:    540 * ms,
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
	w.lbc.init(cfg.Assumptions)
	w.Kube.OnChange(w.notice)
	return w
}
