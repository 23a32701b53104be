// Package measured has what was seen of the real AWS Load Balancer Controller (LBC): the
// simulator, and the tests that play LBC before a real API server, are held against it.
package measured

import "time"

// Figures are what was seen of LBC. docs/simulator.md has a row for each of them, made
// from the comments here: the first paragraph says what the figure is. A paragraph that
// begins with "Simulator:" or with "e2e:" says how the simulator or the imitation in
// test/e2e differs from it. Without such a paragraph, a test there has to use the figure,
// and the row names that test. `make generate` fails if there is neither.
//
// This was the bed, where nothing else is said: LBC's main branch at 225f44568, between
// 3.5.0 and the next release; kube-apiserver and kube-controller-manager 1.37.2; moto in
// place of AWS, behind a proxy that added latency (60 ms) and faults. There was no data
// plane.
type Figures struct {
	// What LBC does for a pod that leaves, in this order: it empties the checkpoint, calls
	// DeregisterTargets, and writes the new checkpoint.
	Order []string
	// When that was, counted from the change of the EndpointSlice: the empty checkpoint, the
	// new one, and the answer of DescribeTargetHealth (asked every 20 ms) that had the target
	// no more. There was no added latency.
	//
	// e2e: asserted is the order alone. Real time depends on the machine.
	OrderTimes []time.Duration
	// From the return of DeregisterTargets until a poller that checkpoints nudge saw the
	// target gone. 25 pods.
	//
	// e2e: not asserted. Real time depends on the machine.
	SeenGone Spread
	// From a pod's deletion to the call of DeregisterTargets, in a rollout of ten pods without
	// readiness gates.
	//
	// e2e: LBC's lag is drawn from the same assumption. Real time depends on the machine, so
	// nothing is asserted.
	RolloutLag Spread
	// The same with readiness gates.
	//
	// Simulator: half of the pods take up to 0.3 s, and the slowest about 0.6 s. Nobody has
	// looked for the reason.
	//
	// e2e: as without gates.
	GatedRolloutLag Spread
	// How often LBC itself called DescribeTargetHealth in a rollout of ten pods.
	//
	// Simulator: 38 with gates, 11 to 15 without.
	//
	// e2e: not counted. How many passes there are depends on the machine.
	RolloutDescribes int
	// How long LBC trusts a list of targets. Meanwhile it asks only for those that were not
	// healthy, by name.
	CacheLife time.Duration
	// With readiness gates, LBC reconciles when a pod changes, not only when an EndpointSlice
	// does.
	//
	// e2e: pods are watched, but nobody can tell this pass from the one that was planned.
	PodEvents string
	// When a DeregisterTargets that was throttled was tried, counted from the pod's deletion:
	// the backoff of the AWS SDK, with 10 tries.
	DeregisterTries []time.Duration
	// How long a throttled RegisterTargets once waited for its next try: the longest wait of
	// the AWS SDK.
	RegisterWait time.Duration
	// The first wait after a reconcile that AWS refused (AccessDenied). It doubles each time.
	RefusedWait time.Duration
	// A RegisterTargets that was throttled for long registered a pod that was already dead.
	// This is when LBC removed it again, counted from that registration.
	//
	// e2e: asserted is the order alone. Real time depends on the machine.
	LateRemoval time.Duration
	// How long after its own start a new process of LBC got the lease: the shortest and the
	// longest time.
	//
	// e2e: as `RestartedLag`.
	LeaseWait []time.Duration
	// From the death of the only process of LBC to the next DeregisterTargets. Another process
	// was started after `RestartedAfter`.
	//
	// e2e: no process is started. The leader's work is cut off, and a new leader begins
	// with nothing after a gap that is drawn from the same assumption.
	RestartedLag time.Duration
	// How long after that death the other process was started.
	//
	// Simulator: the start is drawn with the lease in one span, `RestartGap`.
	//
	// e2e: as `RestartedLag`.
	RestartedAfter time.Duration
	// From the end of the leader of two replicas to the next DeregisterTargets: killed, and
	// stopped by SIGTERM.
	LeaderLag []time.Duration
	// The form of a checkpoint: SHA-256 sums of the endpoints and of the specification, in
	// base64url. Here it is a regular expression.
	Checkpoint string
	// The annotation that goes with a checkpoint.
	CheckpointTimestamp string
	// What keeps a deleted binding until LBC has deregistered its targets.
	Finalizer string
	// Prefixes of the labels that say what LBC made a binding for: an Ingress, a Service.
	StackLabels []string
	// The same for a Gateway.
	//
	// Simulator: there is no Gateway API. A test can put these labels on a binding.
	//
	// e2e: there is no Gateway API.
	GatewayLabels string
	// When LBC makes the calls that delete the load balancer of an Ingress, counted from the
	// deletion of the Ingress: DeregisterTargets, DeleteLoadBalancer, DeleteTargetGroup.
	//
	// e2e: Ingresses are only read. A test deletes the binding instead.
	IngressDeleted []time.Duration
	// When the backend of an Ingress changes, LBC deletes the old binding right after it has
	// changed the rules.
	//
	// e2e: Ingresses are only read. A test switches the binding or the selector instead.
	BackendChanged string
	// LBC's webhook lets `serviceRef` of a binding be edited.
	//
	// e2e: there is no webhook. `TestEditedAway` edits `serviceRef`.
	ServiceRef string
	// How long after the removal of the pod's object a pod behind a Service with
	// publishNotReadyAddresses was deregistered.
	//
	// e2e: asserted is the order alone. Real time depends on the machine.
	PublishedLag time.Duration
	// How long before the DeregisterTargets of a group's last target LBC revokes the rule of
	// the security group. The last requests to that target can then be lost, however long
	// anybody waits. Nothing that runs in the pod can help.
	//
	// Simulator: there are no security groups. `networking` of a binding is kept but not used.
	//
	// e2e: there are no security groups, and no `networking`.
	RuleRevoked time.Duration
	// The API server refuses capital letters in a host name of an Ingress's status, so LBC
	// writes it in lower case.
	HostName string
	// What the AWS SDK (elasticloadbalancingv2 v1.63.8) makes of an answer without a root
	// element, such as an empty body, plain text or JSON.
	//
	// e2e: AWS gives proper answers there; the SDK is the same.
	EmptyAnswer string
	// What a program in a pod's network namespace learns from sock_diag, as any user and
	// without a capability: of each connection the peer, the bytes received, and the time
	// since the last data. This took 0.3 to 0.6 ms.
	//
	// Simulator: pods have no network namespaces. Nothing in drain-wait looks at sockets.
	//
	// e2e: pods have network namespaces, but nothing in drain-wait looks at sockets.
	Sockets string
}

// Spread is the shortest, the median and the longest of some times.
type Spread struct{ Min, Median, Max time.Duration }

// LBC are the figures.
func LBC() Figures {
	const ms = time.Millisecond
	return Figures{
		Order:               []string{"empty", "DeregisterTargets", "checkpoint"},
		OrderTimes:          []time.Duration{5 * ms, 13 * ms, 16 * ms},
		SeenGone:            Spread{84 * ms, 98 * ms, 113 * ms},
		RolloutLag:          Spread{50 * ms, 350 * ms, 590 * ms},
		GatedRolloutLag:     Spread{20 * ms, 540 * ms, 960 * ms},
		RolloutDescribes:    30,
		CacheLife:           5 * time.Minute,
		PodEvents:           "it reconciles",
		DeregisterTries:     []time.Duration{80 * ms, 130 * ms, 2870 * ms, 10400 * ms, 15860 * ms},
		RegisterWait:        20 * time.Second,
		RefusedWait:         5 * ms,
		LateRemoval:         30 * ms,
		LeaseWait:           []time.Duration{15 * time.Second, 17 * time.Second},
		RestartedLag:        50900 * ms,
		RestartedAfter:      30 * time.Second,
		LeaderLag:           []time.Duration{22900 * ms, 28200 * ms},
		Checkpoint:          `^[\w-]{43}/[\w-]{43}$`,
		CheckpointTimestamp: "elbv2.k8s.aws/checkpoint-timestamp",
		Finalizer:           "elbv2.k8s.aws/resources",
		StackLabels:         []string{"ingress.k8s.aws/stack-", "service.k8s.aws/stack-"},
		GatewayLabels:       "gateway.k8s.aws.alb/stack-",
		IngressDeleted:      []time.Duration{100 * ms, 330 * ms, 540 * ms},
		BackendChanged:      "the old binding is deleted",
		ServiceRef:          "can be edited",
		PublishedLag:        50 * ms,
		RuleRevoked:         50 * ms,
		HostName:            "lower case",
		EmptyAnswer:         "an empty output, no error",
		Sockets:             "can be read",
	}
}
