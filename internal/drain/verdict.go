package drain

import (
	"fmt"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/cluster"
)

// refuseWithin is how long after the request a wait may still be refused. A
// caller that is refused takes its own fallback: later than that it would wait
// twice.
const refuseWithin = 2 * time.Second

// facts is all that a verdict goes by: what the wait has seen and asked so far.
type facts struct {
	// early: a refusal may still be said. last: it is now or not at all.
	early, last bool
	// over: the budget has ended.
	over bool

	tally
	// open: something that may hold the pod is not known yet.
	open bool
	// live: the pod, and what ties it to target groups, were read from the API
	// server itself since the wait began; ingresses: so were the Ingresses.
	live, ingresses bool
	// stays: live reads show that the pod is there to stay, and no deletion was
	// ever seen.
	stays bool
	// address: no pod has the address that is asked about.
	address bool

	// refused is why the wait cannot be carried out: the pod is not known, or
	// AWS refuses to show a group that is tied to it. unable is why, where no
	// group is tied to it, that does not mean that it is registered nowhere.
	refused, unable error
	// unread is why live is not so.
	unread error
}

// tally counts the groups that are followed.
type tally struct {
	followed  int
	looked    int // of them, those of which a look was taken in
	left      int // of those, where the pod was gone in the newest look
	confirmed int // of those, where it had settled
	stuck     int // in rotation behind Services alone that publish not-ready addresses
}

// verdict is the outcome of the wait, or "" where it goes on. The error refuses
// the wait; it comes early or never.
//
// Nothing that is not known makes it say go: drained, not_registered and
// will_not_leave need live reads and answers to all questions, and a budget
// that ends before that is spent.
func (f facts) verdict() (api.Outcome, error) {
	known := f.live && !f.open && f.refused == nil
	nothing := known && f.followed == 0 && f.ingresses
	if err := f.refusal(nothing); err != nil && f.early {
		return "", err
	}
	switch {
	case nothing && f.unable == nil:
		return api.NotRegistered, nil
	case nothing && f.address:
		return api.BudgetSpent, nil // a mistyped address is likelier than one that has just left
	case known && f.followed > 0 && f.confirmed == f.followed:
		return api.Drained, nil
	case f.stays:
		return api.NotTerminating, nil
	case known && f.stuck > 0 && f.confirmed+f.stuck == f.followed:
		return api.WillNotLeave, nil
	case !f.over:
		return "", nil
	case known && f.followed > 0 && f.left == f.followed:
		return api.SettleCut, nil
	default:
		return api.BudgetSpent, nil
	}
}

// refusal is why the caller had better take its fallback; nil where it need
// not. nothing says that no group holds the pod as far as can be known.
func (f facts) refusal(nothing bool) error {
	switch {
	case f.refused != nil:
		return f.refused
	case nothing:
		return f.unable
	case f.last && (!f.live || !f.ingresses) && f.followed == 0 && !f.over:
		return fmt.Errorf("%w: the API server cannot be read: %w", ErrUnavailable, f.unread)
	default:
		return nil
	}
}

// timing is what the budget of a wait depends on.
type timing struct {
	began    time.Time
	maxDelay *time.Duration // of the caller; nil where it did not say
	pod      *cluster.Pod   // nil where no pod is known
	live     bool           // the pod was read from the API server itself
}

// What can set a budget.
const byMaxDelay, byGrace = "max-delay", "grace period"

// budget is when the wait must have answered, and what sets that: the caller's
// max-delay, or the moment when the kubelet kills the pod, less the reserve. A
// kill time that has passed counts only once it was read live: the caller still
// asks, so the record may be stale, and the pod another one.
func (c Config) budget(t timing) (at time.Time, boundedBy string) {
	maxDelay := c.MaxDelay
	if t.maxDelay != nil {
		maxDelay = max(*t.maxDelay, c.OneLook)
	}
	at = t.began.Add(maxDelay)
	if t.pod == nil || t.pod.Grace == 0 {
		return at, byMaxDelay
	}
	kill := t.pod.KillAt
	switch {
	case kill.IsZero():
		kill = t.began.Add(t.pod.Grace)
	case !kill.After(t.began) && !t.live:
		return at, byMaxDelay
	}
	grace := kill.Add(-c.reserve(t.pod))
	if t.maxDelay == nil || grace.Before(at) {
		return grace, byGrace
	}
	return at, byMaxDelay
}

// reserve is what of the grace period is the application's.
func (c Config) reserve(p *cluster.Pod) time.Duration { return min(c.Reserve, p.Grace/5) }
