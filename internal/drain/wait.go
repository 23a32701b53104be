package drain

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/cluster"
	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

const (
	// refuseWithin is how long after the request a wait may still be refused. A caller
	// that is refused takes its own fallback: if it came later, it would wait twice.
	refuseWithin = 2 * time.Second
	// liveTimeout is how long one read from the API server may take before its error is
	// noted and it is tried again, liveRetry later.
	liveTimeout = 15 * time.Second
	liveRetry   = 500 * time.Millisecond
	// lateLook is how late a first look must be, because of the rate of requests to AWS, to
	// be worth a warning.
	lateLook = time.Second
	// freshFor is how old a look that confirms a group may be when the last of the others
	// is settled.
	freshFor = 2 * time.Second
	// controllerLag is what a grace period should leave the controller to deregister the
	// pod. It mostly takes less than a second, but half a minute when its leader changes
	// (measured with LBC 3.5: 22 to 28 s).
	controllerLag = 30 * time.Second
	// maxOpen and maxWarnings are how many open questions and warnings a wait tells.
	maxOpen, maxWarnings = 8, 50
)

// wait is one hook call, from request to answer: a reconcile that belongs to the
// goroutine that called [Drainer.Wait]. Each wake takes a survey, takes in the newest
// looks and judges what is known.
type wait struct {
	*Drainer
	ctx     context.Context // the caller's; ends when the wait is over
	end     context.CancelFunc
	request *Request
	began   time.Time

	pod        *cluster.Pod // nil until the cache or the API server shows one
	identified bool         // pod was read from the API server itself
	stopWatch  func()
	addresses  []netip.Addr // all that the pod had since the wait began
	groups     []*group     // in order; see compareGroups

	surveyWake chan struct{} // the pod, its ties or an answer may have changed
	lookWake   chan struct{} // some group has news
	answers    chan func()   // what came of questions in the background, for the wait's goroutine to take in

	survey      survey
	surveys     int               // how many there were
	ruledOut    map[elb.Group]tie // what does not list an address that no pod has; nil for a pod
	untyped     bool              // the type of some load balancer is being asked for
	termination terminationCheck
	unknown     error // why it is not known which pod it is, for good

	pastRefusal  bool // a refusal would come too late
	lookupErrors []lookupError
	warnings     []string
}

// lookupError is why something could not be looked up.
type lookupError struct {
	about  string
	err    error
	at     time.Time // since when
	survey int       // the newest one that met with it; 0 where it is not of a survey
}

func newWait(ctx context.Context, d *Drainer, r *Request) *wait {
	ctx, end := context.WithCancel(ctx)
	return &wait{
		Drainer:    d,
		ctx:        ctx,
		end:        end,
		request:    r,
		began:      time.Now(),
		stopWatch:  func() {},
		surveyWake: make(chan struct{}, 1),
		lookWake:   make(chan struct{}, 1),
		answers:    make(chan func()),
		warnings:   append([]string{}, r.Warnings...),
	}
}

// run follows the groups to the outcome.
func (w *wait) run() (*api.Answer, error) {
	defer w.close()
	defer w.end()
	timer := time.NewTimer(0)
	news, anew := w.identify, true
	for {
		a, err := w.turn(news, anew, timer)
		news = nil
		if a != nil || err != nil {
			return a, err
		}
		select {
		case <-w.surveyWake:
			anew = true
		case news = <-w.answers:
			anew = true
		case <-w.lookWake:
			anew = false
		case <-timer.C:
			anew = false
		case <-w.ctx.Done():
			return nil, &CutError{w.deadline().Sub(w.began), context.Cause(w.ctx)}
		}
	}
}

// turn takes in news, if there are any, takes a survey if anew says so, and judges.
// Without an answer and an error it sets the timer for the next turn.
//
// It has a goroutine of its own for its stack, which is deep for a moment. A wait is
// parked nearly all its life, and would keep a stack of that size for as long.
func (w *wait) turn(news func(), anew bool, timer *time.Timer) (a *api.Answer, err error) {
	done := make(chan error)
	w.turns <- struct{}{}
	go func() {
		panicked := guard(func() { a, err = w.takeTurn(news, anew, timer) })
		<-w.turns
		done <- panicked
	}()
	if panicked := <-done; panicked != nil {
		panic(panicked)
	}
	return a, err
}

func (w *wait) takeTurn(news func(), anew bool, timer *time.Timer) (*api.Answer, error) {
	if news != nil {
		news()
	}
	if anew && w.pod != nil { // its deletion can have begun or been shortened, and it can have new addresses
		w.setPod(w.cluster.Refresh(w.pod))
		w.takeSurvey()
	}
	outcome, err := w.judge()
	if err != nil {
		return nil, err
	}
	if outcome != "" {
		return w.answer(outcome), nil
	}
	timer.Reset(time.Until(w.nextTurn()))
	return nil, nil
}

// guard runs f, and returns what it panics with, and where. A panic belongs to the
// goroutine of the wait's caller, who can recover: anywhere else it would end the
// program with all other waits.
func guard(f func()) (panicked error) {
	defer func() {
		if v := recover(); v != nil {
			panicked = fmt.Errorf("%v\n%s", v, debug.Stack())
		}
	}()
	f()
	return nil
}

func (w *wait) close() {
	w.stopWatch()
	for _, g := range w.groups {
		g.sub.Close()
	}
}

func (w *wait) warn(format string, args ...any) {
	s := fmt.Sprintf(format, args...)
	if slices.Contains(w.warnings, s) {
		return
	}
	if len(w.warnings) > maxWarnings {
		return
	}
	if len(w.warnings) == maxWarnings {
		s = "there are more warnings, which are left out"
	}
	w.warnings = append(w.warnings, s)
	if w.request.OnWarning != nil {
		w.request.OnWarning(s)
	}
}

// setLookupError notes why something could not be looked up, or with nil that it
// was.
func (w *wait) setLookupError(about string, err error) {
	w.noteLookupError(lookupError{about: about, err: err})
}

// setSurveyError notes why the survey that is being taken could not look something up.
// If the next one does not say so, too, it is over.
func (w *wait) setSurveyError(about string, err error) {
	if err != nil {
		w.noteLookupError(lookupError{about: about, err: err, survey: w.surveys})
	}
}

func (w *wait) noteLookupError(e lookupError) {
	e.at = time.Now()
	i := slices.IndexFunc(w.lookupErrors, func(old lookupError) bool { return old.about == e.about })
	switch {
	case e.err == nil && i >= 0:
		w.lookupErrors = slices.Delete(w.lookupErrors, i, i+1)
	case e.err == nil:
	case i < 0:
		w.lookupErrors = append(w.lookupErrors, e)
	default:
		if old := w.lookupErrors[i]; old.err.Error() == e.err.Error() {
			e.at = old.at
		}
		w.lookupErrors[i] = e
	}
}

// dropSurveyErrors drops what the newest survey has not met with.
func (w *wait) dropSurveyErrors() {
	w.lookupErrors = slices.DeleteFunc(w.lookupErrors, func(e lookupError) bool { return e.survey != 0 && e.survey != w.surveys })
}

// spawn runs ask in the background, for as long as the wait lasts, and has the
// wait's goroutine run what it returns.
func (w *wait) spawn(ask func(context.Context) func()) {
	go func() {
		var apply func()
		if panicked := guard(func() { apply = ask(w.ctx) }); panicked != nil {
			apply = func() { panic(panicked) }
		}
		select {
		case w.answers <- apply:
		case <-w.ctx.Done():
		}
	}()
}

// judge brings every group up to date and says the outcome, or "" if that is open.
func (w *wait) judge() (api.Outcome, error) {
	w.checkTermination()
	refused := w.update()
	f := w.facts()
	f.Refused = cmp.Or(w.unknown, f.Refused, refused)
	w.pastRefusal = w.pastRefusal || f.Last
	return f.Verdict()
}

// update takes in the looks. The error is that AWS refuses to show a group that
// was never read.
func (w *wait) update() (refused error) {
	for _, g := range w.groups {
		settle := w.settleTime(g.kind)
		first, gone := g.look == nil, g.isGone()
		news, err := g.update(w.began, w.addresses, settle)
		if err != nil && !errors.Is(err, elb.ErrClosed) && refused == nil {
			refused = fmt.Errorf("%w: %s: %w", ErrRefused, g.about, err)
		}
		w.setLookupError(g.ARN, g.err)
		for _, what := range news {
			s := api.StepAnswer{AfterSeconds: api.InSeconds(g.look.Ended.Sub(w.began)), Event: what}
			g.timeline = append(g.timeline, s)
			if w.request.OnStep != nil {
				w.request.OnStep(g.ARN, s)
			}
		}
		if first && g.look != nil && g.look.Queued >= lateLook {
			w.warn("%s: the first look came %s late, because the rate of requests to AWS is used up; see --aws-rate", g.ARN, seconds(g.look.Queued))
		}
		if g.isGone() && !gone {
			select { // survey again: its name may lead to another one
			case w.surveyWake <- struct{}{}:
			default:
			}
		}
	}
	for _, g := range w.groups { // now it is known when the last of them is settled
		g.sub.Update(w.addresses, w.planOf(g))
	}
	w.warnOfBudget()
	return refused
}

// finish is when the last of the groups that the pod has left is settled.
func (w *wait) finish() (at time.Time) {
	for _, g := range w.groups {
		if settled := g.progress.LeftAt.Add(w.settleTime(g.kind)); g.progress.Left() && settled.After(at) {
			at = settled
		}
	}
	return at
}

// isStale says whether a group was confirmed long before the others: the pod can have
// been registered in it again, so it needs one more look.
func (w *wait) isStale(g *group) bool {
	return g.progress.Confirmed && g.look != nil && g.look.Began.Before(w.finish().Add(-freshFor))
}

// planOf is what the wait wants of the looks at a group. A wait that has time for only
// one look takes it at once.
func (w *wait) planOf(g *group) elb.Plan {
	deletionSeen := w.pod.DeletionSeen
	if m := w.request.MaxDelay; m != nil && *m <= w.cfg.OneLook {
		deletionSeen = time.Time{}
	}
	if w.isStale(g) {
		return elb.Plan{ConfirmAt: w.finish(), Latest: w.deadline()}
	}
	return g.plan(deletionSeen, w.deadline(), w.settleTime(g.kind))
}

// settleTime is the settle time of this wait for a load balancer type; where that is
// not known, the longer one.
func (w *wait) settleTime(t elb.Type) time.Duration {
	switch {
	case w.request.Settle != nil:
		return *w.request.Settle
	case t == elb.ALB:
		return w.cfg.SettleALB
	case t == elb.NLB:
		return w.cfg.SettleNLB
	default:
		return max(w.cfg.SettleALB, w.cfg.SettleNLB)
	}
}

func (w *wait) facts() verdict.Facts {
	now := time.Now()
	f := verdict.Facts{
		Early: !w.pastRefusal,
		Last:  !now.Before(w.began.Add(refuseWithin)),
		Tally: w.tally(),
		Stays: w.termination.stays && w.pod != nil && w.pod.KillAt.IsZero() && w.isCaller(),
		Open:  w.pod == nil || len(w.survey.open) > 0,
	}
	unread := cmp.Or(w.survey.unread, errNoAnswer)
	for _, e := range w.lookupErrors {
		if e.about == aboutPod {
			unread = e.err
		}
	}
	f.Unread = fmt.Errorf("%w: the API server cannot be read: %w", ErrUnavailable, unread)
	if w.pod != nil {
		f.Address = w.pod.UID == ""
		f.Live = w.identified && w.survey.live
		f.Ingresses = w.survey.ingresses
		f.Unable = w.survey.unable(w.pod)
		f.Refused = w.survey.refused
	}
	f.Over = !now.Before(w.deadline()) || w.oneLookIsDone(f)
	return f
}

// oneLookIsDone says whether the caller wants one look only, and that is done.
func (w *wait) oneLookIsDone(f verdict.Facts) bool {
	m := w.request.MaxDelay
	return m != nil && *m == 0 && f.Live && !f.Open && f.Followed > 0 && f.Looked == f.Followed
}

func (w *wait) tally() verdict.Tally {
	t := verdict.Tally{Followed: len(w.groups)}
	for _, g := range w.groups {
		p := g.progress
		if !p.Looked {
			continue
		}
		t.Looked++
		switch {
		case p.Confirmed && !w.isStale(g):
			t.Confirmed++
			t.Left++
		case p.Left():
			t.Left++
		case g.publishesNotReady:
			t.Stuck++
		}
	}
	return t
}

// nextTurn is when the wait has to act without being woken.
func (w *wait) nextTurn() time.Time {
	next := w.deadline()
	sooner := func(at time.Time, ok bool) {
		if ok && at.Before(next) {
			next = at
		}
	}
	sooner(w.began.Add(refuseWithin), !w.pastRefusal)
	sooner(w.termination.next(w))
	return next
}

func (w *wait) deadline() time.Time {
	at, _ := w.budget()
	return at
}

func (w *wait) budget() (at time.Time, boundedBy string) {
	t := verdict.Timing{Began: w.began, MaxDelay: w.request.MaxDelay, Live: w.identified}
	if w.pod != nil {
		t.Grace, t.KillAt = w.pod.Grace, w.pod.KillAt
	}
	return w.cfg.Budget(t)
}

// warnOfBudget warns as soon as possible of a budget that cannot hold the settle time.
func (w *wait) warnOfBudget() {
	if w.untyped || !w.identified {
		return
	}
	deadline, boundedBy := w.budget()
	budget := deadline.Sub(w.began)
	for _, g := range w.groups {
		settle := w.settleTime(g.kind)
		switch {
		case budget >= settle:
		case boundedBy == verdict.ByMaxDelay:
			w.warn("max-delay is %s, too short to settle for %s after leaving %s; raise it to the settle time plus the time that the controller needs to deregister the pod", seconds(budget), settle, g.ARN)
		default:
			w.warn("the pod's grace period leaves %s, too short to settle for %s after leaving %s; raise terminationGracePeriodSeconds to %.0f or more",
				seconds(max(0, budget)), settle, g.ARN, (settle + w.cfg.Reserve + controllerLag).Seconds())
		}
	}
}

func (w *wait) answer(o api.Outcome) *api.Answer {
	now := time.Now()
	deadline, boundedBy := w.budget()
	a := &api.Answer{
		APIVersion:    api.Version,
		Outcome:       o,
		Namespace:     w.request.Namespace,
		Pod:           w.request.Pod,
		WaitedSeconds: api.InSeconds(now.Sub(w.began)),
		BudgetSeconds: api.InSeconds(max(0, deadline.Sub(w.began))),
		BoundedBy:     boundedBy,
		Targets:       []api.TargetAnswer{},
		LastError:     w.lastError(),
	}
	if w.pod != nil {
		a.Namespace, a.Pod = w.pod.Namespace, w.pod.Name
	}
	for _, g := range w.groups {
		a.Targets = append(a.Targets, api.TargetAnswer{
			TargetGroupARN: g.ARN, LoadBalancerType: cmp.Or(string(g.kind), "unknown"), SettleSeconds: api.InSeconds(w.settleTime(g.kind)),
			State: g.state(w.addresses), Timeline: append([]api.StepAnswer{}, g.timeline...),
		})
		if o == api.SettleCut || o == api.BudgetSpent {
			if m := g.missing(w.began, now, w.settleTime(g.kind), w.addresses, boundedBy); m != "" {
				w.warn("%s", m)
			}
		}
	}
	if o == api.BudgetSpent {
		w.warnOfOpen()
	}
	a.Warnings = w.warnings
	return a
}

// warnOfOpen warns of what was still unknown when the budget ended.
func (w *wait) warnOfOpen() {
	for _, s := range w.survey.open {
		w.warn("%s", s)
	}
	if more := w.survey.openInAll - len(w.survey.open); more > 0 {
		w.warn("as much is not known about %d more", more)
	}
	if !w.identified {
		w.warn("the pod could not be read from the API server")
	} else if !w.survey.live {
		w.warn("what ties the pod to target groups could not be read from the API server")
	}
}

// lastError is the newest lookup error that is not over.
func (w *wait) lastError() string {
	if len(w.lookupErrors) == 0 {
		return ""
	}
	return slices.MaxFunc(w.lookupErrors, func(a, b lookupError) int {
		return cmp.Or(a.at.Compare(b.at), strings.Compare(b.about, a.about))
	}).err.Error()
}

// group is a group that the wait follows; nil for none.
func (w *wait) group(id elb.Group) *group {
	if i, followed := slices.BinarySearchFunc(w.groups, id, compareGroups); followed {
		return w.groups[i]
	}
	return nil
}

func compareGroups(g *group, id elb.Group) int {
	return cmp.Or(strings.Compare(g.ARN, id.ARN), strings.Compare(g.RoleARN, id.RoleARN), strings.Compare(g.ExternalID, id.ExternalID))
}
