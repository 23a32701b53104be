package drain

import (
	"net/netip"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drainwait/internal/elb"
)

// observation is what one look at a group shows of the pod. That a group was
// deleted is an observation like any other: it lists nothing.
type observation struct {
	began, ended time.Time // of the look
	listed       bool      // the group lists the pod
	inRotation   bool      // a load balancer may send it something new
}

// progress is how far the pod has left one group, as one wait has seen it.
type progress struct {
	looked    bool      // a look was taken in
	listed    bool      // the newest look listed the pod
	leftAt    time.Time // the end of the first look that showed it gone; zero while it is in rotation
	confirmed bool      // it had settled, and a look that began after that showed it gone still
}

// observe takes in a look. The settle time counts from the end of the first
// look that shows the pod gone, since it may have left while that look was
// under way, and it is confirmed by a look that began when it was over. Without
// a settle time the first look that shows it gone is enough. To take the same
// look in twice changes nothing. A pod that was not listed and is now, as one that
// drains, was registered in between: it has left anew.
func (p progress) observe(o observation, settle time.Duration) progress {
	appeared := p.looked && o.listed && !p.listed
	p.looked, p.listed = true, o.listed
	switch {
	case o.inRotation:
		p.leftAt, p.confirmed = time.Time{}, false
	case p.leftAt.IsZero(), appeared:
		p.leftAt, p.confirmed = o.ended, settle == 0
	case !o.began.Before(p.leftAt.Add(settle)):
		p.confirmed = true
	}
	return p
}

// left says whether the newest look showed the pod gone.
func (p progress) left() bool { return !p.leftAt.IsZero() }

// events names what a look has changed since an earlier progress, in order.
func (p progress) events(before progress) []string {
	var names []string
	switch {
	case p.left() && p.leftAt != before.leftAt:
		names = append(names, "left")
	case !p.left() && before.left():
		names = append(names, "returned")
	case !p.left() && !before.looked:
		names = append(names, "in rotation")
	}
	if p.confirmed && !before.confirmed {
		names = append(names, "settled")
	}
	return names
}

// targetsOf lists the targets of a look that are the pod's: those at one of its
// addresses, but for ports that are known to be another pod's.
func targetsOf(look *elb.Look, addresses []netip.Addr, otherPorts []int) []elb.Target {
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

// inRotation says whether a load balancer may send something new to any of the
// targets: to all whose state does not prove the contrary. "unhealthy" is in
// rotation, since a group with nothing else fails open; "unhealthy.draining"
// can turn healthy again; and a state that AWS may add is taken for the worst.
func inRotation(targets []elb.Target) bool {
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
