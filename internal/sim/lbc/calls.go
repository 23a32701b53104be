package lbc

import (
	"math"
	"slices"
	"time"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/aws/query"
	"drainwait/internal/sim/timeline"
)

// targetsCache is what LBC knows about a group's targets. LBC
// pkg/targetgroupbinding/targets_manager.go.
type targetsCache struct {
	until   time.Duration
	targets []aws.TargetHealth // their state is empty if LBC has changed them since
}

// leaving says whether LBC believes that it need not deregister a target.
// LBC pkg/targetgroupbinding/targets_manager_types.go, IsDraining.
func leaving(t aws.TargetHealth) bool {
	return t.State == "draining" || t.State == "unhealthy.draining"
}

// remember notes that LBC has registered or deregistered targets: it will ask about
// them.
func (l *Controller) remember(g *aws.TargetGroup, ids []aws.TargetID) {
	cache := l.caches[g.ARN()]
	if cache == nil {
		return
	}
	cache.targets = slices.DeleteFunc(cache.targets, func(t aws.TargetHealth) bool { return slices.Contains(ids, t.ID) })
	for _, id := range ids {
		cache.targets = append(cache.targets, aws.TargetHealth{NamedTarget: aws.NamedTarget{ID: id}})
	}
}

// all are the targets that LBC knows of.
func (r *reconcile) all() []aws.TargetID {
	var ids []aws.TargetID
	for _, t := range r.targets {
		ids = append(ids, t.ID)
	}
	return ids
}

// list finds the group's targets, and goes on. If its list is not too old, LBC asks
// only for the targets that were not healthy.
func (r *reconcile) list(then func()) {
	cache := r.l.caches[r.group.ARN()]
	if cache == nil || r.l.line.Present() >= cache.until {
		r.describe(nil, func(found []aws.TargetHealth) {
			r.l.caches[r.group.ARN()] = &targetsCache{r.l.line.Present() + r.l.Assumptions.Cache, found}
			r.targets = slices.Clone(found)
			then()
		})
		return
	}
	var healthy []aws.TargetHealth
	var ask []aws.NamedTarget
	for _, t := range cache.targets {
		if t.State == "healthy" {
			healthy = append(healthy, t)
		} else {
			ask = append(ask, aws.NamedTarget{ID: t.ID})
		}
	}
	if len(ask) == 0 {
		r.targets = healthy
		then()
		return
	}
	r.describe(ask, func(found []aws.TargetHealth) {
		found = slices.DeleteFunc(found, func(t aws.TargetHealth) bool { return t.Reason == "Target.NotRegistered" })
		cache.targets = append(healthy, found...)
		r.targets = slices.Clone(cache.targets)
		then()
	})
}

// describe is a call of DescribeTargetHealth for some targets, or for all.
func (r *reconcile) describe(ask []aws.NamedTarget, then func([]aws.TargetHealth)) {
	var found []aws.TargetHealth
	r.call("DescribeTargetHealth", func() { found = r.group.Health(ask...) }, func() { then(found) })
}

// controllerCall is one call of LBC to ELBv2.
type controllerCall struct {
	operation string
	act, then func()
	refused   func()        // called in addition to what happens to the reconcile; may be nil
	late      time.Duration // how late it takes effect
	sent      *bool         // set when AWS has it; may be nil
	tries     int
}

func (r *reconcile) call(operation string, act, then func()) {
	r.send(&controllerCall{operation: operation, act: act, then: then})
}

// send makes a call. The call waits for LBC's own limit and travels. It is throttled or
// refused, or it acts. Then it travels back. The SDK in LBC retries throttled calls.
func (r *reconcile) send(c *controllerCall) {
	l := r.l
	if c.operation != "DescribeTargetHealth" && !l.limit.Take(l.line.Present()) {
		r.step(100*time.Millisecond, func() { r.send(c) })
		return
	}
	c.tries++
	d := l.line.Draw(l.account.Assumptions.APILatency, "controller", r.binding.name)
	r.step(d/2, func() {
		err, hangs := r.refusal(c.operation)
		switch {
		case hangs:
		case err != nil && temporary(err) && c.tries < l.Assumptions.Tries:
			r.step(d-d/2+r.retryDelay(c.tries), func() { r.send(c) })
		case err != nil:
			if c.refused != nil {
				c.refused()
			}
			r.step(d-d/2, func() { r.refused(err) })
		default:
			r.land(c, d-d/2)
		}
	})
}

// land makes AWS carry a call out, maybe late, whether or not LBC still lives then.
func (r *reconcile) land(c *controllerCall, back time.Duration) {
	if c.late == 0 {
		c.act()
		r.step(back, c.then)
		return
	}
	if c.sent != nil {
		*c.sent = true
	}
	r.l.line.After(c.late, func() {
		c.act()
		r.step(back, c.then)
	})
}

// refusal is the error that a call of LBC gets (nil for none), and whether the call
// gets no answer at all.
func (r *reconcile) refusal(operation string) (err *query.Error, hangs bool) {
	l := r.l
	if l.fault != nil {
		if f := l.fault(operation, r.group.ARN()); f != nil {
			return &query.Error{Status: f.Status, Code: f.Code, Message: f.Message}, f.Hang
		}
	}
	if err := l.account.Refusal(operation, r.group.ARN()); err != nil {
		return query.AsError(err), false
	}
	return nil, false
}

// temporary says whether the SDK tries again after an error.
func temporary(e *query.Error) bool {
	return e.Status >= 500 || slices.Contains([]string{"Throttling", "ThrottlingException", "RequestLimitExceeded"}, e.Code)
}

// retryDelay is how long LBC's SDK waits after a number of tries.
func (r *reconcile) retryDelay(tries int) time.Duration {
	limit, exact := RetryLimit(r.l.Assumptions.Retry, tries)
	if exact {
		return limit
	}
	return r.l.line.Draw(timeline.Between(0, limit), "retry", r.binding.name)
}

// RetryLimit is the longest wait after a number of tries, see [Assumptions]. If it is
// exact, the wait is never shorter.
func RetryLimit(retry timeline.Range, tries int) (limit time.Duration, exact bool) {
	if doubled := float64(retry.Min) * math.Pow(2, float64(tries-1)); doubled <= float64(retry.Max) {
		return time.Duration(doubled), false
	}
	return retry.Max, true
}

// refused ends a pass whose call failed. If the binding is being deleted, a group that
// is gone, or no group at all, is as good as an empty one.
func (r *reconcile) refused(err *query.Error) {
	if !r.ends || err.Code != "TargetGroupNotFound" && err.Code != "ValidationError" {
		r.failed()
		return
	}
	if r.l.binding(r.binding) == nil {
		r.done(0)
		return
	}
	r.release()
}
