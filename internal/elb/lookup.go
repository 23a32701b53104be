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

	"drainwait/internal/elb/limiter"
	"drainwait/internal/elb/names"
)

// How long an answer is good, and how many are remembered. The controller, too, keeps
// its list of the DNS names of load balancers for five minutes; see
// pkg/aga/dns_to_load_balancer_resolver.go there.
const (
	foundFor   = 5 * time.Minute
	lookFor    = 30 * time.Second
	refusedFor = 30 * time.Second
	failedFor  = time.Second
	maxAnswers = 1024
)

// GroupInfo is what DescribeTargetGroups says of a group.
type GroupInfo struct {
	Group      Group  // with its ARN and without its name
	TargetType string // "ip", "instance", "alb" or "lambda"
	Type       Type   // of the load balancer that the protocol belongs to
}

// question is what somebody wants to know: about a group, about its targets, or
// about the load balancer with a host name.
type question struct {
	group    Group
	look     bool
	hostname string
}

func (q question) String() string {
	if q.hostname != "" {
		return "find target groups behind " + q.hostname
	}
	return "describe target group " + cmp.Or(q.group.ARN, q.group.Name)
}

// request is a question on its way to AWS, or its last answer, or both. Everybody
// with the same question has the same one. Watcher.mu guards it.
type request struct {
	w       *Watcher
	q       question
	wakes   map[chan<- struct{}]struct{} // to wake when it makes sense to ask again
	running bool
	class   limiter.Class
	ticket  *limiter.Ticket // the last place in the queue for the rate budget
	answer
	lastErr error     // of the tries since the answer
	again   time.Time // when to try again after that

	// The goroutine of a request that is running has these for itself.
	began    time.Time // when the first call was sent, or zero
	balancer string    // ARN of the load balancer with the host name
	resolved time.Time // when that was found
}

// answer is what came of a request.
type answer struct {
	sent   time.Time // when the request was sent
	groups []GroupInfo
	look   *Look
	err    error     // a permanent one
	until  time.Time // when it is no good any more
}

// known says whether the answer counts for a question since then; a refusal counts
// for any.
func (a answer) known(since time.Time) bool {
	return (refused(a.err) || !a.sent.Before(since)) && time.Now().Before(a.until)
}

// The questions below return at once. If known is false the question is still open:
// err is then the last error, which may pass, or nil, and wake gets a token, without
// blocking, when there is an answer or it makes sense to ask again. If known is true,
// err is nil or permanent; see [IsPermanent].
//
// An answer counts if its request began at since or later. One request serves all
// who asked before it began, and runs under nobody's context. A refusal (ErrRefused,
// and ErrNoGroup of Describe) counts for half a minute for everybody with the same
// question; then those who heard it are woken, to ask again.

// Describe finds a group by its ARN, or if that is empty by its name, with the
// group's role. What an ARN stands for does not change, so that the answer is kept
// for some minutes whatever since is.
func (w *Watcher) Describe(g Group, since time.Time, wake chan<- struct{}) (info GroupInfo, known bool, err error) {
	switch {
	case g.ARN != "":
		g.Name, since = "", time.Time{}
	case g.Name == "":
		return GroupInfo{}, true, fmt.Errorf("%w: it has neither ARN nor name", ErrNoGroup)
	}
	a, known := w.ask(question{group: g}, since, limiter.Question, wake)
	if known && a.err == nil {
		info = a.groups[0]
	}
	return info, known, a.err
}

// GroupsByHostname lists the target groups of the load balancer with a DNS name, read
// with our own credentials in the Region that the name tells. Which load balancer has
// the name may be some minutes old; the list of its groups may not.
func (w *Watcher) GroupsByHostname(hostname string, since time.Time, wake chan<- struct{}) (groups []GroupInfo, known bool, err error) {
	hostname = strings.TrimSuffix(strings.ToLower(hostname), ".")
	hostname = strings.TrimPrefix(hostname, "dualstack.")
	if hostname == "" {
		return nil, true, fmt.Errorf("%w: the host name is empty", ErrNoLoadBalancer)
	}
	a, known := w.ask(question{hostname: hostname}, since, limiter.Question, wake)
	return slices.Clone(a.groups), known, a.err
}

// Look looks once at a group that need not be watched; a look of its poller serves
// as well. Unless it is urgent, nobody waits for it and all others go first.
func (w *Watcher) Look(g Group, since time.Time, urgent bool, wake chan<- struct{}) (look *Look, known bool, err error) {
	c := limiter.Sweep
	if urgent {
		c = limiter.Question
	}
	a, known := w.ask(question{group: g, look: true}, since, c, wake)
	return a.look, known, a.err
}

// Check makes one real call, DescribeTargetGroups for a page of one, with the Region
// and the role of a group, which need not exist.
func (w *Watcher) Check(ctx context.Context, g Group) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(w.ctx, func() { cancel(ErrClosed) })()
	about := cmp.Or(g.ARN, "any name")
	err := w.limit.Queue(limiter.Urgency{Class: limiter.Question}).Wait(ctx)
	if err == nil {
		_, err = call(ctx, w, "DescribeTargetGroups", about, func(ctx context.Context) (*elbv2.DescribeTargetGroupsOutput, error) {
			return wholeGroups(w.client(g).DescribeTargetGroups(ctx, &elbv2.DescribeTargetGroupsInput{PageSize: aws.Int32(1)}))
		})
	}
	if err != nil {
		return fmt.Errorf("describe target groups of %s: %w", about, err)
	}
	return nil
}

// ask is the answer to a question, or else the last error on the way to it.
func (w *Watcher) ask(q question, since time.Time, c limiter.Class, wake chan<- struct{}) (a answer, known bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.ctx.Err() != nil {
		return answer{err: ErrClosed}, true
	}
	r := w.request(q)
	known = r.known(since)
	if !known || refused(r.err) {
		r.wakes[wake] = struct{}{}
	}
	switch {
	case known:
		return r.answer, true
	case r.running && c < r.class:
		r.class = c
		r.ticket.Set(limiter.Urgency{Class: c})
	case !r.running && !time.Now().Before(r.again):
		r.start(c)
	}
	return answer{err: r.lastErr}, false
}

// request is the one for a question; call it with mu held.
func (w *Watcher) request(q question) *request {
	if r := w.requests[q]; r != nil && !r.expired() {
		return r
	}
	w.makeRoom()
	r := &request{w: w, q: q, wakes: make(map[chan<- struct{}]struct{})}
	w.requests[q] = r
	return r
}

// makeRoom forgets what has expired, and if that is not enough some answers more;
// call it with mu held. Running requests stay: there are no more than callers.
func (w *Watcher) makeRoom() {
	for q, r := range w.requests {
		if r.expired() || !r.running && len(w.requests) >= maxAnswers {
			r.wakeAll()
			delete(w.requests, q)
		}
	}
}

// expired says whether the request has neither an answer nor a pause to keep; call it
// with Watcher.mu held.
func (r *request) expired() bool {
	return !r.running && !time.Now().Before(r.until) && time.Since(r.again) > failedFor
}

// start sends the question; call it with Watcher.mu held.
func (r *request) start(c limiter.Class) {
	r.running, r.class, r.began = true, c, time.Time{}
	r.w.running.Go(func() {
		a := r.find()
		r.w.mu.Lock()
		defer r.w.mu.Unlock()
		r.running, a.sent = false, r.began
		r.end(a)
	})
}

// end takes in an answer, of the request or of the group's poller; call it with
// Watcher.mu held. It wakes who waits at once, or after an error that may pass when
// it makes sense to ask again.
func (r *request) end(a answer) {
	lasts := foundFor
	switch {
	case a.err != nil && !IsPermanent(a.err):
		r.lastErr, r.again = a.err, time.Now().Add(failedFor)
		time.AfterFunc(failedFor, r.wakeLater)
		return
	case refused(a.err):
		lasts = refusedFor
		time.AfterFunc(refusedFor, r.wakeLater)
	case r.q.look:
		lasts = lookFor
	}
	a.until = time.Now().Add(lasts)
	r.answer, r.lastErr = a, nil
	r.wakeAll()
}

func (r *request) wakeLater() {
	r.w.mu.Lock()
	defer r.w.mu.Unlock()
	r.wakeAll()
}

func (r *request) wakeAll() {
	for wake := range r.wakes {
		wakeUp(wake)
	}
	clear(r.wakes)
}

// find puts the question to AWS.
func (r *request) find() (a answer) {
	switch g := r.q.group; {
	case r.q.hostname != "":
		a.groups, a.err = r.findByHostname(r.q.hostname)
	case r.q.look:
		due := time.Now()
		if a.err = r.pay(); a.err == nil {
			a.look, a.err = r.w.look(r.w.ctx, g, due)
		}
		return a
	default:
		a.groups, a.err = r.findGroup(g)
	}
	if a.err != nil {
		a.err = fmt.Errorf("%s: %w", r.q, a.err)
	}
	return a
}

// findGroup finds the one group that g names.
func (r *request) findGroup(g Group) ([]GroupInfo, error) {
	in := &elbv2.DescribeTargetGroupsInput{TargetGroupArns: []string{g.ARN}}
	if g.ARN == "" {
		in = &elbv2.DescribeTargetGroupsInput{Names: []string{g.Name}}
	}
	groups, err := r.listGroups(g, in)
	if err == nil && (len(groups) != 1 || g.ARN != "" && groups[0].Group.ARN != g.ARN) {
		return nil, errNoAnswer
	}
	return groups, err
}

// listGroups reads all pages of a list of groups with the role of g.
func (r *request) listGroups(g Group, in *elbv2.DescribeTargetGroupsInput) (groups []GroupInfo, err error) {
	for p := elbv2.NewDescribeTargetGroupsPaginator(r.w.client(g), in); p.HasMorePages(); {
		out, err := paid(r, "DescribeTargetGroups", func(ctx context.Context) (*elbv2.DescribeTargetGroupsOutput, error) {
			return wholeGroups(p.NextPage(ctx))
		})
		if err != nil {
			return nil, err
		}
		for _, t := range out.TargetGroups {
			groups = append(groups, GroupInfo{
				Group:      Group{ARN: *t.TargetGroupArn, RoleARN: g.RoleARN, ExternalID: g.ExternalID},
				TargetType: string(t.TargetType),
				Type:       TypeOfProtocol(string(t.Protocol)),
			})
		}
	}
	return groups, nil
}

// wholeGroups turns what is no answer into an error.
func wholeGroups(out *elbv2.DescribeTargetGroupsOutput, err error) (*elbv2.DescribeTargetGroupsOutput, error) {
	if err == nil && (out.TargetGroups == nil || slices.ContainsFunc(out.TargetGroups, func(t types.TargetGroup) bool {
		return aws.ToString(t.TargetGroupArn) == ""
	})) {
		return nil, errNoAnswer
	}
	return out, err
}

// findByHostname finds the groups of the load balancer with a host name.
func (r *request) findByHostname(hostname string) ([]GroupInfo, error) {
	region, name := names.OfHostname(hostname)
	// A client is chosen by a group: this one stands for any of the Region.
	where := Group{ARN: arn.ARN{Partition: "aws", Service: "elasticloadbalancing", Region: region}.String()}
	known := time.Since(r.resolved) < foundFor
	if !known {
		found, err := r.findBalancer(r.w.client(where), hostname, name)
		if err != nil {
			return nil, err
		}
		r.balancer, r.resolved = found, time.Now()
	}
	groups, err := r.listGroups(where, &elbv2.DescribeTargetGroupsInput{LoadBalancerArn: &r.balancer})
	if known && errors.Is(err, ErrNoLoadBalancer) { // it was deleted
		r.resolved = time.Time{}
		return r.findByHostname(hostname)
	}
	return groups, err
}

// findBalancer finds the ARN of the load balancer with a host name. ELBv2 can be asked
// for a name only, which most host names contain.
func (r *request) findBalancer(api API, hostname, name string) (string, error) {
	if name != "" {
		arn, err := r.searchBalancers(api, hostname, &elbv2.DescribeLoadBalancersInput{Names: []string{name}})
		if !errors.Is(err, ErrNoLoadBalancer) && !errors.Is(err, errInvalid) { // for what cannot be a name
			return arn, err
		}
	}
	return r.searchBalancers(api, hostname, &elbv2.DescribeLoadBalancersInput{})
}

func (r *request) searchBalancers(api API, hostname string, in *elbv2.DescribeLoadBalancersInput) (string, error) {
	for p := elbv2.NewDescribeLoadBalancersPaginator(api, in); p.HasMorePages(); {
		out, err := paid(r, "DescribeLoadBalancers", func(ctx context.Context) (*elbv2.DescribeLoadBalancersOutput, error) {
			out, err := p.NextPage(ctx)
			if err == nil && out.LoadBalancers == nil {
				return nil, errNoAnswer
			}
			return out, err
		})
		if err != nil {
			return "", err
		}
		for _, lb := range out.LoadBalancers {
			if strings.EqualFold(aws.ToString(lb.DNSName), hostname) && lb.LoadBalancerArn != nil {
				return *lb.LoadBalancerArn, nil
			}
		}
	}
	return "", fmt.Errorf("%w (is it in another account or Region? see --aws-region)", ErrNoLoadBalancer)
}

// pay waits for the rate budget.
func (r *request) pay() error {
	r.w.mu.Lock()
	t := r.w.limit.Queue(limiter.Urgency{Class: r.class})
	r.ticket = t
	r.w.mu.Unlock()
	if err := t.Wait(r.w.ctx); err != nil {
		return err
	}
	if r.began.IsZero() {
		r.began = time.Now()
	}
	return nil
}

// paid sends one of the request's calls when it is paid for.
func paid[T any](r *request, operation string, send func(context.Context) (T, error)) (out T, err error) {
	if err := r.pay(); err != nil {
		return out, err
	}
	return call(r.w.ctx, r.w, operation, r.q.String(), send)
}

// call sends what is paid for, counts what came of it, and logs what AWS says of a failure.
func call[T any](ctx context.Context, w *Watcher, operation, about string, send func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	out, err := send(ctx)
	w.calls.WithLabelValues(operation, errorCode(err)).Inc()
	switch {
	case err == nil:
		return out, nil
	case w.ctx.Err() != nil:
		return out, ErrClosed
	case throttled(err):
		w.throttles.Inc()
		w.limit.Throttle()
	}
	known := classify(operation, err)
	if !errors.Is(known, ErrNoGroup) && !errors.Is(known, ErrNoLoadBalancer) && errorCode(err) != "canceled" {
		w.logFailure(operation, about, err)
	}
	return out, known
}

// sayAgain is how long a failure is not logged again: its code, of what we asked for.
const sayAgain = 10 * time.Minute

// logFailure logs what AWS says, which callers do not get.
func (w *Watcher) logFailure(operation, about string, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := [3]string{operation, about, errorCode(err)}
	if time.Since(w.said[said]) < sayAgain {
		return
	}
	if len(w.said) >= maxAnswers {
		clear(w.said) // then it says more again, up to the rate of requests
	}
	w.said[said] = time.Now()
	w.log.Warn("a call to AWS failed", "operation", operation, "about", about, "code", said[2], "error", err)
}

// look takes one look at a group, which is paid for and was due then.
func (w *Watcher) look(ctx context.Context, g Group, due time.Time) (*Look, error) {
	look := &Look{Began: time.Now(), Queued: time.Since(due)}
	var err error
	look.targets, err = call(ctx, w, "DescribeTargetHealth", g.ARN, func(ctx context.Context) ([]Target, error) {
		return targetsOf(ctx, w.client(g), g.ARN)
	})
	look.Ended = time.Now()
	look.Gone = errors.Is(err, ErrNoGroup)
	if err != nil && !look.Gone {
		return nil, fmt.Errorf("describe target health of %s: %w", g.ARN, err)
	}
	return look, nil
}
