package service_test

import (
	"net/http"
	"strings"
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

// TestNobodySaysWhetherThePodStays: where the API server does not tell whether a pod is
// being stopped, a wait asks once a second, goes on to the end of its budget and says why.
func TestNobodySaysWhetherThePodStays(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		asked := 0
		s.Kube.Fail(func(r *http.Request) bool {
			isNode := strings.Contains(r.URL.Path, "/nodes/")
			if isNode {
				asked++
			}
			return isNode
		}, http.StatusForbidden)
		a := s.Await(s.Ask(webIP, "max-delay=25")).OK(t)
		if a.Outcome != "budget_spent" || !strings.Contains(a.LastError, "check whether pod default/web-1 is being stopped") {
			t.Errorf("%s, last error %q", a.Outcome, a.LastError)
		}
		if asked < 15 || asked > 21 {
			t.Errorf("asked %d times in the 20 seconds after the first 5", asked)
		}
	})
}
