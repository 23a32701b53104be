package service_test

import (
	"strings"
	"testing"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

func ordinaryCases() []waitCase {
	return []waitCase{
		{name: "ALB", outcome: "drained", event: deregistered, after: settleALB},
		{name: "NLB", kind: aws.NLB, query: "ip=IP&namespace=default&max-delay=180", outcome: "drained", event: deregistered, after: settleNLB},
		{name: "by the caller's address alone", query: "max-delay=60", outcome: "drained", event: deregistered, after: settleALB},
		{name: "by name", query: "pod=web-1&namespace=default", outcome: "drained", event: deregistered, after: settleALB},
		{
			name: "by address in another namespace", query: "ip=IP&namespace=other", outcome: "drained", event: deregistered, after: settleALB,
			also: warned("namespace=other is not the namespace of the pod"),
		},
		{
			name: "settle of the caller's", query: "ip=IP&namespace=default&settle=25", outcome: "drained", event: deregistered, after: 25 * time.Second,
		},
		{
			name:    "never ready",
			pod:     func(p *sim.PodSpec) { p.Hook.Query = "pod=web-1&namespace=default" },
			world:   func(c *sim.Config) { c.Assumptions.StartTime = timeline.Range{Min: time.Hour, Max: time.Hour} },
			outcome: "drained", after: settleALB, // like any other
		},
		{
			name: "a container without a hook", outcome: "drained", event: deregistered, after: settleALB,
			pod:  func(p *sim.PodSpec) { p.Sidecars = []sim.Sidecar{{Name: "logs"}} },
			also: warned("container logs of the pod has no preStop hook"),
		},
		{
			name: "returns to healthy while it settles", outcome: "drained",
			stop: func(s *scene) {
				s.LBC.Stop()
				s.AWS.SetTarget(s.group, s.pod.IP, webPort, "draining", "Target.DeregistrationInProgress")
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() { s.AWS.SetTarget(s.group, s.pod.IP, webPort, "healthy", "") })
				s.After(25*time.Second, func() {
					s.AWS.SetTarget(s.group, s.pod.IP, webPort, "", "")
					s.AWS.Deregister(s.group, s.pod.IP, webPort)
				})
			},
			event: deregistered, after: settleALB,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if got := events(a.Targets[0]); got != "left, returned, left, settled" {
					t.Errorf("the timeline is %s", got)
				}
			},
		},
		{
			name: "comes late into draining", outcome: "drained", after: settleALB,
			pod: func(p *sim.PodSpec) { p.Hook.Delay = 50 * time.Second },
		},
		{
			name: "comes late, and a neighbour's wait has seen it leave", outcome: "drained", after: settleALB,
			stop: func(s *scene) {
				s.LBC.Stop()
				s.AWS.Deregister(s.group, s.pod.IP, webPort)
				neighbour := s.Ask(webIP, "pod=web-2&namespace=default&max-delay=50&settle=40")
				s.Advance(4 * time.Second) // it has looked once, and looks again after 5 s
				_ = s.DeletePod(web, "web-1")
				s.After(40*time.Second, neighbour.HangUp)
			},
		},
		{
			name: "deregistration is over before the first look", outcome: "drained", after: settleALB,
			prepare: withoutDelay,
			pod:     func(p *sim.PodSpec) { p.Hook.Delay = 5 * time.Second },
		},
		{
			name: "the checkpoint stays empty", outcome: "drained", event: deregistered, after: settleALB,
			up: (*scene).addPending,
		},
		{
			name: "no checkpoint at all", outcome: "drained", event: deregistered, after: settleALB,
			world: func(c *sim.Config) { c.NoCheckpoint = true },
		},
		{
			name: "the group vanishes", outcome: "drained", after: 10*time.Second + settleALB, early: 5 * time.Second,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(5*time.Second, func() { s.AWS.DeleteTargetGroup(s.group) })
			},
		},
	}
}

// addPending adds a pod whose readiness gate is never served: its target stays in
// its registration, and the checkpoint empty.
func (s *scene) addPending() {
	p := s.AddPod(sim.PodSpec{Namespace: web, Name: "gated", Labels: map[string]string{"app": "web"}, Port: webPort, Gates: []string{lbc.GatePrefix + "web"}})
	s.AWS.SetTarget(s.group, p.IP, webPort, "initial", "Elb.RegistrationInProgress")
	s.Advance(30 * time.Second)
}

// events names the steps of a timeline.
func events(t api.TargetAnswer) string {
	var names []string
	for _, s := range t.Timeline {
		names = append(names, s.Event)
	}
	return strings.Join(names, ", ")
}

// longer gives the hook three minutes.
func longer(p *sim.PodSpec) { p.Hook.MaxDelay = 3 * time.Minute }
