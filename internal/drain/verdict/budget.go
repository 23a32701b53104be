package verdict

import "time"

// Limits bound the budgets of waits.
type Limits struct {
	MaxDelay time.Duration // the budget of a wait that names none and finds no pod
	// Reserve is what a wait leaves of the grace period for the application to
	// shut down in, but never more than a fifth of it.
	Reserve time.Duration
	OneLook time.Duration // the budget of a wait with a max-delay of 0, for its one look
}

// Timing is what the budget of a wait depends on.
type Timing struct {
	Began    time.Time
	MaxDelay *time.Duration // of the caller; nil where it did not say
	Grace    time.Duration  // of the pod; 0 where no pod is known
	KillAt   time.Time      // of the pod; zero where it is not being deleted
	Live     bool           // the pod was read from the API server itself
}

// What can set a budget.
const (
	ByMaxDelay = "max-delay"
	ByGrace    = "grace period"
)

// Budget is when the wait must have answered, and what sets that: the caller's
// max-delay, or the moment when the kubelet kills the pod, less the reserve. A
// kill time that has passed counts only once it was read live: the caller still
// asks, so the record may be stale, and the pod another one.
func (l Limits) Budget(t Timing) (at time.Time, boundedBy string) {
	maxDelay := l.MaxDelay
	if t.MaxDelay != nil {
		maxDelay = max(*t.MaxDelay, l.OneLook)
	}
	at = t.Began.Add(maxDelay)
	if t.Grace == 0 {
		return at, ByMaxDelay
	}
	kill := t.KillAt
	switch {
	case kill.IsZero():
		kill = t.Began.Add(t.Grace)
	case !kill.After(t.Began) && !t.Live:
		return at, ByMaxDelay
	}
	grace := kill.Add(-min(l.Reserve, t.Grace/5))
	if t.MaxDelay == nil || grace.Before(at) {
		return grace, ByGrace
	}
	return at, ByMaxDelay
}
