package service_test

import (
	"bytes"
	"net/http"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
)

// overIPv6 has an IPv6 group and an IPv6 Service.
func overIPv6(s *scene) {
	ordinary(aws.ALB)(s)
	s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: "six", Port: webPort, Balancer: s.lb, IPv6: true})
	s.Kube.Apply(lbc.NewBinding(web, "web", "web", s.group))
	s.service.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	s.Kube.Apply(s.service)
}

// withoutDelay has a group whose targets are gone from the list as soon as they
// are deregistered.
func withoutDelay(s *scene) {
	ordinary(aws.ALB)(s)
	s.group = s.AWS.AddGroup(aws.TargetGroupSpec{Name: "short", Port: webPort, Balancer: s.lb, DeregistrationDelay: new(time.Duration)})
	s.binding.Spec.TargetGroupARN = s.group.ARN()
	s.Kube.Apply(s.binding)
}

func nameOnly(s *scene) {
	s.binding.Spec.TargetGroupARN, s.binding.Spec.TargetGroupName = "", "web"
	s.Kube.Apply(s.binding)
}

// otherAccount hides the group from everybody except a role.
func otherAccount(s *scene) {
	const role = "arn:aws:iam::" + aws.AccountID + ":role/other"
	s.AWS.AddRole(role, "secret")
	s.AWS.RequireRole(s.group.ARN(), role)
	s.binding.Spec.IAMRoleARNToAssume, s.binding.Spec.AssumeRoleExternalID = role, "secret"
	s.Kube.Apply(s.binding)
}

// instances puts instance targets behind the Service.
func instances(s *scene) {
	group := s.AWS.AddGroup(aws.TargetGroupSpec{Name: "nodes", Port: 30080, Balancer: s.lb, TargetType: "instance"})
	s.AWS.RegisterNamed(group, "i-0123456789abcdef0", 30080)
	s.LBC.AddBinding(web, "nodes", "web", group)
}

// refuse denies an operation of AWS.
func refuse(operation string) func(string, string) *aws.Fault {
	return fault(operation, aws.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: "User is not authorized"})
}

func fault(operation string, f aws.Fault) func(string, string) *aws.Fault {
	return func(op, _ string) *aws.Fault {
		if op == operation || operation == "" && strings.HasPrefix(op, "Describe") {
			return &f
		}
		return nil
	}
}

// unbound is a scene in which only host names lead to the group: nobody can see a
// TargetGroupBinding, and the load balancer belongs to somebody else.
func unbound(kind aws.Kind, change func(*scene)) func(*scene) {
	return func(s *scene) {
		ordinary(kind)(s)
		s.Kube.Remove(s.binding)
		if kind == aws.NLB {
			lbc.Expose(s.service, s.lb)
			s.Kube.Apply(s.service)
			s.Kube.Remove(lbc.NewIngress(web, "web", "web"))
		}
		if change != nil {
			change(s)
		}
	}
}

// byHand registers both pods, and deregisters web-1 three seconds after its deletion.
func byHand(c waitCase) waitCase {
	c.up = func(s *scene) {
		for _, p := range s.Pods() {
			s.AWS.Register(s.group, p.IP, webPort)
		}
		s.Advance(time.Minute)
	}
	c.stop = func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		s.After(3*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
	}
	return c
}

// departed is the moment by which the hook had asked and the pod was deregistered.
func departed(s *scene) time.Duration { return max(s.pod.Deregistered, s.pod.Asked) }

// patient gives the hook four minutes.
func patient(p *sim.PodSpec) { p.Hook.MaxDelay = 4 * time.Minute }

// outer has a second load balancer in front of the same Service, which somebody other
// than the controller fills.
func outer(s *scene) {
	ordinary(aws.ALB)(s)
	lb := s.AWS.AddLoadBalancer("outer", aws.ALB)
	s.outer = s.AWS.AddTargetGroup("outer", webPort, lb)
	s.LBC.AddIngress(web, "outer", "web", lb)
}

func leavesOuterLate(s *scene) {
	s.AWS.Register(s.outer, s.pod.IP, webPort)
	s.Advance(time.Minute)
	s.AddClients(s.outer, 20)
	_ = s.DeletePod(web, "web-1")
	s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
	s.After(40*time.Second, func() { s.AWS.Deregister(s.outer, s.pod.IP, webPort) })
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu  sync.Mutex // guards the rest; held for a moment only
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
