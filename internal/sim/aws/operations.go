package aws

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"drainwait/internal/sim/aws/query"
)

// vpcID is the one VPC of the account.
const vpcID = "vpc-0simulated"

// zones are the targets' zones, by the last byte of their address or name.
var zones = [...]string{Region + "a", Region + "b", Region + "c"}

func zoneOf(id TargetID) string {
	if id.Name != "" {
		return zones[int(id.Name[len(id.Name)-1])%len(zones)]
	}
	b := id.IP.As16()
	return zones[int(b[15])%len(zones)]
}

// visible says whether the caller may use the group.
func (c *call) visible(g *TargetGroup) bool {
	owner := c.a.iam.owners[g.arn]
	return owner == "" || owner == c.caller.role
}

// group looks a target group up for the caller.
func (c *call) group(arn string) (*TargetGroup, error) {
	if arn == "" {
		return nil, query.Missing("targetGroupArn")
	}
	if err := c.validARN("target group", arn); err != nil {
		return nil, err
	}
	g, err := c.a.Group(arn)
	if err == nil && !c.visible(g) {
		return nil, c.denied("elasticloadbalancing:"+c.action, arn)
	}
	return g, err
}

// validARN refuses anything that is not the ARN of such a thing in this account and
// Region, as AWS does before it looks for the thing.
func validARN(kind, arn string) error {
	resource := strings.ReplaceAll(kind, " ", "") + "/"
	if !strings.HasPrefix(arn, "arn:aws:elasticloadbalancing:"+Region+":"+AccountID+":"+resource) {
		return query.Invalid("'%s' is not a valid %s ARN", arn, kind)
	}
	return nil
}

// validARN is the same, with the error that the account gives; see
// [Account.ForeignNotFound].
func (c *call) validARN(kind, arn string) error {
	err := validARN(kind, arn)
	parts := strings.SplitN(arn, ":", 6)
	foreign := len(parts) == 6 && parts[2] == "elasticloadbalancing" && strings.HasPrefix(parts[5], strings.ReplaceAll(kind, " ", "")+"/")
	switch {
	case err == nil, !foreign, !c.a.foreignNotFound:
		return err
	case kind == "load balancer":
		return noBalancer(arn)
	default:
		return errNoGroup
	}
}

// NamedTarget is a target as a request names it.
type NamedTarget struct {
	ID   TargetID
	Zone string // "" if the request names none
}

// targets reads the Targets of a request. A target without a port means the
// group's port.
func (c *call) targets(g *TargetGroup) ([]NamedTarget, error) {
	var ts []NamedTarget
	for {
		member := "Targets.member." + strconv.Itoa(len(ts)+1)
		id := c.form.Get(member + ".Id")
		if id == "" {
			return ts, nil
		}
		t, ok := g.parseTarget(id)
		if !ok {
			return nil, query.Errorf(400, "InvalidTarget",
				"The specified target does not exist, is not in the same VPC as the target group, or has an unsupported instance type.")
		}
		port, err := c.form.Number(member+".Port", 1, 65535, g.port)
		if err != nil {
			return nil, err
		}
		t.Port = port
		ts = append(ts, NamedTarget{t, c.form.Get(member + ".AvailabilityZone")})
	}
}

// parseTarget reads a target's Id, which depends on the group's target type.
func (g *TargetGroup) parseTarget(id string) (TargetID, bool) {
	switch g.targetType {
	case "instance":
		return TargetID{Name: id}, strings.HasPrefix(id, "i-")
	case "alb":
		return TargetID{Name: id}, validARN("load balancer", id) == nil
	default:
		ip, err := netip.ParseAddr(id)
		return TargetID{IP: ip}, err == nil && ip.Zone() == ""
	}
}

// find is the registration that t names. The whole identity has to match.
func (g *TargetGroup) find(t NamedTarget) *target {
	if t.Zone != "" && t.Zone != zoneOf(t.ID) {
		return nil
	}
	return g.targets[t.ID]
}

func (c *call) describeTargetHealth() (any, error) {
	g, err := c.group(c.form.Get("TargetGroupArn"))
	if err != nil {
		return nil, err
	}
	asked, err := c.targets(g)
	if err != nil {
		return nil, err
	}
	return appendHealths(nil, g.Health(asked...)), nil
}

// TargetHealth is one row of DescribeTargetHealth.
type TargetHealth struct {
	NamedTarget
	State, Reason string
}

// Health is DescribeTargetHealth for those targets, or for all targets of the
// group if none are asked for.
func (g *TargetGroup) Health(asked ...NamedTarget) []TargetHealth {
	if len(asked) == 0 {
		rows := make([]TargetHealth, 0, len(g.targets))
		for _, t := range g.sorted() {
			rows = append(rows, g.health(t))
		}
		return rows
	}
	rows := make([]TargetHealth, 0, len(asked))
	for _, a := range asked {
		if t := g.find(a); t != nil {
			rows = append(rows, g.health(t))
		} else {
			rows = append(rows, TargetHealth{a, "unused", "Target.NotRegistered"})
		}
	}
	return rows
}

func (g *TargetGroup) health(t *target) TargetHealth {
	state, reason := t.state()
	if g.balancer == nil && t.pinned == "" {
		state, reason = "unused", "Target.NotInUse"
	}
	return TargetHealth{NamedTarget{t.id, zoneOf(t.id)}, state, reason}
}

// healthDescriptions are AWS's words for the reasons.
var healthDescriptions = map[string]string{
	"Elb.RegistrationInProgress":      "Target registration is in progress",
	"Target.DeregistrationInProgress": "Target deregistration is in progress",
	"Target.FailedHealthChecks":       "Health checks failed",
	"Target.NotInUse":                 "Target group is not configured to receive traffic from the load balancer",
	"Target.NotRegistered":            "Target is not registered to the target group",
}

// appendHealths renders the result of DescribeTargetHealth. It is written by hand because
// most requests to a world are polls, and encoding/xml takes eight times as long.
func appendHealths(b []byte, rows []TargetHealth) []byte {
	b = slices.Grow(b, 400*len(rows)+64)
	b = append(b, "<TargetHealthDescriptions>"...)
	for _, r := range rows {
		b = append(b, "<member><HealthCheckPort>"...)
		b = strconv.AppendInt(b, int64(r.ID.Port), 10)
		b = append(b, "</HealthCheckPort><Target>"...)
		b = query.AppendElement(b, "AvailabilityZone", r.Zone)
		b = append(b, "<Id>"...)
		if r.ID.Name != "" {
			b = append(b, r.ID.Name...)
		} else {
			b = r.ID.IP.AppendTo(b)
		}
		b = append(b, "</Id><Port>"...)
		b = strconv.AppendInt(b, int64(r.ID.Port), 10)
		b = append(b, "</Port></Target><TargetHealth>"...)
		b = query.AppendElement(b, "Description", healthDescriptions[r.Reason])
		b = query.AppendElement(b, "Reason", r.Reason)
		b = query.AppendElement(b, "State", r.State)
		b = append(b, "</TargetHealth></member>"...)
	}
	return append(b, "</TargetHealthDescriptions>"...)
}

type xmlTargetGroup struct {
	TargetGroupArn, TargetGroupName, Protocol string
	Port                                      int
	VpcId, TargetType, IpAddressType          string
	LoadBalancerArns                          []string `xml:"LoadBalancerArns>member"`
}

type xmlTargetGroups struct {
	TargetGroups []xmlTargetGroup `xml:"TargetGroups>member"`
	NextMarker   string           `xml:",omitempty"`
}

func (c *call) describeTargetGroups() (any, error) {
	groups, err := c.chosenGroups()
	if err != nil {
		return nil, err
	}
	groups, next, err := query.Page(c.form, groups)
	if err != nil {
		return nil, err
	}
	result := xmlTargetGroups{NextMarker: next}
	for _, g := range groups {
		x := xmlTargetGroup{
			TargetGroupArn: g.arn, TargetGroupName: g.name, Protocol: g.protocol, Port: g.port,
			VpcId: vpcID, TargetType: g.targetType, IpAddressType: "ipv4",
		}
		if g.ipv6 {
			x.IpAddressType = "ipv6"
		}
		if g.balancer != nil {
			x.LoadBalancerArns = []string{g.balancer.arn}
		}
		result.TargetGroups = append(result.TargetGroups, x)
	}
	return result, nil
}

// chosenGroups are the groups that DescribeTargetGroups asks for. It may choose
// in one way only.
func (c *call) chosenGroups() ([]*TargetGroup, error) {
	arns, names, balancer := c.form.List("TargetGroupArns"), c.form.List("Names"), c.form.Get("LoadBalancerArn")
	switch {
	case len(arns) > 0 && len(names) > 0, balancer != "" && len(arns)+len(names) > 0:
		return nil, query.Invalid("Only one of target group ARNs, target group names and load balancer ARN can be specified")
	case len(arns) > 0:
		return collect(arns, c.group)
	case len(names) > 0:
		return collect(names, c.groupNamed)
	}
	groups := c.a.groups
	if balancer != "" {
		lb, err := c.balancer(balancer)
		if err != nil {
			return nil, err
		}
		groups = lb.groups
	}
	return slices.DeleteFunc(slices.Clone(groups), func(g *TargetGroup) bool { return !c.visible(g) }), nil
}

func (c *call) groupNamed(name string) (*TargetGroup, error) {
	g, err := c.a.GroupNamed(name)
	if err != nil {
		return nil, err
	}
	return c.group(g.arn)
}

// collect looks up every one of keys.
func collect[T any](keys []string, find func(string) (T, error)) ([]T, error) {
	found := make([]T, 0, len(keys))
	for _, k := range keys {
		v, err := find(k)
		if err != nil {
			return nil, err
		}
		found = append(found, v)
	}
	return found, nil
}

type xmlLoadBalancer struct {
	LoadBalancerArn, LoadBalancerName, DNSName string
	Type                                       Kind
	State                                      string `xml:"State>Code"`
	Scheme, VpcId, IpAddressType, CreatedTime  string
}

type xmlLoadBalancers struct {
	LoadBalancers []xmlLoadBalancer `xml:"LoadBalancers>member"`
	NextMarker    string            `xml:",omitempty"`
}

func (c *call) describeLoadBalancers() (any, error) {
	balancers, err := c.chosenBalancers()
	if err != nil {
		return nil, err
	}
	balancers, next, err := query.Page(c.form, balancers)
	if err != nil {
		return nil, err
	}
	result := xmlLoadBalancers{NextMarker: next}
	for _, lb := range balancers {
		result.LoadBalancers = append(result.LoadBalancers, xmlLoadBalancer{
			LoadBalancerArn: lb.arn, LoadBalancerName: lb.name, DNSName: lb.dnsName, Type: lb.kind,
			State: "active", Scheme: "internet-facing", VpcId: vpcID, IpAddressType: "ipv4",
			CreatedTime: query.Time(c.a.line.Wall(lb.created)),
		})
	}
	return result, nil
}

// chosenBalancers are the load balancers that DescribeLoadBalancers asks for.
func (c *call) chosenBalancers() ([]*LoadBalancer, error) {
	arns, names := c.form.List("LoadBalancerArns"), c.form.List("Names")
	switch {
	case len(arns) > 0 && len(names) > 0:
		return nil, query.Invalid("Load balancer names and load balancer ARNs cannot be specified at the same time")
	case len(arns) > 20 || len(names) > 20:
		return nil, query.Invalid("Only 20 load balancers can be described by ARN or name at the same time")
	case len(arns) > 0:
		return collect(arns, c.balancer)
	case len(names) > 0:
		return collect(names, func(name string) (*LoadBalancer, error) {
			return c.findBalancer(func(lb *LoadBalancer) bool { return lb.name == name }, name)
		})
	}
	return c.a.balancers, nil
}

func (c *call) balancer(arn string) (*LoadBalancer, error) {
	if err := c.validARN("load balancer", arn); err != nil {
		return nil, err
	}
	return c.findBalancer(func(lb *LoadBalancer) bool { return lb.arn == arn }, arn)
}

func (c *call) findBalancer(match func(*LoadBalancer) bool, what string) (*LoadBalancer, error) {
	if i := slices.IndexFunc(c.a.balancers, match); i >= 0 {
		return c.a.balancers[i], nil
	}
	return nil, noBalancer(what)
}

func noBalancer(what string) error {
	return query.Errorf(400, "LoadBalancerNotFound", "Load balancers '[%s]' not found", what)
}

func (c *call) registerTargets() (any, error) {
	g, ts, err := c.groupAndTargets()
	if err != nil {
		return nil, err
	}
	ids := make([]TargetID, len(ts))
	for i, t := range ts {
		ids[i] = t.ID
	}
	c.a.RegisterTargets(g, ids)
	return struct{}{}, nil
}

// deregisterTargets treats targets that are not registered as done, as AWS does.
func (c *call) deregisterTargets() (any, error) {
	g, ts, err := c.groupAndTargets()
	if err != nil {
		return nil, err
	}
	var ids []TargetID
	for _, t := range ts {
		if g.find(t) != nil {
			ids = append(ids, t.ID)
		}
	}
	c.a.deregisterByHand(g, ids)
	return struct{}{}, nil
}

func (c *call) groupAndTargets() (*TargetGroup, []NamedTarget, error) {
	g, err := c.group(c.form.Get("TargetGroupArn"))
	if err != nil {
		return nil, nil, err
	}
	ts, err := c.targets(g)
	if err == nil && len(ts) == 0 {
		err = query.Missing("targets")
	}
	return g, ts, err
}
