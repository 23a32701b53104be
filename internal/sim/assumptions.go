package sim

import (
	"net/http"
	"net/netip"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/timeline"
)

// Assumptions are the numbers of the simulated world: what AWS, the AWS Load
// Balancer Controller (LBC), Kubernetes and applications are taken to do. They
// are kept apart from the settings of the service that is judged in the world,
// which must not be used to choose them. docs/simulator.md is made from the
// comments here.
type Assumptions struct {
	// How long one ELBv2 or STS call takes, there and back. Typical of a call
	// within a Region; no published figure.
	APILatency timeline.Range
	// How long one call to the Kubernetes API takes. Typical of a small
	// cluster; no published figure.
	KubeLatency timeline.Range
	// How long a change takes from the Kubernetes API to a watcher. Measured
	// with kube-apiserver 1.37 on one machine: a few milliseconds; the rest is
	// allowance for a busy one.
	WatchLag timeline.Range
	// How often a watch that allows for it gets a bookmark. k8s.io/apiserver,
	// pkg/storage/cacher: about once a minute.
	BookmarkEvery timeline.Range

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

	// From RegisterTargets until a target's state is "healthy" in the API:
	// registration and the first health checks at LBC's interval of 15 s.
	RegistrationTime timeline.Range
	// From the death of a registered target until its state is "unhealthy":
	// two failed health checks (LBC's defaults: interval 15 s, threshold 2).
	UnhealthyTime timeline.Range
	// The default deregistration delay of a target group, during which a
	// deregistered target shows as "draining". ELBv2 API, TargetGroupAttribute.
	DeregistrationDelay time.Duration
	// From "healthy" in the API until a load balancer node sends a new target
	// its first request. No published figure; it costs no request either way.
	NodeLearnsNew timeline.Range
	// How many load balancer nodes there are, each with its own view of the
	// targets: two in each of three zones.
	Nodes int

	// The bucket of Describe* calls: its size, and what it regains in a
	// second. ELB user guide, "Request throttling for the ELB API".
	DescribeBurst, DescribeRate float64
	// The bucket of RegisterTargets and DeregisterTargets. LBC
	// pkg/aws/throttle/defaults.go.
	MutateBurst, MutateRate float64

	// How long after DeregisterTargets the load balancer still sends new work
	// to the target: [TypicalTail], or [WorstTail].
	Tail Tail
}

// Tail says how long the data plane goes on after DeregisterTargets returned.
// AWS publishes no figure; what users measured is the only source.
type Tail struct {
	Name string
	// ALB is the span in which the last node of an Application Load Balancer
	// stops to send new requests. The others stop at any time before it.
	ALB timeline.Range
	// NLB is the same for new connections through a Network Load Balancer.
	NLB timeline.Range
}

// TypicalTail is what users report: for ALB 5 s was not enough and 25 s was
// (LBC issue #1064), 10 s and 15 s were seen (#1719, #905); for NLB two minutes
// (#2366, #3270, aws/containers-roadmap#470).
var TypicalTail = Tail{
	Name: "typical",
	ALB:  timeline.Between(12*time.Second, 18*time.Second),
	NLB:  timeline.Between(105*time.Second, 115*time.Second),
}

// WorstTail is beyond the settle times that drain-wait ships with: ALB as in LBC
// issue #1064, NLB as in istio issue #35964.
var WorstTail = Tail{
	Name: "worst",
	ALB:  timeline.Between(23*time.Second, 25*time.Second),
	NLB:  timeline.Between(160*time.Second, 180*time.Second),
}

// DefaultAssumptions is an ordinary day in an idle Region and a small cluster.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	return Assumptions{
		APILatency:  timeline.Between(20*ms, 120*ms),
		KubeLatency: timeline.Between(2*ms, 20*ms),
		WatchLag:    timeline.Between(2*ms, 50*ms),

		BookmarkEvery: timeline.Between(55*time.Second, 65*time.Second),

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

		RegistrationTime:    timeline.Between(5*time.Second, 20*time.Second),
		UnhealthyTime:       timeline.Between(15*time.Second, 30*time.Second),
		DeregistrationDelay: 300 * time.Second,
		NodeLearnsNew:       timeline.Between(100*ms, 3*time.Second),
		Nodes:               6,

		DescribeBurst: 40,
		DescribeRate:  10,
		MutateBurst:   20,
		MutateRate:    4,

		Tail: TypicalTail,
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
		listeners: make(map[targetID]*container),
		addresses: make(map[netip.Addr]*pod),
	}
	w.kube.init()
	w.aws.init(cfg.Assumptions)
	w.lbc.init(cfg.Assumptions)
	w.onChange(w.notice)
	return w
}
