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
	api   API
	ctx   context.Context // ends with the last subscription, or with the Watcher
	stop  context.CancelFunc
	kick  chan struct{} // buffered by one: something below has changed

	// mu guards what follows and is never held across a call or a wait.
	mu         sync.Mutex
	subs       map[*Subscription]struct{}
	look       *Look
	err        error
	signals    bool // a checkpoint is being written at all
	checkpoint string
	emptied    time.Time // when the checkpoint was last emptied
	hashed     bool      // a new hash has come since the last look began
	wanted     time.Time // the earliest look that somebody asked for; zero for none
	urgency    priority  // of that look
	began      time.Time // when the last look began
	beganHash  time.Time // when the last look that a new hash asked for began
}

// run looks at the group whenever it is time until ctx ends.
func (p *poller) run() {
	for p.await() {
		p.take()
	}
	p.publish(nil, ErrClosed) // to nobody, unless the Watcher itself was closed
}

// await blocks until a look is due and paid for; false when ctx ended. A look
// that becomes more urgent while it waits for its turn moves up.
func (p *poller) await() bool {
	var t *ticket
	defer func() {
		if t != nil {
			t.cancel()
		}
	}()
	for {
		due, urgency := p.next()
		var paid <-chan struct{}
		var clock <-chan time.Time
		wait := time.Until(due)
		switch {
		case wait > 0 && t != nil: // put off by an empty checkpoint
			t.cancel()
			t = nil
			fallthrough
		case wait > 0:
			clock = time.After(wait)
		case t == nil:
			t = p.w.limit.queue(urgency)
			paid = t.ready
		default:
			t.raise(urgency)
			paid = t.ready
		}
		select {
		case <-paid:
			if p.ctx.Err() != nil {
				return false
			}
			t = nil // spent
			return true
		case <-clock:
		case <-p.kick:
		case <-p.ctx.Done():
			return false
		}
	}
}

// next is when the next look is due, and how urgent it is.
//
// Spacing is kept in two lanes: a look that a new hash asks for keeps it from
// the last such look, and any other look from the last look of either kind. A
// hash says that a target is just gone, so it may not wait because somebody
// else has looked a moment ago; and there are still no more than two looks at a
// group within the spacing.
func (p *poller) next() (time.Time, priority) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		return time.Now(), max(p.urgency, nudged)
	}
	due, urgency := p.routine()
	if !p.wanted.IsZero() {
		urgency = max(urgency, p.urgency) // even where the cadence is overdue
		if p.wanted.Before(due) {
			due = p.wanted
		}
	}
	if earliest := p.began.Add(p.w.cfg.Spacing); due.Before(earliest) {
		due = earliest
	}
	if p.hashed {
		if at := p.beganHash.Add(p.w.cfg.Spacing); at.Before(due) {
			due = at
		}
		urgency = max(urgency, nudged)
	}
	return due, urgency
}

// routine is the next look when nobody asks for one; call it with mu held. An
// empty checkpoint says that a change begins: the look is due a moment later,
// unless the hash comes first.
func (p *poller) routine() (due time.Time, urgency priority) {
	switch {
	case p.signals && p.checkpoint != "":
		return p.began.Add(p.w.cfg.Steady), steady
	case p.emptied.After(p.began):
		return p.emptied.Add(p.w.cfg.Busy), nudged
	default:
		return p.began.Add(p.w.cfg.Busy), steady
	}
}

// demand asks for a look that begins at t or soon after.
func (p *poller) demand(t time.Time, urgency priority) {
	p.mu.Lock()
	if p.wanted.IsZero() || t.Before(p.wanted) {
		p.wanted = t
	}
	p.urgency = max(p.urgency, urgency)
	p.mu.Unlock()
	p.signal()
}

func (p *poller) signal() {
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// setCheckpoint hears of a checkpoint. A new hash says that a change is done:
// look now.
func (p *poller) setCheckpoint(value string) {
	p.mu.Lock()
	changed := !p.signals || p.checkpoint != value
	p.checkpoint, p.signals = value, true
	switch {
	case changed && value == "":
		p.emptied = time.Now()
	case changed:
		p.hashed = true
	}
	p.mu.Unlock()
	p.signal()
}

func (p *poller) forgetCheckpoint() {
	p.mu.Lock()
	p.checkpoint, p.signals = "", false
	p.mu.Unlock()
	p.signal()
}

// take looks once and tells everybody. What was asked for until now is served
// by this look; what is asked for from now on needs another. A look that fails
// is asked for again.
func (p *poller) take() {
	p.mu.Lock()
	p.began = time.Now()
	again, urgency := p.began.Add(p.w.cfg.Busy), p.urgency
	if p.hashed {
		p.beganHash = p.began
		urgency = max(urgency, nudged)
	}
	p.hashed, p.wanted, p.urgency = false, time.Time{}, steady
	p.mu.Unlock()

	look, err := request(p.ctx, p.w, "DescribeTargetHealth", func(ctx context.Context) (*Look, error) {
		return describe(ctx, p.api, p.group)
	})
	if p.ctx.Err() != nil {
		return // the last subscription is gone
	}
	if err != nil {
		p.demand(again, urgency)
	}
	p.publish(look, err)
}

// publish tells everybody of a new look, or of the error in its place.
func (p *poller) publish(look *Look, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.err = err
	if err == nil {
		p.look = look
	}
	for s := range p.subs {
		select {
		case s.wake <- struct{}{}:
		default:
		}
	}
}
