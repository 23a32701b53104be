package aws

import (
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"

	"drainwait/internal/sim/aws/query"
	"drainwait/internal/sim/memnet"
	"drainwait/internal/sim/timeline"
)

// awsTest is an account in a bubble, with the real SDK on its HTTP API. A call takes 100
// ms: it acts 50 ms after it was made.
type awsTest struct {
	*testing.T
	line      *timeline.Timeline
	account   *Account
	listening map[TargetID]bool
	cfg       aws.Config
	elb       *elb.Client
	sts       *sts.Client
}

// testAWS runs f on the root goroutine of a bubble. The clients do not retry.
func testAWS(t *testing.T, change func(*Assumptions), f func(*awsTest)) {
	synctest.Test(t, func(t *testing.T) {
		as := DefaultAssumptions()
		as.APILatency = timeline.Between(100*time.Millisecond, 100*time.Millisecond)
		as.RegistrationTime = timeline.Between(10*time.Second, 10*time.Second)
		if change != nil {
			change(&as)
		}
		line := timeline.New(1, 1, synctest.Wait)
		defer line.Close()
		listening := make(map[TargetID]bool)
		account := New(line, &as, Hosts{Listening: func(id TargetID) bool { return listening[id] }})
		cfg := sdkConfig("http://aws.invalid", &http.Client{Transport: memnet.Transport(account.Handler())})
		f(&awsTest{t, line, account, listening, cfg, elb.NewFromConfig(cfg), sts.NewFromConfig(cfg)})
	})
}

func sdkConfig(endpoint string, client *http.Client) aws.Config {
	return aws.Config{
		Region:       Region,
		Credentials:  credentials.NewStaticCredentialsProvider(AccessKeyID, SecretAccessKey, ""),
		HTTPClient:   client,
		BaseEndpoint: &endpoint,
		Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
	}
}

// do runs the world until f has returned.
func (t *awsTest) do(f func(context.Context) error) error {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	defer stop()
	var err error
	go func() {
		defer stop()
		err = f(t.Context())
	}()
	t.line.Run(running, t.line.Now()+24*time.Hour)
	if running.Err() == nil {
		t.Fatal("a call did not return within a day")
	}
	return err
}

// must is do for what has to succeed.
func (t *awsTest) must(f func(context.Context) error) {
	t.Helper()
	if err := t.do(f); err != nil {
		t.Fatal(err)
	}
}

// health asks for the health of some or all targets of a group.
func (t *awsTest) health(g *TargetGroup, ts ...types.TargetDescription) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn, Targets: ts})
		return err
	}
}

// serve puts an application at each of the addresses, so that health checks
// succeed.
func (t *awsTest) serve(addresses ...string) {
	for _, id := range targetIDs(addresses...) {
		t.listening[id] = true
	}
}

func targetIDs(addresses ...string) []TargetID {
	var ts []TargetID
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		ts = append(ts, TargetID{IP: ap.Addr(), Port: int(ap.Port())})
	}
	return ts
}

func describedAs(id string, port int32, zone string) types.TargetDescription {
	d := types.TargetDescription{Id: &id}
	if port != 0 {
		d.Port = &port
	}
	if zone != "" {
		d.AvailabilityZone = &zone
	}
	return d
}

// healthRows shows an answer of DescribeTargetHealth in short.
func healthRows(out *elb.DescribeTargetHealthOutput) []string {
	rows := []string{}
	for _, d := range out.TargetHealthDescriptions {
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s %s", aws.ToString(d.Target.Id), aws.ToInt32(d.Target.Port),
			aws.ToString(d.Target.AvailabilityZone), d.TargetHealth.State, d.TargetHealth.Reason)))
	}
	return rows
}

func TestTargetTimeline(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		t.serve("10.0.0.3:8080")
		target := []types.TargetDescription{describedAs("10.0.0.3", 8080, "")}
		const ms = time.Millisecond
		want := []struct {
			at   time.Duration
			rows []string
		}{
			{49 * ms, []string{}},
			{51 * ms, []string{"10.0.0.3:8080 us-east-1a initial Elb.RegistrationInProgress"}},
			{10_049 * ms, []string{"10.0.0.3:8080 us-east-1a initial Elb.RegistrationInProgress"}},
			{10_051 * ms, []string{"10.0.0.3:8080 us-east-1a healthy"}},
			{60_049 * ms, []string{"10.0.0.3:8080 us-east-1a healthy"}},
			{60_051 * ms, []string{"10.0.0.3:8080 us-east-1a draining Target.DeregistrationInProgress"}},
			{360_049 * ms, []string{"10.0.0.3:8080 us-east-1a draining Target.DeregistrationInProgress"}},
			{360_051 * ms, []string{}},
		}
		// Register at 0 s and deregister at 60 s; each row is a call that
		// reads the state at its time.
		calls := map[time.Duration]func(context.Context) error{
			0: func(ctx context.Context) error {
				_, err := t.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &g.arn, Targets: target})
				return err
			},
			60 * time.Second: func(ctx context.Context) error {
				_, err := t.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &g.arn, Targets: target})
				return err
			},
		}
		for _, row := range want {
			calls[row.at-50*ms] = func(ctx context.Context) error {
				out, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn})
				if err == nil && !slices.Equal(healthRows(out), row.rows) {
					t.Errorf("at %v: %v, want %v", row.at, healthRows(out), row.rows)
				}
				return err
			}
		}
		// The first row reads 1 ms before the registration acts, so the calls
		// begin at -1 ms.
		t.must(func(ctx context.Context) error {
			var wg sync.WaitGroup
			begin := time.Now().Add(time.Second)
			for at, call := range calls {
				wg.Go(func() {
					time.Sleep(time.Until(begin.Add(at)))
					if err := call(ctx); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			return nil
		})
		if diff := cmp.Diff(map[string]int{"RegisterTargets OK": 1, "DeregisterTargets OK": 1, "DescribeTargetHealth OK": len(want)}, t.account.Calls()); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
	})
}

func TestDescribeTargetHealthFilters(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		used := t.account.AddTargetGroup("used", 80, t.account.AddLoadBalancer("web", NLB))
		idle := t.account.AddTargetGroup("idle", 80, nil)
		t.serve("10.0.0.3:80", "10.0.0.3:8080", "10.0.0.4:8080", "[2001:db8::5]:80")
		for _, g := range []*TargetGroup{used, idle} {
			t.account.RegisterTargets(g, targetIDs("10.0.0.3:80", "10.0.0.3:8080", "10.0.0.4:8080", "10.0.0.6:80", "[2001:db8::5]:80"))
		}
		t.line.Run(t.Context(), time.Minute)
		for _, tt := range []struct {
			name    string
			group   *TargetGroup
			targets []types.TargetDescription
			want    []string
		}{
			{"whole group", used, nil, []string{
				"10.0.0.3:80 us-east-1a healthy", "10.0.0.3:8080 us-east-1a healthy",
				"10.0.0.4:8080 us-east-1b healthy", "10.0.0.6:80 us-east-1a unhealthy Target.FailedHealthChecks",
				"2001:db8::5:80 us-east-1c healthy",
			}},
			{"address and port", used, []types.TargetDescription{describedAs("10.0.0.3", 8080, "")}, []string{"10.0.0.3:8080 us-east-1a healthy"}},
			{"with its zone", used, []types.TargetDescription{describedAs("10.0.0.4", 8080, "us-east-1b")}, []string{"10.0.0.4:8080 us-east-1b healthy"}},
			{"IPv6", used, []types.TargetDescription{describedAs("2001:db8:0::5", 80, "")}, []string{"2001:db8::5:80 us-east-1c healthy"}},
			{"no port is the group's port", used, []types.TargetDescription{describedAs("10.0.0.3", 0, "")}, []string{"10.0.0.3:80 us-east-1a healthy"}},
			{"no port, registered on another", used, []types.TargetDescription{describedAs("10.0.0.4", 0, "")}, []string{"10.0.0.4:80  unused Target.NotRegistered"}},
			{"wrong port", used, []types.TargetDescription{describedAs("10.0.0.4", 81, "")}, []string{"10.0.0.4:81  unused Target.NotRegistered"}},
			{"wrong zone", used, []types.TargetDescription{describedAs("10.0.0.4", 8080, "all")}, []string{"10.0.0.4:8080 all unused Target.NotRegistered"}},
			{"zone with markup", used, []types.TargetDescription{describedAs("10.0.0.4", 8080, `<&"é`)}, []string{`10.0.0.4:8080 <&"é unused Target.NotRegistered`}},
			{"two, in the order asked", used, []types.TargetDescription{describedAs("10.0.0.9", 80, ""), describedAs("10.0.0.3", 80, "")}, []string{
				"10.0.0.9:80  unused Target.NotRegistered", "10.0.0.3:80 us-east-1a healthy",
			}},
			{"no load balancer", idle, []types.TargetDescription{describedAs("10.0.0.3", 80, ""), describedAs("10.0.0.9", 80, "")}, []string{
				"10.0.0.3:80 us-east-1a unused Target.NotInUse", "10.0.0.9:80  unused Target.NotRegistered",
			}},
		} {
			t.must(func(ctx context.Context) error {
				out, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &tt.group.arn, Targets: tt.targets})
				if err == nil && !slices.Equal(healthRows(out), tt.want) {
					t.Errorf("%s: %q, want %q", tt.name, healthRows(out), tt.want)
				}
				return err
			})
		}
	})
}

// Registering and deregistering also use the whole identity.
func TestRegisterDefaults(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		deregister := func(ts ...types.TargetDescription) {
			t.must(func(ctx context.Context) error {
				_, err := t.elb.DeregisterTargets(ctx, &elb.DeregisterTargetsInput{TargetGroupArn: &g.arn, Targets: ts})
				return err
			})
		}
		states := func() string {
			var b strings.Builder
			for _, x := range g.sorted() {
				state, _ := x.state()
				fmt.Fprintf(&b, "%s %s;", x.id, state)
			}
			return b.String()
		}
		t.must(func(ctx context.Context) error {
			_, err := t.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &g.arn, Targets: []types.TargetDescription{
				describedAs("10.0.0.1", 0, ""), describedAs("10.0.0.1", 8080, "us-east-1b"),
			}})
			return err
		})
		deregister(describedAs("10.0.0.1", 8080, "us-east-1c"), describedAs("10.0.0.2", 80, ""))
		if got, want := states(), "10.0.0.1:80 initial;10.0.0.1:8080 initial;"; got != want {
			t.Errorf("after a deregistration of others: %s, want %s", got, want)
		}
		deregister(describedAs("10.0.0.1", 0, ""))
		if got, want := states(), "10.0.0.1:80 draining;10.0.0.1:8080 initial;"; got != want {
			t.Errorf("after a deregistration without a port: %s, want %s", got, want)
		}
	})
}

func TestDescribeGroupsAndBalancers(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		t.line.Run(t.Context(), 90*time.Second)
		alb, nlb := t.account.AddLoadBalancer("front", ALB), t.account.AddLoadBalancer("tcp", NLB)
		web := t.account.AddTargetGroup("web", 80, alb)
		idle := t.account.AddTargetGroup("idle", 8080, nil)
		t.account.AddTargetGroup("tcp", 443, nlb)

		t.must(func(ctx context.Context) error {
			out, err := t.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{TargetGroupArns: []string{idle.arn, web.arn}})
			if err != nil {
				return err
			}
			want := []types.TargetGroup{
				{
					TargetGroupArn: &idle.arn, TargetGroupName: aws.String("idle"), Protocol: "HTTP", Port: aws.Int32(8080),
					TargetType: "ip", IpAddressType: "ipv4", VpcId: aws.String(vpcID), LoadBalancerArns: []string{},
				},
				{
					TargetGroupArn: &web.arn, TargetGroupName: aws.String("web"), Protocol: "HTTP", Port: aws.Int32(80),
					TargetType: "ip", IpAddressType: "ipv4", VpcId: aws.String(vpcID), LoadBalancerArns: []string{alb.arn},
				},
			}
			if diff := cmp.Diff(want, out.TargetGroups, cmp.AllowUnexported(types.TargetGroup{})); diff != "" {
				t.Errorf("target groups (-want +got):\n%s", diff)
			}
			return nil
		})
		for _, in := range []*elb.DescribeTargetGroupsInput{{LoadBalancerArn: &nlb.arn}, {Names: []string{"tcp"}}} {
			t.must(func(ctx context.Context) error {
				out, err := t.elb.DescribeTargetGroups(ctx, in)
				if err == nil && (len(out.TargetGroups) != 1 || *out.TargetGroups[0].TargetGroupName != "tcp" || out.TargetGroups[0].Protocol != "TCP") {
					t.Errorf("%+v found %+v", in, out.TargetGroups)
				}
				return err
			})
		}
		for _, in := range []*elb.DescribeLoadBalancersInput{{LoadBalancerArns: []string{alb.arn}}, {Names: []string{"front"}}} {
			t.must(func(ctx context.Context) error {
				out, err := t.elb.DescribeLoadBalancers(ctx, in)
				if err != nil {
					return err
				}
				want := []types.LoadBalancer{{
					LoadBalancerArn: &alb.arn, LoadBalancerName: aws.String("front"), DNSName: &alb.dnsName, Type: "application",
					State: &types.LoadBalancerState{Code: "active"}, Scheme: "internet-facing", VpcId: aws.String(vpcID),
					IpAddressType: "ipv4", CreatedTime: aws.Time(t.line.Wall(90 * time.Second)),
				}}
				if diff := cmp.Diff(want, out.LoadBalancers, cmp.AllowUnexported(types.LoadBalancer{}, types.LoadBalancerState{})); diff != "" {
					t.Errorf("load balancers (-want +got):\n%s", diff)
				}
				return nil
			})
		}
	})
}

func TestPaging(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		var want []string
		for i := range 5 {
			name := fmt.Sprintf("n%d", i)
			t.account.AddTargetGroup(name, 80, t.account.AddLoadBalancer(name, ALB))
			want = append(want, name)
		}
		var groups, balancers []string
		t.must(func(ctx context.Context) error {
			for p := elb.NewDescribeTargetGroupsPaginator(t.elb, &elb.DescribeTargetGroupsInput{PageSize: aws.Int32(2)}); p.HasMorePages(); {
				out, err := p.NextPage(ctx)
				if err != nil {
					return err
				}
				for _, g := range out.TargetGroups {
					groups = append(groups, *g.TargetGroupName)
				}
			}
			for p := elb.NewDescribeLoadBalancersPaginator(t.elb, &elb.DescribeLoadBalancersInput{PageSize: aws.Int32(5)}); p.HasMorePages(); {
				out, err := p.NextPage(ctx)
				if err != nil {
					return err
				}
				for _, lb := range out.LoadBalancers {
					balancers = append(balancers, *lb.LoadBalancerName)
				}
			}
			return nil
		})
		if !slices.Equal(groups, want) || !slices.Equal(balancers, want) {
			t.Errorf("groups %v, load balancers %v, want %v for both", groups, balancers, want)
		}
		if got, want := t.account.Calls(), map[string]int{"DescribeTargetGroups OK": 3, "DescribeLoadBalancers OK": 1}; !cmp.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

// isError tells whether err holds an error of type E, which the SDK made.
func isError[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

func TestErrors(t *testing.T) {
	const (
		group     = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/none/0123456789abcdef"
		balancer  = "arn:aws:elasticloadbalancing:us-east-1:123456789012:loadbalancer/app/none/0123456789abcdef"
		elsewhere = "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/none/0123456789abcdef"
	)
	groups := func(in elb.DescribeTargetGroupsInput) func(*awsTest, context.Context) error {
		return func(t *awsTest, ctx context.Context) error {
			_, err := t.elb.DescribeTargetGroups(ctx, &in)
			return err
		}
	}
	balancers := func(in elb.DescribeLoadBalancersInput) func(*awsTest, context.Context) error {
		return func(t *awsTest, ctx context.Context) error {
			_, err := t.elb.DescribeLoadBalancers(ctx, &in)
			return err
		}
	}
	health := func(arn string, ts ...types.TargetDescription) func(*awsTest, context.Context) error {
		return func(t *awsTest, ctx context.Context) error {
			if arn == "" {
				arn = t.account.groups[0].arn
			}
			_, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &arn, Targets: ts})
			return err
		}
	}
	for _, tt := range []struct {
		name  string
		call  func(*awsTest, context.Context) error
		code  string
		typed func(error) bool
	}{
		{"no such group", health(group), "TargetGroupNotFound", isError[*types.TargetGroupNotFoundException]},
		{"group ARN of another Region", health(elsewhere), "ValidationError", nil},
		{"load balancer for a group", health(balancer), "ValidationError", nil},
		{"target that is no address", health("", describedAs("i-0123456789abcdef0", 80, "")), "InvalidTarget", isError[*types.InvalidTargetException]},
		{"port out of range", health("", describedAs("10.0.0.1", 70000, "")), "ValidationError", nil},
		{"one group of two", groups(elb.DescribeTargetGroupsInput{Names: []string{"web", "none"}}), "TargetGroupNotFound", isError[*types.TargetGroupNotFoundException]},
		{"groups of no such load balancer", groups(elb.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(balancer)}), "LoadBalancerNotFound", isError[*types.LoadBalancerNotFoundException]},
		{"groups chosen in two ways", groups(elb.DescribeTargetGroupsInput{LoadBalancerArn: aws.String(balancer), Names: []string{"web"}}), "ValidationError", nil},
		{"page size", groups(elb.DescribeTargetGroupsInput{PageSize: aws.Int32(401)}), "ValidationError", nil},
		{"marker", groups(elb.DescribeTargetGroupsInput{Marker: aws.String("x")}), "ValidationError", nil},
		{"no such load balancer", balancers(elb.DescribeLoadBalancersInput{Names: []string{"none"}}), "LoadBalancerNotFound", isError[*types.LoadBalancerNotFoundException]},
		{"group for a load balancer", balancers(elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{group}}), "ValidationError", nil},
		{"load balancers chosen in two ways", balancers(elb.DescribeLoadBalancersInput{LoadBalancerArns: []string{balancer}, Names: []string{"web"}}), "ValidationError", nil},
		{"too many load balancers", balancers(elb.DescribeLoadBalancersInput{LoadBalancerArns: slices.Repeat([]string{balancer}, 21)}), "ValidationError", nil},
		{"no targets", func(t *awsTest, ctx context.Context) error {
			_, err := t.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &t.account.groups[0].arn, Targets: []types.TargetDescription{}})
			return err
		}, "ValidationError", nil},
		{"unknown action", func(t *awsTest, ctx context.Context) error {
			_, err := t.elb.DescribeRules(ctx, &elb.DescribeRulesInput{})
			return err
		}, "InvalidAction", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testAWS(t, nil, func(t *awsTest) {
				t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
				err := t.do(func(ctx context.Context) error { return tt.call(t, ctx) })
				checkCode(t, err, tt.code)
				if tt.typed != nil && !tt.typed(err) {
					t.Errorf("%v is not of the SDK's type", err)
				}
				for call, n := range t.account.Calls() {
					if !strings.HasSuffix(call, " "+tt.code) || n != 1 {
						t.Errorf("counted %q %d times", call, n)
					}
				}
			})
		})
	}
}

func checkCode(t *awsTest, err error, want string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want {
		t.Errorf("error %v, want code %s", err, want)
	}
}

func TestFaults(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		var asked []string
		answer := &Fault{Status: 500, Code: "HealthUnavailable", Message: "later"}
		t.account.Fail(func(operation, resource string) *Fault {
			asked = append(asked, operation+" "+resource)
			return answer
		})
		err := t.do(t.health(g))
		if !isError[*types.HealthUnavailableException](err) {
			t.Errorf("error %v, want HealthUnavailable", err)
		}
		answer = nil
		t.must(t.health(g))
		t.must(func(ctx context.Context) error {
			_, err := t.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{Names: []string{"web"}})
			return err
		})
		want := []string{"DescribeTargetHealth " + g.arn, "DescribeTargetHealth " + g.arn, "DescribeTargetGroups web"}
		if !slices.Equal(asked, want) {
			t.Errorf("asked for %q, want %q", asked, want)
		}
	})
}

func TestHang(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		t.account.Fail(func(string, string) *Fault { return &Fault{Hang: true} })
		err := t.do(func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, 7*time.Second)
			defer cancel()
			return t.health(g)(ctx)
		})
		if !errors.Is(err, context.DeadlineExceeded) || t.line.Now() != 7*time.Second {
			t.Errorf("error %v at %v, want the deadline at 7s", err, t.line.Now())
		}
		if n := t.account.Calls()["DescribeTargetHealth Hang"]; n != 1 {
			t.Errorf("counted %v", t.account.Calls())
		}
	})
}

// An empty answer would look like a group without targets.
func TestClosedWorldIsAnError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := timeline.New(0, 1, synctest.Wait)
		account := New(line, new(Assumptions), Hosts{})
		client := elb.NewFromConfig(sdkConfig("http://aws.invalid", &http.Client{Transport: memnet.Transport(account.Handler())}))
		line.Close()
		if _, err := client.DescribeTargetHealth(t.Context(), &elb.DescribeTargetHealthInput{TargetGroupArn: aws.String("any")}); err == nil {
			t.Error("a closed world answered")
		}
	})
}

func TestThrottling(t *testing.T) {
	slow := func(as *Assumptions) {
		as.DescribeBurst, as.DescribeRate = 1, 1
		as.MutateBurst, as.MutateRate = 1, 1
	}
	testAWS(t, slow, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		register := func(ctx context.Context) error {
			_, err := t.elb.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &g.arn, Targets: []types.TargetDescription{describedAs("10.0.0.1", 0, "")}})
			return err
		}
		identity := func(ctx context.Context) error {
			_, err := t.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
			return err
		}
		t.must(t.health(g))
		t.must(register) // has its own bucket
		for _, call := range []func(context.Context) error{t.health(g), register} {
			err := t.do(call)
			checkCode(t, err, "Throttling")
			if retry.IsErrorThrottles(retry.DefaultThrottles).IsErrorThrottle(err) != aws.TrueTernary {
				t.Errorf("the SDK does not take %v for throttling", err)
			}
		}
		for range 5 {
			t.must(identity)
		}
		t.line.Run(t.Context(), t.line.Now()+time.Second)
		t.must(t.health(g))
	})
}

func TestStandardRetryerGetsThrough(t *testing.T) {
	// The bucket is full again before the first retry can arrive.
	quick := func(as *Assumptions) { as.DescribeBurst, as.DescribeRate = 1, 100 }
	testAWS(t, quick, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		t.cfg.Retryer = func() aws.Retryer { return retry.NewStandard() }
		client := elb.NewFromConfig(t.cfg)
		t.must(func(ctx context.Context) error {
			errs := make(chan error, 2)
			for range 2 {
				go func() {
					_, err := client.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn})
					errs <- err
				}()
			}
			return errors.Join(<-errs, <-errs)
		})
		want := map[string]int{"DescribeTargetHealth OK": 2, "DescribeTargetHealth Throttling": 1}
		if got := t.account.Calls(); !cmp.Equal(got, want) {
			t.Errorf("calls %v, want %v", got, want)
		}
	})
}

func TestTargetDeregisteredWaiter(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
		t.account.RegisterTargets(g, targetIDs("10.0.0.1:80"))
		t.line.Run(t.Context(), time.Minute)
		t.account.DeregisterTargets(g, targetIDs("10.0.0.1:80"))
		t.must(func(ctx context.Context) error {
			in := &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn, Targets: []types.TargetDescription{describedAs("10.0.0.1", 80, "")}}
			return elb.NewTargetDeregisteredWaiter(t.elb).Wait(ctx, in, 10*time.Minute)
		})
		if took := t.line.Now() - time.Minute; took < 300*time.Second || took > 450*time.Second {
			t.Errorf("the waiter took %v, want the delay of 300s and up to one poll", took)
		}
	})
}

func TestAssumeRole(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		const role = "arn:aws:iam::210987654321:role/drain"
		lb := t.account.AddLoadBalancer("web", ALB)
		open, owned := t.account.AddTargetGroup("open", 80, lb), t.account.AddTargetGroup("owned", 80, lb)
		t.account.AddRole(role, "external")
		t.account.RequireRole(owned.arn, role)

		assume := func(role, externalID string) aws.Config {
			cfg := t.cfg.Copy()
			cfg.Credentials = aws.NewCredentialsCache(stscreds.NewAssumeRoleProvider(t.sts, role, func(o *stscreds.AssumeRoleOptions) {
				o.ExternalID = &externalID
				o.RoleSessionName = "test"
			}))
			return cfg
		}
		names := func(client *elb.Client, in elb.DescribeTargetGroupsInput) (names []string, err error) {
			err = t.do(func(ctx context.Context) error {
				out, err := client.DescribeTargetGroups(ctx, &in)
				if err != nil {
					return err
				}
				for _, g := range out.TargetGroups {
					names = append(names, *g.TargetGroupName)
				}
				return nil
			})
			return names, err
		}
		identity := func(cfg aws.Config) (arn string) {
			t.must(func(ctx context.Context) error {
				out, err := sts.NewFromConfig(cfg).GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
				if err == nil {
					arn = *out.Arn
				}
				return err
			})
			return arn
		}

		// The account's own user may see the open group only.
		t.must(t.health(open))
		err := t.do(t.health(owned))
		checkCode(t, err, "AccessDenied")
		if !strings.Contains(err.Error(), "is not authorized to perform") {
			t.Errorf("error %v", err)
		}
		_, err = names(t.elb, elb.DescribeTargetGroupsInput{Names: []string{"owned"}})
		checkCode(t, err, "AccessDenied")
		if got, err := names(t.elb, elb.DescribeTargetGroupsInput{LoadBalancerArn: &lb.arn}); err != nil || !slices.Equal(got, []string{"open"}) {
			t.Errorf("the user's list is %v, %v", got, err)
		}
		if got, want := identity(t.cfg), "arn:aws:iam::123456789012:user/simulated"; got != want {
			t.Errorf("the user is %s, want %s", got, want)
		}

		// A caller that may not assume the role gets no further.
		for _, cfg := range []aws.Config{assume(role, "wrong"), assume(role+"-none", "external")} {
			_, err := names(elb.NewFromConfig(cfg), elb.DescribeTargetGroupsInput{})
			checkCode(t, err, "AccessDenied")
		}

		cfg := assume(role, "external")
		asRole := elb.NewFromConfig(cfg)
		if got, err := names(asRole, elb.DescribeTargetGroupsInput{}); err != nil || !slices.Equal(got, []string{"open", "owned"}) {
			t.Errorf("the role's list is %v, %v", got, err)
		}
		if got, want := identity(cfg), "arn:aws:sts::123456789012:assumed-role/drain/test"; got != want {
			t.Errorf("the role is %s, want %s", got, want)
		}

		// A session ends by itself, after 15 minutes by the SDK's default, and
		// the SDK gets another.
		taken, err := cfg.Credentials.Retrieve(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.line.Run(t.Context(), t.line.Now()+16*time.Minute)
		cfg.Credentials = credentials.StaticCredentialsProvider{Value: aws.Credentials{
			AccessKeyID: taken.AccessKeyID, SecretAccessKey: taken.SecretAccessKey, SessionToken: taken.SessionToken,
		}}
		_, err = names(elb.NewFromConfig(cfg), elb.DescribeTargetGroupsInput{})
		checkCode(t, err, "ExpiredToken")
		if _, err := names(asRole, elb.DescribeTargetGroupsInput{}); err != nil {
			t.Errorf("after the session: %v", err)
		}
		if n := t.account.Calls()["AssumeRole OK"]; n != 2 {
			t.Errorf("%d sessions, want 2", n)
		}
	})
}

func TestCredentials(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*awsTest)
		code   string
	}{
		{"not signed", func(t *awsTest) { t.cfg.Credentials = aws.AnonymousCredentials{} }, "MissingAuthenticationToken"},
		{"unknown key", func(t *awsTest) {
			t.cfg.Credentials = credentials.NewStaticCredentialsProvider("AKIDUNKNOWN", SecretAccessKey, "")
		}, "InvalidClientTokenId"},
		{"wrong Region", func(t *awsTest) { t.cfg.Region = "eu-west-1" }, "SignatureDoesNotMatch"},
		{"expired", func(t *awsTest) { t.account.ExpireCredentials(true) }, "ExpiredToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			testAWS(t, nil, func(t *awsTest) {
				tt.change(t)
				checkCode(t, t.do(func(ctx context.Context) error {
					_, err := elb.NewFromConfig(t.cfg).DescribeLoadBalancers(ctx, &elb.DescribeLoadBalancersInput{})
					return err
				}), tt.code)
				checkCode(t, t.do(func(ctx context.Context) error {
					_, err := sts.NewFromConfig(t.cfg).AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: aws.String("r"), RoleSessionName: aws.String("s")})
					return err
				}), tt.code)
				want := map[string]int{"DescribeLoadBalancers " + tt.code: 1, "AssumeRole " + tt.code: 1}
				if got := t.account.Calls(); !cmp.Equal(got, want) {
					t.Errorf("calls %v, want %v", got, want)
				}
			})
		})
	}
	testAWS(t, nil, func(t *awsTest) {
		t.account.ExpireCredentials(true)
		t.account.ExpireCredentials(false)
		t.must(t.health(t.account.AddTargetGroup("web", 80, nil)))
	})
}

// A request by hand: GET, and the answer as it is on the wire.
func TestWire(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		g := t.account.AddTargetGroup("web", 80, nil)
		get := func(form url.Values, service string) (resp *http.Response, body string) {
			t.must(func(ctx context.Context) error {
				req, err := http.NewRequestWithContext(ctx, "GET", "http://aws.invalid/?"+form.Encode(), nil)
				if err != nil {
					return err
				}
				req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+AccessKeyID+"/20000101/"+Region+"/"+service+"/aws4_request, SignedHeaders=host, Signature=0")
				resp, err = t.cfg.HTTPClient.Do(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				b, err := io.ReadAll(resp.Body)
				body = string(b)
				return err
			})
			return resp, body
		}
		form := url.Values{"Action": {"DescribeTargetHealth"}, "Version": {"2015-12-01"}, "TargetGroupArn": {g.arn}}
		resp, body := get(form, "elasticloadbalancing")
		id := resp.Header.Get("X-Amzn-Requestid")
		want := `<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/">` +
			`<DescribeTargetHealthResult><TargetHealthDescriptions></TargetHealthDescriptions></DescribeTargetHealthResult>` +
			`<ResponseMetadata><RequestId>` + id + `</RequestId></ResponseMetadata></DescribeTargetHealthResponse>`
		if resp.StatusCode != 200 || body != want {
			t.Errorf("%s\n%s\nwant\n%s", resp.Status, body, want)
		}
		if kind := resp.Header.Get("Content-Type"); kind != "text/xml" || len(id) != 36 {
			t.Errorf("Content-Type %q, request ID %q", kind, id)
		}
		if date, err := http.ParseTime(resp.Header.Get("Date")); err != nil || time.Since(date) > time.Second {
			t.Errorf("Date %v, %v", date, err)
		}

		resp, body = get(form, "sts")
		want = `<ErrorResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><Error><Type>Sender</Type>` +
			`<Code>SignatureDoesNotMatch</Code><Message>Credential should be scoped to correct service: &#39;elasticloadbalancing&#39;.</Message></Error>` +
			`<RequestId>` + resp.Header.Get("X-Amzn-Requestid") + `</RequestId></ErrorResponse>`
		if resp.StatusCode != 403 || body != want {
			t.Errorf("%s\n%s\nwant\n%s", resp.Status, body, want)
		}

		form.Set("Version", "2012-06-01")
		if resp, body = get(form, "elasticloadbalancing"); resp.StatusCode != 400 || !strings.Contains(body, "<Code>InvalidAction</Code>") {
			t.Errorf("another version: %s\n%s", resp.Status, body)
		}
	})
}

// The XML that is written by hand is what encoding/xml makes of the same rows.
func TestAppendHealths(t *testing.T) {
	type member struct {
		HealthCheckPort  int
		AvailabilityZone string `xml:"Target>AvailabilityZone,omitempty"`
		Id               string `xml:"Target>Id"`
		Port             int    `xml:"Target>Port"`
		Description      string `xml:"TargetHealth>Description,omitempty"`
		Reason           string `xml:"TargetHealth>Reason,omitempty"`
		State            string `xml:"TargetHealth>State"`
	}
	type result struct {
		XMLName xml.Name `xml:"TargetHealthDescriptions"`
		Members []member `xml:"member"`
	}
	ip := netip.MustParseAddr("10.1.2.3")
	for name, rows := range map[string][]TargetHealth{
		"empty": nil,
		"states": {
			{NamedTarget{TargetID{IP: ip, Port: 80}, zoneOf(TargetID{IP: ip})}, "healthy", ""},
			{NamedTarget{TargetID{IP: ip, Port: 8080}, zoneOf(TargetID{IP: ip})}, "initial", "Elb.RegistrationInProgress"},
			{NamedTarget{TargetID{IP: netip.MustParseAddr("2001:db8::1"), Port: 65535}, zoneOf(TargetID{IP: ip})}, "unhealthy", "Target.FailedHealthChecks"},
			{NamedTarget{TargetID{IP: ip, Port: 1}, ""}, "unused", "Target.NotRegistered"},
		},
		"text from outside": {
			{NamedTarget{TargetID{IP: ip, Port: 80}, "</AvailabilityZone>&<\"'\r\n\t\x00\xffé\u2028"}, "unused", "Target.NotRegistered"},
		},
	} {
		want := result{}
		for _, r := range rows {
			want.Members = append(want.Members, member{
				r.ID.Port, r.Zone, r.ID.IP.String(), r.ID.Port, healthDescriptions[r.Reason], r.Reason, r.State,
			})
		}
		b, err := xml.Marshal(want)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(b), string(appendHealths(nil, rows))); diff != "" {
			t.Errorf("%s (-encoding/xml +ours):\n%s", name, diff)
		}
	}
	for _, reason := range []string{"Elb.RegistrationInProgress", "Target.DeregistrationInProgress", "Target.FailedHealthChecks", "Target.NotInUse", "Target.NotRegistered"} {
		if healthDescriptions[reason] == "" {
			t.Errorf("%s has no description", reason)
		}
	}
}

// One second of the world takes 10 ms, over a real socket.
func TestAWSOverSocket(t *testing.T) {
	line := timeline.New(0, 100, nil)
	account := New(line, new(DefaultAssumptions()), Hosts{Listening: func(TargetID) bool { return false }})
	g := account.AddTargetGroup("web", 80, account.AddLoadBalancer("web", ALB))
	account.Fail(func(operation, _ string) *Fault {
		if operation == "DescribeLoadBalancers" {
			return &Fault{Hang: true}
		}
		return nil
	})
	server := httptest.NewServer(account.Handler())
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		line.Run(ctx, time.Hour)
	}()
	defer func() {
		cancel()
		<-ended
		line.Close()
	}()

	client := elb.NewFromConfig(sdkConfig(server.URL, server.Client()))
	_, err := client.RegisterTargets(ctx, &elb.RegisterTargetsInput{TargetGroupArn: &g.arn, Targets: []types.TargetDescription{describedAs("10.0.0.3", 0, "")}})
	if err != nil {
		t.Fatal(err)
	}
	out, err := client.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn})
	if err != nil {
		t.Fatal(err)
	}
	if got := healthRows(out); len(got) != 1 || !strings.HasPrefix(got[0], "10.0.0.3:80 us-east-1a ") {
		t.Errorf("targets %v", got)
	}
	short, stop := context.WithTimeout(ctx, 50*time.Millisecond)
	defer stop()
	if _, err := client.DescribeLoadBalancers(short, &elb.DescribeLoadBalancersInput{}); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a call that hangs: %v", err)
	}
}

func BenchmarkDescribeTargetHealth(b *testing.B) {
	account := New(timeline.New(0, 1, nil), new(DefaultAssumptions()), Hosts{})
	account.describe = NewBucket(1e12, 0)
	g := account.AddTargetGroup("web", 80, account.AddLoadBalancer("web", ALB))
	for i := range 1000 {
		account.RegisterTargets(g, []TargetID{{IP: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Port: 8080}})
	}
	c := &call{
		a: account, action: "DescribeTargetHealth", resource: g.arn,
		form:          query.Form{Values: url.Values{"Action": {"DescribeTargetHealth"}, "Version": {"2015-12-01"}, "TargetGroupArn": {g.arn}}},
		authorization: "AWS4-HMAC-SHA256 Credential=" + AccessKeyID + "/20000101/" + Region + "/elasticloadbalancing/aws4_request",
	}
	b.ReportAllocs()
	for b.Loop() {
		if a := c.answer(); a.status != http.StatusOK {
			b.Fatal(a.status, string(a.body))
		}
	}
}
