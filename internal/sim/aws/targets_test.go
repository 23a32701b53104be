package aws

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/google/go-cmp/cmp"
)

// rows are the targets of a group as the SDK sees them.
func (t *awsTest) rows(g *TargetGroup) []string {
	t.Helper()
	var rows []string
	t.must(func(ctx context.Context) error {
		out, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn})
		if err == nil {
			rows = healthRows(out)
		}
		return err
	})
	return rows
}

func (t *awsTest) want(what string, g *TargetGroup, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), t.rows(g)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// run carries the world on.
func (t *awsTest) run(d time.Duration) { t.line.Run(t.Context(), t.line.Now()+d) }

func TestForcedStates(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		lb, ip := t.account.AddLoadBalancer("web", NLB), netip.MustParseAddr("10.0.0.3")
		g := t.account.AddTargetGroup("web", 80, lb)
		t.serve("10.0.0.3:80")
		t.account.SetTarget(g, ip, 80, "dreaming", "Target.Unheard")
		t.want("an unknown state", g, "10.0.0.3:80 us-east-1a dreaming Target.Unheard")
		t.run(20 * time.Second)
		picks := func() bool {
			return slices.ContainsFunc(lb.nodes, func(n *node) bool { return n.pick(g, t.line.Random("test", "")) != nil })
		}
		if !picks() {
			t.Error("no node sends to a target whose state is pinned")
		}
		t.account.SetTarget(g, ip, 80, "unhealthy.draining", "Target.FailedHealthChecks")
		if picks() {
			t.Error("a node opens a connection to a target that shows unhealthy.draining")
		}
		t.account.SetTarget(g, ip, 80, "", "")
		t.want("unpinned", g, "10.0.0.3:80 us-east-1a healthy")
		t.account.Deregister(g, ip, 80)
		t.account.SetTarget(g, ip, 80, "healthy", "")
		t.want("healthy again", g, "10.0.0.3:80 us-east-1a healthy")
		t.account.RemoveTarget(g, ip, 80)
		t.want("removed", g)
		if picks() {
			t.Error("a node still sends to a target that was removed")
		}
		t.account.Register(g, ip, 80)
		t.account.RemoveTarget(g, ip, 80)
		t.run(20 * time.Second)
		if picks() {
			t.Error("a node learned of a target that was removed before")
		}
		t.account.Register(g, ip, 80)
		t.want("registered again", g, "10.0.0.3:80 us-east-1a initial Elb.RegistrationInProgress")
		t.account.DeleteTargetGroup(g)
		checkCode(t, t.do(t.health(g)), "TargetGroupNotFound")
	})
}

// With a deregistration delay of zero the list forgets a target before the
// nodes do.
func TestNoDeregistrationDelay(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		lb, ip := t.account.AddLoadBalancer("web", ALB), netip.MustParseAddr("10.0.0.3")
		g := t.account.AddGroup(TargetGroupSpec{Name: "web", Port: 80, Balancer: lb, DeregistrationDelay: new(time.Duration(0))})
		t.serve("10.0.0.3:80")
		t.account.Register(g, ip, 80)
		t.run(20 * time.Second)
		t.account.Deregister(g, ip, 80)
		t.want("deregistered", g)
		holders := func() int {
			n := 0
			for _, x := range lb.nodes {
				n += len(x.views[g])
			}
			return n
		}
		if holders() == 0 {
			t.Error("no node has a tail")
		}
		t.run(18 * time.Second)
		if n := holders(); n > 0 {
			t.Errorf("%d nodes still send after the tail", n)
		}
	})
}

func TestInstanceTargets(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddGroup(TargetGroupSpec{Name: "web", Port: 30080, Balancer: t.account.AddLoadBalancer("web", ALB), TargetType: "instance"})
		t.account.RegisterNamed(g, "i-0123456789abcdef0", 30080)
		t.run(20 * time.Second)
		t.want("an instance", g, "i-0123456789abcdef0:30080 us-east-1a healthy")
		checkCode(t, t.do(t.health(g, describedAs("10.0.0.1", 80, ""))), "InvalidTarget")
		t.must(func(ctx context.Context) error {
			out, err := t.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{g.arn}})
			if err == nil && out.TargetGroups[0].TargetType != "instance" {
				t.Errorf("target type %q", out.TargetGroups[0].TargetType)
			}
			return err
		})
	})
}
