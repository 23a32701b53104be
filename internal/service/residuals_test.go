package service_test

import (
	"net/http"
	"testing"
	"time"

	"drainwait/internal/sim/aws"
)

// TestBeyondUs has a world for each item under "What nobody can see in time" in the
// README: there the service says go too early. If the service ever gets one of them
// right, the README has to follow.
func TestBeyondUs(t *testing.T) {
	withoutDelay := func(s *scene) { behind{kinds: []aws.Kind{aws.NLB}}.prepare(s) }
	for _, c := range []struct {
		name    string
		prepare func(*scene)
		stop    func(*scene)
		outcome string
	}{
		{
			name: "a former leader's RegisterTargets lands late", prepare: ordinary(aws.ALB), outcome: "drained",
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Answered > 0 })
				s.AWS.Register(s.group, s.pod.IP, webPort)
			},
		},
		{
			name: "a RegisterTargets hangs, and no look ever listed the pod", prepare: ordinary(aws.ALB), outcome: "drained",
			stop: func(s *scene) {
				s.LBC.HangRegistration(time.Minute)
				s.fresh("web")
				s.Advance(10 * time.Second)
				_ = s.DeletePod(web, s.pod.Name)
			},
		},
		{
			name: "somebody else registers the pod in a group that has a binding", outcome: "drained",
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.Kube.AddService(web, "shop", map[string]string{"app": "shop"}, webPort)
				s.outer = s.AWS.AddTargetGroup("shop", webPort, s.AWS.AddLoadBalancer("shop", aws.ALB))
				s.LBC.AddBinding(web, "shop", "shop", s.outer)
			},
			stop: func(s *scene) {
				s.AWS.Register(s.outer, s.pod.IP, webPort)
				s.Advance(time.Minute)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "a tie is lost just before the service starts", prepare: withoutDelay, outcome: "not_registered",
			stop: func(s *scene) {
				s.binding.Spec.ServiceRef.Name = "green"
				s.Kube.Apply(s.binding)
				s.Advance(2 * time.Second)
				s.Restart()
				s.Advance(5 * time.Second)
				_ = s.DeletePod(web, "web-1")
			},
		},
		{
			name: "a tie comes and goes while the watch is behind", prepare: withoutDelay, outcome: "not_registered",
			stop: func(s *scene) {
				s.Kube.LagWatches("", 10*time.Minute)
				s.Kube.SetSelector(s.service, map[string]string{"app": "fresh"})
				s.fresh("fresh")
				s.Advance(time.Minute)
				s.Kube.SetSelector(s.service, map[string]string{"app": "web"})
				s.Advance(2 * time.Second)
				_ = s.DeletePod(web, s.pod.Name)
			},
		},
		{
			name: "an EndpointSlice in another namespace, and the cache is behind", outcome: "not_registered",
			prepare: func(s *scene) {
				s.lb = s.AWS.AddLoadBalancer("web", aws.ALB)
				s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
				s.Kube.AddService("front", "web", nil, webPort)
				s.LBC.AddBinding("front", "web", "web", s.group)
			},
			stop: func(s *scene) {
				s.Kube.LagWatches("endpointslices", 10*time.Minute)
				s.sliceByHand("front", "web-1", webPort)
				s.AWS.Register(s.group, s.pod.IP, webPort)
				s.Advance(time.Minute)
				_ = s.DeletePod(web, "web-1")
			},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			waitCase{
				pod: patient, prepare: c.prepare, stop: c.stop,
				instead: func(t *testing.T, s *scene) {
					s.Advance(2 * time.Minute)
					if s.pod.Status != http.StatusOK || s.pod.Outcome != c.outcome {
						t.Errorf("the answer is %d %q, want %q", s.pod.Status, s.pod.Outcome, c.outcome)
					}
					if s.pod.Premature == 0 && s.pod.LastArrival < s.pod.Answered && !s.AWS.MaySend(s.address()) {
						t.Error("no load balancer sends after the answer: it is not beyond us any more")
					}
				},
			}.run(t)
		})
	}
}
