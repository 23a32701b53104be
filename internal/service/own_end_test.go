package service_test

import (
	"net/http"
	"testing"
	"time"

	"drainwait/internal/service/servicetest"
)

// takenAfter is how long after SIGTERM a service still takes calls, to the second, if
// somebody calls it in each of them until then. The pod's own wait is in flight.
func takenAfter(t *testing.T, s *scene, call func(second int) *servicetest.Call) (last time.Duration) {
	t.Helper()
	_ = s.DeletePod(web, "web-1")
	inFlight := s.Ask(webIP, "max-delay=300&settle=120")
	s.Advance(1500 * time.Millisecond)
	s.SIGTERM()
	for second := range 60 {
		if c := call(second); c != nil {
			s.AdvanceUntil(10*time.Second, func() bool { return servicetest.IsClosed(c.Done) })
			if c.Err == nil {
				last = time.Duration(second) * time.Second
			}
		}
		s.Advance(time.Until(time.Now().Truncate(time.Second).Add(time.Second)))
	}
	if a := s.Await(inFlight).OK(t); a.Outcome != "drained" {
		t.Errorf("the wait in flight got %s", inFlight.Body)
	}
	if !s.AdvanceUntil(2*time.Second, func() bool { return servicetest.IsClosed(s.Over) }) {
		t.Error("the service is there when its last wait is over")
	}
	return last
}

// TestMonitorsDoNotCount: who asks for health, or only connects, does not keep a service
// that goes away.
func TestMonitorsDoNotCount(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		last := takenAfter(t, s, func(int) *servicetest.Call {
			conn, err := s.Hooks.Dial(s.Context(), addr("10.0.99.99"))
			if err == nil {
				conn.Close()
			}
			return s.Get(s.Hooks.Client(addr("10.0.99.99")), servicetest.URL+"/health")
		})
		if last < 9*time.Second || last > 10*time.Second {
			t.Errorf("the last call was taken after %s, want 10s", last)
		}
	})
}

// TestHooksCount: a hook that still finds its way to the service keeps it for ten more
// seconds, and all of them together for thirty.
func TestHooksCount(t *testing.T) {
	for name, call := range map[string]func(s *scene) *servicetest.Call{
		"wait": func(s *scene) *servicetest.Call {
			return s.Ask("10.0.99.99", "pod=web-1&namespace=default&max-delay=0")
		},
		"refused": func(s *scene) *servicetest.Call { return s.Ask("10.0.99.99", "settle=soon") },
		"fallback": func(s *scene) *servicetest.Call {
			return s.Request(s.Hooks.Client(addr("10.0.99.99")), http.MethodPost, servicetest.URL+"/fallback?reason=refused")
		},
	} {
		for _, tt := range []struct {
			until int // the second of the last hook; monitors call all the time
			want  time.Duration
		}{{5, 15 * time.Second}, {60, 30 * time.Second}} {
			inScene(t, nil, func(s *scene) {
				last := takenAfter(t, s, func(second int) *servicetest.Call {
					if second <= tt.until {
						return call(s)
					}
					return s.Get(s.Hooks.Client(addr("10.0.99.99")), servicetest.URL+"/health")
				})
				if last < tt.want-time.Second || last > tt.want {
					t.Errorf("%s until %d s: the last call was taken after %s, want %s", name, tt.until, last, tt.want)
				}
			})
		}
	}
}
