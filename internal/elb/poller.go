package elb

import (
	"context"
	"sync"
	"time"
)

// poller is the one owner of the looks at a group. It is born with the first
// subscription and gone with the last.
type poller struct {
	w     *Watcher
	group Group
	ctx   context.Context // ends with the last subscription, or with the Watcher
	stop  context.CancelFunc
	kick  chan struct{} // buffered by one: something below has changed
	born  time.Time

	// mu guards what follows and is never held across a call or a wait.
	mu         sync.Mutex
	subs       map[*Subscription]struct{}
	look       *Look      // the newest
	err        error      // of the tries since
	retry      time.Time  // where the last try failed: when the next one is due
	checkpoint checkpoint // zero where none is being written
	hashed     time.Time  // when the last new hash came
	began      time.Time  // when the last look began
	hashBegan  time.Time  // when the last one that a new hash asked for began
	confirmed  time.Time  // when the last one that confirms began
}

// turn is a look to come.
type turn struct {
	at time.Time // when it is due; zero for never
	urgency
}

// wanted is a look that somebody waits for until by; where that is zero it comes
// too late for all.
func wanted(at, by time.Time) turn {
	if by.IsZero() {
		return turn{at, urgency{class: calm}}
	}
	return turn{at, urgency{awaited, by}}
}

func (t turn) due(now time.Time) bool { return !t.at.IsZero() && !t.at.After(now) }

// notBefore puts a look off.
func (t turn) notBefore(at time.Time) turn {
	if !t.at.IsZero() && t.at.Before(at) {
		t.at = at
	}
	return t
}

// or is the more urgent of two looks where both are due, else the sooner.
func (t turn) or(u turn, now time.Time) turn {
	if t.due(now) && u.due(now) {
		if u.before(t.urgency) {
			return u
		}
		return t
	}
	if t.at.IsZero() || !u.at.IsZero() && u.at.Before(t.at) {
		return u
	}
	return t
}

// sooner is the earlier of two times, of which zero is none.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// after is t, or none where it is not after now.
func after(now, t time.Time) time.Time {
	if t.After(now) {
		return t
	}
	return time.Time{}
}

// run looks at the group whenever it is time until ctx ends.
func (p *poller) run() {
	for {
		due, ok := p.await()
		if !ok {
			break
		}
		p.take(due)
	}
	p.publish(nil, ErrClosed) // to nobody, unless the Watcher itself was closed
}

// await blocks until a look is due and paid for, and tells since when it is due;
// false when ctx ended. While the look waits for its turn it may become more
// urgent or less, or be put off.
func (p *poller) await() (due time.Time, ok bool) {
	var t *ticket
	defer func() {
		if t != nil {
			t.cancel()
		}
	}()
	for {
		next, changes := p.next(time.Now())
		switch isDue := next.due(time.Now()); {
		case isDue && t == nil:
			t = p.w.limit.queue(next.urgency)
		case isDue:
			t.set(next.urgency)
		case t != nil: // put off
			t.cancel()
			t = nil
		}
		var paid <-chan struct{}
		if t != nil {
			paid = t.ready
		}
		var clock <-chan time.Time
		if !changes.IsZero() {
			clock = time.After(time.Until(changes))
		}
		select {
		case <-paid:
			if p.ctx.Err() != nil {
				return due, false
			}
			due = later(next.at, t.arrived)
			t = nil // spent
			return due, true
		case <-clock:
		case <-p.kick:
		case <-p.ctx.Done():
			return due, false
		}
	}
}

// next is the look to take now, or if none is due the next one, and when to ask
// again; zero for not before something happens.
//
// There are three lanes. A new hash says that a target is just gone, so the look
// that it asks for keeps its spacing from the last such look alone. A look that
// confirms may not be late, so it keeps a fifth of the spacing, and that from
// the last such look. Any other look keeps its spacing from all.
func (p *poller) next(now time.Time) (next turn, changes time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	confirm := p.confirming(now)
	routine, near := p.routine(now, confirm.at)
	changes = after(now, near)
	for _, t := range []turn{confirm, p.afterHash(now), p.firstLooks(now), routine} {
		next = next.or(t, now)
		changes = sooner(changes, after(now, t.at))
	}
	return next, sooner(changes, after(now, next.by))
}

// lacks says whether a look that began at t or later is missing; never for zero.
func (p *poller) lacks(t time.Time) bool {
	return !t.IsZero() && (p.look == nil || p.look.Began.Before(t))
}

// asked is when a look that was asked for at t is due: not at once where the try
// since has failed.
func (p *poller) asked(t time.Time) time.Time {
	if t.After(p.began) {
		return t
	}
	return p.retry
}

// confirming is the look that confirms what is to be confirmed next. What is due
// within a moment after that shares it.
func (p *poller) confirming(now time.Time) turn {
	var first, at, by time.Time
	for s := range p.subs {
		if s.lacksConfirmation() {
			first = sooner(first, p.asked(s.plan.ConfirmAt))
		}
	}
	moment := p.w.cfg.Spacing / 5
	for s := range p.subs {
		if asked := p.asked(s.plan.ConfirmAt); s.lacksConfirmation() && !asked.After(first.Add(moment)) {
			at, by = later(at, asked), sooner(by, s.plan.confirmBy(now))
		}
	}
	return wanted(at, by).notBefore(p.confirmed.Add(moment))
}

// afterHash is the look that a new hash asks for. Those wait for it whose
// targets have not left yet.
func (p *poller) afterHash(now time.Time) turn {
	if !p.lacks(p.hashed) {
		return turn{}
	}
	var by time.Time
	for s := range p.subs {
		if !s.plan.settling() {
			by = sooner(by, after(now, s.plan.Latest))
		}
	}
	t := wanted(p.asked(p.hashed), by)
	if refused(p.err) {
		t = t.notBefore(p.retry)
	}
	return t.notBefore(p.hashBegan.Add(p.w.cfg.Spacing))
}

// firstLooks is the first look for those who have had none. Those who can wait
// wait for a checkpoint or the cadence.
func (p *poller) firstLooks(now time.Time) turn {
	var at, by, patient time.Time
	for s := range p.subs {
		switch {
		case !p.lacks(s.joined):
		case !s.patient || !p.checkpoint.heard():
			at, by = sooner(at, s.joined), sooner(by, after(now, s.plan.Latest))
		case p.checkpoint.value != "":
			patient = sooner(patient, s.joined.Add(p.w.cfg.Busy))
		default:
			patient = sooner(patient, p.checkpoint.changed.Add(p.w.cfg.Busy))
		}
	}
	return p.spaced(wanted(at, by)).or(p.spaced(turn{patient, urgency{class: calm}}), now)
}

// routine is the next look when nobody asks for one, which gives way to one that
// confirms at confirm (zero for none) less than half of a cadence later; near is
// when it begins to.
//
// An empty checkpoint says that a change begins: the look is due a moment later,
// unless the hash comes first. A group that is gone is looked at for that reason
// alone.
func (p *poller) routine(now, confirm time.Time) (t turn, near time.Time) {
	last := later(p.began, p.born)
	every := p.w.cfg.Busy
	t.class = cadence
	hash := p.checkpoint.value != ""
	switch {
	case !hash && p.checkpoint.changed.After(last):
		last = p.checkpoint.changed
	case p.look != nil && p.look.Gone:
		return turn{}, time.Time{}
	case p.allSettling(): // that a target comes back can wait, too: it is confirmed in the end
		every, t.class = 2*p.w.cfg.Steady, calm
	case hash:
		every, t.class = p.w.cfg.Steady, calm
	}
	t.at = last.Add(every)
	if p.err != nil {
		t.at = p.retry
	}
	t = p.spaced(t)
	if confirm.IsZero() || t.at.After(confirm) {
		return t, time.Time{}
	}
	if near = confirm.Add(-every / 2); later(t.at, now).After(near) {
		t.at = confirm
	}
	return t, near.Add(1)
}

// spaced keeps a look from the last one, and from one that has just failed.
func (p *poller) spaced(t turn) turn {
	return t.notBefore(p.began.Add(p.w.cfg.Spacing)).notBefore(p.retry)
}

func (p *poller) allSettling() bool {
	for s := range p.subs {
		if !s.plan.settling() {
			return false
		}
	}
	return true
}

// untouched says whether the controller has not acted on what happened at t; see
// [Plan].DeletionSeen.
func (p *poller) untouched(t time.Time) bool {
	return p.checkpoint.value != "" && p.checkpoint.changed.Before(t)
}

func (p *poller) signal() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// setCheckpoint hears of a checkpoint that has changed, or of none any more.
func (p *poller) setCheckpoint(c checkpoint) {
	p.mu.Lock()
	p.checkpoint = c
	if c.value != "" {
		p.hashed = c.changed
	}
	p.mu.Unlock()
	p.signal()
}

// take looks once and tells everybody. What was asked for until now is served
// by this look; what is asked for from now on needs another.
func (p *poller) take(due time.Time) {
	p.mu.Lock()
	p.began = time.Now()
	if p.lacks(p.hashed) {
		p.hashBegan = p.began
	}
	for s := range p.subs {
		if s.lacksConfirmation() && !s.plan.ConfirmAt.After(p.began) {
			p.confirmed = p.began
		}
	}
	p.mu.Unlock()
	look, err := p.w.look(p.ctx, p.group, due)
	if p.ctx.Err() != nil {
		return // the last subscription is gone
	}
	if before := p.publish(look, err); refused(err) || refused(before) {
		p.w.remember(p.group, look, err)
	}
}

// publish tells everybody whom a new look, or the error in its place, concerns.
// It returns the error that was known before.
func (p *poller) publish(look *Look, err error) (before error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	before = p.err
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
	case refused(err):
		p.retry = time.Now().Add(refusedFor)
	default:
		p.retry = p.began.Add(p.w.cfg.Busy)
	}
	return before
}

// lacksConfirmation says whether the look that confirms is still to come; call
// it with the poller's mu held.
func (s *Subscription) lacksConfirmation() bool {
	return !s.plan.Done && s.p.lacks(s.plan.ConfirmAt)
}

// concerns says whether the subscriber has to hear of a look that takes the
// place of the newest; call it with the poller's mu held.
func (s *Subscription) concerns(look *Look) bool {
	old := s.p.look
	return s.p.lacks(s.joined) && !look.Began.Before(s.joined) ||
		s.lacksConfirmation() && !look.Began.Before(s.plan.ConfirmAt) ||
		old != nil && look.differs(old, s.addrs)
}

// later is the later of two times.
func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
