package service_test

import (
	"net/http"
	"testing"
	"time"

	"drainwait/internal/service"
)

// TestQuietIsCountedFromTheLastHook: routers learn late that a replica goes away, and in
// time that differs. As long as they send hooks, they are taken.
func TestQuietIsCountedFromTheLastHook(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.Grace = 60 * time.Second }, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		s.Advance(time.Minute) // in which nobody called
		s.SIGTERM()
		for range 3 {
			s.Advance(s.quiet() - 2*time.Second)
			if c := s.Await(s.Ask(webIP, "max-delay=0")); c.Status != http.StatusOK {
				t.Fatalf("%d seconds after the last hook another one got %d, %v", int(s.quiet().Seconds())-2, c.Status, c.Err)
			}
		}
	})
}

// quiet is how long a replica that goes away waits for another hook.
func (s *scene) quiet() time.Duration { return service.DefaultConfig().Server.Quiet }

// TestCutWaitSaysItsBudget: the hook client goes on elsewhere with what is left of it, and
// waits once and not twice.
func TestCutWaitSaysItsBudget(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.Grace = 20 * time.Second }, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		c := s.Ask(webIP, "max-delay=90&settle=80")
		s.Advance(time.Second)
		s.SIGTERM()
		if f := s.Await(c).Failed(t); c.Status != http.StatusServiceUnavailable || f.BudgetSeconds.Duration() != 90*time.Second {
			t.Errorf("got %d %s, want a budget of 90 seconds", c.Status, c.Body)
		}
	})
}
