package server

import (
	"time"

	"drainwait/internal/drain"
)

// apiVersion names the contract of the JSON bodies: fields may be added to it,
// not taken away or changed.
const apiVersion = "v1"

// answer is the body of a 200.
type answer struct {
	APIVersion    string         `json:"apiVersion"`
	Outcome       drain.Outcome  `json:"outcome"`
	Namespace     string         `json:"namespace,omitempty"`
	Pod           string         `json:"pod,omitempty"`
	WaitedSeconds seconds        `json:"waitedSeconds"`
	BudgetSeconds seconds        `json:"budgetSeconds"`
	BoundedBy     string         `json:"boundedBy"`
	Targets       []targetAnswer `json:"targets"`
	Warnings      []string       `json:"warnings"`
	LastError     string         `json:"lastError,omitempty"`
}

type targetAnswer struct {
	TargetGroupARN   string       `json:"targetGroupArn"`
	LoadBalancerType string       `json:"loadBalancerType"`
	SettleSeconds    seconds      `json:"settleSeconds"`
	State            string       `json:"state"`
	Timeline         []stepAnswer `json:"timeline"`
}

type stepAnswer struct {
	AfterSeconds seconds `json:"afterSeconds"`
	Event        string  `json:"event"`
}

// failure is the body of any other status.
type failure struct {
	APIVersion string   `json:"apiVersion"`
	Error      string   `json:"error"`
	Message    string   `json:"message"`
	Warnings   []string `json:"warnings"`
}

// seconds is a duration on the wire, in seconds with milliseconds.
type seconds float64

func toSeconds(d time.Duration) seconds { return seconds(d.Round(time.Millisecond).Seconds()) }

func newAnswer(r *drain.Result) answer {
	a := answer{
		APIVersion:    apiVersion,
		Outcome:       r.Outcome,
		Namespace:     r.Namespace,
		Pod:           r.Pod,
		WaitedSeconds: toSeconds(r.Waited),
		BudgetSeconds: toSeconds(r.Budget),
		BoundedBy:     r.BoundedBy,
		Targets:       []targetAnswer{},
		Warnings:      append([]string{}, r.Warnings...),
		LastError:     r.LastError,
	}
	for _, t := range r.Targets {
		ta := targetAnswer{
			TargetGroupARN:   t.TargetGroupARN,
			LoadBalancerType: string(t.Type),
			SettleSeconds:    toSeconds(t.Settle),
			State:            t.State,
			Timeline:         []stepAnswer{},
		}
		if t.Type == "" {
			ta.LoadBalancerType = "unknown"
		}
		for _, s := range t.Timeline {
			ta.Timeline = append(ta.Timeline, stepAnswer{toSeconds(s.After), s.What})
		}
		a.Targets = append(a.Targets, ta)
	}
	return a
}
