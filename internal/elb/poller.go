package elb

import (
	"cmp"
	"context"
	"slices"
	"time"

	"drainwait/internal/elb/limiter"
)

// poller owns the looks at a group. It lives from the first subscription to the
// last.
type poller struct {
	w     *Watcher
	group Group
	ctx   context.Context // ends with the last subscription, or with the Watcher
	stop  context.CancelFunc
	kick  chan struct{} // buffered by one: something below has changed
	born  time.Time

	// Watcher.mu guards what follows.
	subs      map[*Subscription]struct{}
	look      *Look     // the newest
	err       error     // of the tries since
	retry     time.Time // when the next try is due, if the last one failed
	began     time.Time // when the last look began
	hashBegan time.Time // when the last look that a new hash asked for began
}

// forever is a time that never comes.
var forever = time.Unix(1<<40, 0)

// turn is a look to come.
type turn struct {
	at time.Time // when it is due
	limiter.Urgency
}

// wanted is a look that somebody waits for until by; forever means that it comes too
// late for all.
func wanted(at, by time.Time) turn {
	if by.Equal(forever) {
		return turn{at, limiter.Urgency{Class: limiter.Calm}}
	}
	return turn{at, limiter.Urgency{Class: limiter.Awaited, By: by}}
}

// run looks at the group whenever a look is due, until ctx ends.
func (p *poller) run() {
	for due, ok := p.await(); ok; due, ok = p.await() {
		p.begin()
		p.publish(p.w.look(p.ctx, p.group, due))
	}
}

// await blocks until a look is due and paid for, and says since when it is due; ok
// is false when ctx ended. While the look waits it may become more urgent or less,
// or be put off.
func (p *poller) await() (due time.Time, ok bool) {
	var t *limiter.Ticket
	defer func() { t.Cancel() }()
	for {
		next, changes := p.next(time.Now())
		switch {
		case next.at.After(time.Now()):
			t.Cancel()
			t = nil
		case t == nil:
			t = p.w.limit.Queue(next.Urgency)
		default:
			t.Set(next.Urgency)
		}
		select {
		case <-t.Paid():
			if p.ctx.Err() != nil {
				return due, false
			}
			due = later(next.at, t.Arrived)
			t = nil // spent
			return due, true
		case <-time.After(time.Until(changes)):
		case <-p.kick:
		case <-p.ctx.Done():
			return due, false
		}
	}
}

// next is the look to take now, or if none is due the next one, and when to call
// next again if nothing happens.
//
// A new hash says that a target has just left, so the look that it asks for is spaced
// from the last such look alone. A look that confirms must not be late, so it keeps
// only a fifth of the spacing, whatever has just failed. Any other look keeps all of
// it.
func (p *poller) next(now time.Time) (next turn, changes time.Time) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	confirm, settling := forever, true
	next.at, changes = forever, forever
	consider := func(t turn) {
		// By when they are due, and those that are due by urgency.
		if cmp.Or(later(t.at, now).Compare(later(next.at, now)), t.Urgency.Compare(next.Urgency)) < 0 {
			next = t
		}
		changes = earlier(changes, upcoming(now, t.at))
	}
	for s := range p.subs {
		t := s.confirming(now)
		confirm, settling = earlier(confirm, t.at), settling && s.plan.settling()
		consider(t)
		consider(s.afterHash(now))
		consider(s.firstLook(now))
	}
	consider(p.routine(confirm, settling))
	return next, earlier(changes, upcoming(now, next.By))
}

// lacks says whether there is no look yet that began at t or later; never for zero.
func (p *poller) lacks(t time.Time) bool {
	return !t.IsZero() && (p.look == nil || p.look.Began.Before(t))
}

// lacksHashed says whether the look that a new hash asks for is still to come.
func (p *poller) lacksHashed() bool {
	hashed := p.checkpoint().hashed
	return !hashed.Before(p.born) && p.lacks(hashed)
}

// spaced keeps a look from the last one, and from one that has just failed.
func (p *poller) spaced(at time.Time) time.Time {
	return later(at, later(p.retry, p.began.Add(p.w.cfg.Spacing)))
}

// confirming is the look that confirms that the target has left.
func (s *Subscription) confirming(now time.Time) turn {
	if !s.lacksConfirmation() {
		return turn{at: forever}
	}
	at := s.plan.ConfirmAt
	if !at.After(s.p.began) {
		at = s.p.retry // it was tried
	}
	return wanted(later(at, s.p.began.Add(s.p.w.cfg.Spacing/5)), s.plan.confirmBy(now))
}

// afterHash is the look that a new hash asks for. A subscriber that has seen its
// target leave does not wait for it.
func (s *Subscription) afterHash(now time.Time) turn {
	p := s.p
	if !p.lacksHashed() {
		return turn{at: forever}
	}
	by := upcoming(now, s.plan.Latest)
	if s.plan.settling() {
		by = forever
	}
	return wanted(later(p.retry, p.hashBegan.Add(p.w.cfg.Spacing)), by)
}

// firstLook is the look for a subscriber that has had none. One that can wait for a
// new hash does so for a moment after joining, or after the controller began.
func (s *Subscription) firstLook(now time.Time) turn {
	c, p := s.p.checkpoint(), s.p
	switch {
	case !p.lacks(s.joined):
		return turn{at: forever}
	case c.awaits(s.plan.DeletionSeen):
		return wanted(p.spaced(later(s.joined, c.changed).Add(p.w.cfg.Busy)), forever)
	}
	return wanted(p.spaced(s.joined), upcoming(now, s.plan.Latest))
}

// routine is the next look when nobody asks for one; settling says that all have
// seen their targets leave. It gives way to a look that confirms less than half of a
// cadence later.
//
// An empty checkpoint says that a change begins: the look is due a moment later,
// unless the hash comes first. Nothing else makes it look at a group that is gone.
func (p *poller) routine(confirm time.Time, settling bool) turn {
	c, last := p.checkpoint(), later(p.began, p.born)
	every, class := p.w.cfg.Busy, limiter.Cadence
	switch {
	case c.value == "" && c.changed.After(last):
		last = c.changed
	case p.look != nil && p.look.Gone:
		return turn{at: forever}
	case settling: // the look that confirms will show if a target has come back
		every, class = 2*p.w.cfg.Steady, limiter.Calm
	case c.value != "":
		every, class = p.w.cfg.Steady, limiter.Calm
	}
	at := last.Add(every)
	if p.err != nil {
		at = p.retry
	}
	at = p.spaced(at)
	if at.After(confirm.Add(-every/2)) && at.Before(confirm) {
		at = confirm
	}
	return turn{at, limiter.Urgency{Class: class}}
}

func (p *poller) checkpoint() checkpoint { return p.w.checkpoints[p.group.ARN] }

// begin notes that a look begins. It serves what was asked for until now.
func (p *poller) begin() {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	p.began = time.Now()
	if p.lacksHashed() {
		p.hashBegan = p.began
	}
}

// publish tells everybody whom a new look, or its error, concerns.
func (p *poller) publish(look *Look, err error) {
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	if p.ctx.Err() != nil {
		return // nobody listens any more
	}
	turned := (p.err == nil) != (err == nil) || IsPermanent(p.err) != IsPermanent(err)
	for s := range p.subs {
		if turned || look != nil && s.concerns(look) {
			wakeUp(s.wake)
		}
	}
	p.err, p.retry = err, time.Time{}
	switch {
	case err == nil:
		p.look = look
	case refused(err) && p.look == nil:
		p.retry = time.Now().Add(refusedFor)
	case refused(err): // it was allowed before, and may be so again
		p.retry = p.began.Add(p.w.cfg.Steady)
	default:
		p.retry = p.began.Add(p.w.cfg.Busy)
	}
	p.w.request(question{group: p.group, look: true}).end(answer{sent: p.began, look: look, err: err})
}

// lacksConfirmation says whether the look that confirms is still to come; call
// it with Watcher.mu held.
func (s *Subscription) lacksConfirmation() bool {
	return !s.plan.Done && s.p.lacks(s.plan.ConfirmAt)
}

// concerns says whether the subscriber has to hear of a new look; call it with
// Watcher.mu held.
func (s *Subscription) concerns(look *Look) bool {
	old := s.p.look
	return s.p.lacks(s.joined) && !look.Began.Before(s.joined) ||
		s.lacksConfirmation() && !look.Began.Before(s.plan.ConfirmAt) ||
		old != nil && look.differs(old, s.addrs)
}

// upcoming is t, or forever if that is not after now.
func upcoming(now, t time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return forever
}

func earlier(a, b time.Time) time.Time { return slices.MinFunc([]time.Time{a, b}, time.Time.Compare) }

func later(a, b time.Time) time.Time { return slices.MaxFunc([]time.Time{a, b}, time.Time.Compare) }
