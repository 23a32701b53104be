package service_test

import (
	"net/http"
	"strings"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

// lateCases are registrations and looks that come at an unlucky moment.
func lateCases() []waitCase {
	slow := func(d time.Duration) func(*sim.Config) {
		return func(c *sim.Config) { c.Assumptions.Kube.Latency = timeline.Range{Min: d, Max: d} }
	}
	return []waitCase{
		{
			name: "registered after the first look, and taken out again", pod: patient, outcome: "drained", event: deregistered, after: settleALB + 5*time.Second,
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.LBC.Stop() },
			world: func(c *sim.Config) {
				c.NoCheckpoint = true
				c.Assumptions.AWS.RegistrationTime = timeline.Range{Min: time.Millisecond, Max: time.Millisecond}
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(3*time.Second, func() { s.AWS.Register(s.group, s.pod.IP, webPort) })
				s.After(5*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
			early: 5 * time.Second, // while all waits of a group settle, there is a look every ten seconds
		},
		{
			name: "back in a group that settled long ago", pod: patient, outcome: "drained", event: deregistered, after: settleALB, early: time.Second,
			prepare: func(s *scene) {
				behind{kinds: []aws.Kind{aws.NLB, aws.ALB}, delay: 5 * time.Minute}.prepare(s)
				s.LBC.Stop()
				s.outer = s.group
			},
			up: func(s *scene) {
				s.AWS.Register(s.outer, s.pod.IP, webPort)
				s.Advance(time.Minute)
			},
			stop: func(s *scene) {
				s.AWS.Deregister(s.outer, s.pod.IP, webPort)
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(118*time.Second, func() { s.AWS.Register(s.outer, s.pod.IP, webPort) })
				s.After(150*time.Second, func() { s.AWS.Deregister(s.outer, s.pod.IP, webPort) })
			},
		},
		{
			name: "one look in the middle is refused", query: "max-delay=50", outcome: "drained", event: deregistered, after: settleALB + 5*time.Second, early: 5 * time.Second,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(4*time.Second, func() { s.AWS.Fail(refuse("DescribeTargetHealth")) })
				s.After(8*time.Second, func() { s.AWS.Fail(nil) })
				s.After(12*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
		},
		{name: "an API server that takes 5 s for an answer", pod: patient, world: slow(5 * time.Second), outcome: "drained", event: departed, after: settleALB, early: 6 * time.Second},
		{
			name: "Ingresses cannot be listed, and nothing else leads to a group", status: http.StatusServiceUnavailable, after: 2 * time.Second, early: time.Second,
			prepare: func(*scene) {},
			stop: func(s *scene) {
				s.Kube.Fail(func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/ingresses") }, http.StatusForbidden)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "the clock of the API server steps back in the middle", query: "namespace=default", outcome: "budget_spent", event: deleted, after: 5*time.Minute - 5*time.Second, early: 2 * time.Second,
			up: func(s *scene) { s.LBC.Stop() },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(5*time.Second, func() { s.Kube.SkewClock(-28 * time.Second); s.Kube.CutWatches() })
				s.After(12*time.Second, func() { s.Kube.SetLabels(web, "web-1", map[string]string{"app": "web", "touched": "yes"}) })
			},
		},
	}
}
