package service_test

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

func clockCases() []waitCase {
	return []waitCase{
		{
			name: "the clock of the API server jumps ahead in the middle of the wait", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() { s.Kube.SkewClock(10 * time.Minute); s.Kube.CutWatches() })
			},
		},
		{
			name: "a record of a deletion whose kill time has passed", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			// The cache shows the old pod at the address, deleted and overdue.
			stop: func(s *scene) {
				_ = s.DeletePodIn(web, "web-1", 10*time.Second)
				s.Advance(time.Second)
				s.Kube.LagWatches("pods", 2*time.Minute)
				s.reuse(30 * time.Second)
			},
		},
	}
}

func apiServerCases() []waitCase {
	return []waitCase{
		{
			name: "Service and binding are made while the watches are cut", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			prepare: func(s *scene) {
				s.lb = s.AWS.AddLoadBalancer("web", aws.ALB)
				s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
			},
			up: func(s *scene) {
				s.Kube.LagWatches("", time.Hour)
				s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
				s.LBC.AddBinding(web, "web", "web", s.group)
				s.Advance(time.Minute)
			},
		},
		{
			name: "the API server is away for all of the wait", pod: func(p *sim.PodSpec) { p.Hook.MaxDelay = 40 * time.Second }, outcome: "budget_spent", after: 40 * time.Second,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.Advance(100 * time.Millisecond) // the watch has told of it
				s.Kube.CutWatches()
				s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
			},
			also: warned("could not be read"),
		},
		{
			name: "the API server is away after the live reads", outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() {
					s.Kube.CutWatches()
					s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
				})
			},
		},
		{
			name: "nothing is known, and the API server is away", status: http.StatusServiceUnavailable, after: 2 * time.Second, early: time.Second,
			prepare: func(*scene) {},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.Advance(100 * time.Millisecond)
				s.Kube.CutWatches()
				s.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
			},
		},
		{
			name: "the watch of pods is refused, and a new pod asks", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			up: func(s *scene) {
				s.Kube.Fail(func(r *http.Request) bool {
					return r.URL.Path == "/api/v1/pods" && r.URL.Query().Has("watch")
				}, http.StatusForbidden)
				s.Kube.CutWatches()
			},
			stop: func(s *scene) { s.reuse(30 * time.Second) },
		},
	}
}

// TestReadinessFollowsTheWatches: if the API server starts to refuse a watch, the replica
// is unready after some minutes. When the watch comes back, the replica is ready again.
func TestReadinessFollowsTheWatches(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		ready := func() (int, string) {
			c := s.Await(s.Get(s.Admin.Client(netip.Addr{}), "http://admin/readyz"))
			return c.Status, string(c.Body)
		}
		s.Advance(10 * time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Fatalf("a quiet cluster makes it unready: %d %s", status, body)
		}
		s.Kube.Fail(func(r *http.Request) bool {
			return strings.HasSuffix(r.URL.Path, "/services") && r.URL.Query().Has("watch")
		}, http.StatusForbidden)
		s.Kube.CutWatches()
		s.Advance(time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Errorf("a minute without a watch makes it unready: %d %s", status, body)
		}
		s.Advance(4 * time.Minute)
		if status, body := ready(); status != http.StatusServiceUnavailable || !strings.Contains(body, "services") {
			t.Errorf("five minutes without a watch of Services: %d %s", status, body)
		}
		s.Kube.Fail(nil, 0)
		s.Advance(2 * time.Minute)
		if status, body := ready(); status != http.StatusOK {
			t.Errorf("it does not get ready again: %d %s", status, body)
		}
	})
}
