package cluster

import (
	"context"
	"errors"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
)

// searcher records the live searches that reach the API server.
type searcher struct {
	*world
	asked []string
	at    []time.Time
}

// watchSearches makes w note each search. Nothing fails.
func watchSearches(w *world) *searcher {
	s := &searcher{world: w}
	w.Kube.Fail(func(r *http.Request) bool {
		if ip, ok := strings.CutPrefix(r.URL.Query().Get("fieldSelector"), "status.podIP="); ok {
			s.asked, s.at = append(s.asked, ip), append(s.at, time.Now())
			if r.URL.Query().Get("resourceVersion") != "" {
				w.t.Error("a search from a cache")
			}
		}
		return false
	}, 0)
	return s
}

// search searches in the background.
func (s *searcher) search(ctx context.Context, caller, ip string) {
	go func() {
		_, _ = s.Identify(ctx, PodRef{IP: netip.MustParseAddr(ip), Caller: netip.MustParseAddr(caller)})
	}()
	s.pass(time.Millisecond)
}

func TestSearchesGoInTurn(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		s := watchSearches(w)
		for i := range 20 {
			s.search(t.Context(), "192.0.2.1", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String())
		}
		s.search(t.Context(), "192.0.2.2", "10.2.0.1")
		s.search(t.Context(), "192.0.2.2", "10.2.0.2")
		s.search(t.Context(), "192.0.2.3", "10.3.0.1")
		w.pass(10 * time.Second)
		want := []string{"10.1.0.0", "10.1.0.1", "10.2.0.1", "10.3.0.1", "10.1.0.2", "10.2.0.2", "10.1.0.3", "10.1.0.4"}
		if len(s.asked) != 23 || !slices.Equal(s.asked[:8], want) {
			t.Errorf("%d searches: %q", len(s.asked), s.asked)
		}
		for i := 5; i < len(s.at); i++ {
			if d := s.at[i].Sub(s.at[i-5]); d < time.Second-50*time.Millisecond {
				t.Errorf("six searches within %s", d)
			}
		}
		if d := s.at[22].Sub(s.at[0]); d > 5*time.Second {
			t.Errorf("23 searches took %s", d)
		}
	})
}

func TestSearchesAreShared(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		s := watchSearches(w)
		for range 5 {
			s.search(t.Context(), "192.0.2.1", "10.1.0.1")
			s.search(t.Context(), "192.0.2.2", "10.1.0.1")
		}
		w.pass(500 * time.Millisecond)
		s.search(t.Context(), "192.0.2.3", "10.1.0.1")
		if len(s.asked) != 1 {
			t.Errorf("%d searches, want one", len(s.asked))
		}
		w.pass(keepFound)
		s.search(t.Context(), "192.0.2.3", "10.1.0.1")
		w.pass(time.Second)
		if len(s.asked) != 2 {
			t.Errorf("%d searches, want a second one after a while", len(s.asked))
		}
		if q := &w.searches; len(q.byIP)+len(q.turns.queues)+len(q.turns.order) > 1 {
			t.Errorf("left: %+v", q)
		}
	})
}

// Whoever waits in a long queue is served by the turn of another who asks the
// same.
func TestSearchJoinsTheNearerTurn(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		s := watchSearches(w)
		for i := range 20 {
			s.search(t.Context(), "192.0.2.1", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String())
		}
		s.search(t.Context(), "192.0.2.2", "10.1.0.19")
		w.pass(time.Second)
		if i := slices.Index(s.asked, "10.1.0.19"); i < 0 || i > 3 {
			t.Errorf("searches: %q", s.asked)
		}
		w.pass(10 * time.Second)
		if len(s.asked) != 20 {
			t.Errorf("%d searches, want 20", len(s.asked))
		}
	})
}

func TestSearchThatNobodyWaitsForIsNotMade(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		s := watchSearches(w)
		ctx, cancel := context.WithCancel(t.Context())
		for i := range 10 {
			s.search(ctx, "192.0.2.1", netip.AddrFrom4([4]byte{10, 1, 0, byte(i)}).String())
		}
		cancel()
		w.pass(time.Millisecond)
		n := len(s.asked)
		s.search(t.Context(), "192.0.2.1", "10.1.0.5")
		w.pass(time.Second) // the next turn is its own
		if got := s.asked[n:]; !slices.Equal(got, []string{"10.1.0.5"}) {
			t.Errorf("searches: %q", got)
		}
		w.pass(10 * time.Second)
		if q := &w.searches; len(q.byIP)+len(q.turns.queues)+len(q.turns.order) > 0 {
			t.Errorf("left: %+v", q)
		}
	})
}

// The trouble of one is not kept for the next.
func TestSearchTroubleIsNotKept(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		w.Kube.Fail(func(r *http.Request) bool { return r.URL.Query().Has("fieldSelector") }, http.StatusServiceUnavailable)
		who := PodRef{IP: netip.MustParseAddr("10.9.9.9")}
		if _, err := w.identify(who); err == nil || errors.Is(err, ErrNoPod) || !strings.Contains(err.Error(), "10.9.9.9") {
			t.Errorf("error %v", err)
		}
		w.Kube.Fail(nil, 0)
		if _, err := w.identify(who); !errors.Is(err, ErrNoPod) {
			t.Errorf("error %v", err)
		}
	})
}
