package server

import (
	"time"

	"drainwait/internal/api"
	"drainwait/internal/drain"
)

// NewAnswer is the answer to one caller of a wait, who was held for waited and
// whose parameters gave cause for warnings.
func NewAnswer(r *drain.Result, waited time.Duration, warnings []string) api.Answer {
	a := api.Answer{
		APIVersion:    api.Version,
		Outcome:       r.Outcome,
		Namespace:     r.Namespace,
		Pod:           r.Pod,
		WaitedSeconds: api.InSeconds(waited),
		BudgetSeconds: api.InSeconds(r.Budget),
		BoundedBy:     r.BoundedBy,
		Targets:       []api.TargetAnswer{},
		Warnings:      append(append([]string{}, warnings...), r.Warnings...),
		LastError:     r.LastError,
	}
	for _, t := range r.Targets {
		ta := api.TargetAnswer{
			TargetGroupARN:   t.TargetGroupARN,
			LoadBalancerType: string(t.Type),
			SettleSeconds:    api.InSeconds(t.Settle),
			State:            t.State,
			Timeline:         []api.StepAnswer{},
		}
		if t.Type == "" {
			ta.LoadBalancerType = "unknown"
		}
		for _, s := range t.Timeline {
			ta.Timeline = append(ta.Timeline, api.StepAnswer{AfterSeconds: api.InSeconds(s.After), Event: s.What})
		}
		a.Targets = append(a.Targets, ta)
	}
	return a
}
