package service_test

import (
	"net/http"
	"strings"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/timeline"
)

func terminationCases() []waitCase {
	restart := func(s *scene) { s.RestartContainer(web, "web-1") }
	return []waitCase{
		{name: "a liveness restart", outcome: "not_terminating", after: 5 * time.Second, stop: restart},
		{
			name: "a liveness restart while the API server is away", outcome: "not_terminating", after: 30 * time.Second,
			stop: func(s *scene) {
				restart(s)
				s.Kube.Fail(func(r *http.Request) bool { return !strings.Contains(r.URL.RawQuery, "watch") }, http.StatusServiceUnavailable)
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(30*time.Second, func() { s.Kube.Fail(nil, 0) })
			},
		},
		{
			name: "a graceful node shutdown", outcome: "drained", event: deregistered, after: settleALB, pod: longer,
			stop: func(s *scene) { s.ShutdownNode("node-1") },
		},
		{
			name: "the hook comes before the watch tells of the deletion", outcome: "drained", event: deregistered, after: settleALB,
			world: func(c *sim.Config) {
				c.Assumptions.Kube.WatchLag = timeline.Range{Min: 4 * time.Second, Max: 4*time.Second + 1}
			},
		},
		{
			// The checkpoint comes just as late, so the cadence of 5 s has to see it leave.
			name: "the watch tells of the deletion after the termination check", outcome: "drained", event: deregistered, after: 5*time.Second + settleALB, early: 5 * time.Second,
			world: func(c *sim.Config) {
				c.Assumptions.Kube.WatchLag = timeline.Range{Min: 8 * time.Second, Max: 8*time.Second + 1}
			},
		},
	}
}
