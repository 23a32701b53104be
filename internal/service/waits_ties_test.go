package service_test

import (
	"fmt"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// tieLostCases delete a pod some time after an edit has removed what tied it to its
// target group, as a blue-green switch or a changed Ingress does. The load balancer goes
// on sending for its whole tail.
func tieLostCases() (cases []waitCase) {
	losses := []struct {
		name string
		lose func(*scene)
		// unseen: only a controller that is present learns of it.
		unseen bool
	}{
		{"binding switched", func(s *scene) { s.binding.Spec.ServiceRef.Name = "green"; s.Kube.Apply(s.binding) }, false},
		{"binding deleted", func(s *scene) { s.Kube.Delete(s.binding) }, false},
		{"binding gone", func(s *scene) { s.Kube.Remove(s.binding) }, true},
		{"selector switched", func(s *scene) { s.Kube.SetSelector(s.service, map[string]string{"app": "green"}) }, false},
		{"label taken off", func(s *scene) { s.Kube.SetLabels(web, "web-1", map[string]string{"app": "debug"}) }, false},
		{"Service deleted", func(s *scene) { s.Kube.Delete(s.service) }, false},
	}
	n := 0
	for _, l := range losses {
		for _, before := range []time.Duration{100 * time.Millisecond, 500 * time.Millisecond, 3 * time.Second, 8 * time.Second} {
			for range 2 {
				world := behind{
					kinds: [][]aws.Kind{{aws.ALB}, {aws.NLB}, {aws.ALB, aws.NLB}}[n%3],
					delay: time.Duration(n/3%2) * 300 * time.Second,
					away:  !l.unseen && n%5 < 2,
				}
				n++
				cases = append(cases, world.lost(l.name, before, l.lose))
			}
		}
	}
	return cases
}

// behind says which load balancers the pod is behind, which deregistration delay their
// groups have, and whether the controller is away when the pod is deleted.
type behind struct {
	kinds []aws.Kind
	delay time.Duration
	away  bool
}

func (b behind) lost(what string, before time.Duration, lose func(*scene)) waitCase {
	c := waitCase{
		name: fmt.Sprintf("%s %s before, %v, delay %s, leader away %t", what, before, b.kinds, b.delay, b.away),
		pod:  patient, prepare: b.prepare, outcome: "drained", event: departed, after: settleALB,
		stop: func(s *scene) {
			if b.away {
				s.LBC.ChangeLeader()
			}
			lose(s)
			s.After(before, func() { _ = s.DeletePod(web, "web-1") })
		},
	}
	if b.kinds[len(b.kinds)-1] == aws.NLB {
		c.after = settleNLB
	}
	// Deregistered counts from the call's return. The pod can leave earlier during the
	// call, and then a look sees that at once.
	c.early = 3 * time.Second
	return c
}

// prepare makes the load balancers. The last of the bindings is the scene's.
func (b behind) prepare(s *scene) {
	s.service = s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
	s.Kube.AddService(web, "green", map[string]string{"app": "green"}, webPort)
	s.AddPod(sim.PodSpec{Namespace: web, Name: "green-1", Labels: map[string]string{"app": "green"}, Port: webPort})
	for _, kind := range b.kinds {
		name := "web-" + string(kind)
		s.lb = s.AWS.AddLoadBalancer(name, kind)
		s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: name, Port: webPort, Balancer: s.lb, DeregistrationDelay: &b.delay})
		s.binding = s.LBC.AddBinding(web, name, "web", s.group)
	}
}
