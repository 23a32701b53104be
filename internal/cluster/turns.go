package cluster

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// turns are handed out at a rate, to callers in turn: none who asks a lot keeps the others
// waiting.
type turns struct {
	rate, most float64 // per second, and saved up for a crowd

	mu     sync.Mutex // guards the rest; not held across a call
	left   float64    // that can be had now
	since  time.Time  // when left was counted
	queues map[netip.Addr][]*turn
	order  []netip.Addr // callers that have something in their queue, the next one first
	timer  *time.Timer
}

func newTurns(rate, most float64) *turns {
	return &turns{rate: rate, most: most, left: most, since: time.Now(), queues: make(map[netip.Addr][]*turn)}
}

// turn is a place in the queue of a caller.
type turn struct {
	caller netip.Addr
	come   chan struct{} // closed when it comes
}

// queue takes a place.
func (t *turns) queue(caller netip.Addr) *turn {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.queues[caller]) == 0 {
		t.order = append(t.order, caller)
	}
	p := &turn{caller, make(chan struct{})}
	t.queues[caller] = append(t.queues[caller], p)
	t.grant()
	return p
}

// wait returns when a turn of the caller has come. The error is that ctx has ended.
func (t *turns) wait(ctx context.Context, caller netip.Addr) error {
	p := t.queue(caller)
	select {
	case <-p.come:
		return nil
	case <-ctx.Done():
		t.giveUp(p)
		return ctx.Err()
	}
}

// giveUp gives back a turn that is not needed, or the place in the queue for it.
func (t *turns) giveUp(p *turn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	q := t.queues[p.caller]
	i := slices.Index(q, p)
	if i < 0 {
		t.left++
		t.grant()
		return
	}
	t.setQueue(p.caller, slices.Delete(q, i, i+1))
	if len(q) == 1 {
		t.order = slices.DeleteFunc(t.order, func(a netip.Addr) bool { return a == p.caller })
	}
}

// setQueue is called with the lock.
func (t *turns) setQueue(caller netip.Addr, q []*turn) {
	if t.queues[caller] = q; len(q) == 0 {
		delete(t.queues, caller)
	}
}

// grant hands out what there is, and sets the timer for the next. Called with the lock.
func (t *turns) grant() {
	now := time.Now()
	t.left = min(t.most, t.left+t.rate*now.Sub(t.since).Seconds())
	t.since = now
	for t.left >= 1 && len(t.order) > 0 {
		caller := t.order[0]
		q := t.queues[caller]
		t.order = t.order[1:]
		if len(q) > 1 {
			t.order = append(t.order, caller)
		}
		t.setQueue(caller, q[1:])
		close(q[0].come)
		t.left--
	}
	if t.timer != nil {
		t.timer.Stop()
	}
	if len(t.order) > 0 {
		t.timer = time.AfterFunc(time.Duration((1-t.left)/t.rate*float64(time.Second))+1, func() {
			t.mu.Lock()
			defer t.mu.Unlock()
			t.grant()
		})
	}
}
