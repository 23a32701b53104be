package sim

import (
	"math"
	"slices"
	"time"

	"drainwait/internal/sim/timeline"
)

// targetsCache is what LBC knows of a group's targets. LBC
// pkg/targetgroupbinding/targets_manager.go.
type targetsCache struct {
	until   time.Duration
	targets []cachedTarget
}

// cachedTarget is a target as LBC last heard of it; state is empty where it has
// changed the target since.
type cachedTarget struct {
	id            targetID
	state, reason string
}

// leaving says whether LBC takes a target for one that need not be deregistered.
// LBC pkg/targetgroupbinding/targets_manager_types.go, IsDraining.
func (t cachedTarget) leaving() bool { return t.state == "draining" || t.state == "unhealthy.draining" }

// remember notes that LBC has registered or deregistered targets: it will ask for
// them.
func (c *controller) remember(g *TargetGroup, ids []targetID) {
	cache := c.caches[g.arn]
	if cache == nil {
		return
	}
	cache.targets = slices.DeleteFunc(cache.targets, func(t cachedTarget) bool { return slices.Contains(ids, t.id) })
	for _, id := range ids {
		cache.targets = append(cache.targets, cachedTarget{id: id})
	}
}

// all are the targets that LBC knows of.
func (r *reconcile) all() []targetID {
	var ids []targetID
	for _, t := range r.targets {
		ids = append(ids, t.id)
	}
	return ids
}

// list finds the group's targets, and goes on. From a list that is not too old LBC
// asks only for those that were not healthy.
func (r *reconcile) list(then func()) {
	c := &r.w.lbc
	cache := c.caches[r.group.arn]
	if cache == nil || r.w.Present() >= cache.until {
		r.describe(nil, func(found []cachedTarget) {
			c.caches[r.group.arn] = &targetsCache{r.w.Present() + r.w.cfg.Assumptions.ControllerCache, found}
			r.targets = slices.Clone(found)
			then()
		})
		return
	}
	var healthy []cachedTarget
	var ask []awsTarget
	for _, t := range cache.targets {
		if t.state == "healthy" {
			healthy = append(healthy, t)
		} else {
			ask = append(ask, awsTarget{id: t.id})
		}
	}
	if len(ask) == 0 {
		r.targets = healthy
		then()
		return
	}
	r.describe(ask, func(found []cachedTarget) {
		found = slices.DeleteFunc(found, func(t cachedTarget) bool { return t.reason == "Target.NotRegistered" })
		cache.targets = append(healthy, found...)
		r.targets = slices.Clone(cache.targets)
		then()
	})
}

// describe is a call of DescribeTargetHealth for some targets, or for all.
func (r *reconcile) describe(ask []awsTarget, then func([]cachedTarget)) {
	var found []cachedTarget
	r.call("DescribeTargetHealth", func() {
		for _, h := range healths(r.group, ask) {
			found = append(found, cachedTarget{h.id, h.state, h.reason})
		}
	}, func() { then(found) })
}

// controllerCall is one call of LBC to ELBv2.
type controllerCall struct {
	operation string
	act, then func()
	refused   func()        // beside what becomes of the reconcile; may be nil
	late      time.Duration // how late it takes effect
	sent      *bool         // set when AWS has it; may be nil
	tries     int
}

func (r *reconcile) call(operation string, act, then func()) {
	r.send(&controllerCall{operation: operation, act: act, then: then})
}

// send makes a call: it waits for LBC's own limit, travels, is throttled, refused
// or acts, and travels back. The SDK in LBC tries again what was throttled.
func (r *reconcile) send(c *controllerCall) {
	w := r.w
	if c.operation != "DescribeTargetHealth" && !w.lbc.limit.take(w.Present()) {
		r.step(100*time.Millisecond, func() { r.send(c) })
		return
	}
	c.tries++
	d := w.Draw(w.cfg.Assumptions.APILatency, "controller", r.binding.name)
	r.step(d/2, func() {
		err, hangs := r.refusal(c.operation)
		switch {
		case hangs:
		case err != nil && err.temporary() && c.tries < w.cfg.Assumptions.ControllerTries:
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

// land has AWS carry a call out, maybe late, whether or not LBC still lives then.
func (r *reconcile) land(c *controllerCall, back time.Duration) {
	if c.late == 0 {
		c.act()
		r.step(back, c.then)
		return
	}
	if c.sent != nil {
		*c.sent = true
	}
	r.w.After(c.late, func() {
		c.act()
		r.step(back, c.then)
	})
}

// refusal is the error that a call of LBC gets, nil for none, and whether it gets
// no answer at all.
func (r *reconcile) refusal(operation string) (err *apiError, hangs bool) {
	w := r.w
	if w.lbc.fault != nil {
		if f := w.lbc.fault(operation, r.group.arn); f != nil {
			return &apiError{f.Status, f.Code, f.Message}, f.Hang
		}
	}
	if !awsOperations[operation].bucket(&w.aws).take(w.Present()) {
		return errThrottled, false
	}
	if _, err := w.aws.group(r.group.arn); err != nil {
		return asAPIError(err), false
	}
	return nil, false
}

// temporary says whether the SDK tries again after an error.
func (e *apiError) temporary() bool {
	return e.status >= 500 || slices.Contains([]string{"Throttling", "ThrottlingException", "RequestLimitExceeded"}, e.code)
}

// retryDelay is how long LBC's SDK waits after so many tries.
func (r *reconcile) retryDelay(tries int) time.Duration {
	retry := r.w.cfg.Assumptions.ControllerRetry
	if bound := retry.Min << (tries - 1); float64(retry.Min)*math.Pow(2, float64(tries-1)) <= float64(retry.Max) {
		return r.w.Draw(timeline.Between(0, bound), "retry", r.binding.name)
	}
	return retry.Max
}

// refused ends a pass whose call failed. For a binding that is being deleted a group
// that is gone, or no group at all, is as good as an empty one.
func (r *reconcile) refused(err *apiError) {
	if !r.ends || err.code != "TargetGroupNotFound" && err.code != "ValidationError" {
		r.failed()
		return
	}
	if r.w.binding(r.binding) == nil {
		r.done(0)
		return
	}
	r.release()
}
