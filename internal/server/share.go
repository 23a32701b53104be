package server

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"drainwait/internal/drain"
)

// errTooMany: a source address holds as many waits as it may.
var errTooMany = errors.New("too many waits from one address")

// joinable is how old a wait may be to be joined. The hooks of a pod's containers
// call at the same time; an equal call that comes much later can be that of
// another pod, which has got the address of one that is gone without a word.
const joinable = 10 * time.Second

// shared holds the waits in flight. Equal calls from one address that come close
// together share one: the hooks of a pod's containers ask the same question.
type shared struct {
	wait  func(context.Context, drain.Request) (*drain.Result, error)
	limit int // waits of one source address; 0 for any number

	mu       sync.Mutex            // guards what follows, and callers and ended of each flight; never held across a wait
	flights  map[flightKey]*flight // the newest of each key
	bySource map[string]int
}

type flightKey struct{ source, query string }

// flight is one wait and those who share it.
type flight struct {
	began   time.Time
	callers int
	ended   bool
	ctx     context.Context // of the wait
	cancel  context.CancelFunc
	done    chan struct{} // closed when result and err are there
	result  *drain.Result
	err     error
}

func newShared(limit int, wait func(context.Context, drain.Request) (*drain.Result, error)) *shared {
	return &shared{wait: wait, limit: limit, flights: make(map[flightKey]*flight), bySource: make(map[string]int)}
}

// do carries out a wait, or joins the one that is under way for the same key. A
// wait is given up when all of its callers have hung up; base ends all of them.
// When ctx ends, the error is its cause.
func (s *shared) do(ctx, base context.Context, key flightKey, r drain.Request) (*drain.Result, error) {
	s.mu.Lock()
	f := s.flights[key]
	if f == nil || time.Since(f.began) > joinable {
		if s.limit > 0 && s.bySource[key.source] >= s.limit {
			s.mu.Unlock()
			return nil, fmt.Errorf("%w: %s holds %d already", errTooMany, key.source, s.limit)
		}
		f = s.add(base, key)
		go func() {
			defer s.end(key, f)
			f.result, f.err = s.wait(f.ctx, r)
		}()
	}
	f.callers++
	s.mu.Unlock()
	defer s.leave(key, f)
	select {
	case <-f.done:
		return f.result, f.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// add is called with mu held.
func (s *shared) add(base context.Context, key flightKey) *flight {
	f := &flight{began: time.Now(), done: make(chan struct{})}
	f.ctx, f.cancel = context.WithCancel(base)
	s.flights[key] = f
	s.bySource[key.source]++
	return f
}

// leave gives the wait up with its last caller.
func (s *shared) leave(key flightKey, f *flight) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f.callers--; f.callers == 0 {
		f.cancel()
		s.remove(key, f)
	}
}

// end answers the callers of a wait that is over, and keeps later ones from
// joining it.
func (s *shared) end(key flightKey, f *flight) {
	s.mu.Lock()
	s.remove(key, f)
	s.mu.Unlock()
	f.cancel()
	close(f.done)
}

// remove is called with mu held.
func (s *shared) remove(key flightKey, f *flight) {
	if f.ended {
		return
	}
	f.ended = true
	if s.flights[key] == f {
		delete(s.flights, key)
	}
	if s.bySource[key.source]--; s.bySource[key.source] == 0 {
		delete(s.bySource, key.source)
	}
}
