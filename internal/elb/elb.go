// Package elb watches target groups of Elastic Load Balancing (ELBv2), with one
// poller per group for any number of waiters.
package elb

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"drainwait/internal/elb/names"
)

// API is what this package needs of the AWS SDK's ELBv2 client.
type API interface {
	elbv2.DescribeTargetHealthAPIClient
	elbv2.DescribeTargetGroupsAPIClient
	elbv2.DescribeLoadBalancersAPIClient
}

// Group names a target group and who may read it.
type Group struct {
	ARN string
	// Name is how [Watcher.Describe] finds a group whose ARN is empty; it is
	// empty everywhere else.
	Name                string
	RoleARN, ExternalID string // the role to assume for the calls; empty for our own credentials
}

// Region is the Region in the group's ARN; see [names.Region].
func (g Group) Region() string { return names.Region(g.ARN) }

// Type is the type of the load balancer that a target group serves.
type Type string

// The types that the wait tells apart; "" where the type is not known.
const (
	ALB Type = "application"
	NLB Type = "network"
)

// TypeOfProtocol tells the load balancer type by the protocol of a target
// group: ALB speaks HTTP and HTTPS, NLB all others. See "Protocol" of
// CreateTargetGroup in the API reference of ELBv2.
func TypeOfProtocol(protocol string) Type {
	switch protocol {
	case "":
		return ""
	case "HTTP", "HTTPS":
		return ALB
	default:
		return NLB
	}
}

// Target is one registration of an address and a port in a group.
type Target struct {
	IP   netip.Addr
	Port int
	// State and Reason are as in TargetHealth of the API reference of ELBv2,
	// such as "draining" and "Target.DeregistrationInProgress".
	State  types.TargetHealthStateEnum
	Reason types.TargetHealthReasonEnum
}

// Look is one whole, unfiltered list of a group's targets. It is never changed.
type Look struct {
	// Began and Ended are when the request was sent and when its answer was
	// there: the list was true at some moment between them.
	Began, Ended time.Time
	Queued       time.Duration // how long it waited for the rate budget after it was due
	Gone         bool          // there is no such group (TargetGroupNotFound), so it lists nothing
	targets      []Target      // in order of address
}

// At lists the targets with an address, one for each port; none where the group
// does not hold it.
func (l *Look) At(ip netip.Addr) []Target {
	ip = ip.Unmap()
	from, found := slices.BinarySearchFunc(l.targets, ip, func(t Target, ip netip.Addr) int { return t.IP.Compare(ip) })
	if !found {
		return nil
	}
	to := from + 1
	for to < len(l.targets) && l.targets[to].IP == ip {
		to++
	}
	return l.targets[from:to:to]
}

// Of is the look without targets at other addresses, which it does not keep in memory.
func (l *Look) Of(addrs []netip.Addr) *Look {
	part := *l
	part.targets = nil
	for _, ip := range addrs {
		part.targets = append(part.targets, l.At(ip)...)
	}
	slices.SortStableFunc(part.targets, compareTargets)
	return &part
}

// Targets are all targets with an address, in order of it.
func (l *Look) Targets() iter.Seq[Target] { return slices.Values(l.targets) }

func compareTargets(a, b Target) int { return cmp.Or(a.IP.Compare(b.IP), a.Port-b.Port) }

// differs says whether the targets at one of the addresses differ from those in an
// older look.
func (l *Look) differs(older *Look, addrs []netip.Addr) bool {
	return l.Gone != older.Gone || slices.ContainsFunc(addrs, func(ip netip.Addr) bool {
		return !slices.Equal(l.At(ip), older.At(ip))
	})
}

// Errors that another try would not cure. All others are taken to pass.
var (
	ErrRefused        = errors.New("AWS refuses the request") // or there are no credentials for it
	ErrNoGroup        = errors.New("target group not found")  // in this account and Region
	ErrNoLoadBalancer = errors.New("load balancer not found") // in this account and Region, by host name
	ErrClosed         = errors.New("watcher of target groups is closed")
)

// errInvalid is the refusal of what cannot be the name of anything.
var errInvalid = fmt.Errorf("%w as invalid", ErrRefused)

// ErrNotOurs is the [ErrNoGroup] of a group that we have never seen: there may have
// been none.
var ErrNotOurs = fmt.Errorf("%w (%s)", ErrNoGroup, elsewhere)

// Answers that are none pass: something between us and AWS answered instead.
//
// Of a body without a root element (empty, plain text, JSON) and a status from 200
// to 299 the SDK makes an empty output without an error, which would look like a
// group without targets. In the output of its deserializers an absent list is nil,
// and an empty one, written as <A></A> or <A/>, is not. That AWS itself writes the
// element for an empty list was not checked with AWS; the API reference lists it in
// every answer. If AWS left it out, no wait would take the group for left.
const noAnswer = "this is not an answer from ELBv2: %s (is there a proxy between the service and AWS?)"

var (
	errNoAnswer   = fmt.Errorf(noAnswer, "the list, or a name in it, is missing or unknown")
	errUnreadable = fmt.Errorf(noAnswer, fmt.Sprintf("it cannot be read, or has more than %d MiB", maxAnswer>>20))
)

// IsPermanent says whether another try would not cure err.
func IsPermanent(err error) bool {
	return refused(err) || errors.Is(err, ErrNoLoadBalancer) || errors.Is(err, ErrClosed)
}

// refused says whether err is remembered as a refusal.
func refused(err error) bool { return errors.Is(err, ErrRefused) || errors.Is(err, ErrNoGroup) }

// targetsOf takes one look at a group.
func targetsOf(ctx context.Context, api API, groupARN string) ([]Target, error) {
	out, err := api.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &groupARN})
	if err != nil {
		return nil, err
	}
	if out.TargetHealthDescriptions == nil {
		return nil, errNoAnswer
	}
	var targets []Target
	for _, d := range out.TargetHealthDescriptions {
		id := ""
		if d.Target != nil {
			id = strings.TrimSpace(aws.ToString(d.Target.Id))
		}
		ip, err := netip.ParseAddr(id)
		switch {
		case strings.HasPrefix(id, "i-"), strings.HasPrefix(id, "arn:"):
			continue // an instance, a function or a load balancer
		case err != nil:
			return nil, errNoAnswer // it could be anyone
		}
		t := Target{IP: ip.Unmap(), Port: int(aws.ToInt32(d.Target.Port))}
		if d.TargetHealth != nil {
			t.State, t.Reason = d.TargetHealth.State, d.TargetHealth.Reason
		}
		targets = append(targets, t)
	}
	slices.SortStableFunc(targets, compareTargets)
	return targets, nil
}

// Hints: for what may be in another account or Region, and for credentials.
const (
	elsewhere        = "is it in another account or Region? see --aws-region and the TargetGroupBinding's iamRoleArnToAssume"
	checkCredentials = "check the credentials of the service: profile, IRSA or Pod Identity"
	checkRole        = "may the service assume the role of the TargetGroupBinding's iamRoleArnToAssume? see the role's trust policy and external ID, and sts:AssumeRole of the service's own role"
)

// classify says of an error what its callers may know: whether another try would cure
// it, its code, and a hint. Of the text of AWS, which has accounts, roles, sessions and
// requests in it, nothing is left. Only TargetGroupNotFound says that a group is gone; a
// ValidationError says only that it cannot be read, as when the ARN is of another account
// or Region.
func classify(operation string, err error) error {
	code := errorCode(err)
	if c, ok := errors.AsType[*credentialError](err); ok {
		return fmt.Errorf("%w: %s (%s)", c.kind, code, c.hint)
	}
	kind, hint := ErrRefused, ""
	switch code {
	case "TargetGroupNotFound":
		kind, hint = ErrNoGroup, elsewhere
	case "LoadBalancerNotFound":
		return fmt.Errorf("%w: %s", ErrNoLoadBalancer, code)
	case "ValidationError":
		kind, hint = errInvalid, elsewhere
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		hint = fmt.Sprintf("grant elasticloadbalancing:%s; see deploy/iam-policy.json", operation)
	case "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "MissingAuthenticationToken", "IncompleteSignature", "AuthFailure", "OptInRequired":
		hint = checkCredentials
	default:
		return passing(code, err)
	}
	return fmt.Errorf("%w: %s (%s)", kind, code, hint)
}

// passing is what callers may know of an error that another try may cure.
func passing(code string, err error) error {
	_, unreadable := errors.AsType[*smithy.DeserializationError](err)
	_, unsent := errors.AsType[*smithyhttp.RequestSendError](err)
	switch {
	case errors.Is(err, errNoAnswer):
		return errNoAnswer
	case throttled(err):
		return fmt.Errorf("AWS turns requests away for their rate: %s", code)
	case code == "timeout":
		return fmt.Errorf("no answer from AWS in time: %s", code)
	case unreadable:
		return errUnreadable
	case unsent:
		return errors.New("AWS cannot be reached")
	}
	return fmt.Errorf("the request failed: %s", code)
}

// properCode is what an error code of AWS looks like. What is none can be anything.
var properCode = regexp.MustCompile(`^[A-Za-z0-9._:-]{1,64}$`)

// errorCode is the code of an error of AWS or of our side of the call: "Throttling",
// "AccessDenied", "timeout" and so on; "OK" for none.
func errorCode(err error) string {
	if err == nil {
		return "OK"
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && properCode.MatchString(api.ErrorCode()) {
		return api.ErrorCode()
	}
	network, ok := errors.AsType[net.Error](err)
	switch {
	case errors.Is(err, context.DeadlineExceeded), ok && network.Timeout():
		return "timeout"
	case errors.Is(err, context.Canceled):
		return "canceled"
	}
	return "error"
}

// throttled says whether AWS turned a call away for its rate. Both "Throttling"
// and "ThrottlingException" are on the wire; see "Request throttling for the ELB
// API" in the user guide.
func throttled(err error) bool {
	_, ok := retry.DefaultThrottleErrorCodes[errorCode(err)]
	return ok
}
