package elb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drainwait/internal/sim"
)

func (e *env) describe(g Group) (GroupInfo, error) {
	ctx, cancel := context.WithTimeout(e.Context(), 20*time.Second)
	defer cancel()
	return e.watcher.Describe(ctx, g)
}

func (e *env) behind(hostname string) ([]GroupInfo, error) {
	ctx, cancel := context.WithTimeout(e.Context(), time.Minute)
	defer cancel()
	return e.watcher.Behind(ctx, hostname)
}

func TestDescribe(t *testing.T) {
	const role, externalID = "arn:aws:iam::210987654321:role/drain", "external"
	run(t, nil, func(e *env) {
		var http, tcp, owned Group
		e.inWorld(func() {
			http.ARN = e.world.AddTargetGroup("http", 80, nil).ARN()
			tcp.ARN = e.world.AddTargetGroup("tcp", 80, e.world.AddLoadBalancer("tcp", sim.NLB)).ARN()
			owned.ARN = e.world.AddTargetGroup("owned", 80, nil).ARN()
			e.world.AddRole(role, externalID)
			e.world.RequireRole(owned.ARN, role)
		})
		theirs := Group{ARN: owned.ARN, RoleARN: role, ExternalID: externalID}
		for _, tt := range []struct {
			ask  Group
			want GroupInfo
			err  error
		}{
			{http, GroupInfo{http, "ip", ALB}, nil},
			{Group{Name: "http"}, GroupInfo{http, "ip", ALB}, nil},
			{Group{ARN: http.ARN, Name: "ignored"}, GroupInfo{http, "ip", ALB}, nil},
			{Group{Name: "tcp"}, GroupInfo{tcp, "ip", NLB}, nil},
			{theirs, GroupInfo{theirs, "ip", ALB}, nil},
			{Group{Name: "owned", RoleARN: role, ExternalID: externalID}, GroupInfo{theirs, "ip", ALB}, nil},
			{owned, GroupInfo{}, ErrDenied},
			{Group{Name: "none"}, GroupInfo{}, ErrNoGroup},
			{Group{ARN: http.ARN + "0"}, GroupInfo{}, ErrNoGroup},
			{Group{}, GroupInfo{}, ErrNoGroup},
		} {
			asked := time.Now()
			got, err := e.describe(tt.ask)
			if got != tt.want || !errors.Is(err, tt.err) {
				e.Errorf("%v: %v, %v, want %v, %v", tt.ask, got, err, tt.want, tt.err)
			}
			if err != nil && time.Since(asked) > 150*ms {
				e.Errorf("%v: an error that decides took %v", tt.ask, time.Since(asked))
			}
		}
		e.checkCalls("in the end", map[string]int{
			"DescribeTargetGroups OK": 5, "DescribeTargetGroups AccessDenied": 1, "DescribeTargetGroups TargetGroupNotFound": 2,
		})
	})
}

func TestAnswersAreShared(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		const n = 50
		var all sync.WaitGroup
		e.began = time.Now()
		for i := range n {
			all.Go(func() {
				// The first caller, for whom the call is made, gives up at once.
				ctx, cancel := context.WithCancel(e.Context())
				if i == 0 {
					time.AfterFunc(10*ms, cancel)
				} else {
					time.Sleep(time.Duration(i) * ms)
				}
				info, err := e.watcher.Describe(ctx, g)
				if i == 0 && !errors.Is(err, context.Canceled) || i > 0 && (err != nil || info.Group != g) {
					e.Errorf("caller %d: %v, %v", i, info, err)
				}
				cancel()
			})
		}
		all.Wait()
		if took := e.now().Truncate(ms); took != 100*ms {
			e.Errorf("all were answered after %v, want 100ms", took)
		}
		e.checkCalls("at first", map[string]int{"DescribeTargetGroups OK": 1})

		// The answer holds for five minutes, and that there is none for ten seconds.
		e.sleepUntil(5*time.Minute + 99*ms)
		_, _ = e.describe(g)
		e.checkCalls("after five minutes", map[string]int{"DescribeTargetGroups OK": 1})
		time.Sleep(2 * ms)
		_, _ = e.describe(g)
		e.checkCalls("later", map[string]int{"DescribeTargetGroups OK": 2})
		for range 21 { // 10.5 s
			if _, err := e.describe(Group{Name: "none"}); !errors.Is(err, ErrNoGroup) {
				e.Error(err)
			}
			time.Sleep(500 * ms)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetGroups OK": 2, "DescribeTargetGroups TargetGroupNotFound": 2})
	})
}

func TestTroubleIsWaitedOut(t *testing.T) {
	for name, begin := range map[string]func(*env){
		"throttled":    func(e *env) { e.fail(&sim.Fault{Status: 400, Code: "Throttling"}) },
		"out of order": func(e *env) { e.fail(&sim.Fault{Status: 503, Code: "ServiceUnavailable"}) },
		"no answer":    func(e *env) { e.fail(&sim.Fault{Hang: true}) },
		"expired":      func(e *env) { e.inWorld(func() { e.world.ExpireCredentials(true) }) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				g := e.group("web")
				begin(e)
				ctx, cancel := context.WithTimeout(e.Context(), 7*time.Second+500*ms)
				defer cancel()
				asked := time.Now()
				_, err := e.watcher.Describe(ctx, g)
				if !errors.Is(err, context.DeadlineExceeded) || time.Since(asked) != 7500*ms || !strings.Contains(err.Error(), "describe target group "+g.ARN) {
					e.Errorf("after %v: %v", time.Since(asked), err)
				}
				tries := 0
				for call, n := range e.calls() {
					tries += n
					if code := strings.TrimPrefix(call, "DescribeTargetGroups "); code != "timeout" && !strings.Contains(err.Error(), code) {
						e.Errorf("error %v does not tell of %s", err, code)
					}
				}
				if want := map[bool]int{true: 2, false: 7}[name == "no answer"]; tries != want {
					e.Errorf("%d tries, want %d", tries, want)
				}
				time.AfterFunc(3*time.Second, func() {
					e.fail(nil)
				})
				if name == "expired" {
					e.inWorld(func() { e.world.ExpireCredentials(false) })
				}
				if info, err := e.describe(g); err != nil || info.Group != g {
					e.Errorf("in the end: %v, %v", info, err)
				}
			})
		})
	}
}

func TestBehind(t *testing.T) {
	run(t, nil, func(e *env) {
		var alb, nlb, bare string
		var web, api, tcp Group
		e.inWorld(func() {
			lb := e.world.AddLoadBalancer("k8s-shop-front", sim.ALB)
			alb = lb.DNSName()
			web.ARN = e.world.AddTargetGroup("web", 80, lb).ARN()
			api.ARN = e.world.AddTargetGroup("api", 80, lb).ARN()
			lb = e.world.AddLoadBalancer("k8s-shop-tcp", sim.NLB)
			nlb = lb.DNSName()
			tcp.ARN = e.world.AddTargetGroup("tcp", 80, lb).ARN()
			bare = e.world.AddLoadBalancer("bare", sim.ALB).DNSName()
		})
		front := []GroupInfo{{web, "ip", ALB}, {api, "ip", ALB}}
		const fast = "DescribeLoadBalancers OK"
		for _, tt := range []struct {
			hostname string
			want     []GroupInfo
			err      error
			calls    map[string]int
		}{
			{alb, front, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			{"dualstack." + alb, front, nil, nil},
			{strings.ToUpper(alb) + ".", front, nil, nil},
			{nlb, []GroupInfo{{tcp, "ip", NLB}}, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			{bare, nil, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			// Another load balancer had the name.
			{strings.Replace(alb, "-1.", "-99.", 1), nil, ErrNoLoadBalancer, map[string]int{fast: 2}},
			{"internal-" + alb, nil, ErrNoLoadBalancer, map[string]int{fast: 2}},
			{"none-1.us-east-1.elb.amazonaws.com", nil, ErrNoLoadBalancer, map[string]int{fast: 1, "DescribeLoadBalancers LoadBalancerNotFound": 1}},
			{"none-1.us-east-1.elb.amazonaws.com", nil, ErrNoLoadBalancer, nil},
			{"www.example.com", nil, ErrNoLoadBalancer, map[string]int{fast: 1}},
			{"", nil, ErrNoLoadBalancer, nil},
		} {
			before := e.calls()
			got, err := e.behind(tt.hostname)
			if !slices.Equal(got, tt.want) || !errors.Is(err, tt.err) {
				e.Errorf("%q: %v, %v, want %v, %v", tt.hostname, got, err, tt.want, tt.err)
			}
			made := make(map[string]int)
			for call, n := range e.calls() {
				if n -= before[call]; n > 0 {
					made[call] = n
				}
			}
			if diff := cmp.Diff(tt.calls, made); diff != "" && len(tt.calls)+len(made) > 0 {
				e.Errorf("%q: calls (-want +got):\n%s", tt.hostname, diff)
			}
		}
		got, _ := e.behind(alb)
		got[0] = GroupInfo{}
		if again, _ := e.behind(alb); !slices.Equal(again, front) {
			e.Errorf("a caller has changed the answer of others: %v", again)
		}
	})
}

// A host name in which the name cannot be seen is looked for in all pages, each
// of which is paid for.
func TestBehindReadsAllPages(t *testing.T) {
	tight := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }
	run(t, tight, func(e *env) {
		var hostname string
		var want []GroupInfo
		e.inWorld(func() {
			for i := range 900 { // three pages
				hostname = e.world.AddLoadBalancer(fmt.Sprint("lb", i), sim.ALB).DNSName()
			}
			lb := e.world.AddLoadBalancer("last", sim.ALB)
			for i := range 450 { // two pages
				want = append(want, GroupInfo{Group{ARN: e.world.AddTargetGroup(fmt.Sprint("g", i), 80, lb).ARN()}, "ip", ALB})
			}
			hostname = lb.DNSName()
		})
		// Once the name is gone the search goes by the list.
		e.fault = func(operation, resource string) *sim.Fault {
			if operation == "DescribeLoadBalancers" && resource == "last" {
				return &sim.Fault{Status: 400, Code: "LoadBalancerNotFound"}
			}
			return nil
		}
		began := time.Now()
		got, err := e.behind(hostname)
		if err != nil || !slices.Equal(got, want) {
			e.Errorf("%d groups, %v, want %d", len(got), err, len(want))
		}
		e.checkCalls("in the end", map[string]int{
			"DescribeLoadBalancers LoadBalancerNotFound": 1, "DescribeLoadBalancers OK": 3, "DescribeTargetGroups OK": 2,
		})
		if took := time.Since(began).Round(10 * ms); took != 5100*ms {
			e.Errorf("six requests at 1/s took %v, want 5.1s", took)
		}
	})
}

func TestBehindDenied(t *testing.T) {
	for _, operation := range []string{"DescribeLoadBalancers", "DescribeTargetGroups"} {
		run(t, nil, func(e *env) {
			var hostname string
			e.inWorld(func() { hostname = e.world.AddLoadBalancer("web", sim.ALB).DNSName() })
			e.fault = func(op, _ string) *sim.Fault {
				if op == operation {
					return &sim.Fault{Status: 403, Code: "AccessDenied"}
				}
				return nil
			}
			asked := time.Now()
			_, err := e.behind(hostname)
			if !errors.Is(err, ErrDenied) || !strings.Contains(err.Error(), "grant elasticloadbalancing:"+operation) || !strings.Contains(err.Error(), hostname) {
				e.Error(err)
			}
			if took := time.Since(asked); took > 250*ms {
				e.Errorf("%s: it took %v", operation, took)
			}
		})
	}
}

func TestAnswersAreBounded(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		w := e.watcher
		known := func() int {
			w.mu.Lock()
			defer w.mu.Unlock()
			return len(w.answers)
		}
		w.mu.Lock()
		for i := range maxAnswers {
			w.answers[question{hostname: fmt.Sprint(i)}] = &answer{until: time.Now().Add(foundFor)}
		}
		w.mu.Unlock()
		for range 2 {
			if _, err := e.describe(g); err != nil {
				e.Error(err)
			}
			if n := known(); n != maxAnswers {
				e.Errorf("%d answers are remembered, want %d", n, maxAnswers)
			}
		}
		time.Sleep(foundFor)
		_, _ = e.describe(Group{Name: "none"})
		if n := known(); n != 1 {
			e.Errorf("%d answers are remembered, want the one that holds", n)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetGroups OK": 1, "DescribeTargetGroups TargetGroupNotFound": 1})
	})
}

func TestSplitHostname(t *testing.T) {
	for hostname, want := range map[string][2]string{
		"k8s-a-b-0a1b2c-123.eu-west-1.elb.amazonaws.com":           {"eu-west-1", "k8s-a-b-0a1b2c"},
		"internal-k8s-a-b-123.eu-west-1.elb.amazonaws.com":         {"eu-west-1", "k8s-a-b"},
		"k8s-a-b-0123456789abcdef.elb.us-gov-west-1.amazonaws.com": {"us-gov-west-1", "k8s-a-b"},
		"web-1.cn-north-1.elb.amazonaws.com.cn":                    {"cn-north-1", "web"},
		"web-1.elb.cn-northwest-1.amazonaws.com.cn":                {"cn-northwest-1", "web"},
		"web.us-east-1.elb.amazonaws.com":                          {"us-east-1", ""},
		"a1234567890.awsglobalaccelerator.com":                     {"", ""},
		"a.b.c.example.com":                                        {"", ""},
		"":                                                         {"", ""},
	} {
		if region, name := splitHostname(hostname); region != want[0] || name != want[1] {
			t.Errorf("%q is of Region %q and name %q, want %q", hostname, region, name, want)
		}
	}
}
