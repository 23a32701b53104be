package lbc

import (
	"time"

	"drainwait/internal/sim/measured"
	"drainwait/internal/sim/timeline"
)

// Assumptions are what we assume that LBC does.
type Assumptions struct {
	// How long LBC takes to act on a change of an EndpointSlice. The least is that of
	// an idle cluster, see `OrderTimes` below, without the write of the checkpoint. The
	// most is chosen so that a rollout comes out as in `RolloutLag`.
	Lag timeline.Range
	// How long LBC waits before it looks again at targets whose pods wait for
	// their readiness gates. LBC, pkg/targetgroupbinding/resource_manager.go,
	// defaultRequeueDuration.
	Requeue time.Duration
	// How many targets LBC registers or deregisters in one call. LBC pull
	// request #1342, on advice from the ELB team.
	Batch int
	// How many TargetGroupBindings LBC reconciles at once. LBC flag
	// --targetgroupbinding-max-concurrent-reconciles.
	Workers int
	// First and longest wait of LBC after a failed reconcile. The wait doubles
	// each time. controller-runtime's default rate limiter.
	Backoff timeline.Range
	// How long LBC's SDK waits before it tries a throttled call again: anything from
	// nothing to a limit. The limit is the first value before the second try, and
	// doubles for each next one. Once it would be more than the second value, the
	// wait is exactly the second value. AWS SDK for Go, aws/retry/jitter_backoff.go. See
	// `DeregisterTries` and `RegisterWait` below.
	Retry timeline.Range
	// How often LBC tries a call. LBC pkg/aws/aws_config.go.
	Tries int
	// How long LBC trusts a list of a group's targets. Within that time it asks
	// only for those that were not healthy. LBC
	// pkg/targetgroupbinding/targets_manager.go, defaultTargetsCacheTTL.
	Cache time.Duration
	// How long no controller acts when LBC's leader is killed and there is another
	// replica, see [Controller.ChangeLeader]: the lease has to run out. It is drawn around
	// `LeaderLag` below. LBC docs/deploy/scaling.md says 15 s to 2 minutes.
	LeaderGap timeline.Range
	// The same if there is only one replica, see [Controller.Restart]: from the least
	// `LeaseWait` below, for a process that is started at once, to `RestartedLag`.
	RestartGap timeline.Range
	// When LBC makes the calls that delete the load balancer of an Ingress, counted
	// from the deletion of the Ingress: DeregisterTargets, DeleteLoadBalancer,
	// DeleteTargetGroup. They are `IngressDeleted` below.
	StackDeregister, StackDeleteBalancer, StackDeleteGroup time.Duration
}

// DefaultAssumptions is LBC as it ships.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	deleted := measured.LBC().IngressDeleted
	return Assumptions{
		Lag:        timeline.Between(3*ms, 600*ms),
		Requeue:    15 * time.Second,
		Batch:      200,
		Workers:    3,
		Backoff:    timeline.Between(5*ms, 1000*time.Second),
		Retry:      timeline.Between(2*time.Second, 20*time.Second),
		Tries:      10,
		Cache:      5 * time.Minute,
		LeaderGap:  timeline.Between(22*time.Second, 29*time.Second),
		RestartGap: timeline.Between(15*time.Second, 51*time.Second),

		StackDeregister:     deleted[0],
		StackDeleteBalancer: deleted[1],
		StackDeleteGroup:    deleted[2],
	}
}
