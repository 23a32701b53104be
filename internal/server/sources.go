package server

import (
	"errors"
	"fmt"
	"sync"
)

// errTooMany: a source address already holds as many waits as it may.
var errTooMany = errors.New("too many waits from one address")

// sources counts the waits that each source address holds. Equal calls count once: the
// hooks of a pod's containers make the same one.
type sources struct {
	limit int // of different calls from one address; 0 for any number

	mu    sync.Mutex                // guards calls; held for a moment only
	calls map[string]map[string]int // how many of each query, by source
}

func newSources(limit int) *sources {
	return &sources{limit: limit, calls: make(map[string]map[string]int)}
}

// acquire counts a call until done is called, or refuses it.
func (s *sources) acquire(source, query string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	of := s.calls[source]
	if of[query] == 0 && s.limit > 0 && len(of) >= s.limit {
		return nil, fmt.Errorf("%w: %s already holds %d; is it a proxy? see --max-waits-per-source", errTooMany, source, s.limit)
	}
	if of == nil {
		of = make(map[string]int)
		s.calls[source] = of
	}
	of[query]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		if of[query]--; of[query] == 0 {
			delete(of, query)
		}
		if len(of) == 0 {
			delete(s.calls, source)
		}
	}, nil
}
