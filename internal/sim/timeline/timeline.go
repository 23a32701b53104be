// Package timeline is a world's time: a clock, the events that happen by it, a way in for
// other goroutines, and randomness from a seed.
package timeline

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Timeline has a clock and events that happen by it.
//
// Everything in a world belongs to the goroutine that is inside [Timeline.Run]. What acts
// in the world are events on a heap, not goroutines. Code outside reaches the world
// through [Timeline.Do] and [Timeline.Exchange], which queue a call and wait until the
// owner has carried it out. All other methods are for the owner, before Run or from an
// event, unless they say otherwise.
//
// Time is a duration since the start. With a speed of 10, a second of it takes 100 ms of
// real time.
type Timeline struct {
	seed     uint64
	speed    float64
	start    time.Time
	quiesce  func()
	kick     chan struct{}
	lifetime context.Context
	end      context.CancelFunc

	mu    sync.Mutex // guards inbox, the only thing that other goroutines write
	inbox []*call

	// Owned by the goroutine in Run.
	present time.Duration
	events  eventHeap
	used    map[time.Duration]struct{}
	draws   map[string]uint64
}

// New makes a timeline whose clock starts now. In a synctest bubble it must be
// called inside. quiesce returns when nothing else can happen at this instant: in
// a bubble it is synctest.Wait, elsewhere nil.
func New(seed uint64, speed float64, quiesce func()) *Timeline {
	if quiesce == nil {
		quiesce = func() {}
	}
	l := &Timeline{
		seed:    seed,
		speed:   speed,
		start:   time.Now(),
		quiesce: quiesce,
		kick:    make(chan struct{}, 1),
		used:    make(map[time.Duration]struct{}),
		draws:   make(map[string]uint64),
	}
	l.lifetime, l.end = context.WithCancel(context.Background())
	return l
}

// ErrClosed is what calls into a closed world return.
var ErrClosed = errors.New("simulated world is closed")

type event struct {
	at  time.Duration
	run func()
}

// eventHeap orders events by time; at keeps times unique.
type eventHeap []event

func (h eventHeap) Len() int           { return len(h) }
func (h eventHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h eventHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *eventHeap) Push(x any)        { *h = append(*h, x.(event)) }
func (h *eventHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	*h = old[:len(old)-1]
	return e
}

// call is a request from outside that waits for the owner.
type call struct {
	key  string
	at   time.Duration
	run  func()
	done chan struct{}
}

// Present is the time that events have reached. Within an event, it is the time for which
// the event was planned. It is never later than the clock.
func (l *Timeline) Present() time.Duration { return l.present }

// Now is the time by the clock. It is safe to call from anywhere.
func (l *Timeline) Now() time.Duration {
	return time.Duration(float64(time.Since(l.start)) * l.speed)
}

// Wall is the real time at which the world's clock shows t.
func (l *Timeline) Wall(t time.Duration) time.Time {
	return l.start.Add(l.Real(t))
}

// Real is the real length of the world duration d, rounded up. A timer of that length
// never ends before the world's clock has moved by d.
func (l *Timeline) Real(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(d) / l.speed))
}

// At plans run for world time t, or for the next free nanosecond: two events
// never share an instant, so their order is the same in every run.
func (l *Timeline) At(t time.Duration, run func()) {
	t = max(t, l.present)
	for {
		if _, taken := l.used[t]; !taken {
			break
		}
		t++
	}
	l.used[t] = struct{}{}
	heap.Push(&l.events, event{t, run})
}

// After plans run for d from the present.
func (l *Timeline) After(d time.Duration, run func()) { l.At(l.present+d, run) }

// Do runs f as the owner of the world's state and returns when it has run. The
// key orders calls that arrive at one instant; it should not depend on the
// order in which goroutines happen to run. If an error is returned f may still
// run later, so nothing that it writes may be read.
func (l *Timeline) Do(ctx context.Context, key string, f func()) error {
	return l.Exchange(ctx, key, Range{}, f)
}

// Exchange is a round trip: the request travels for half of a latency drawn
// from latency, run happens in the world, and the answer travels back.
func (l *Timeline) Exchange(ctx context.Context, key string, latency Range, run func()) error {
	c := &call{key: key, at: l.Now(), done: make(chan struct{})}
	c.run = func() {
		d := l.Draw(latency, "latency", key)
		l.After(d/2, func() {
			run()
			l.After(d-d/2, func() { close(c.done) })
		})
	}
	l.mu.Lock()
	l.inbox = append(l.inbox, c)
	l.mu.Unlock()
	select {
	case l.kick <- struct{}{}:
	default:
	}
	select {
	case <-c.done:
		return nil
	case <-l.lifetime.Done():
		return ErrClosed
	case <-ctx.Done():
	}
	select {
	case <-c.done: // if the deadline comes at the same instant, the answer wins
		return nil
	default:
		return ctx.Err()
	}
}

// admit turns the calls that have arrived into events.
func (l *Timeline) admit() {
	l.mu.Lock()
	calls := l.inbox
	l.inbox = nil
	l.mu.Unlock()
	slices.SortStableFunc(calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key))
	})
	for _, c := range calls {
		l.At(c.at, c.run)
	}
}

// Run carries the world forward until its clock shows until, ctx ends or the
// world is closed. Only one goroutine may be in Run; in a synctest bubble it
// must be the only one that calls synctest.Wait. Calls that arrive while nobody
// is in Run wait for the next Run or for Close. To run without end, give a time of
// some years, not the largest duration.
func (l *Timeline) Run(ctx context.Context, until time.Duration) {
	for ctx.Err() == nil {
		l.quiesce() // everything that will arrive at this instant is now queued
		l.admit()
		clock := l.Now()
		if len(l.events) > 0 && l.events[0].at <= min(clock, until) {
			e := heap.Pop(&l.events).(event)
			delete(l.used, e.at)
			l.present = e.at
			e.run()
			continue
		}
		if clock >= until {
			l.present = max(l.present, until)
			return
		}
		next := until
		if len(l.events) > 0 {
			next = min(next, l.events[0].at)
		}
		// At least a nanosecond, or rounding could make a bubble's clock stand still.
		timer := time.NewTimer(max(1, time.Until(l.Wall(next))))
		select {
		case <-timer.C:
		case <-l.kick:
		case <-ctx.Done():
		case <-l.lifetime.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// Close releases every call that still waits, now and later. It is safe to call
// from anywhere.
func (l *Timeline) Close() { l.end() }

// Lifetime ends when the timeline is closed. It is safe to call from anywhere.
func (l *Timeline) Lifetime() context.Context { return l.lifetime }

// Seed decides everything that is random.
func (l *Timeline) Seed() uint64 { return l.seed }

// Range is a span of durations from which the world draws evenly.
type Range struct{ Min, Max time.Duration }

// Between is the span from shortest to longest.
func Between(shortest, longest time.Duration) Range { return Range{shortest, longest} }

// Random returns a source that depends on the seed, on what is drawn for
// (kind and entity) and on how often that was drawn before, but not on the
// order in which different entities draw.
func (l *Timeline) Random(kind, entity string) *rand.Rand {
	key := kind + "\x00" + entity
	n := l.draws[key]
	l.draws[key] = n + 1
	h := fnv.New64a()
	_, _ = h.Write([]byte(key + "\x00" + strconv.FormatUint(n, 10)))
	return rand.New(rand.NewPCG(l.seed, h.Sum64()))
}

// Draw takes a duration from r for an entity.
func (l *Timeline) Draw(r Range, kind, entity string) time.Duration {
	if r.Max <= r.Min {
		return r.Min
	}
	return r.Min + time.Duration(l.Random(kind, entity).Int64N(int64(r.Max-r.Min)))
}
