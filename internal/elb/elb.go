// Package elb watches target groups of Elastic Load Balancing (ELBv2) for any
// number of waiters at the price of one poller per group.
package elb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"
)

// API is what this package asks of ELBv2. The client of the AWS SDK is one.
type API interface {
	elbv2.DescribeTargetHealthAPIClient
	elbv2.DescribeTargetGroupsAPIClient
	elbv2.DescribeLoadBalancersAPIClient
}

// Group names a target group and who may read it.
type Group struct {
	// ARN is the Amazon resource name of the group.
	ARN string
	// Name is how [Watcher.Describe] finds a group whose ARN is empty; it is
	// empty everywhere else.
	Name string
	// RoleARN and ExternalID are the role to assume for the calls; empty for
	// our own credentials.
	RoleARN, ExternalID string
}

// Region is the Region in the group's ARN, or "" where it has none.
func (g Group) Region() string {
	a, err := arn.Parse(g.ARN)
	if err != nil {
		return ""
	}
	return a.Region
}

// Type is the type of the load balancer that a target group serves.
type Type string

// The load balancer types that the wait tells apart. The zero value means that
// the type is not known.
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
	targets      map[netip.Addr][]Target
}

// At lists the targets with an address, one for each port; none where the group
// does not hold it.
func (l *Look) At(ip netip.Addr) []Target { return l.targets[ip.Unmap()] }

// Errors that decide: another try would not help. Everything else is taken to
// pass.
var (
	// ErrDenied: AWS refuses our credentials, or there are none.
	ErrDenied = errors.New("AWS refuses access")
	// ErrNoGroup: the group does not exist in this account and Region.
	ErrNoGroup = errors.New("target group not found")
	// ErrNoLoadBalancer: no load balancer of this account and Region has the
	// host name.
	ErrNoLoadBalancer = errors.New("load balancer not found")
	// ErrClosed: the Watcher was closed.
	ErrClosed = errors.New("watcher of target groups is closed")
)

// Decides says whether err is one of those: another try would not help.
func Decides(err error) bool {
	for _, e := range []error{ErrDenied, ErrNoGroup, ErrNoLoadBalancer, ErrClosed} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// describe takes one look at a group.
func describe(ctx context.Context, api API, g Group) (*Look, error) {
	look := &Look{Began: time.Now(), targets: make(map[netip.Addr][]Target)}
	out, err := api.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &g.ARN})
	if err != nil {
		return nil, fmt.Errorf("describe target health of %s: %w", g.ARN, classify("DescribeTargetHealth", err))
	}
	look.Ended = time.Now()
	for _, d := range out.TargetHealthDescriptions {
		if d.Target == nil || d.Target.Id == nil {
			continue
		}
		ip, err := netip.ParseAddr(*d.Target.Id)
		if err != nil {
			continue // an instance, a function or a load balancer: not ours to judge
		}
		t := Target{IP: ip.Unmap()}
		if d.Target.Port != nil {
			t.Port = int(*d.Target.Port)
		}
		if d.TargetHealth != nil {
			t.State, t.Reason = d.TargetHealth.State, d.TargetHealth.Reason
		}
		look.targets[t.IP] = append(look.targets[t.IP], t)
	}
	return look, nil
}

// classify marks the errors of an operation that decide, and gives the operator
// a hint.
func classify(operation string, err error) error {
	if Decides(err) {
		return err // there are no credentials to begin with
	}
	switch errorCode(err) {
	case "TargetGroupNotFound", "ValidationError": // the latter for an ARN of another account or Region
		return fmt.Errorf("%w: %w (is it in another account or Region? see --aws-region and the TargetGroupBinding's iamRoleArnToAssume)", ErrNoGroup, err)
	case "LoadBalancerNotFound":
		return fmt.Errorf("%w: %w", ErrNoLoadBalancer, err)
	case "AccessDenied", "AccessDeniedException", "UnauthorizedOperation":
		return fmt.Errorf("%w: %w (grant elasticloadbalancing:%s; see deploy/iam-policy.json)", ErrDenied, err, operation)
	case "InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "MissingAuthenticationToken", "IncompleteSignature", "AuthFailure", "OptInRequired":
		return fmt.Errorf("%w: %w (check the credentials of the service: profile, IRSA or Pod Identity)", ErrDenied, err)
	}
	return err
}

// errorCode is the code by which AWS, or our own side of the call, names an
// error: "Throttling", "AccessDenied", "timeout" and so on; "OK" for none.
func errorCode(err error) string {
	if err == nil {
		return "OK"
	}
	if api, ok := errors.AsType[smithy.APIError](err); ok && api.ErrorCode() != "" {
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

// throttled says whether AWS turned a call away for its rate.
func throttled(err error) bool { return Throttling(errorCode(err)) }

// Throttling says whether an error code means that AWS turned a call away for
// its rate. Both "Throttling" and "ThrottlingException" are on the wire; see
// "Request throttling for the ELB API" in the user guide.
func Throttling(code string) bool {
	_, ok := retry.DefaultThrottleErrorCodes[code]
	return ok
}
