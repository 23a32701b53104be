package elb

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"
)

// class orders the requests that wait for the rate budget: the lowest first.
type class int

const (
	awaited   class = iota // an answer or a departure waits for it, until a time
	uncertain              // a wait has to know whether a group concerns it
	cadence                // nothing else would tell that a target leaves
	calm                   // as cadence, where a hash would tell, or all have left or are late
	sweep                  // nobody waits
)

// urgency is how soon a request is to be sent.
type urgency struct {
	class class
	by    time.Time // the deadline of what is awaited
}

func (u urgency) compare(v urgency) int {
	return cmp.Or(cmp.Compare(u.class, v.class), u.by.Compare(v.by))
}

// fairTurn is the token in a row of contested ones that goes to whoever has
// waited longest, the sweep excepted. So three quarters of the rate are for what
// is urgent, and yet nobody whom a wait needs waits for ever. Those who are calm
// count as waiting only after patience: in a crowd they would take all of it.
const (
	fairTurn = 4
	patience = time.Minute
)

// recovery is how long a rate that was cut down to nothing would take to be
// whole again.
const recovery = time.Minute

// limiter is a token bucket whose tokens go to the most urgent first, and among
// what is awaited to the earliest deadline, but for every fourth, which goes to
// whoever has waited longest. Deadlines come before kinds: were a look that
// confirms always ahead of one that sees a pod leave, then those that leave last
// in a crowd would be seen too late to settle.
//
// It yields to others of the same AWS account: when AWS throttles, the rate is
// halved, and comes back slowly.
type limiter struct {
	// mu guards all of it and is never held across a wait.
	mu      sync.Mutex
	full    float64 // tokens per second when nobody complains
	rate    float64 // tokens per second now
	burst   float64
	tokens  float64
	updated time.Time
	cut     time.Time // when rate was last halved
	waiting []*ticket // in order of arrival
	turns   int       // how many tokens more than one waited for
	timer   *time.Timer
}

// ticket is a place in the queue; ready is closed when it is paid. The limiter's
// mutex guards the urgency.
type ticket struct {
	l *limiter
	urgency
	arrived time.Time
	ready   chan struct{}
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{full: rate, rate: rate, burst: burst, tokens: burst, updated: time.Now()}
}

// queue asks for one token.
func (l *limiter) queue(u urgency) *ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &ticket{l: l, urgency: u, arrived: time.Now(), ready: make(chan struct{})}
	l.waiting = append(l.waiting, t)
	l.grant()
	return t
}

// set makes the ticket, if there is one, as urgent as that. It keeps its age.
func (t *ticket) set(u urgency) {
	if t == nil {
		return
	}
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.urgency = u
	t.l.grant()
}

func (t *ticket) compare(v *ticket) int { return t.urgency.compare(v.urgency) }

func (t *ticket) compareAge(v *ticket) int { return t.since().Compare(v.since()) }

// since is from when on the ticket counts as waiting.
func (t *ticket) since() time.Time {
	switch t.class {
	case sweep:
		return forever
	case calm:
		return t.arrived.Add(patience)
	}
	return t.arrived
}

// paid is closed when the ticket is; of no ticket, nil.
func (t *ticket) paid() <-chan struct{} {
	if t == nil {
		return nil
	}
	return t.ready
}

// wait waits until the ticket is paid, or gives it up.
func (t *ticket) wait(ctx context.Context) error {
	select {
	case <-t.ready:
		return nil
	case <-ctx.Done():
		t.cancel()
		return context.Cause(ctx)
	}
}

// cancel gives the place up, and the token back if it was paid.
func (t *ticket) cancel() {
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
func (l *limiter) remove(t *ticket) bool {
	n := len(l.waiting)
	l.waiting = slices.DeleteFunc(l.waiting, func(v *ticket) bool { return v == t })
	return len(l.waiting) < n
}

// grant hands out what tokens there are and sets the timer for the next; call
// it with mu held. A scan of ten thousand tickets takes a tenth of a millisecond,
// and there are few tokens.
func (l *limiter) grant() {
	l.refill()
	for l.tokens >= 1 && len(l.waiting) > 0 {
		if len(l.waiting) > 1 {
			l.turns++
		}
		t := slices.MinFunc(l.waiting, (*ticket).compare)
		if l.turns%fairTurn == 0 {
			t = slices.MinFunc(l.waiting, (*ticket).compareAge)
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
func (l *limiter) refill() {
	now := time.Now()
	seconds := now.Sub(l.updated).Seconds()
	l.updated = now
	l.tokens = min(l.burst, l.tokens+seconds*l.rate)
	l.rate = min(l.full, l.rate+seconds*l.full/recovery.Seconds())
}

// throttled halves the rate, not more often than once in a second and never
// below one request per second (or the full rate, where that is less).
func (l *limiter) throttled() {
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
func (l *limiter) least() float64 { return min(1, l.full) }

// resize sets the rate when nobody complains, and the burst, at once. A rate
// that was cut down stays cut by the same part.
func (l *limiter) resize(full, burst float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	l.rate *= full / l.full
	l.full, l.burst = full, burst
	l.rate = max(l.rate, l.least())
	l.grant()
}

// current is the rate now, in tokens per second.
func (l *limiter) current() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	return l.rate
}
