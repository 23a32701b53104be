package sim

import (
	"time"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// Assumptions are the numbers of the simulated world: what we assume that AWS, the
// AWS Load Balancer Controller (LBC), Kubernetes and applications do. They are kept
// apart from the settings of the service, which is judged in this world: nobody may
// choose them to suit those settings. docs/simulator.md is made from the comments
// here and in each room.
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
	// ready after the node stopped being ready. kube-controller-manager's
	// --node-monitor-period is 5 s.
	NodeMonitor timeline.Range
	// From the moment when the kubelet notices a new pod until the pod's containers
	// are ready: pull from a warm cache, start, first readiness probe.
	StartTime timeline.Range
	// How long an application serves one request.
	ServiceTime timeline.Range
	// From SIGTERM until the process exits. After SIGTERM it refuses new
	// connections and finishes those that it has.
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
