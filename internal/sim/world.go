package sim

import (
	"cmp"
	"container/heap"
	"context"
	"errors"
	"hash/fnv"
	"math"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// World is one simulated AWS account and one simulated Kubernetes cluster on a
// single time line.
//
// All state belongs to the goroutine that is inside [World.Run]: controllers,
// kubelets, load balancer nodes and clients are events on its heap, not
// goroutines. Code outside reaches the state through the HTTP faces or through
// [World.Do], which queue a call and wait for the owner to carry it out.
//
// The world counts in world time, a duration since its start. With a speed of
// 10 a second of world time takes 100 ms of real time.
type World struct {
	cfg     Config
	start   time.Time
	quiesce func()
	kick    chan struct{}
	closed  chan struct{}
	hooks   context.Context // parent of the hooks' requests; ends when the world is closed
	cancel  context.CancelFunc

	mu    sync.Mutex // guards inbox, the only thing that other goroutines write
	inbox []*call

	// Owned by the goroutine in Run.
	now     time.Duration
	events  eventHeap
	used    map[time.Duration]struct{}
	draws   map[string]uint64
	planned map[string]bool // work that a controller will come to; see soon

	kube        kubeStore
	aws         account
	lbc         controller
	pods        map[string]*pod         // by namespace/name; those whose object exists
	byUID       map[types.UID]*pod      // all that ever were
	listeners   map[targetID]*container // who last listened there
	addresses   map[netip.Addr]*pod     // who was last given it, those of nodes apart
	nodes       int                     // how many were ever made
	deployments []*Deployment
	clients     []*clients
	reports     []*PodReport
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

// Now is the world time by the clock. It is safe to call from anywhere.
func (w *World) Now() time.Duration {
	return time.Duration(float64(time.Since(w.start)) * w.cfg.Speed)
}

// wall is the real time at which the world's clock shows t.
func (w *World) wall(t time.Duration) time.Time {
	return w.start.Add(w.real(t))
}

// real is the real length of the world duration d, rounded up: a timer of that
// length never ends before the world's clock has moved by d.
func (w *World) real(d time.Duration) time.Duration {
	return time.Duration(math.Ceil(float64(d) / w.cfg.Speed))
}

// at plans run for world time t, or for the next free nanosecond: two events
// never share an instant, so their order is the same in every run.
func (w *World) at(t time.Duration, run func()) {
	t = max(t, w.now)
	for {
		if _, taken := w.used[t]; !taken {
			break
		}
		t++
	}
	w.used[t] = struct{}{}
	heap.Push(&w.events, event{t, run})
}

// after plans run for d from now.
func (w *World) after(d time.Duration, run func()) { w.at(w.now+d, run) }

// After plans f for d of world time from now. Like every method without a
// context it is for the goroutine that calls Run: before Run, or from an event.
func (w *World) After(d time.Duration, f func()) { w.after(d, f) }

// Do runs f as the owner of the world's state and returns when it has run. The
// key orders calls that arrive at one instant; it should not depend on the
// order in which goroutines happen to run. Where an error is returned f may still
// run later, so nothing that it writes may be read.
func (w *World) Do(ctx context.Context, key string, f func()) error {
	return w.exchange(ctx, key, Range{}, f)
}

// exchange is a round trip: the request travels for half of a latency drawn
// from l, run happens in the world, and the answer travels back.
func (w *World) exchange(ctx context.Context, key string, l Range, run func()) error {
	c := &call{key: key, at: w.Now(), done: make(chan struct{})}
	c.run = func() {
		d := w.draw(l, "latency", key)
		w.after(d/2, func() {
			run()
			w.after(d-d/2, func() { close(c.done) })
		})
	}
	w.mu.Lock()
	w.inbox = append(w.inbox, c)
	w.mu.Unlock()
	select {
	case w.kick <- struct{}{}:
	default:
	}
	select {
	case <-c.done:
		return nil
	case <-w.closed:
		return ErrClosed
	case <-ctx.Done():
	}
	select {
	case <-c.done: // at the very instant of the deadline: an answer wins
		return nil
	default:
		return ctx.Err()
	}
}

// admit turns the calls that have arrived into events.
func (w *World) admit() {
	w.mu.Lock()
	calls := w.inbox
	w.inbox = nil
	w.mu.Unlock()
	slices.SortStableFunc(calls, func(a, b *call) int {
		return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.key, b.key))
	})
	for _, c := range calls {
		w.at(c.at, c.run)
	}
}

// Run carries the world forward until its clock shows until, ctx ends or the
// world is closed. Only one goroutine may be in Run; in a synctest bubble it
// must be the only one that calls synctest.Wait. Calls that arrive while nobody
// is in Run wait for the next Run or for Close. A time that does not come should
// be a matter of years, not the largest duration.
func (w *World) Run(ctx context.Context, until time.Duration) {
	for ctx.Err() == nil {
		w.quiesce() // everything that will arrive at this instant is now queued
		w.admit()
		clock := w.Now()
		if len(w.events) > 0 && w.events[0].at <= min(clock, until) {
			e := heap.Pop(&w.events).(event)
			delete(w.used, e.at)
			w.now = e.at
			e.run()
			continue
		}
		if clock >= until {
			w.now = max(w.now, until)
			return
		}
		next := until
		if len(w.events) > 0 {
			next = min(next, w.events[0].at)
		}
		// At least a nanosecond, or rounding could make a bubble's clock stand still.
		timer := time.NewTimer(max(1, time.Until(w.wall(next))))
		select {
		case <-timer.C:
		case <-w.kick:
		case <-ctx.Done():
		case <-w.closed:
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// Close releases every call that still waits for the world, now and later, and
// ends its watches. Call it once.
func (w *World) Close() {
	close(w.closed)
	w.cancel()
}

// Range is a span of durations from which the world draws evenly.
type Range struct{ Min, Max time.Duration }

// random returns a source that depends on the seed, on what is drawn for
// (kind and entity) and on how often that was drawn before, but not on the
// order in which different entities draw.
func (w *World) random(kind, entity string) *rand.Rand {
	key := kind + "\x00" + entity
	n := w.draws[key]
	w.draws[key] = n + 1
	h := fnv.New64a()
	_, _ = h.Write([]byte(key + "\x00" + strconv.FormatUint(n, 10)))
	return rand.New(rand.NewPCG(w.cfg.Seed, h.Sum64()))
}

// draw takes a duration from r for an entity.
func (w *World) draw(r Range, kind, entity string) time.Duration {
	if r.Max <= r.Min {
		return r.Min
	}
	return r.Min + time.Duration(w.random(kind, entity).Int64N(int64(r.Max-r.Min)))
}
