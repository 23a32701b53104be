package sim

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// The one account and Region of a world.
const (
	AccountID = "123456789012"
	Region    = "us-east-1"
)

// account is the control plane of ELBv2: what its API shows. What the load
// balancers really do is in dataplane.go.
type account struct {
	balancers []*LoadBalancer
	groups    []*TargetGroup
	describe  bucket // pays for Describe* calls
	mutate    bucket // pays for RegisterTargets and DeregisterTargets
	iam       iam    // who may call; see awsapi.go
	fault     func(operation, resource string) *Fault
	calls     map[string]int // what came in through the HTTP face, by "operation code"
}

// LoadBalancer is a load balancer of the world; [World.AddLoadBalancer] makes
// one.
type LoadBalancer struct {
	arn, name, dnsName string
	kind               Kind
	nodes              []*node
	groups             []*TargetGroup
	created            time.Duration
}

// Kind is the type of a load balancer, as ELBv2 names it.
type Kind string

// The two types of load balancer that a world can hold.
const (
	ALB Kind = "application"
	NLB Kind = "network"
)

// DNSName is its host name, as an Ingress shows it in its status.
func (lb *LoadBalancer) DNSName() string { return lb.dnsName }

// TargetGroup is a target group of the world; [World.AddTargetGroup] makes one.
type TargetGroup struct {
	arn, name           string
	protocol            string
	port                int
	targetType          string
	balancer            *LoadBalancer // nil where no load balancer uses it
	deregistrationDelay time.Duration
	targets             map[targetID]*target
}

// ARN is the group's Amazon resource name.
func (g *TargetGroup) ARN() string { return g.arn }

type targetID struct {
	ip   netip.Addr
	port int
}

func (id targetID) String() string { return fmt.Sprintf("%s:%d", id.ip, id.port) }

func compareIDs(a, b targetID) int {
	return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(a.port, b.port))
}

// target is one registration of an address and a port in one group. A target
// that is registered again while it drains is the same target.
type target struct {
	id       targetID
	draining bool
	checked  bool   // the first health checks are over
	healthy  bool   // what the health checks say
	epoch    uint64 // counts (de)registrations; events planned for an earlier one are void
}

// state is the target's state and reason code as DescribeTargetHealth shows
// them; see TargetHealth in the API reference of ELBv2.
func (t *target) state() (state, reason string) {
	switch {
	case t.draining:
		return "draining", "Target.DeregistrationInProgress"
	case !t.checked:
		return "initial", "Elb.RegistrationInProgress"
	case !t.healthy:
		return "unhealthy", "Target.FailedHealthChecks"
	default:
		return "healthy", ""
	}
}

// sorted lists the group's targets in a stable order.
func (g *TargetGroup) sorted() []*target {
	ts := make([]*target, 0, len(g.targets))
	for _, t := range g.targets {
		ts = append(ts, t)
	}
	slices.SortFunc(ts, func(a, b *target) int { return compareIDs(a.id, b.id) })
	return ts
}

// apiError is an error answer of an AWS API.
type apiError struct {
	status        int
	code, message string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

var errThrottled = &apiError{400, "Throttling", "Rate exceeded"}

// Fault is what the AWS face does to a call instead of answering it.
type Fault struct {
	// Status, Code and Message are the error answer.
	Status  int
	Code    string
	Message string
	// Hang keeps the call open until its caller gives up.
	Hang bool
}

// FailAWS sets what happens to calls through the AWS face: fault is asked for
// each call, by operation and by the ARN or name that it is about; nil lets the
// call pass. Like every method without a context it is for the goroutine that
// calls Run, before Run or from an event.
func (w *World) FailAWS(fault func(operation, resource string) *Fault) { w.aws.fault = fault }

// AWSCalls counts the calls through the AWS face so far, by operation and code,
// as in "DescribeTargetHealth OK" or "DescribeTargetHealth Throttling".
func (w *World) AWSCalls() map[string]int { return w.aws.calls }

func (a *account) init(as Assumptions) {
	a.describe = newBucket(as.DescribeBurst, as.DescribeRate)
	a.mutate = newBucket(as.MutateBurst, as.MutateRate)
	a.calls = make(map[string]int)
	a.iam = newIAM()
}

// bucket is a token bucket as AWS throttles with.
type bucket struct {
	burst, rate, tokens float64
	at                  time.Duration
}

func newBucket(burst, rate float64) bucket {
	return bucket{burst: burst, rate: rate, tokens: burst}
}

// take pays one token if there is one.
func (b *bucket) take(now time.Duration) bool {
	b.tokens = min(b.burst, b.tokens+(now-b.at).Seconds()*b.rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

func (a *account) group(arn string) (*TargetGroup, error) {
	for _, g := range a.groups {
		if g.arn == arn {
			return g, nil
		}
	}
	return nil, &apiError{400, "TargetGroupNotFound", "One or more target groups not found"}
}

// AddLoadBalancer makes a load balancer that is active at once.
func (w *World) AddLoadBalancer(name string, kind Kind) *LoadBalancer {
	id := fmt.Sprintf("%016x", w.random("load balancer", name).Uint64())
	short, dns := "app", fmt.Sprintf("%s-%d.%s.elb.amazonaws.com", name, 1+len(w.aws.balancers), Region)
	if kind == NLB {
		short, dns = "net", fmt.Sprintf("%s-%s.elb.%s.amazonaws.com", name, id, Region)
	}
	lb := &LoadBalancer{
		arn:     fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:loadbalancer/%s/%s/%s", Region, AccountID, short, name, id),
		name:    name,
		dnsName: dns,
		kind:    kind,
		created: w.now,
	}
	for i := range w.cfg.Assumptions.Nodes {
		lb.nodes = append(lb.nodes, &node{name: fmt.Sprintf("%s/%d", name, i), views: make(map[*TargetGroup][]*target)})
	}
	w.aws.balancers = append(w.aws.balancers, lb)
	return lb
}

// AddTargetGroup makes a group of ip targets behind lb, which may be nil.
func (w *World) AddTargetGroup(name string, port int, lb *LoadBalancer) *TargetGroup {
	g := &TargetGroup{
		arn: fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:targetgroup/%s/%016x",
			Region, AccountID, name, w.random("target group", name).Uint64()),
		name:                name,
		protocol:            "HTTP",
		port:                port,
		targetType:          "ip",
		balancer:            lb,
		deregistrationDelay: w.cfg.Assumptions.DeregistrationDelay,
		targets:             make(map[targetID]*target),
	}
	if lb != nil {
		lb.groups = append(lb.groups, g)
		if lb.kind == NLB {
			g.protocol = "TCP"
		}
	}
	w.aws.groups = append(w.aws.groups, g)
	return g
}

// register is RegisterTargets: the targets are "initial" until the first health
// checks are over, and then the nodes learn of them one by one.
func (w *World) register(g *TargetGroup, ids []targetID) {
	for _, id := range ids {
		t := g.targets[id]
		if t != nil && !t.draining {
			continue
		}
		if t == nil {
			t = &target{id: id}
			g.targets[id] = t
		}
		t.draining, t.checked = false, false
		t.epoch++
		epoch := t.epoch
		as := &w.cfg.Assumptions
		w.after(w.draw(as.RegistrationTime, "registration", g.name+id.String()), func() {
			if t.epoch != epoch {
				return
			}
			t.checked, t.healthy = true, w.listening(id)
			for _, n := range g.nodes() {
				w.after(w.draw(as.NodeLearnsNew, "learns new", n.name+g.name+id.String()), func() {
					if t.epoch == epoch {
						n.add(g, t)
					}
				})
			}
		})
	}
}

// deregister is DeregisterTargets: the targets are "draining" at once and
// absent after the deregistration delay, while the nodes learn of it one by
// one. The slowest node takes the whole tail.
func (w *World) deregister(g *TargetGroup, ids []targetID) {
	for _, id := range ids {
		t := g.targets[id]
		if t == nil || t.draining {
			continue
		}
		t.draining = true
		t.epoch++
		epoch := t.epoch
		w.after(g.deregistrationDelay, func() {
			if t.epoch == epoch {
				delete(g.targets, id)
			}
		})
		w.planTail(g, t)
	}
}

// healthChange is called when the application at an address begins or ceases
// to answer; the health checks find out later.
func (w *World) healthChange(ip netip.Addr) {
	for _, g := range w.aws.groups {
		for _, t := range g.sorted() {
			if t.id.ip != ip || t.draining || !t.checked {
				continue
			}
			epoch := t.epoch
			w.after(w.draw(w.cfg.Assumptions.UnhealthyTime, "health", g.name+t.id.String()), func() {
				if t.epoch == epoch {
					t.healthy = w.listening(t.id)
				}
			})
		}
	}
}
