package aws

import (
	"time"

	"drainwait/internal/sim/timeline"
)

// Assumptions are what we assume that AWS does.
type Assumptions struct {
	// How long one ELBv2 or STS call takes, there and back. Typical of a call
	// within a Region; no published figure.
	APILatency timeline.Range

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
	// its first request. No published figure. No request fails because of it.
	NodeLearnsNew timeline.Range
	// How many load balancer nodes there are, each with its own view of the
	// targets: two in each of three zones.
	Nodes int

	// The bucket of Describe* calls: its size, and how much it gains back per
	// second. ELB user guide, "Request throttling for the ELB API".
	DescribeBurst, DescribeRate float64
	// The bucket of RegisterTargets and DeregisterTargets. LBC
	// pkg/aws/throttle/defaults.go.
	MutateBurst, MutateRate float64

	// How long the load balancer still sends new work to a target after
	// DeregisterTargets: [TypicalTail], or [WorstTail].
	Tail Tail
}

// Tail says how long the data plane goes on after DeregisterTargets has returned.
// AWS publishes no figure. The only source is what users measured.
type Tail struct {
	Name string
	// ALB is the span in which the last node of an Application Load Balancer
	// stops sending new requests. The others stop at any time before it.
	ALB timeline.Range
	// NLB is the same for new connections through a Network Load Balancer.
	NLB timeline.Range
}

// TypicalTail is what users report: for ALB 5 s was not enough and 25 s was
// (LBC issue #1064), and 10 s and 15 s were seen (#1719, #905); for NLB two minutes
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

// DefaultAssumptions is an ordinary day in an idle Region.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	return Assumptions{
		APILatency: timeline.Between(20*ms, 120*ms),

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
