package elb

import (
	"slices"
	"sync"
	"time"
)

// priority orders the looks that wait for the rate budget.
type priority int

const (
	steady     priority = iota // the cadence
	nudged                     // somebody has a reason to look
	confirming                 // an answer waits for this look alone
)

// fairTurn is the token in a row of contested ones that goes to whoever has
// waited longest. So three quarters of the rate are for what is urgent, and yet
// nobody waits for ever.
const fairTurn = 4

// recovery is how long a rate that was cut down to nothing would take to be
// whole again.
const recovery = time.Minute

// limiter is a token bucket whose tokens go to the most urgent first, but for
// every fourth, which goes to whoever has waited longest. It yields
// to others of the same AWS account: when AWS throttles, the rate is halved, and
// comes back slowly.
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

// ticket is a place in the queue; ready is closed when it is paid.
type ticket struct {
	l     *limiter
	prio  priority
	ready chan struct{}
}

func newLimiter(rate, burst float64) *limiter {
	return &limiter{full: rate, rate: rate, burst: burst, tokens: burst, updated: time.Now()}
}

// queue asks for one token.
func (l *limiter) queue(prio priority) *ticket {
	l.mu.Lock()
	defer l.mu.Unlock()
	t := &ticket{l: l, prio: prio, ready: make(chan struct{})}
	l.waiting = append(l.waiting, t)
	l.grant()
	return t
}

// raise makes the ticket at least as urgent as prio.
func (t *ticket) raise(prio priority) {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	t.prio = max(t.prio, prio)
}

// cancel gives the place up, and the token back if it was paid.
func (t *ticket) cancel() {
	l := t.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if i := slices.Index(l.waiting, t); i >= 0 {
		l.waiting = slices.Delete(l.waiting, i, i+1)
		return
	}
	l.tokens++
	l.grant()
}

// grant hands out what tokens there are and sets the timer for the next; call
// it with mu held.
func (l *limiter) grant() {
	l.refill()
	for l.tokens >= 1 && len(l.waiting) > 0 {
		i := l.pick()
		close(l.waiting[i].ready)
		l.waiting = slices.Delete(l.waiting, i, i+1)
		l.tokens--
	}
	if len(l.waiting) == 0 || l.timer != nil {
		return
	}
	missing := time.Duration((1 - l.tokens) / l.rate * float64(time.Second))
	l.timer = time.AfterFunc(missing+1, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.timer = nil
		l.grant()
	})
}

// pick is the index of the ticket that gets the next token.
func (l *limiter) pick() int {
	if len(l.waiting) > 1 {
		l.turns++
	}
	if l.turns%fairTurn == 0 {
		return 0
	}
	best := 0
	for i, t := range l.waiting {
		if t.prio > l.waiting[best].prio {
			best = i
		}
	}
	return best
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
	if l.timer != nil {
		l.timer.Stop() // it was set for the old rate
		l.timer = nil
	}
	l.grant()
}

// current is the rate now, in tokens per second.
func (l *limiter) current() float64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.refill()
	return l.rate
}
