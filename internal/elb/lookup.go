package elb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
)

// How long an answer is good: what was found, that nothing is there, and that
// the question could not be put. The controller resolves DNS names of load
// balancers by a list that it keeps for five minutes, too; see
// pkg/aga/dns_to_load_balancer_resolver.go there.
const (
	foundFor  = 5 * time.Minute
	absentFor = 10 * time.Second
	failedFor = time.Second
)

// maxAnswers is how many answers are remembered.
const maxAnswers = 1024

// GroupInfo is what DescribeTargetGroups says of a group.
type GroupInfo struct {
	Group      Group  // with its ARN and without its name
	TargetType string // "ip", "instance", "alb" or "lambda"
	Type       Type   // of the load balancer that the protocol belongs to
}

// question is what somebody wants to know: about a group, or else about the
// load balancer with a host name.
type question struct {
	group    Group
	hostname string
}

// answer is shared by everybody who has the same question. Watcher.mu guards it
// until done is closed; after that it is never changed.
type answer struct {
	done   chan struct{}
	groups []GroupInfo
	err    error
	until  time.Time // when it has to be asked again; zero while nobody knows
}

// Describe finds a group by its ARN, or by its name where that is empty, with
// the group's role. The answer is kept for some minutes. Trouble that passes is
// waited out until ctx ends; ErrDenied and ErrNoGroup come at once.
func (w *Watcher) Describe(ctx context.Context, g Group) (GroupInfo, error) {
	switch {
	case g.ARN != "":
		g.Name = ""
	case g.Name == "":
		return GroupInfo{}, fmt.Errorf("%w: it has neither ARN nor name", ErrNoGroup)
	}
	groups, err := w.ask(ctx, question{group: g})
	if err != nil {
		return GroupInfo{}, err
	}
	return groups[0], nil
}

// Behind lists the target groups of the load balancer with a DNS name, read
// with our own credentials in the Region that the name tells. The answer is kept
// for some minutes. Trouble that passes is waited out until ctx ends; ErrDenied
// and ErrNoLoadBalancer come at once.
func (w *Watcher) Behind(ctx context.Context, hostname string) ([]GroupInfo, error) {
	hostname = strings.TrimSuffix(strings.ToLower(hostname), ".")
	hostname = strings.TrimPrefix(hostname, "dualstack.")
	if hostname == "" {
		return nil, fmt.Errorf("%w: the host name is empty", ErrNoLoadBalancer)
	}
	groups, err := w.ask(ctx, question{hostname: hostname})
	return slices.Clone(groups), err
}

// ask waits for the answer to a question, and asks again for as long as trouble
// lasts that may pass.
func (w *Watcher) ask(ctx context.Context, q question) ([]GroupInfo, error) {
	last := fmt.Errorf("%s: no answer yet", q)
	for {
		a := w.answer(q)
		select {
		case <-a.done:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
		if a.err == nil || Decides(a.err) {
			return a.groups, a.err
		}
		last = a.err
		select {
		case <-time.After(time.Until(a.until)):
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", context.Cause(ctx), last)
		}
	}
}

func (q question) String() string {
	if q.hostname != "" {
		return "find target groups behind " + q.hostname
	}
	return "describe target group " + cmp.Or(q.group.ARN, q.group.Name)
}

// answer is the one that is known, or the one that is being looked for from now
// on.
func (w *Watcher) answer(q question) *answer {
	w.mu.Lock()
	defer w.mu.Unlock()
	a := w.answers[q]
	if a != nil && (a.until.IsZero() || time.Now().Before(a.until)) {
		return a
	}
	a = &answer{done: make(chan struct{})}
	if w.ctx.Err() != nil {
		a.err = ErrClosed
		close(a.done)
		return a
	}
	w.makeRoom()
	w.answers[q] = a
	w.running.Go(func() {
		groups, err := w.find(q)
		w.mu.Lock()
		a.groups, a.err = groups, err
		a.until = time.Now().Add(validity(err))
		w.mu.Unlock()
		close(a.done)
	})
	return a
}

func validity(err error) time.Duration {
	switch {
	case err == nil:
		return foundFor
	case Decides(err):
		return absentFor
	default:
		return failedFor
	}
}

// makeRoom forgets what is over, and some answers more where that is not
// enough; call it with mu held. What is being looked for stays: there is no more
// of it than there are callers.
func (w *Watcher) makeRoom() {
	now := time.Now()
	for q, a := range w.answers {
		if !a.until.IsZero() && (len(w.answers) >= maxAnswers || !now.Before(a.until)) {
			delete(w.answers, q)
		}
	}
}

func (w *Watcher) find(q question) (groups []GroupInfo, err error) {
	if q.hostname != "" {
		groups, err = w.findBehind(q.hostname)
	} else {
		groups, err = w.findGroup(q.group)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", q, err)
	}
	return groups, nil
}

// findGroup finds the one group that g names.
func (w *Watcher) findGroup(g Group) ([]GroupInfo, error) {
	in := &elbv2.DescribeTargetGroupsInput{TargetGroupArns: []string{g.ARN}}
	if g.ARN == "" {
		in = &elbv2.DescribeTargetGroupsInput{Names: []string{g.Name}}
	}
	out, err := paidRequest(w, "DescribeTargetGroups", func(ctx context.Context) (*elbv2.DescribeTargetGroupsOutput, error) {
		return w.client(g).DescribeTargetGroups(ctx, in)
	})
	if err != nil {
		return nil, err
	}
	if len(out.TargetGroups) == 0 {
		return nil, ErrNoGroup
	}
	return []GroupInfo{groupInfo(g, out.TargetGroups[0])}, nil
}

// groupInfo describes a group that was read with the role of g.
func groupInfo(g Group, t types.TargetGroup) GroupInfo {
	return GroupInfo{
		Group:      Group{ARN: aws.ToString(t.TargetGroupArn), RoleARN: g.RoleARN, ExternalID: g.ExternalID},
		TargetType: string(t.TargetType),
		Type:       TypeOfProtocol(string(t.Protocol)),
	}
}

// findBehind finds the groups of the load balancer with a host name.
func (w *Watcher) findBehind(hostname string) ([]GroupInfo, error) {
	region, name := splitHostname(hostname)
	// A client is chosen by a group, so this stands for any group of the Region.
	api := w.client(Group{ARN: arn.ARN{Partition: "aws", Service: "elasticloadbalancing", Region: region}.String()})
	balancer, err := w.findBalancer(api, hostname, name)
	if err != nil {
		return nil, err
	}
	var groups []GroupInfo
	for p := elbv2.NewDescribeTargetGroupsPaginator(api, &elbv2.DescribeTargetGroupsInput{LoadBalancerArn: &balancer}); p.HasMorePages(); {
		out, err := paidRequest(w, "DescribeTargetGroups", func(ctx context.Context) (*elbv2.DescribeTargetGroupsOutput, error) {
			return p.NextPage(ctx)
		})
		if err != nil {
			return nil, err
		}
		for _, t := range out.TargetGroups {
			groups = append(groups, groupInfo(Group{}, t))
		}
	}
	return groups, nil
}

// findBalancer finds the ARN of the load balancer with a host name. ELBv2 cannot
// be asked for a host name, but mostly it tells the name, which can.
func (w *Watcher) findBalancer(api API, hostname, name string) (string, error) {
	if name != "" {
		arn, err := w.searchBalancers(api, hostname, &elbv2.DescribeLoadBalancersInput{Names: []string{name}})
		// No valid name is a ValidationError, which is marked as ErrNoGroup.
		if err == nil || !errors.Is(err, ErrNoLoadBalancer) && !errors.Is(err, ErrNoGroup) {
			return arn, err
		}
	}
	return w.searchBalancers(api, hostname, &elbv2.DescribeLoadBalancersInput{})
}

func (w *Watcher) searchBalancers(api API, hostname string, in *elbv2.DescribeLoadBalancersInput) (string, error) {
	for p := elbv2.NewDescribeLoadBalancersPaginator(api, in); p.HasMorePages(); {
		out, err := paidRequest(w, "DescribeLoadBalancers", func(ctx context.Context) (*elbv2.DescribeLoadBalancersOutput, error) {
			return p.NextPage(ctx)
		})
		if err != nil {
			return "", err
		}
		for _, lb := range out.LoadBalancers {
			if strings.EqualFold(aws.ToString(lb.DNSName), hostname) {
				return aws.ToString(lb.LoadBalancerArn), nil
			}
		}
	}
	return "", fmt.Errorf("%w (is it in another account or Region? see --aws-region)", ErrNoLoadBalancer)
}

// splitHostname finds the Region and the name of a load balancer in its host
// name, which has one of two forms, each in China with ".cn" at the end:
//
//	[internal-]<name>-<id>.<region>.elb.amazonaws.com   (ALB)
//	<name>-<id>.elb.<region>.amazonaws.com              (NLB)
//
// A name never begins with "internal-"; see CreateLoadBalancer in the API
// reference of ELBv2. Both are empty where the host name has another form.
func splitHostname(hostname string) (region, name string) {
	labels := strings.Split(hostname, ".")
	switch {
	case len(labels) < 5:
		return "", ""
	case labels[2] == "elb":
		region = labels[1]
	case labels[1] == "elb":
		region = labels[2]
	default:
		return "", ""
	}
	name = strings.TrimPrefix(labels[0], "internal-")
	name = name[:max(0, strings.LastIndexByte(name, '-'))]
	return region, name
}

// paidRequest is a request that waits for its turn in the rate budget first.
func paidRequest[T any](w *Watcher, operation string, send func(context.Context) (T, error)) (out T, err error) {
	t := w.limit.queue(nudged)
	select {
	case <-t.ready:
	case <-w.ctx.Done():
		t.cancel()
		return out, ErrClosed
	}
	out, err = request(w.ctx, w, operation, send)
	switch {
	case w.ctx.Err() != nil:
		return out, ErrClosed
	case err != nil:
		return out, classify(operation, err)
	}
	return out, nil
}

// request sends a request that is paid for, and tells all who need to know what
// came of it.
func request[T any](ctx context.Context, w *Watcher, operation string, send func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	out, err := send(ctx)
	w.observe(operation, errorCode(err))
	if throttled(err) {
		w.limit.throttled()
	}
	return out, err
}
