package server

import (
	"errors"
	"testing"
)

func TestSources(t *testing.T) {
	s := newSources(2)
	take := func(source, query string, want error) (done func()) {
		t.Helper()
		done, err := s.acquire(source, query)
		if !errors.Is(err, want) {
			t.Errorf("%s %s: %v, want %v", source, query, err, want)
		}
		return done
	}
	first, again := take("a", "1", nil), take("a", "1", nil)
	second, twin := take("a", "2", nil), take("a", "2", nil) // an equal call at the limit
	take("a", "3", errTooMany)
	take("b", "3", nil)()
	first()
	take("a", "3", errTooMany) // an equal call holds its place still
	again()
	third := take("a", "3", nil)
	take("a", "1", errTooMany)
	second()
	twin()
	third()
	if len(s.calls) != 0 {
		t.Errorf("calls that are over are remembered: %v", s.calls)
	}
}
