package drain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

// group is a target group that is tied to the pod, as one wait follows it. A wait
// never stops following one: if nothing ties it to the pod any more, the load
// balancer may still send to the pod.
type group struct {
	elb.Group
	tie          // what the newest survey says of it, if that is of it
	surveyed int // the newest survey that found it

	sub      *elb.Subscription
	progress verdict.Progress
	look     *elb.Look // the newest that counts, and of it what concerns the pod; nil for none
	err      error     // of the tries since
	timeline []api.StepAnswer
}

// tie is what leads from a pod to a target group.
type tie struct {
	about string // what it is, for messages
	kind  elb.Type
	// former: whatever led to the group leads elsewhere now, or was deleted. AWS
	// may have deleted the group as well.
	former bool
	// seen: the group has been read before this wait.
	seen bool
	// publishesNotReady: the controller keeps the pod in the group until it is
	// gone.
	publishesNotReady bool
	// otherPorts are those at the pod's addresses that are another pod's.
	otherPorts []int
}

// join is what two ties to one group say together: of each the more cautious.
func (t tie) join(other tie) tie {
	t.kind = cmp.Or(t.kind, other.kind)
	t.former = t.former && other.former
	t.seen = t.seen || other.seen
	t.publishesNotReady = t.publishesNotReady && other.publishesNotReady
	t.otherPorts = slices.DeleteFunc(slices.Clone(t.otherPorts), func(port int) bool { return !slices.Contains(other.otherPorts, port) })
	return t
}

// update takes in the newest look, and says what is new. The error is that AWS
// refuses to show the group.
func (g *group) update(since time.Time, addresses []netip.Addr, settle time.Duration) (news []string, err error) {
	look, err := g.sub.Latest()
	if look != nil && look.Began.Before(since) {
		look = nil
	}
	if look != nil && look.Gone && !g.mayBeGone() {
		look, err = nil, fmt.Errorf("%s: %w", g.ARN, elb.ErrNotOurs)
	}
	g.err = err
	if look == nil {
		if g.look == nil && elb.IsPermanent(err) {
			return nil, err
		}
		return nil, nil
	}
	g.look = look.Of(addresses)
	targets := verdict.TargetsOf(look, addresses, g.otherPorts)
	o := verdict.Observation{Began: look.Began, Ended: look.Ended, Listed: len(targets) > 0, InRotation: verdict.InRotation(targets)}
	before := g.progress
	g.progress = before.Observe(o, settle)
	return g.progress.Events(before), nil
}

// isGone says whether the newest look showed that the group was deleted.
func (g *group) isGone() bool { return g.look != nil && g.look.Gone }

// mayBeGone says whether a group that AWS does not find was deleted, since it was
// there once. Else it is in an account or a Region that we do not see.
func (g *group) mayBeGone() bool { return g.former || g.seen || g.progress.Looked }

// plan tells the poller what looks this wait needs.
func (g *group) plan(deletionSeen, deadline time.Time, settle time.Duration) elb.Plan {
	switch p := g.progress; {
	case p.Confirmed:
		return elb.Plan{Done: true}
	case p.Left():
		plan := elb.Plan{ConfirmAt: p.LeftAt.Add(settle), Latest: deadline}
		if plan.ConfirmAt.After(deadline) {
			plan.Latest = time.Time{}
		}
		return plan
	default:
		return elb.Plan{DeletionSeen: deletionSeen, Latest: deadline.Add(-settle)}
	}
}

// state is the state of the pod's targets in the newest look.
func (g *group) state(addresses []netip.Addr) string {
	if g.look == nil {
		return ""
	}
	var states []string
	for _, t := range verdict.TargetsOf(g.look, addresses, g.otherPorts) {
		s := string(t.State)
		if t.Reason != "" {
			s = fmt.Sprintf("%s (%s)", t.State, t.Reason)
		}
		states = append(states, s)
	}
	return cmp.Or(strings.Join(states, ", "), "absent")
}

// missing says why the group was not settled when the budget ended, and which
// setting to raise; boundedBy is what set the budget.
func (g *group) missing(began, ended time.Time, settle time.Duration, addresses []netip.Addr, boundedBy string) string {
	limit := verdict.ByMaxDelay
	if boundedBy != verdict.ByMaxDelay {
		limit = "terminationGracePeriodSeconds"
	}
	switch p := g.progress; {
	case p.Confirmed:
		return ""
	case p.Left():
		done := ended.Sub(p.LeftAt)
		short := max(settle-done, 0) + time.Second
		return fmt.Sprintf("%s: left after %s and settled for %s of %s; requests may fail. Raise %s by %s or more",
			g.ARN, seconds(p.LeftAt.Sub(began)), seconds(min(done, settle)), settle, limit, short.Truncate(time.Second))
	case p.Looked:
		return fmt.Sprintf("%s: still in rotation (%s) after %s; requests will fail. Is the controller late? Raise %s if it takes longer than that to deregister the pod",
			g.ARN, g.state(addresses), seconds(ended.Sub(began)), limit)
	default:
		return fmt.Sprintf("%s: could not be read in %s; requests may fail", g.ARN, seconds(ended.Sub(began)))
	}
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }
