package service_test

import (
	"context"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"strings"
	"testing"
	"time"

	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
)

// TestMaxWaits: a replica that holds as many waits as it may sends the next caller to
// another one, and asks nobody anything for it.
func TestMaxWaits(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.MaxWaits = 2 }, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		held := []*servicetest.Call{s.Ask(webIP, "max-delay=60"), s.Ask("10.0.99.99", "pod=web-1&namespace=default")}
		s.Advance(2 * time.Second)
		requests, calls := s.Kube.Requests(), maps.Clone(s.AWS.Calls())
		surplus := s.Ask(webIP, "max-delay=60") // although it is equal to one that is held
		for !servicetest.IsClosed(surplus.Done) {
			s.Advance(time.Millisecond)
		}
		if f := surplus.Failed(t); surplus.Status != http.StatusServiceUnavailable || f.Error != "unavailable" || f.BudgetSeconds != 0 ||
			!strings.Contains(f.Message, "this replica holds 2 waits") || surplus.Header.Get("Retry-After") != "1" {
			t.Errorf("got %d %s, %v", surplus.Status, surplus.Body, surplus.Header)
		}
		if !maps.Equal(requests, s.Kube.Requests()) || !maps.Equal(calls, s.AWS.Calls()) {
			t.Errorf("it cost requests: %v, were %v; %v, were %v", s.Kube.Requests(), requests, s.AWS.Calls(), calls)
		}
		if body := s.metrics(t); !strings.Contains(body, "drain_wait_waits_in_flight 2\n") {
			t.Errorf("the metrics do not count 2 waits in flight:\n%s", body)
		}
		for _, c := range held {
			if a := s.Await(c).OK(t); a.Outcome != "drained" {
				t.Errorf("got %s", c.Body)
			}
		}
		if c := s.Await(s.Ask(webIP, "max-delay=0")); c.Status != http.StatusOK {
			t.Errorf("got %d when the waits were over", c.Status)
		}
	})
}

// TestOneSourceCannotTakeAllWaits: equal calls count once, but not without end.
func TestOneSourceCannotTakeAllWaits(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.WaitsPerSource, c.Server.MaxWaits = 1, 0 }, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		var equal []*servicetest.Call
		for range 5 {
			equal = append(equal, s.Ask(webIP, "max-delay=60"))
			s.Advance(10 * time.Millisecond)
		}
		if last := s.Await(equal[4]); last.Status != http.StatusTooManyRequests {
			t.Errorf("the fifth of equal calls got %d %s", last.Status, last.Body)
		}
		for _, c := range equal[:4] {
			if a := s.Await(c).OK(t); a.Outcome != "drained" {
				t.Errorf("got %s", c.Body)
			}
		}
	})
}

// panicking is the log of a service that has a bug: the warning of one wait ends in a
// panic, in the wait's own goroutine.
type panicking struct{ slog.Handler }

func (p panicking) Handle(ctx context.Context, r slog.Record) error {
	if r.Message == "wait has a problem" {
		panic("a bug in the middle of a wait")
	}
	return p.Handler.Handle(ctx, r)
}

func (p panicking) WithAttrs(attrs []slog.Attr) slog.Handler {
	return panicking{p.Handler.WithAttrs(attrs)}
}

// TestPanic: a bug costs one wait. Its hook takes its fallback, and everybody else is
// answered.
func TestPanic(t *testing.T) {
	var log strings.Builder
	inScene(t, func(c *service.Config) {
		c.Log = slog.New(panicking{slog.NewTextHandler(&log, nil)})
		c.Server.WaitsPerSource = 2
	}, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		others := []*servicetest.Call{s.Ask(webIP, "max-delay=60"), s.Ask("10.0.99.99", "pod=web-1&namespace=default")}
		s.Advance(2 * time.Second)
		for i := range 3 { // which would be too many if the place of one were not free again
			c := s.Await(s.Ask(webIP, "max-delay=60&ingress=nobodys"))
			if f := c.Failed(t); c.Status != http.StatusInternalServerError || f.Error != "internal" || strings.Contains(f.Message, "middle") || c.Took > 2*time.Second {
				t.Errorf("got %d %s after %s", c.Status, c.Body, c.Took)
			}
			if body := s.metrics(t); !strings.Contains(body, fmt.Sprintf("drain_wait_panics_total %d\n", i+1)) || !strings.Contains(body, "drain_wait_waits_in_flight 2\n") {
				t.Errorf("the metrics do not count panic %d, or more than 2 waits:\n%s", i+1, body)
			}
		}
		for _, c := range others {
			if a := s.Await(c).OK(t); a.Outcome != "drained" {
				t.Errorf("got %s", c.Body)
			}
		}
		if got := s.Service.Watcher.Pollers(); got != 0 {
			t.Errorf("%d pollers are left", got)
		}
	})
	if got := strings.Count(log.String(), `level=ERROR msg="wait panicked"`); got != 3 || !strings.Contains(log.String(), "a bug in the middle of a wait") || !strings.Contains(log.String(), "bounds_test.go") {
		t.Errorf("the log tells of %d panics, without their stack:\n%s", got, log.String())
	}
}

// TestQueryBounds: a query of any size costs little and says what is wrong with it.
func TestQueryBounds(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		long := "ip=" + webIP + "&what=" + strings.Repeat("x", 4<<10)
		for _, c := range []*servicetest.Call{
			s.Ask(webIP, long),
			s.Request(s.Hooks.Client(addr(webIP)), http.MethodPost, servicetest.URL+"/fallback?reason=refused&"+long),
		} {
			if f := s.Await(c).Failed(t); c.Status != http.StatusBadRequest || !strings.Contains(f.Message, "at most 4096 bytes") || len(c.Body) > 1000 {
				t.Errorf("got %d %s", c.Status, c.Body)
			}
		}
		headers := s.AskWith(webIP, "max-delay=0", "X-"+strings.Repeat("x", 32<<10))
		if s.Await(headers); headers.Status != http.StatusRequestHeaderFieldsTooLarge {
			t.Errorf("32 KiB of headers: got %d %s", headers.Status, headers.Body)
		}
	})
}
