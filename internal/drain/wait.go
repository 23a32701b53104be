package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
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
	ctx         context.Context // the caller's; ends when the wait is over
	request     Request
	began       time.Time
	pod         *cluster.Pod // nil where no pod has the address
	ips         []netip.Addr
	namespace   string
	clusterWake chan struct{} // the pod or its candidates may have changed
	lookWake    chan struct{} // some candidate has a new look
	stopWatch   func()

	candidates  map[elb.Group]*candidate
	dropped     map[elb.Group]bool // candidates that turned out not to concern the pod
	unsupported []string           // load balancers of the pod that cannot be watched, and why
	noAddress   []string           // Ingresses and Services whose load balancer cannot be told
	missing     []string           // Ingresses that the caller names and that do not exist

	asked    map[string]bool   // what ELBv2 was asked about beside the wait
	asking   int               // questions to ELBv2 that are open
	answers  chan func() error // what came of questions beside the wait, for its goroutine to take in
	doubts   doubts
	troubles map[string]error // of such questions, where not over, by what they are about
	warnings []string
}

func newWait(ctx context.Context, d *Drainer, r Request) *wait {
	return &wait{
		Drainer:     d,
		ctx:         ctx,
		request:     r,
		began:       time.Now(),
		clusterWake: make(chan struct{}, 1),
		lookWake:    make(chan struct{}, 1),
		stopWatch:   func() {},
		candidates:  make(map[elb.Group]*candidate),
		dropped:     make(map[elb.Group]bool),
		asked:       make(map[string]bool),
		answers:     make(chan func() error),
		troubles:    make(map[string]error),
	}
}

func (w *wait) close() {
	w.stopWatch()
	for _, c := range w.candidates {
		c.sub.Close()
	}
}

func (w *wait) warn(format string, args ...any) {
	if s := fmt.Sprintf(format, args...); !slices.Contains(w.warnings, s) {
		w.warnings = append(w.warnings, s)
	}
}

// beside runs ask in a goroutine of its own, for as long as the wait lasts, and
// has the wait's goroutine run what it returns.
func (w *wait) beside(ask func(context.Context) func() error) {
	go func() {
		take := ask(w.ctx)
		select {
		case w.answers <- take:
		case <-w.ctx.Done():
		}
	}()
}

// cure is what a caller can do whose pod cannot be told.
const cure = "say which with ip=, pod= and namespace="

// identify finds the pod, or settles for an address in a namespace.
func (w *wait) identify() error {
	r := w.request
	w.namespace = r.Namespace
	if r.Pod != "" {
		w.pod = w.cluster.Pod(r.Namespace, r.Pod)
		if w.pod == nil {
			return fmt.Errorf("%w: no pod %s/%s", ErrNotFound, r.Namespace, r.Pod)
		}
		if r.IP.IsValid() && !r.Inferred && !slices.Contains(w.pod.IPs, r.IP.Unmap()) {
			w.warn("ip=%s is not an address of the pod, which has %v", r.IP, w.pod.IPs)
		}
	} else if err := w.identifyByAddress(); err != nil || w.pod == nil {
		return err
	}
	if r.Namespace != "" && r.Namespace != w.pod.Namespace {
		w.warn("namespace=%s is not that of the pod, which is %s", r.Namespace, w.pod.Namespace)
	}
	for _, name := range w.pod.Unhooked {
		w.warn("container %s of the pod has no preStop hook: it is stopped at once, whatever this answer says", name)
	}
	w.namespace, w.ips = w.pod.Namespace, w.pod.IPs
	w.stopWatch = w.cluster.Watch(w.pod, w.clusterWake)
	return nil
}

// identifyByAddress leaves the pod nil where an address was named that no pod
// has: it is looked for in the groups as it is.
func (w *wait) identifyByAddress() error {
	r := w.request
	pod, err := w.cluster.PodAt(r.IP, r.Namespace)
	switch {
	case err == nil:
		w.pod = pod
	case r.Inferred, r.Namespace == "", errors.Is(err, cluster.ErrAmbiguous):
		return fmt.Errorf("%w: %w; %s", ErrNotFound, err, cure)
	default:
		w.ips = []netip.Addr{r.IP.Unmap()}
		w.stopWatch = w.cluster.WatchNamespace(w.namespace, w.clusterWake)
	}
	return nil
}

// run follows the candidates to the outcome.
func (w *wait) run() (*Result, error) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		w.doubt()
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
			w.discover()
		case take := <-w.answers:
			if err := take(); err != nil {
				return nil, err
			}
		case <-w.lookWake:
		case <-timer.C:
		case <-w.ctx.Done():
			return nil, context.Cause(w.ctx)
		}
	}
}

// refresh reads the pod again: its deletion can have begun, or been shortened.
// A pod that is gone, or replaced by one of the same name, stays as it was last.
func (w *wait) refresh() {
	if w.pod == nil {
		return
	}
	if p := w.cluster.Pod(w.pod.Namespace, w.pod.Name); p != nil && p.UID == w.pod.UID {
		w.pod = p
	}
}

// judge brings every candidate up to date and says the outcome, or "" where it
// is still open. The error is one that decides.
func (w *wait) judge() (Outcome, error) {
	if err := w.update(); err != nil {
		return "", err
	}
	t := w.tally()
	switch {
	case t.candidates == 0 && !t.open:
		return w.nothing()
	case t.candidates == t.settled && !t.open:
		return Drained, nil
	case w.doubts.staying && w.pod.KillAt.IsZero():
		return NotTerminating, nil
	case t.candidates == t.settled+t.stuck && !t.open:
		return WillNotLeave, nil
	case !w.spent(t):
		return "", nil
	case t.candidates > 0 && t.candidates == t.left && !t.open:
		return SettleCut, nil
	default:
		return BudgetSpent, nil
	}
}

// tally counts the candidates.
type tally struct {
	candidates int
	looked     int
	left       int  // of those that have been looked at
	settled    int  // of those that have left
	stuck      int  // in rotation behind a Service that publishes not-ready addresses
	open       bool // ELBv2 is being asked for more candidates
}

func (w *wait) tally() tally {
	t := tally{candidates: len(w.candidates), open: w.asking > 0}
	for _, c := range w.candidates {
		switch {
		case c.look == nil && c.leftAt.IsZero():
			continue
		case c.confirmed:
			t.settled++
			t.left++
		case !c.leftAt.IsZero():
			t.left++
		case c.keeps:
			t.stuck++
		}
		t.looked++
	}
	return t
}

// spent says whether the budget is over: by the clock, or where the caller
// wants one look and an answer, with that look.
func (w *wait) spent(t tally) bool {
	if m := w.request.MaxDelay; m != nil && *m == 0 && t.looked == t.candidates && !t.open {
		return true
	}
	return !time.Now().Before(w.deadline())
}

// nextTurn is when the wait has to act without being woken.
func (w *wait) nextTurn() time.Time {
	next := w.deadline()
	sooner := func(at time.Time, ok bool) {
		if ok && at.Before(next) {
			next = at
		}
	}
	sooner(w.doubtAt())
	for _, c := range w.candidates {
		sooner(c.pending())
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
	grace := kill.Add(-w.reserve())
	if w.request.MaxDelay == nil || grace.Before(at) {
		return grace, byGrace
	}
	return at, byMaxDelay
}

// reserve is what of the grace period is the application's.
func (w *wait) reserve() time.Duration { return min(w.cfg.Reserve, w.pod.Grace/5) }

func (w *wait) result(o Outcome) *Result {
	deadline, boundedBy := w.budget()
	r := &Result{
		Outcome:   o,
		Namespace: w.namespace,
		Waited:    time.Since(w.began),
		Budget:    max(0, deadline.Sub(w.began)),
		BoundedBy: boundedBy,
	}
	var settle time.Duration
	for _, c := range w.sorted() {
		r.Targets = append(r.Targets, c.result(w.ips))
		settle = max(settle, c.settle)
		if c.err != nil {
			r.LastError = c.err.Error()
		}
	}
	for _, err := range w.troubles {
		r.LastError = cmp.Or(r.LastError, err.Error())
	}
	if w.pod != nil {
		r.Pod = w.pod.Name
		if need := settle + w.reserve(); w.pod.Grace < need {
			w.warn("the pod's grace period of %s is shorter than the %s that it takes to settle, with the time to shut down in; raise terminationGracePeriodSeconds", w.pod.Grace, need)
		}
	}
	r.Warnings = w.warnings
	return r
}

// sorted lists the candidates in a stable order.
func (w *wait) sorted() []*candidate {
	return slices.SortedFunc(maps.Values(w.candidates), func(a, b *candidate) int { return cmp.Compare(a.group.ARN, b.group.ARN) })
}
