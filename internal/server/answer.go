package server

import (
	"time"

	"drainwait/internal/drain"
)

// apiVersion names the contract of the JSON bodies: fields may be added to it,
// not taken away or changed.
const apiVersion = "v1"

// Answer is the body of a 200; openapi.yaml describes it.
type Answer struct {
	APIVersion    string         `json:"apiVersion"`
	Outcome       drain.Outcome  `json:"outcome"`
	Namespace     string         `json:"namespace,omitempty"`
	Pod           string         `json:"pod,omitempty"`
	WaitedSeconds Seconds        `json:"waitedSeconds"`
	BudgetSeconds Seconds        `json:"budgetSeconds"`
	BoundedBy     string         `json:"boundedBy"`
	Targets       []TargetAnswer `json:"targets"`
	Warnings      []string       `json:"warnings"`
	LastError     string         `json:"lastError,omitempty"`
}

// TargetAnswer is what the wait saw of one target group.
type TargetAnswer struct {
	TargetGroupARN   string       `json:"targetGroupArn"`
	LoadBalancerType string       `json:"loadBalancerType"`
	SettleSeconds    Seconds      `json:"settleSeconds"`
	State            string       `json:"state"`
	Timeline         []StepAnswer `json:"timeline"`
}

// StepAnswer is a moment in the life of a target, counted from the start of the
// wait.
type StepAnswer struct {
	AfterSeconds Seconds `json:"afterSeconds"`
	Event        string  `json:"event"`
}

// Failure is the body of any other status; openapi.yaml describes it.
type Failure struct {
	APIVersion string `json:"apiVersion"`
	Error      string `json:"error"`
	Message    string `json:"message"`
	// BudgetSeconds is how long a wait that was cut could have taken, from the
	// request on: until then it is worth to ask again. 0 for any other failure.
	BudgetSeconds Seconds  `json:"budgetSeconds,omitempty"`
	Warnings      []string `json:"warnings"`
}

// Seconds is a duration on the wire, in seconds with milliseconds.
type Seconds float64

func toSeconds(d time.Duration) Seconds {
	return Seconds(float64(d.Round(time.Millisecond).Milliseconds()) / 1000) // divided once: no noise in the last places
}

// NewAnswer is the answer to one caller of a wait, who was held for waited and
// whose parameters gave cause for warnings.
func NewAnswer(r *drain.Result, waited time.Duration, warnings []string) Answer {
	a := Answer{
		APIVersion:    apiVersion,
		Outcome:       r.Outcome,
		Namespace:     r.Namespace,
		Pod:           r.Pod,
		WaitedSeconds: toSeconds(waited),
		BudgetSeconds: toSeconds(r.Budget),
		BoundedBy:     r.BoundedBy,
		Targets:       []TargetAnswer{},
		Warnings:      append(append([]string{}, warnings...), r.Warnings...),
		LastError:     r.LastError,
	}
	for _, t := range r.Targets {
		ta := TargetAnswer{
			TargetGroupARN:   t.TargetGroupARN,
			LoadBalancerType: string(t.Type),
			SettleSeconds:    toSeconds(t.Settle),
			State:            t.State,
			Timeline:         []StepAnswer{},
		}
		if t.Type == "" {
			ta.LoadBalancerType = "unknown"
		}
		for _, s := range t.Timeline {
			ta.Timeline = append(ta.Timeline, StepAnswer{toSeconds(s.After), s.What})
		}
		a.Targets = append(a.Targets, ta)
	}
	return a
}
