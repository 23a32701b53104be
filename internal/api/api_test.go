package api

import (
	"math"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]Seconds{0: 0, 1100 * time.Millisecond: 1.1, 1499 * time.Microsecond: 0.001, -time.Second: -1} {
		if got := InSeconds(d); got != want {
			t.Errorf("%s: got %v, want %v", d, got, want)
		}
	}
	for s, want := range map[Seconds]time.Duration{0: 0, 1.5: 1500 * time.Millisecond, -9: -9 * time.Second, 1e300: 1e9 * time.Second, Seconds(math.Inf(1)): 1e9 * time.Second} {
		if got := s.Duration(); got != want {
			t.Errorf("%v: got %s, want %s", s, got, want)
		}
	}
}
