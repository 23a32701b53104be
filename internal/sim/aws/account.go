// Package aws is a simulated AWS account: what the APIs of ELBv2 and STS show, who may
// call them, and what the nodes of its load balancers do, which learn late. It knows
// no Kubernetes: a target is an address.
package aws

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drainwait/internal/sim/aws/query"
	"drainwait/internal/sim/timeline"
)

// The one account and Region of a world.
const (
	AccountID = "123456789012"
	Region    = "us-east-1"
)

// Account is the control plane of ELBv2: what its API shows. What the load
// balancers really do is in dataplane.go. Its methods are for the goroutine that
// owns the timeline.
type Account struct {
	// Assumptions are looked up each time, and may change meanwhile.
	Assumptions *Assumptions

	line      *timeline.Timeline
	hosts     Hosts
	balancers []*LoadBalancer
	groups    []*TargetGroup
	describe  Bucket // pays for Describe* calls
	mutate    Bucket // pays for RegisterTargets and DeregisterTargets
	iam       iam    // who may call; see api.go
	fault     func(operation, resource string) *Fault
	calls     map[string]int // what came in through the HTTP face, by "operation code"
	// ARNs of another account or Region are "not found" instead of "not valid".
	foreignNotFound bool
}

// Hosts are the machines at the addresses of targets. An account knows nothing
// else of what is behind its load balancers.
type Hosts struct {
	// Listening says whether an application answers there.
	Listening func(TargetID) bool
	// Registered is told of each registration. Deregistered is told of each one that
	// somebody other than LBC ends. Both may be nil.
	Registered, Deregistered func(*TargetGroup, TargetID)
}

// New makes an account without load balancers.
func New(line *timeline.Timeline, as *Assumptions, hosts Hosts) *Account {
	return &Account{
		Assumptions: as,
		line:        line,
		hosts:       hosts,
		describe:    NewBucket(as.DescribeBurst, as.DescribeRate),
		mutate:      NewBucket(as.MutateBurst, as.MutateRate),
		iam:         iam{make(map[string]string), make(map[string]iamSession), make(map[string]string), false},
		calls:       make(map[string]int),
	}
}

// LoadBalancer is a load balancer of the world; [Account.AddLoadBalancer] makes
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

// Kind is its type.
func (lb *LoadBalancer) Kind() Kind { return lb.kind }

// TargetGroup is a target group of the world; [Account.AddTargetGroup] makes one.
type TargetGroup struct {
	arn, name           string
	protocol            string
	port                int
	targetType          string
	ipv6                bool
	balancer            *LoadBalancer // nil if no load balancer uses it
	next                *TargetGroup  // where the rules that once led here lead now; nil while they lead here
	deregistrationDelay time.Duration
	targets             map[TargetID]*target
}

// ARN is the group's Amazon resource name.
func (g *TargetGroup) ARN() string { return g.arn }

// Name is the group's name.
func (g *TargetGroup) Name() string { return g.name }

// Port is the port of a target whose registration names none.
func (g *TargetGroup) Port() int { return g.port }

// Protocol is HTTP, or TCP behind an NLB.
func (g *TargetGroup) Protocol() string { return g.protocol }

// TargetType is "ip", "instance" or "alb".
func (g *TargetGroup) TargetType() string { return g.targetType }

// IPv6 says whether its targets have IPv6 addresses.
func (g *TargetGroup) IPv6() bool { return g.ipv6 }

// Balancer is the load balancer that uses the group, nil if none does.
func (g *TargetGroup) Balancer() *LoadBalancer { return g.balancer }

// LeadTo makes the rules that lead to the group lead to another one from now on.
func (g *TargetGroup) LeadTo(next *TargetGroup) { g.next = next }

// Registered lists the targets that are not draining, in a stable order.
func (g *TargetGroup) Registered() []TargetID {
	var ids []TargetID
	for _, t := range g.sorted() {
		if !t.draining {
			ids = append(ids, t.id)
		}
	}
	return ids
}

// IsRegistered says whether a target is in the group and not draining.
func (g *TargetGroup) IsRegistered(id TargetID) bool {
	t := g.targets[id]
	return t != nil && !t.draining
}

// TargetID is an address and a port. If the target is an instance or a load
// balancer, it has a name instead of an address.
type TargetID struct {
	IP   netip.Addr
	Name string
	Port int
}

// host is the target's Id in the API.
func (id TargetID) host() string {
	if id.Name != "" {
		return id.Name
	}
	return id.IP.String()
}

func (id TargetID) String() string { return fmt.Sprintf("%s:%d", id.host(), id.Port) }

// CompareIDs orders targets.
func CompareIDs(a, b TargetID) int {
	return cmp.Or(a.IP.Compare(b.IP), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Port, b.Port))
}

// target is one registration of an address and a port in one group. If it is registered
// again while it drains, it is still the same target.
type target struct {
	id       TargetID
	draining bool
	checked  bool   // the first health checks are over
	healthy  bool   // what the health checks say
	epoch    uint64 // counts (de)registrations; events planned for an earlier one are void
	// If not empty, the API shows this instead.
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
	slices.SortFunc(ts, func(a, b *target) int { return CompareIDs(a.id, b.id) })
	return ts
}

var errThrottled = query.Errorf(400, "Throttling", "Rate exceeded")

// ForeignNotFound decides how the API refuses the ARN of another Region or account: as
// not found, or as not valid, which is the default. Both have been seen in the field.
func (a *Account) ForeignNotFound(on bool) { a.foreignNotFound = on }

// Calls counts the calls through the AWS face so far, by operation and code,
// as in "DescribeTargetHealth OK" or "DescribeTargetHealth Throttling".
func (a *Account) Calls() map[string]int { return a.calls }

// Bucket is a token bucket, with which AWS and LBC throttle.
type Bucket struct {
	burst, rate, tokens float64
	at                  time.Duration
}

// NewBucket makes a full bucket. rate is how much it gains back per second.
func NewBucket(burst, rate float64) Bucket {
	return Bucket{burst: burst, rate: rate, tokens: burst}
}

// Take pays one token if there is one.
func (b *Bucket) Take(now time.Duration) bool {
	b.tokens = min(b.burst, b.tokens+(now-b.at).Seconds()*b.rate)
	b.at = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}

// Balancers are the load balancers in the order in which they were made.
func (a *Account) Balancers() []*LoadBalancer { return a.balancers }

// Groups are the target groups in the order in which they were made.
func (a *Account) Groups() []*TargetGroup { return a.groups }

// Refusal is the error that LBC's own call about a group gets. The call takes a token
// like the calls that come in over HTTP.
func (a *Account) Refusal(operation, arn string) error {
	if !operations[operation].bucket(a).Take(a.line.Present()) {
		return errThrottled
	}
	_, err := a.Group(arn)
	return err
}

// Group finds a group; the error is that of the API.
func (a *Account) Group(arn string) (*TargetGroup, error) {
	return a.findGroup(func(g *TargetGroup) bool { return g.arn == arn })
}

// GroupNamed finds a group; the error is that of the API.
func (a *Account) GroupNamed(name string) (*TargetGroup, error) {
	return a.findGroup(func(g *TargetGroup) bool { return g.name == name })
}

func (a *Account) findGroup(match func(*TargetGroup) bool) (*TargetGroup, error) {
	if i := slices.IndexFunc(a.groups, match); i >= 0 {
		return a.groups[i], nil
	}
	return nil, errNoGroup
}

var errNoGroup = query.Errorf(400, "TargetGroupNotFound", "One or more target groups not found")

// AddLoadBalancer makes a load balancer that is active at once.
func (a *Account) AddLoadBalancer(name string, kind Kind) *LoadBalancer {
	id := fmt.Sprintf("%016x", a.line.Random("load balancer", name).Uint64())
	short, dns := "app", fmt.Sprintf("%s-%d.%s.elb.amazonaws.com", name, 1+len(a.balancers), Region)
	if kind == NLB {
		short, dns = "net", fmt.Sprintf("%s-%s.elb.%s.amazonaws.com", name, id, Region)
	}
	lb := &LoadBalancer{
		arn:     fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:loadbalancer/%s/%s/%s", Region, AccountID, short, name, id),
		name:    name,
		dnsName: dns,
		kind:    kind,
		created: a.line.Present(),
	}
	for i := range a.Assumptions.Nodes {
		lb.nodes = append(lb.nodes, &node{name: fmt.Sprintf("%s/%d", name, i), views: make(map[*TargetGroup][]*target)})
	}
	a.balancers = append(a.balancers, lb)
	return lb
}

// TargetGroupSpec describes a target group for [Account.AddGroup].
type TargetGroupSpec struct {
	Name string
	Port int
	// Balancer may be nil: a group that no load balancer uses.
	Balancer *LoadBalancer
	// TargetType is "ip", "instance" or "alb"; empty for "ip".
	TargetType string
	// IPv6 makes ipv6 its address type instead of ipv4.
	IPv6 bool
	// DeregistrationDelay is the one of the Assumptions if it is nil. With a delay
	// of zero a target is gone from the list at once, while the nodes still send.
	DeregistrationDelay *time.Duration
}

// AddTargetGroup makes a group of ip targets behind lb, which may be nil.
func (a *Account) AddTargetGroup(name string, port int, lb *LoadBalancer) *TargetGroup {
	return a.AddGroup(TargetGroupSpec{Name: name, Port: port, Balancer: lb})
}

// AddGroup makes a target group.
func (a *Account) AddGroup(s TargetGroupSpec) *TargetGroup {
	g := &TargetGroup{
		arn: fmt.Sprintf("arn:aws:elasticloadbalancing:%s:%s:targetgroup/%s/%016x",
			Region, AccountID, s.Name, a.line.Random("target group", s.Name).Uint64()),
		name:                s.Name,
		protocol:            "HTTP",
		port:                s.Port,
		targetType:          cmp.Or(s.TargetType, "ip"),
		ipv6:                s.IPv6,
		balancer:            s.Balancer,
		deregistrationDelay: a.Assumptions.DeregistrationDelay,
		targets:             make(map[TargetID]*target),
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
	a.groups = append(a.groups, g)
	return g
}

// RegisterTargets is the call of that name: the targets are "initial" until the first health
// checks are over, and then the nodes learn of them one by one.
func (a *Account) RegisterTargets(g *TargetGroup, ids []TargetID) {
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
		if a.hosts.Registered != nil {
			a.hosts.Registered(g, id)
		}
		a.line.After(a.line.Draw(a.Assumptions.RegistrationTime, "registration", g.name+id.String()), func() {
			if t.epoch != epoch {
				return
			}
			t.checked, t.healthy = true, a.listening(id)
			for _, n := range g.nodes() {
				a.line.After(a.line.Draw(a.Assumptions.NodeLearnsNew, "learns new", n.name+g.name+id.String()), func() {
					if t.epoch == epoch {
						n.add(g, t)
					}
				})
			}
		})
	}
}

// DeregisterTargets is the call of that name, as LBC makes it: the targets are
// "draining" at once and absent after the deregistration delay, while the nodes
// learn of it one by one. The slowest node takes the whole tail. It returns those
// that were not draining before.
func (a *Account) DeregisterTargets(g *TargetGroup, ids []TargetID) (left []TargetID) {
	for _, id := range ids {
		t := g.targets[id]
		if t == nil || t.draining {
			continue
		}
		left = append(left, id)
		t.draining = true
		t.epoch++
		epoch := t.epoch
		a.line.After(g.deregistrationDelay, func() {
			if t.epoch == epoch {
				delete(g.targets, id)
			}
		})
		a.planTail(g, t)
	}
	return left
}

// deregisterByHand is a DeregisterTargets call by somebody other than LBC.
func (a *Account) deregisterByHand(g *TargetGroup, ids []TargetID) {
	for _, id := range a.DeregisterTargets(g, ids) {
		if a.hosts.Deregistered != nil {
			a.hosts.Deregistered(g, id)
		}
	}
}

// HealthChanged is called when what is at some addresses begins to answer or stops. The
// health checks find out later.
func (a *Account) HealthChanged(ids []TargetID) {
	for _, g := range a.groups {
		for _, id := range ids {
			t := g.targets[id]
			if t == nil || t.draining || !t.checked {
				continue
			}
			epoch := t.epoch
			a.line.After(a.line.Draw(a.Assumptions.UnhealthyTime, "health", g.name+t.id.String()), func() {
				if t.epoch == epoch {
					t.healthy = a.listening(t.id)
				}
			})
		}
	}
}

// listening says what the health checks of a target find. A target that is not an
// address is assumed to answer.
func (a *Account) listening(id TargetID) bool { return id.Name != "" || a.hosts.Listening(id) }

// The methods below are for tests that play LBC or AWS.

// Register is RegisterTargets for one address and port, at once.
func (a *Account) Register(g *TargetGroup, ip netip.Addr, port int) {
	a.RegisterTargets(g, []TargetID{{IP: ip, Port: port}})
}

// RegisterNamed is Register for an instance or a load balancer: the Id of the
// target is a name. No traffic can follow it to a pod.
func (a *Account) RegisterNamed(g *TargetGroup, name string, port int) {
	a.RegisterTargets(g, []TargetID{{Name: name, Port: port}})
}

// Deregister is DeregisterTargets for one address and port, at once.
func (a *Account) Deregister(g *TargetGroup, ip netip.Addr, port int) {
	a.deregisterByHand(g, []TargetID{{IP: ip, Port: port}})
}

// SetTarget pins what DescribeTargetHealth says about a target: any state and reason,
// even one that AWS does not know. If necessary it registers the target. An empty state
// ends the pin, and the API shows the truth again. Only the answer changes: the nodes
// send as before, except that the nodes of an NLB open no new connection to a target
// that shows as "unhealthy.draining".
func (a *Account) SetTarget(g *TargetGroup, ip netip.Addr, port int, state, reason string) {
	id := TargetID{IP: ip, Port: port}
	if g.targets[id] == nil {
		a.RegisterTargets(g, []TargetID{id})
	}
	t := g.targets[id]
	t.pinned, t.pinnedReason = state, reason
}

// RemoveTarget removes a target from the list and from the view of every node, at once.
func (a *Account) RemoveTarget(g *TargetGroup, ip netip.Addr, port int) {
	id := TargetID{IP: ip, Port: port}
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

// DeleteTargetGroup deletes a group and everything in it. No node sends to it any more.
func (a *Account) DeleteTargetGroup(g *TargetGroup) {
	for id := range g.targets {
		g.targets[id].epoch++
	}
	for _, n := range g.nodes() {
		delete(n.views, g)
	}
	a.ForgetGroup(g)
}

// DeleteLoadBalancer deletes a load balancer. Its nodes send nothing more, and its groups
// are no longer in use.
func (a *Account) DeleteLoadBalancer(lb *LoadBalancer) {
	for _, g := range lb.groups {
		g.balancer = nil
	}
	lb.groups = nil
	a.balancers = slices.DeleteFunc(a.balancers, func(x *LoadBalancer) bool { return x == lb })
}

// ForgetGroup removes a group from the API. The nodes go on with what they know of it.
func (a *Account) ForgetGroup(g *TargetGroup) {
	clear(g.targets)
	is := func(x *TargetGroup) bool { return x == g }
	a.groups = slices.DeleteFunc(a.groups, is)
	if g.balancer != nil {
		g.balancer.groups = slices.DeleteFunc(g.balancer.groups, is)
	}
}
