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
	// ARNs of another account or Region are not found instead of not valid.
	foreignNotFound bool
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
	ipv6                bool
	balancer            *LoadBalancer // nil where no load balancer uses it
	next                *TargetGroup  // where the rules lead that once led here; nil while they do
	deregistrationDelay time.Duration
	targets             map[targetID]*target
}

// ARN is the group's Amazon resource name.
func (g *TargetGroup) ARN() string { return g.arn }

// targetID is an address and a port. Where the target is an instance or a load
// balancer, it has a name instead of an address.
type targetID struct {
	ip   netip.Addr
	name string
	port int
}

// host is the target's Id in the API.
func (id targetID) host() string {
	if id.name != "" {
		return id.name
	}
	return id.ip.String()
}

func (id targetID) String() string { return fmt.Sprintf("%s:%d", id.host(), id.port) }

func compareIDs(a, b targetID) int {
	return cmp.Or(a.ip.Compare(b.ip), cmp.Compare(a.name, b.name), cmp.Compare(a.port, b.port))
}

// target is one registration of an address and a port in one group. A target
// that is registered again while it drains is the same target.
type target struct {
	id       targetID
	draining bool
	checked  bool   // the first health checks are over
	healthy  bool   // what the health checks say
	epoch    uint64 // counts (de)registrations; events planned for an earlier one are void
	pod      *pod   // whose address it was when it was registered; nil for nobody's
	// What the API shows instead of all that, where not empty.
	pinned, pinnedReason string
}

// state is the target's state and reason code as DescribeTargetHealth shows
// them; see TargetHealth in the API reference of ELBv2.
func (t *target) state() (state, reason string) {
	switch {
	case t.pinned != "":
		return t.pinned, t.pinnedReason
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
	// Garble, where not nil, makes another answer of the one that the call would
	// have had, which it gets. Status is then that of the answer, 200 where it is
	// zero, and Code and Message have no meaning. AWSCalls counts the call as
	// "Garbled".
	Garble func(answer []byte) []byte
	// ContentType is that of a garbled answer; empty for text/xml.
	ContentType string
}

// NonAnswer is an answer that is none: what is between a client and AWS, or AWS
// itself on a bad day, sends it in place of one.
type NonAnswer struct {
	Name string
	Fault
}

// NonAnswers are all that the world knows. The SDK makes an empty output of most
// of them, without an error: measured with v1.63.8 of elasticloadbalancingv2.
func NonAnswers() []NonAnswer {
	always := func(body string) func([]byte) []byte { return func([]byte) []byte { return []byte(body) } }
	response := func(inner string) func([]byte) []byte {
		return always(`<DescribeTargetHealthResponse xmlns="` + elbService.namespace + `">` + inner +
			"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></DescribeTargetHealthResponse>")
	}
	return []NonAnswer{
		{"empty", Fault{Garble: always("")}},
		{"no content", Fault{Status: 204, Garble: always("")}},
		{"OK", Fault{Garble: always("OK"), ContentType: "text/plain"}},
		{"XML declaration alone", Fault{Garble: always(`<?xml version="1.0" encoding="UTF-8"?>`)}},
		{"JSON", Fault{Garble: always(`{"TargetHealthDescriptions":[]}`), ContentType: "application/json"}},
		{"page of a proxy", Fault{Garble: always("<html><body>Sign in</body></html>"), ContentType: "text/html"}},
		{"truncated", Fault{Garble: func(answer []byte) []byte { return answer[:len(answer)*2/3] }}},
		{"no result", Fault{Garble: response("")}},
		{"no list", Fault{Garble: response("<DescribeTargetHealthResult></DescribeTargetHealthResult>")}},
	}
}

// FailAWS sets what happens to calls through the AWS face: fault is asked for
// each call, by operation and by the ARN or name that it is about; nil lets the
// call pass. Like every method without a context it is for the goroutine that
// calls Run, before Run or from an event.
func (w *World) FailAWS(fault func(operation, resource string) *Fault) { w.aws.fault = fault }

// ForeignNotFound decides how the API refuses the ARN of another Region or account:
// as not found, or, as at first, as not valid. Both are seen in the field.
func (w *World) ForeignNotFound(on bool) { w.aws.foreignNotFound = on }

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
	return a.findGroup(func(g *TargetGroup) bool { return g.arn == arn })
}

func (a *account) groupNamed(name string) (*TargetGroup, error) {
	return a.findGroup(func(g *TargetGroup) bool { return g.name == name })
}

func (a *account) findGroup(match func(*TargetGroup) bool) (*TargetGroup, error) {
	if i := slices.IndexFunc(a.groups, match); i >= 0 {
		return a.groups[i], nil
	}
	return nil, errNoGroup
}

var errNoGroup = &apiError{400, "TargetGroupNotFound", "One or more target groups not found"}

// AddLoadBalancer makes a load balancer that is active at once.
func (w *World) AddLoadBalancer(name string, kind Kind) *LoadBalancer {
	id := fmt.Sprintf("%016x", w.Random("load balancer", name).Uint64())
	short, dns := "app", fmt.Sprintf("%s-%d.%s.elb.amazonaws.com", name, 1+len(w.aws.balancers), Region)
	if kind == NLB {
		short, dns = "net", fmt.Sprintf("%s-%s.elb.%s.amazonaws.com", name, id, Region)
	}
	lb := &LoadBalancer{
		arn:     fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:loadbalancer/%s/%s/%s", Region, AccountID, short, name, id),
		name:    name,
		dnsName: dns,
		kind:    kind,
		created: w.Present(),
	}
	for i := range w.cfg.Assumptions.Nodes {
		lb.nodes = append(lb.nodes, &node{name: fmt.Sprintf("%s/%d", name, i), views: make(map[*TargetGroup][]*target)})
	}
	w.aws.balancers = append(w.aws.balancers, lb)
	return lb
}

// TargetGroupSpec describes a target group for [World.AddGroup].
type TargetGroupSpec struct {
	Name string
	Port int
	// Balancer may be nil: a group that no load balancer uses.
	Balancer *LoadBalancer
	// TargetType is "ip", "instance" or "alb"; empty for "ip".
	TargetType string
	// IPv6 makes ipv6 its address type instead of ipv4.
	IPv6 bool
	// DeregistrationDelay, where nil, is that of the Assumptions. After one of
	// zero a target is gone from the list at once, while the nodes still send.
	DeregistrationDelay *time.Duration
}

// AddTargetGroup makes a group of ip targets behind lb, which may be nil.
func (w *World) AddTargetGroup(name string, port int, lb *LoadBalancer) *TargetGroup {
	return w.AddGroup(TargetGroupSpec{Name: name, Port: port, Balancer: lb})
}

// AddGroup makes a target group.
func (w *World) AddGroup(s TargetGroupSpec) *TargetGroup {
	g := &TargetGroup{
		arn: fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:targetgroup/%s/%016x",
			Region, AccountID, s.Name, w.Random("target group", s.Name).Uint64()),
		name:                s.Name,
		protocol:            "HTTP",
		port:                s.Port,
		targetType:          cmp.Or(s.TargetType, "ip"),
		ipv6:                s.IPv6,
		balancer:            s.Balancer,
		deregistrationDelay: w.cfg.Assumptions.DeregistrationDelay,
		targets:             make(map[targetID]*target),
	}
	if d := s.DeregistrationDelay; d != nil {
		g.deregistrationDelay = *d
	}
	if lb := s.Balancer; lb != nil {
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
		t.pod = w.receiver(id)
		t.epoch++
		epoch := t.epoch
		as := &w.cfg.Assumptions
		w.After(w.Draw(as.RegistrationTime, "registration", g.name+id.String()), func() {
			if t.epoch != epoch {
				return
			}
			t.checked, t.healthy = true, w.listening(id)
			for _, n := range g.nodes() {
				w.After(w.Draw(as.NodeLearnsNew, "learns new", n.name+g.name+id.String()), func() {
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
// one. The slowest node takes the whole tail. It returns the pods that leave.
func (w *World) deregister(g *TargetGroup, ids []targetID) (left []*pod) {
	for _, id := range ids {
		t := g.targets[id]
		if t == nil || t.draining {
			continue
		}
		if t.pod != nil {
			left = append(left, t.pod)
		}
		t.draining = true
		t.epoch++
		epoch := t.epoch
		w.After(g.deregistrationDelay, func() {
			if t.epoch == epoch {
				delete(g.targets, id)
			}
		})
		w.planTail(g, t)
	}
	return left
}

// deregisterByHand is DeregisterTargets of somebody who is not LBC.
func (w *World) deregisterByHand(g *TargetGroup, ids []targetID) {
	for _, p := range w.deregister(g, ids) {
		p.deregistered(w.Present(), false)
	}
}

// healthChange is called when a container begins or ceases to answer; the
// health checks find out later.
func (w *World) healthChange(c *container) {
	for _, g := range w.aws.groups {
		for _, id := range c.targets() {
			t := g.targets[id]
			if t == nil || t.draining || !t.checked {
				continue
			}
			epoch := t.epoch
			w.After(w.Draw(w.cfg.Assumptions.UnhealthyTime, "health", g.name+t.id.String()), func() {
				if t.epoch == epoch {
					t.healthy = w.listening(t.id)
				}
			})
		}
	}
}

// The methods below are the hands of who plays LBC, or AWS.

// Register is RegisterTargets for one address and port, at once.
func (w *World) Register(g *TargetGroup, ip netip.Addr, port int) {
	w.register(g, []targetID{{ip: ip, port: port}})
}

// RegisterNamed is Register for an instance or a load balancer: the Id of the
// target is a name. No traffic can follow it to a pod.
func (w *World) RegisterNamed(g *TargetGroup, name string, port int) {
	w.register(g, []targetID{{name: name, port: port}})
}

// Deregister is DeregisterTargets for one address and port, at once.
func (w *World) Deregister(g *TargetGroup, ip netip.Addr, port int) {
	w.deregisterByHand(g, []targetID{{ip: ip, port: port}})
}

// SetTarget pins what DescribeTargetHealth says of a target: any state and
// reason, those that AWS does not know included. It registers the target if
// need be. An empty state ends that, and shows again what is true. Only the
// answer changes: the nodes send as before, except that those of an NLB open no
// new connection to a target that shows as "unhealthy.draining".
func (w *World) SetTarget(g *TargetGroup, ip netip.Addr, port int, state, reason string) {
	id := targetID{ip: ip, port: port}
	if g.targets[id] == nil {
		w.register(g, []targetID{id})
	}
	t := g.targets[id]
	t.pinned, t.pinnedReason = state, reason
}

// RemoveTarget takes a target away: from the list and from the view of every
// node, at once.
func (w *World) RemoveTarget(g *TargetGroup, ip netip.Addr, port int) {
	id := targetID{ip: ip, port: port}
	t := g.targets[id]
	if t == nil {
		return
	}
	t.epoch++
	delete(g.targets, id)
	for _, n := range g.nodes() {
		n.drop(g, t)
	}
}

// DeleteTargetGroup deletes a group with all that is in it: no node sends to it any
// more.
func (w *World) DeleteTargetGroup(g *TargetGroup) {
	for id := range g.targets {
		g.targets[id].epoch++
	}
	for _, n := range g.nodes() {
		delete(n.views, g)
	}
	w.forgetGroup(g)
}

// DeleteLoadBalancer deletes a load balancer: its nodes send nothing more, and its
// groups are in no use.
func (w *World) DeleteLoadBalancer(lb *LoadBalancer) {
	for _, g := range lb.groups {
		g.balancer = nil
	}
	lb.groups = nil
	w.aws.balancers = slices.DeleteFunc(w.aws.balancers, func(x *LoadBalancer) bool { return x == lb })
}

// forgetGroup takes a group out of the API. What nodes know of it they go on with.
func (w *World) forgetGroup(g *TargetGroup) {
	clear(g.targets)
	is := func(x *TargetGroup) bool { return x == g }
	w.aws.groups = slices.DeleteFunc(w.aws.groups, is)
	if g.balancer != nil {
		g.balancer.groups = slices.DeleteFunc(g.balancer.groups, is)
	}
}
