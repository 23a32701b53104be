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
	stop  context.CancelFunc
	kick  chan struct{} // buffered by one: something below has changed

	// mu guards what follows and is never held across a call or a wait.
	mu         sync.Mutex
	subs       map[*Subscription]struct{}
	look       *Look
	err        error
	checkpoint string
	signals    bool      // a checkpoint is being written at all
	wanted     time.Time // the earliest look that somebody asked for; zero for none
	urgency    priority  // of that look
	began      time.Time // when the last look began
}

// run looks at the group whenever it is time until ctx ends.
func (p *poller) run(ctx context.Context) {
	for p.await(ctx) {
		p.take(ctx)
	}
}

// await blocks until a look is due and paid for; false when ctx ended. A look
// that becomes more urgent while it waits for its turn moves up.
func (p *poller) await(ctx context.Context) bool {
	var t *ticket
	var paid <-chan struct{}
	defer func() {
		if t != nil {
			t.cancel()
		}
	}()
	for {
		due, urgency := p.next()
		wait := time.Until(due)
		if wait <= 0 {
			if t == nil {
				t = p.w.limit.queue(urgency)
				paid = t.ready
			} else {
				t.raise(urgency)
			}
		}
		timer := time.NewTimer(max(wait, 0))
		if wait <= 0 {
			timer.Stop() // only a signal or the ticket can go on from here
		}
		select {
		case <-paid:
			timer.Stop()
			t = nil // spent
			return ctx.Err() == nil
		case <-timer.C:
		case <-p.kick:
			timer.Stop()
		case <-ctx.Done():
			timer.Stop()
			return false
		}
	}
}

// next is when the next look is due, and how urgent it is.
func (p *poller) next() (time.Time, priority) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.began.IsZero() {
		return time.Now(), max(p.urgency, nudged)
	}
	due, urgency := p.began.Add(p.cadence()), steady
	if !p.wanted.IsZero() && p.wanted.Before(due) {
		due, urgency = p.wanted, p.urgency
	}
	if earliest := p.began.Add(p.w.cfg.Spacing); due.Before(earliest) {
		due = earliest
	}
	return due, urgency
}

// cadence is the time between two looks that nobody asked for; call it with mu
// held.
func (p *poller) cadence() time.Duration {
	if p.signals && p.checkpoint != "" {
		return p.w.cfg.Steady
	}
	return p.w.cfg.Busy
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
// look now. An empty one says that a change begins: look in a moment, unless
// the hash comes first.
func (p *poller) setCheckpoint(value string) {
	p.mu.Lock()
	changed := !p.signals || p.checkpoint != value
	p.checkpoint, p.signals = value, true
	p.mu.Unlock()
	switch {
	case !changed:
	case value == "":
		p.demand(time.Now().Add(p.w.cfg.Busy), nudged)
	default:
		p.demand(time.Now(), nudged)
	}
}

func (p *poller) forgetCheckpoint() {
	p.mu.Lock()
	p.checkpoint, p.signals = "", false
	p.mu.Unlock()
	p.signal()
}

// take looks once and tells everybody. What was asked for until now is served
// by this look; what is asked for from now on needs another.
func (p *poller) take(ctx context.Context) {
	p.mu.Lock()
	p.began = time.Now()
	p.wanted, p.urgency = time.Time{}, steady
	p.mu.Unlock()

	ctx, cancel := context.WithTimeout(ctx, p.w.cfg.Timeout)
	look, err := describe(ctx, p.api, p.group)
	aborted := context.Cause(ctx) == context.Canceled
	cancel()
	if aborted {
		return // the last subscription is gone
	}
	p.w.observe("DescribeTargetHealth", errorCode(err))
	if throttled(err) {
		p.w.limit.throttled()
	}

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
