// Package limiter decides which request to ELBv2 goes next within the rate of
// requests. How urgent a request is, its sender says: for looks, poller.next in
// internal/elb.
package limiter

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// Class orders the requests that wait for the rate budget: the lowest first.
type Class int

// The classes of requests.
const (
	Awaited  Class = iota // an answer or a departure waits for it, until a time
	Question              // a wait has to know whether a group concerns it
	Cadence               // nothing else would tell that a target leaves
	Calm                  // as Cadence, where a hash would tell, or all have left or are late
	Sweep                 // nobody waits
)

// Urgency is how soon a request is to be sent.
type Urgency struct {
	Class Class
	By    time.Time // the deadline of what is awaited
}

// Compare orders by class, and then by deadline.
func (u Urgency) Compare(v Urgency) int {
	return cmp.Or(cmp.Compare(u.Class, v.Class), u.By.Compare(v.By))
}

// Every fairTurn-th contested token goes to whoever has waited longest, except for
// the sweep. So three quarters of the rate are for what is urgent, and yet nobody
// whom a wait needs waits for ever. The calm count as waiting only after patience:
// in a crowd they would take all of these turns.
const (
	fairTurn = 4
	patience = time.Minute
)

// recovery is how long a rate that was cut to nothing would take to recover.
const recovery = time.Minute

// Limiter is a token bucket whose tokens go to the most urgent first, and among
// what is awaited to the earliest deadline; see also [fairTurn]. It does not put
// looks that confirm before those that see a pod leave: then those that leave last
// in a crowd would be seen too late to settle.
//
// It yields to others in the same AWS account: when AWS throttles, the rate is
// halved, and recovers slowly.
type Limiter struct {
	// mu guards all of it.
	mu      sync.Mutex
	full    float64 // tokens per second when AWS does not throttle
	rate    float64 // tokens per second now
	burst   float64
	tokens  float64
	updated time.Time
	cut     time.Time // when rate was last halved
	waiting []*Ticket // in order of arrival
	turns   int       // how many tokens more than one waited for
	timer   *time.Timer
}

// Ticket is a place in the queue for a token.
type Ticket struct {
	Arrived time.Time // when it was taken
	l       *Limiter
	urgency Urgency       // guarded by the limiter's mutex
	ready   chan struct{} // closed when the ticket is paid
}

// New makes a limiter of rate tokens per second, and burst of them at once.
func New(rate, burst float64) *Limiter {
	return &Limiter{full: rate, rate: rate, burst: burst, tokens: burst, updated: time.Now()}
}

// Queue asks for one token.
func (l *Limiter) Queue(u Urgency) *Ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &Ticket{l: l, urgency: u, Arrived: time.Now(), ready: make(chan struct{})}
	l.waiting = append(l.waiting, t)
	l.grant()
	return t
}

// Set makes the ticket, if there is one, more or less urgent. It keeps its age.
func (t *Ticket) Set(u Urgency) {
	if t == nil {
		return
	}
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.urgency = u
	t.l.grant()
}

func (t *Ticket) compare(v *Ticket) int { return t.urgency.Compare(v.urgency) }

func (t *Ticket) compareAge(v *Ticket) int { return t.since().Compare(v.since()) }

// never is a time that does not come.
var never = time.Unix(1<<40, 0)

// since is from when on the ticket counts as waiting.
func (t *Ticket) since() time.Time {
	switch t.urgency.Class {
	case Sweep:
		return never
	case Calm:
		return t.Arrived.Add(patience)
	}
	return t.Arrived
}

// Paid is closed when the ticket is paid; of no ticket it is nil.
func (t *Ticket) Paid() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.ready
}

// Wait waits until the ticket is paid, or gives it up.
func (t *Ticket) Wait(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		t.Cancel()
		return context.Cause(ctx)
	}
}

// Cancel gives the place up, and the token back if it was paid.
func (t *Ticket) Cancel() {
	if t == nil {
		return
	}
	l := t.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.remove(t) {
		l.tokens++
		l.grant()
	}
}

// remove takes a ticket out of the queue and says whether it was in it; call it
// with mu held.
func (l *Limiter) remove(t *Ticket) bool {
	n := len(l.waiting)
	l.waiting = slices.DeleteFunc(l.waiting, func(v *Ticket) bool { return v == t })
	return len(l.waiting) < n
}

// grant hands out the tokens there are and sets the timer for the next; call it
// with mu held. A scan of ten thousand tickets takes a tenth of a millisecond.
func (l *Limiter) grant() {
	l.refill()
	for l.tokens >= 1 && len(l.waiting) > 0 {
		if len(l.waiting) > 1 {
			l.turns++
		}
		t := slices.MinFunc(l.waiting, (*Ticket).compare)
		if l.turns%fairTurn == 0 {
			t = slices.MinFunc(l.waiting, (*Ticket).compareAge)
		}
		l.remove(t)
		close(t.ready)
		l.tokens--
	}
	if l.timer != nil {
		l.timer.Stop() // the rate may be another
	}
	if len(l.waiting) > 0 {
		l.timer = time.AfterFunc(time.Duration((1-l.tokens)/l.rate*float64(time.Second))+1, func() {
			l.mu.Lock()
			defer l.mu.Unlock()
			l.grant()
		})
	}
}

// refill brings tokens and rate up to now; call it with mu held.
func (l *Limiter) refill() {
	now := time.Now()
	seconds := now.Sub(l.updated).Seconds()
	l.updated = now
	l.tokens = min(l.burst, l.tokens+seconds*l.rate)
	l.rate = min(l.full, l.rate+seconds*l.full/recovery.Seconds())
}

// Throttle halves the rate, at most once a second and never below one request per
// second (or the full rate, if that is less).
func (l *Limiter) Throttle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	if now := time.Now(); now.Sub(l.cut) >= time.Second {
		l.cut = now
		l.rate = max(l.rate/2, l.least())
		l.tokens = 0
	}
}

// least is what the rate never falls below; call it with mu held.
func (l *Limiter) least() float64 { return min(1, l.full) }

// Resize sets the full rate and the burst. A rate that was cut stays cut by the same
// fraction.
func (l *Limiter) Resize(full, burst float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	l.rate *= full / l.full
	l.full, l.burst = full, burst
	l.rate = max(l.rate, l.least())
	l.grant()
}

// Rate is the rate now, in tokens per second.
func (l *Limiter) Rate() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	return l.rate
}
