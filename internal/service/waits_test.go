package service_test

import (
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
)

// scene is a bubble with two pods behind one load balancer, under load. The pod web-1 is
// about to stop, and its hook asks the service. The other pod stays.
type scene struct {
	*servicetest.Bubble
	lb      *aws.LoadBalancer
	group   *aws.TargetGroup
	outer   *aws.TargetGroup // of another load balancer, in some scenes
	service *corev1.Service
	binding *kube.TargetGroupBinding
	pod     *sim.PodReport
	hook    sim.Hook // of the pod
}

// waitCase is one wait: what is unusual about it, and what must come of it.
type waitCase struct {
	name  string
	kind  aws.Kind // ALB if empty
	query string   // of the hook, with IP for the pod's address; empty for ip, namespace and max-delay=60
	// What is changed before the world begins to run; each may be nil.
	pod     func(*sim.PodSpec)
	world   func(*sim.Config)
	serve   func(*service.Config)
	prepare func(*scene) // in place of the ordinary load balancer, group, Service and binding
	// up is called when the pods are ready and the load balancer knows them, which
	// takes a minute. After that, stop is called instead of deleting the pod.
	up   func(*scene)
	stop func(*scene)

	outcome string // of a 200
	status  int    // else
	// The answer comes this long after the event (if nil, after the call), or one
	// look later.
	after time.Duration
	event func(*scene) time.Duration
	// early is how much sooner the answer may come.
	early time.Duration
	// also checks more; may be nil.
	also func(*testing.T, *scene, api.Answer)
	// instead, if not nil, is the only check.
	instead func(*testing.T, *scene)
}

// TestWaits plays all wait cases: a group for each file waits_<group>_test.go. If the
// Kubernetes API or AWS shows too little of what the load balancers do, only a proof may
// say "go".
func TestWaits(t *testing.T) {
	for group, cases := range map[string][]waitCase{
		"ordinary":    ordinaryCases(),
		"discovery":   discoveryCases(),
		"hostnames":   slices.Concat(hostnameCases(), besideCases()),
		"ties":        tieLostCases(),
		"identity":    slices.Concat(identityCases(), hostNetworkCases()),
		"termination": terminationCases(),
		"late":        lateCases(),
		"budget":      slices.Concat(budgetCases(), shortCases()),
		"aws":         slices.Concat(troubleCases(), answerCases(), refusalCases()),
		"apiserver":   slices.Concat(clockCases(), apiServerCases()),
	} {
		t.Run(group, func(t *testing.T) {
			t.Parallel()
			for _, c := range cases {
				t.Run(c.name, c.run)
			}
		})
	}
}

// TestContributing checks that the example in CONTRIBUTING.md is a real one.
func TestContributing(t *testing.T) {
	page, err1 := os.ReadFile("../../CONTRIBUTING.md")
	cases, err2 := os.ReadFile("waits_budget_test.go")
	_, rest, _ := strings.Cut(string(page), "```go\n")
	example, _, ok := strings.Cut(rest, "```")
	if err1 != nil || err2 != nil || !ok || !strings.Contains(string(cases), example) {
		t.Errorf("this is not in waits_budget_test.go: %v %v\n%s", err1, err2, example)
	}
}

// oneLook is the pause between looks while something is going on, plus the space between
// a confirming look and the one before it, plus the time that both take to travel.
const oneLook = 1800 * time.Millisecond

// address is the address and port of the scene's pod as a target.
func (s *scene) address() netip.AddrPort { return netip.AddrPortFrom(s.pod.IP, webPort) }

// fresh makes a new pod with a label app. It is the scene's pod from then on.
func (s *scene) fresh(app string) {
	s.pod = s.AddPod(sim.PodSpec{
		Namespace: web, Name: "web-3", Labels: map[string]string{"app": app}, Port: webPort, Grace: 5 * time.Minute, Hook: s.hook,
	})
}

func called(s *scene) time.Duration       { return s.pod.Asked }
func deregistered(s *scene) time.Duration { return s.pod.Deregistered }

const (
	web     = "default"
	webPort = 8080
	webIP   = "10.0.77.1"
)

// ordinary is a scene as LBC makes it for an Ingress or a LoadBalancer Service.
func ordinary(kind aws.Kind) func(*scene) {
	return func(s *scene) {
		s.lb = s.AWS.AddLoadBalancer("web", kind)
		s.group = s.AWS.AddTargetGroup("web", webPort, s.lb)
		s.service = s.Kube.AddService(web, "web", map[string]string{"app": "web"}, webPort)
		s.LBC.AddIngress(web, "web", "web", s.lb)
		s.binding = s.LBC.AddBinding(web, "web", "web", s.group)
	}
}

func (c waitCase) run(t *testing.T) {
	cfg := sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}
	if c.world != nil {
		c.world(&cfg)
	}
	servicetest.Run(t, cfg, c.serve, func(b *servicetest.Bubble) {
		s := &scene{Bubble: b}
		kind := aws.ALB
		if c.kind != "" {
			kind = c.kind
		}
		if c.prepare == nil {
			c.prepare = ordinary(kind)
		}
		c.prepare(s)
		spec := sim.PodSpec{
			Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort, Grace: 5 * time.Minute,
			Hook: sim.Hook{URL: servicetest.URL, Query: strings.ReplaceAll(c.query, "IP", webIP), MaxDelay: time.Minute},
		}
		if c.pod != nil {
			c.pod(&spec)
		}
		if !spec.HostNetwork && spec.IPFamilies == nil {
			spec.Addresses = []netip.Addr{addr(webIP)}
		}
		s.pod, s.hook = s.AddPod(spec), spec.Hook
		s.AddPod(sim.PodSpec{Namespace: web, Name: "web-2", Labels: map[string]string{"app": "web"}, Port: webPort, Grace: time.Minute})
		s.Advance(time.Minute)
		if s.group != nil && s.lb != nil {
			s.AddClients(s.group, 20)
		}
		if c.up != nil {
			c.up(s)
		}
		if c.stop != nil {
			c.stop(s)
		} else if err := s.DeletePod(web, "web-1"); err != nil {
			t.Fatal(err)
		}
		if !s.AdvanceUntil(20*time.Minute, func() bool { return s.pod.Answered > 0 }) {
			t.Fatal("the hook was not answered within 20 minutes")
		}
		s.Advance(4 * time.Minute) // for requests that come too late
		if c.instead != nil {
			c.instead(t, s)
			return
		}
		c.check(t, s)
	})
}

func (c waitCase) check(t *testing.T, s *scene) {
	t.Helper()
	p := s.pod
	status := c.status
	if status == 0 {
		status = http.StatusOK
	}
	if p.Status != status || p.Outcome != c.outcome {
		t.Errorf("the answer is %d %q, want %d %q\n%s", p.Status, p.Outcome, status, c.outcome, p.Answer)
	}
	event := c.event
	if event == nil {
		event = called
	}
	want := event(s) + c.after
	if event(s) == 0 || p.Answered < want-c.early || p.Answered > want+oneLook {
		t.Errorf("the answer came %s after the event at %s, want %s or a look later\n%s", p.Answered-event(s), event(s), c.after, p.Answer)
	}
	if p.Late > 0 || p.Premature > 0 {
		t.Errorf("%d new requests arrived after the answer; premature: %d; the last arrived at %s, the answer at %s", p.Late, p.Premature, p.LastArrival, p.Answered)
	}
	var a api.Answer
	if status == http.StatusOK {
		a = (&servicetest.Call{Status: p.Status, Body: p.Answer}).OK(t)
	}
	if c.also != nil {
		c.also(t, s, a)
	}
}

// warned checks that a warning has some words in it.
func warned(words string) func(*testing.T, *scene, api.Answer) {
	return func(t *testing.T, _ *scene, a api.Answer) {
		t.Helper()
		if !strings.Contains(strings.Join(a.Warnings, "\n"), words) {
			t.Errorf("no warning says %q: %q", words, a.Warnings)
		}
	}
}

// says checks that the body of a failure has some words in it.
func says(words ...string) func(*testing.T, *scene, api.Answer) {
	return func(t *testing.T, s *scene, _ api.Answer) {
		t.Helper()
		for _, w := range words {
			if !strings.Contains(string(s.pod.Answer), w) {
				t.Errorf("the answer does not say %q: %s", w, s.pod.Answer)
			}
		}
	}
}

const (
	settleALB = 20 * time.Second
	settleNLB = 120 * time.Second
)

// TestStates has a row for each state of ELBv2's TargetHealth.
func TestStates(t *testing.T) {
	// pinned shows the pod in a state from the call on, while the load balancer really
	// stops sending to it.
	pinned := func(state, reason string) waitCase {
		return waitCase{
			name: strings.TrimSuffix(state+", "+reason, ", "),
			stop: func(s *scene) {
				s.LBC.Stop()
				s.AWS.Deregister(s.group, s.pod.IP, webPort)
				s.AWS.SetTarget(s.group, s.pod.IP, webPort, state, reason)
				_ = s.DeletePod(web, "web-1")
			},
		}
	}
	for _, x := range []struct{ state, reason string }{
		{"initial", "Elb.RegistrationInProgress"},
		{"initial", "Elb.InitialHealthChecking"},
		{"healthy", ""},
		{"unhealthy", "Target.FailedHealthChecks"},
		{"unhealthy", "Elb.InternalError"},
		{"unhealthy.draining", "Target.FailedHealthChecks"},
		{"unavailable", "Target.HealthCheckDisabled"},
		{"unavailable", "Elb.InternalError"},
		{"unused", "Target.SomethingNew"},
		{"unused", ""},
		{"resting", "Target.SomethingNew"},
		{"", ""},
	} {
		c := pinned(x.state, x.reason)
		if x.state == "" { // a state that is missing is pinned as a blank
			c = pinned(" ", "")
			c.name = "no state"
		}
		c.outcome, c.after = "budget_spent", time.Minute
		t.Run("in rotation/"+c.name, c.run)
	}
	for _, x := range []struct{ state, reason string }{
		{"draining", "Target.DeregistrationInProgress"},
		{"unused", "Target.NotRegistered"},
		{"unused", "Target.NotInUse"},
		{"unused", "Target.InvalidState"},
		{"unused", "Target.IpUnusable"},
	} {
		c := pinned(x.state, x.reason)
		c.outcome, c.after = "drained", settleALB
		t.Run("left/"+c.name, c.run)
	}
	waitCase{
		outcome: "drained", after: settleALB,
		prepare: withoutDelay,
		stop: func(s *scene) {
			s.LBC.Stop()
			s.AWS.Deregister(s.group, s.pod.IP, webPort)
			_ = s.DeletePod(web, "web-1")
		},
		also: func(t *testing.T, _ *scene, a api.Answer) {
			if a.Targets[0].State != "absent" {
				t.Errorf("state is %q, want absent", a.Targets[0].State)
			}
		},
	}.runAs(t, "left/absent")
}

func (c waitCase) runAs(t *testing.T, name string) { t.Run(name, c.run) }

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }
