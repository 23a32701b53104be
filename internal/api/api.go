// Package api is the contract between the service and its callers: paths, parameters
// and JSON bodies. openapi.yaml in internal/server describes it.
package api

import "time"

// Version names the contract of the JSON bodies: fields may be added, but not removed
// or changed.
const Version = "v1"

// Paths of the listener for hooks. It has GET /health as well.
const (
	DrainDelayPath = "/drain-delay"
	FallbackPath   = "/fallback"
)

// Parameters of [DrainDelayPath]. [FallbackPath] knows the first three, and
// Reason.
const (
	IP        = "ip"
	Pod       = "pod"
	Namespace = "namespace"
	Ingress   = "ingress"
	MaxDelay  = "max-delay"
	MaxWait   = "max-wait" // another spelling of MaxDelay
	Settle    = "settle"
	Reason    = "reason"
)

// Why a hook went without an answer: the values of Reason.
const (
	Unreachable = "unreachable" // no connection
	Broken      = "broken"      // the connection broke, or no drain-wait service answered
	Unavailable = "unavailable" // status 503
	Refused     = "refused"     // any other status: asking again is of no use
)

// Reasons lists all values of Reason.
var Reasons = []string{Unreachable, Broken, Unavailable, Refused}

// Outcome says why the caller of a 200 may go ahead and stop.
type Outcome string

// The outcomes of a wait.
const (
	// Drained: every target has left and settled.
	Drained Outcome = "drained"
	// NotRegistered: discovery worked, and no target group may hold the pod.
	NotRegistered Outcome = "not_registered"
	// NotTerminating: the pod is not being deleted, as in a restart of its container:
	// the controller will not deregister it, so waiting is useless.
	NotTerminating Outcome = "not_terminating"
	// WillNotLeave: all groups that still send to the pod are behind Services that
	// publish not-ready addresses: the controller keeps the pod there until it is gone.
	WillNotLeave Outcome = "will_not_leave"
	// BudgetSpent: the budget ended while a target was in rotation or something unknown.
	BudgetSpent Outcome = "budget_spent"
	// SettleCut: every target has left, but the budget ended before all had settled.
	SettleCut Outcome = "settle_cut"
)

// Outcomes lists all outcomes.
var Outcomes = []Outcome{Drained, NotRegistered, NotTerminating, WillNotLeave, BudgetSpent, SettleCut}

// Answer is the body of a 200.
type Answer struct {
	APIVersion    string         `json:"apiVersion"`
	Outcome       Outcome        `json:"outcome"`
	Namespace     string         `json:"namespace,omitempty"`
	Pod           string         `json:"pod,omitempty"` // empty where none has the address
	WaitedSeconds Seconds        `json:"waitedSeconds"` // how long the caller was held
	BudgetSeconds Seconds        `json:"budgetSeconds"` // how long it could have been
	BoundedBy     string         `json:"boundedBy"`     // what set that: "max-delay" or "grace period"
	Targets       []TargetAnswer `json:"targets"`
	Warnings      []string       `json:"warnings"` // what the operator should put right
	// LastError is the newest error of AWS or the API server that was not over at the end.
	LastError string `json:"lastError,omitempty"`
}

// TargetAnswer is what the wait saw of one target group.
type TargetAnswer struct {
	TargetGroupARN   string  `json:"targetGroupArn"`
	LoadBalancerType string  `json:"loadBalancerType"`
	SettleSeconds    Seconds `json:"settleSeconds"`
	// State is the state and the reason of the pod's targets at the end, such as
	// "draining (Target.DeregistrationInProgress)", or "absent"; empty if no look
	// succeeded.
	State    string       `json:"state"`
	Timeline []StepAnswer `json:"timeline"`
}

// StepAnswer is a moment in the life of a target, counted from the wait's start.
type StepAnswer struct {
	AfterSeconds Seconds `json:"afterSeconds"`
	Event        string  `json:"event"`
}

// Failure is the body of any other status.
type Failure struct {
	APIVersion string `json:"apiVersion"`
	Error      string `json:"error"`
	Message    string `json:"message"`
	// BudgetSeconds is how long a wait that was cut could have taken, from the
	// request on: until then it is worth asking again. 0 for any other failure.
	BudgetSeconds Seconds  `json:"budgetSeconds,omitempty"`
	Warnings      []string `json:"warnings"`
}

// Seconds is a duration on the wire, in seconds with milliseconds.
type Seconds float64

// InSeconds is a duration as it goes on the wire.
func InSeconds(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000) // divided once: no noise in the last places
}

// Duration is the time that came over the wire, cut to some thirty years so that
// a [time.Duration] holds it.
func (s Seconds) Duration() time.Duration {
	const most = 1e9
	return time.Duration(min(s, most) * Seconds(time.Second))
}
