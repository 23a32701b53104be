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
	limit int // of different calls from one address

	mu    sync.Mutex // guards calls; held for a moment only
	calls map[string]*source
}

// source is an address that holds waits.
type source struct {
	all   int
	equal map[string]int // of each query
}

// mostEqual is how many calls, on average, count as one: without a bound on equal ones
// a single address could take all waits that there may be.
const mostEqual = 4

func newSources(limit int) *sources {
	return &sources{limit: limit, calls: make(map[string]*source)}
}

// acquire counts a call until done is called, or refuses it.
func (s *sources) acquire(address, query string) (done func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from := s.calls[address]
	if from == nil {
		from = &source{equal: make(map[string]int)}
		s.calls[address] = from
	}
	if different := len(from.equal); different >= s.limit && from.equal[query] == 0 || from.all >= mostEqual*s.limit {
		return nil, fmt.Errorf("%w: %s already holds %d, of which %d differ; is it a proxy? see --max-waits-per-source", errTooMany, address, from.all, different)
	}
	from.all++
	from.equal[query]++
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		from.all--
		if from.equal[query]--; from.equal[query] == 0 {
			delete(from.equal, query)
		}
		if from.all == 0 {
			delete(s.calls, address)
		}
	}, nil
}
