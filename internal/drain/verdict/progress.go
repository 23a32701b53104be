package verdict

import (
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drainwait/internal/elb"
)

// Observation is what one look at a group shows of the pod. That a group was
// deleted is an observation like any other: it lists nothing.
type Observation struct {
	Began, Ended time.Time // of the look
	Listed       bool      // the group lists the pod
	InRotation   bool      // a load balancer may send it something new
}

// Progress is how far the pod has left one group, as one wait has seen it.
type Progress struct {
	Looked    bool      // a look was taken in
	Listed    bool      // the newest look listed the pod
	LeftAt    time.Time // the end of the first look that showed it gone; zero while it is in rotation
	Confirmed bool      // it had settled, and a look that began after that showed it gone still
}

// Observe takes in a look. The settle time counts from the end of the first
// look that shows the pod gone, since it may have left while that look was
// under way, and it is confirmed by a look that began when it was over. Without
// a settle time the first look that shows it gone is enough. To take the same
// look in twice changes nothing. A pod that was not listed and is now, as one that
// drains, was registered in between: it has left anew.
func (p Progress) Observe(o Observation, settle time.Duration) Progress {
	appeared := p.Looked && o.Listed && !p.Listed
	p.Looked, p.Listed = true, o.Listed
	switch {
	case o.InRotation:
		p.LeftAt, p.Confirmed = time.Time{}, false
	case p.LeftAt.IsZero(), appeared:
		p.LeftAt, p.Confirmed = o.Ended, settle == 0
	case !o.Began.Before(p.LeftAt.Add(settle)):
		p.Confirmed = true
	}
	return p
}

// Left says whether the newest look showed the pod gone.
func (p Progress) Left() bool { return !p.LeftAt.IsZero() }

// Events names what a look has changed since an earlier progress, in order.
func (p Progress) Events(before Progress) []string {
	var names []string
	switch {
	case p.Left() && p.LeftAt != before.LeftAt:
		names = append(names, "left")
	case !p.Left() && before.Left():
		names = append(names, "returned")
	case !p.Left() && !before.Looked:
		names = append(names, "in rotation")
	}
	if p.Confirmed && !before.Confirmed {
		names = append(names, "settled")
	}
	return names
}

// TargetsOf lists the targets of a look that are the pod's: those at one of its
// addresses, but for ports that are known to be another pod's.
func TargetsOf(look *elb.Look, addresses []netip.Addr, otherPorts []int) []elb.Target {
	var ts []elb.Target
	for _, ip := range addresses {
		for _, t := range look.At(ip) {
			if !slices.Contains(otherPorts, t.Port) {
				ts = append(ts, t)
			}
		}
	}
	return ts
}

// InRotation says whether a load balancer may send something new to any of the
// targets: to all whose state does not prove the contrary. "unhealthy" is in
// rotation, since a group with nothing else fails open; "unhealthy.draining"
// can turn healthy again; and a state that AWS may add is taken for the worst.
func InRotation(targets []elb.Target) bool {
	return slices.ContainsFunc(targets, func(t elb.Target) bool {
		return t.State != types.TargetHealthStateEnumDraining &&
			(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))
	})
}

// unusedForGood knows the reasons of "unused"; see TargetHealth in the API
// reference of ELBv2.
func unusedForGood(reason types.TargetHealthReasonEnum) bool {
	switch reason {
	case types.TargetHealthReasonEnumNotRegistered, types.TargetHealthReasonEnumNotInUse,
		types.TargetHealthReasonEnumInvalidState, types.TargetHealthReasonEnumIpUnusable:
		return true
	}
	return false
}
