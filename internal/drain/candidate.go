package drain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drainwait/internal/elb"
)

// candidate is a target group that may hold the pod, as one wait follows it.
type candidate struct {
	group   elb.Group
	kind    elb.Type
	settle  time.Duration
	certain bool  // false where one look has to show whether it concerns the pod at all
	ports   []int // where on the pod's addresses its targets are; nil for anywhere
	keeps   bool  // its Service publishes not-ready addresses: the pod stays until it is gone
	sub     *elb.Subscription
	since   time.Time // looks that began before do not count

	look      *elb.Look // the newest that counts; nil for none
	err       error     // of the tries since
	vanished  bool      // the group was deleted since
	listed    bool      // some look showed the pod
	leftAt    time.Time // when the pod was first seen to have left; zero while it is in rotation
	confirmed bool      // a look that began after the settle time showed it gone still
	asked     bool      // that look was asked for
	timeline  []Step
	onStep    func(targetGroupARN string, s Step) // may be nil
}

// join takes in another binding of the same group.
func (c *candidate) join(other candidate) {
	c.certain = c.certain || other.certain
	c.keeps = c.keeps && other.keeps
	if other.ports == nil {
		c.ports = nil
	}
	for _, p := range other.ports {
		if c.ports != nil && !slices.Contains(c.ports, p) {
			c.ports = append(slices.Clip(c.ports), p)
		}
	}
}

// update takes in what the poller has found since. A pod that never was ready
// was never sent anything, so that it need not settle where it is not listed.
// The error is one that decides: the group cannot be read and never was.
func (c *candidate) update(began time.Time, ips []netip.Addr, neverReady bool) error {
	look, err := c.sub.Latest()
	if look != nil && look.Began.Before(c.since) {
		look = nil
	}
	c.err = err
	if look == nil {
		if elb.Decides(err) {
			return err
		}
		return nil
	}
	if errors.Is(err, elb.ErrNoGroup) {
		c.gone(began)
		return nil
	}
	if look == c.look {
		c.asked = c.asked && err == nil // a confirming look that failed is asked for again
		return nil
	}
	c.look, c.vanished = look, false
	targets := c.targets(look, ips)
	c.listed = c.listed || len(targets) > 0
	if inRotation(targets) {
		if !c.leftAt.IsZero() {
			c.note(began, look.Ended, "returned")
		} else if len(c.timeline) == 0 {
			c.note(began, look.Ended, "in rotation")
		}
		c.leftAt, c.confirmed, c.asked = time.Time{}, false, false
		return nil
	}
	c.left(began, look.Ended)
	exempt := c.settle == 0 || neverReady && !c.listed
	if !c.confirmed && (exempt || !look.Began.Before(c.leftAt.Add(c.settle))) {
		c.confirmed = true
		c.note(began, look.Ended, "settled")
	}
	return nil
}

// left starts the settle time with the first look that shows the pod gone. Its
// end is what counts: the pod may have left while the look was under way.
func (c *candidate) left(began, at time.Time) {
	if c.leftAt.IsZero() {
		c.leftAt = at
		c.note(began, at, "left")
	}
}

// gone is a group that was seen and vanished: the pod has left it. There is
// nothing to confirm it by, so time alone does.
func (c *candidate) gone(began time.Time) {
	now := time.Now()
	c.vanished = true
	c.left(began, now)
	if !c.confirmed && !now.Before(c.leftAt.Add(c.settle)) {
		c.confirmed = true
		c.note(began, now, "settled")
	}
}

// pending is when the candidate next needs the wait's attention: at the end of
// the settle time. ok is false where only a look can bring news.
func (c *candidate) pending() (at time.Time, ok bool) {
	if c.leftAt.IsZero() || c.confirmed || c.asked {
		return time.Time{}, false
	}
	return c.leftAt.Add(c.settle), true
}

// confirm asks for the look that confirms, once the settle time is over.
func (c *candidate) confirm() {
	if at, ok := c.pending(); ok && !time.Now().Before(at) {
		c.asked = true
		c.sub.Confirm()
	}
}

func (c *candidate) note(began, at time.Time, what string) {
	s := Step{After: at.Sub(began), What: what}
	c.timeline = append(c.timeline, s)
	if c.onStep != nil {
		c.onStep(c.group.ARN, s)
	}
}

func (c *candidate) result(ips []netip.Addr) TargetResult {
	r := TargetResult{TargetGroupARN: c.group.ARN, Type: c.kind, Settle: c.settle, Timeline: c.timeline}
	if c.look == nil {
		return r
	}
	r.State = "absent"
	if c.vanished {
		return r
	}
	var states []string
	for _, t := range c.targets(c.look, ips) {
		s := string(t.State)
		if t.Reason != "" {
			s = fmt.Sprintf("%s (%s)", t.State, t.Reason)
		}
		states = append(states, s)
	}
	if len(states) > 0 {
		r.State = strings.Join(states, ", ")
	}
	return r
}

// targets lists those of the pod in a look.
func (c *candidate) targets(look *elb.Look, ips []netip.Addr) []elb.Target {
	var ts []elb.Target
	for _, ip := range ips {
		for _, t := range look.At(ip) {
			if c.ports == nil || slices.Contains(c.ports, t.Port) {
				ts = append(ts, t)
			}
		}
	}
	return ts
}

// inRotation says whether a load balancer may send new requests to any of the
// targets: to all whose state does not prove the contrary. "unhealthy" is in
// rotation, since a group with nothing else fails open; "unhealthy.draining"
// can turn healthy again; and a state that AWS may add is taken for the worst.
func inRotation(targets []elb.Target) bool {
	for _, t := range targets {
		switch {
		case t.State == types.TargetHealthStateEnumDraining:
		case t.State == types.TargetHealthStateEnumUnused && unusedForGood(t.Reason):
		default:
			return true
		}
	}
	return false
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
