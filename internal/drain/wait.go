package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drainwait/internal/cluster"
	"drainwait/internal/elb"
)

// wait is one hook call, from request to answer. It belongs to the goroutine
// that called [Drainer.Wait].
type wait struct {
	*Drainer
	request     Request
	began       time.Time
	pod         *cluster.Pod // nil where no pod has the address
	ips         []netip.Addr
	namespace   string
	clusterWake chan struct{} // the pod or its candidates may have changed
	lookWake    chan struct{} // some candidate has a new look
	stopWatch   func()
	candidates  map[elb.Group]*candidate
	warnings    []string
}

func (w *wait) close() {
	if w.stopWatch != nil {
		w.stopWatch()
	}
	for _, c := range w.candidates {
		c.sub.Close()
	}
}

// identify finds the pod, or settles for an address in a namespace.
func (w *wait) identify() error {
	r := w.request
	w.namespace = r.Namespace
	if r.Pod != "" {
		w.pod = w.cluster.Pod(r.Namespace, r.Pod)
		if w.pod == nil {
			return fmt.Errorf("%w: no pod %s/%s", ErrNotFound, r.Namespace, r.Pod)
		}
	} else {
		pod, err := w.cluster.PodAt(r.IP, r.Namespace)
		switch {
		case err == nil:
			w.pod = pod
		case r.Namespace == "" || errors.Is(err, cluster.ErrAmbiguous):
			return fmt.Errorf("%w: %w; say which with ip=, pod= and namespace=", ErrNotFound, err)
		default:
			w.ips = []netip.Addr{r.IP.Unmap()}
			return nil
		}
	}
	if r.Namespace != "" && r.Namespace != w.pod.Namespace {
		w.warn("namespace=%s is not that of the pod, which is %s", r.Namespace, w.pod.Namespace)
	}
	w.namespace, w.ips = w.pod.Namespace, w.pod.IPs
	w.stopWatch = w.cluster.Watch(w.pod, w.clusterWake)
	return nil
}

func (w *wait) warn(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(w.warnings, s) {
		w.warnings = append(w.warnings, s)
	}
}

// run follows the candidates to the outcome.
func (w *wait) run(ctx context.Context) (*Result, error) {
	if err := w.discover(); err != nil {
		return nil, err
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		outcome, err := w.judge()
		if err != nil {
			return nil, err
		}
		if outcome != "" {
			return w.result(outcome), nil
		}
		timer.Reset(time.Until(w.nextTurn()))
		select {
		case <-w.clusterWake:
			w.refresh()
			if err := w.discover(); err != nil {
				return nil, err
			}
		case <-w.lookWake:
		case <-timer.C:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// refresh reads the pod again: its deletion can have begun, or been shortened.
// A pod that is gone, or replaced by one of the same name, stays as it was last.
func (w *wait) refresh() {
	if p := w.cluster.Pod(w.pod.Namespace, w.pod.Name); p != nil && p.UID == w.pod.UID {
		w.pod = p
	}
}

// discover adds what candidates there are now. None is ever taken away: a
// binding that is gone does not show that the load balancer has let go.
func (w *wait) discover() error {
	var bindings []cluster.Binding
	if w.pod != nil {
		for _, c := range w.cluster.Candidates(w.pod) {
			if c.Certain {
				bindings = append(bindings, c.Binding)
			}
		}
	} else {
		bindings = w.cluster.Bindings(w.namespace)
	}
	unseen := 0
	for _, b := range bindings {
		switch {
		case b.TargetType != cluster.TypeIP:
			unseen++
			w.warn("TargetGroupBinding %s/%s has targets of type %q, which cannot be watched", b.Namespace, b.Name, b.TargetType)
		case b.TargetGroupARN == "":
			unseen++
			w.warn("TargetGroupBinding %s/%s has no target group ARN", b.Namespace, b.Name)
		default:
			w.add(b)
		}
	}
	if len(w.candidates) == 0 && unseen > 0 {
		return fmt.Errorf("%w: %s", ErrUnsupported, w.warnings[len(w.warnings)-1])
	}
	return nil
}

func (w *wait) add(b cluster.Binding) {
	g := elb.Group{ARN: b.TargetGroupARN, RoleARN: b.RoleARN, ExternalID: b.ExternalID}
	if w.candidates[g] != nil {
		return
	}
	kind := elb.TypeOfProtocol(b.Protocol)
	c := &candidate{group: g, kind: kind, settle: w.cfg.settle(kind), since: time.Now()}
	if w.request.Settle != nil {
		c.settle = *w.request.Settle
	}
	c.sub = w.elb.Subscribe(g, w.lookWake)
	w.candidates[g] = c
}

// judge brings every candidate up to date and says the outcome, or "" where it
// is still open. The error is one that decides.
func (w *wait) judge() (Outcome, error) {
	looked, listed, left, settled := true, false, true, true
	for _, c := range w.sorted() {
		if err := c.update(w.began, w.ips); err != nil {
			return "", fmt.Errorf("%w: %w", ErrRefused, err)
		}
		c.confirm()
		looked = looked && c.look != nil
		listed = listed || c.listed
		left = left && !c.leftAt.IsZero()
		settled = settled && c.confirmed
	}
	spent := !time.Now().Before(w.deadline())
	switch {
	case w.pod == nil && len(w.candidates) == 0, w.pod == nil && looked && !listed:
		return "", fmt.Errorf("%w: no pod has the address %s, and no target group of namespace %s holds it", ErrNotFound, w.request.IP, w.namespace)
	case len(w.candidates) == 0:
		return NotRegistered, nil
	case settled:
		return Drained, nil
	case spent && left:
		return SettleCut, nil
	case spent:
		return BudgetSpent, nil
	}
	return "", nil
}

// sorted lists the candidates in a stable order.
func (w *wait) sorted() []*candidate {
	cs := make([]*candidate, 0, len(w.candidates))
	for _, c := range w.candidates {
		cs = append(cs, c)
	}
	slices.SortFunc(cs, func(a, b *candidate) int { return cmp.Compare(a.group.ARN, b.group.ARN) })
	return cs
}

// nextTurn is when the wait has to act without being woken.
func (w *wait) nextTurn() time.Time {
	next := w.deadline()
	for _, c := range w.candidates {
		if at, ok := c.pending(); ok && at.Before(next) {
			next = at
		}
	}
	return next
}

// deadline is the end of the budget.
func (w *wait) deadline() time.Time {
	at, _ := w.budget()
	return at
}

// budget is when the wait must have answered, and what sets that: the caller's
// max-delay, or the moment when the kubelet kills the pod, less the reserve.
func (w *wait) budget() (at time.Time, boundedBy string) {
	const byMaxDelay, byGrace = "max-delay", "grace period"
	maxDelay := w.cfg.MaxDelay
	if w.request.MaxDelay != nil {
		maxDelay = max(*w.request.MaxDelay, w.cfg.OneLook)
	}
	at = w.began.Add(maxDelay)
	if w.pod == nil {
		return at, byMaxDelay
	}
	kill := w.pod.KillAt
	if kill.IsZero() {
		kill = w.began.Add(w.pod.Grace)
	}
	grace := kill.Add(-min(w.cfg.Reserve, w.pod.Grace/5))
	if w.request.MaxDelay == nil || grace.Before(at) {
		return grace, byGrace
	}
	return at, byMaxDelay
}

func (w *wait) result(o Outcome) *Result {
	deadline, boundedBy := w.budget()
	r := &Result{
		Outcome:   o,
		Namespace: w.namespace,
		Waited:    time.Since(w.began),
		Budget:    max(0, deadline.Sub(w.began)),
		BoundedBy: boundedBy,
		Warnings:  w.warnings,
	}
	if w.pod != nil {
		r.Pod = w.pod.Name
	}
	for _, c := range w.sorted() {
		r.Targets = append(r.Targets, c.result(w.ips))
		if c.err != nil {
			r.LastError = c.err.Error()
		}
	}
	return r
}
