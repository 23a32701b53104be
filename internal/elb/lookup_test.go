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
	"drainwait/internal/sim/aws"
)

func (e *env) describe(g Group) (info GroupInfo, err error) {
	err = e.ask(20*time.Second, func(since time.Time, wake chan<- struct{}) (known bool, err error) {
		info, known, err = e.watcher.Describe(g, since, wake)
		return known, err
	})
	return info, err
}

func (e *env) groupsByHostname(hostname string) (groups []GroupInfo, err error) {
	err = e.ask(time.Minute, func(since time.Time, wake chan<- struct{}) (known bool, err error) {
		groups, known, err = e.watcher.GroupsByHostname(hostname, since, wake)
		return known, err
	})
	return groups, err
}

func (e *env) lookAt(g Group, urgent bool) (look *Look, err error) {
	err = e.ask(time.Minute, func(since time.Time, wake chan<- struct{}) (known bool, err error) {
		look, known, err = e.watcher.Look(g, since, urgent, wake)
		return known, err
	})
	return look, err
}

func TestDescribe(t *testing.T) {
	const role, externalID = "arn:aws:iam::210987654321:role/drain", "external"
	run(t, nil, func(e *env) {
		var http, tcp, owned Group
		e.inWorld(func() {
			http.ARN = e.world.AWS.AddTargetGroup("http", 80, nil).ARN()
			tcp.ARN = e.world.AWS.AddTargetGroup("tcp", 80, e.world.AWS.AddLoadBalancer("tcp", aws.NLB)).ARN()
			owned.ARN = e.world.AWS.AddTargetGroup("owned", 80, nil).ARN()
			e.world.AWS.AddRole(role, externalID)
			e.world.AWS.RequireRole(owned.ARN, role)
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
			{owned, GroupInfo{}, ErrRefused},
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

// What an ARN stands for is asked once for all, and again after five minutes;
// that AWS refuses to tell is asked again after half a minute.
func TestAnswersAreShared(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		var all sync.WaitGroup
		e.began = time.Now()
		for i := range 50 {
			all.Go(func() {
				time.Sleep(time.Duration(i) * ms)
				if info, err := e.describe(g); err != nil || info.Group != g {
					e.Errorf("caller %d: %v, %v", i, info, err)
				}
			})
		}
		all.Wait()
		if took := e.now().Truncate(ms); took != 100*ms {
			e.Errorf("all were answered after %v, want 100ms", took)
		}
		e.checkCalls("at first", map[string]int{"DescribeTargetGroups OK": 1})
		e.sleepUntil(5*time.Minute + 99*ms)
		_, _ = e.describe(g)
		e.checkCalls("after five minutes", map[string]int{"DescribeTargetGroups OK": 1})
		time.Sleep(2 * ms)
		_, _ = e.describe(g)
		e.checkCalls("later", map[string]int{"DescribeTargetGroups OK": 2})
		for range 61 { // 30.5 s
			if _, err := e.describe(Group{Name: "none"}); !errors.Is(err, ErrNoGroup) {
				e.Error(err)
			}
			time.Sleep(500 * ms)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetGroups OK": 2, "DescribeTargetGroups TargetGroupNotFound": 2})
	})
}

// One request is shared by all who asked before it began, and by nobody who asked
// later, where the answer may change: by name, behind a host name, a look.
func TestSinceCounts(t *testing.T) {
	for name, question := range map[string]func(e *env, hostname string, g Group) func(time.Time, chan<- struct{}) (bool, error){
		"by name": func(e *env, _ string, _ Group) func(time.Time, chan<- struct{}) (bool, error) {
			return func(since time.Time, wake chan<- struct{}) (bool, error) {
				_, known, err := e.watcher.Describe(Group{Name: "web"}, since, wake)
				return known, err
			}
		},
		"behind": func(e *env, hostname string, _ Group) func(time.Time, chan<- struct{}) (bool, error) {
			return func(since time.Time, wake chan<- struct{}) (bool, error) {
				_, known, err := e.watcher.GroupsByHostname(hostname, since, wake)
				return known, err
			}
		},
		"look": func(e *env, _ string, g Group) func(time.Time, chan<- struct{}) (bool, error) {
			return func(since time.Time, wake chan<- struct{}) (bool, error) {
				_, known, err := e.watcher.Look(g, since, true, wake)
				return known, err
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				var hostname string
				var g Group
				e.inWorld(func() {
					lb := e.world.AWS.AddLoadBalancer("web", aws.ALB)
					hostname, g.ARN = lb.DNSName(), e.world.AWS.AddTargetGroup("web", 80, lb).ARN()
				})
				ask := question(e, hostname, g)
				if err := e.ask(time.Second, ask); err != nil { // which resolves the host name
					e.Fatal(err)
				}
				time.Sleep(time.Second)
				sent := func() (n int) {
					for _, m := range e.calls() {
						n += m
					}
					return n
				}
				before := sent()
				early, late := newWake(), newWake()
				began := time.Now()
				if known, err := ask(began, early); known || err != nil {
					e.Fatalf("an answer of a second ago counts: %v, %v", known, err)
				}
				time.Sleep(20 * ms) // the request is on its way
				asked := time.Now()
				if known, _ := ask(asked, late); known {
					e.Error("an answer before there can be one")
				}
				<-early
				<-late // to ask again
				if known, err := ask(began, early); !known || err != nil {
					e.Errorf("who asked before the request: %v, %v", known, err)
				}
				if known, _ := ask(asked, late); known {
					e.Error("a request that began before the question is an answer to it")
				}
				<-late
				if known, err := ask(asked, late); !known || err != nil || time.Since(began).Truncate(ms) != 200*ms {
					e.Errorf("who asked later: %v, %v after %v", known, err, time.Since(began))
				}
				if n := sent() - before; n != 2 {
					e.Errorf("%d requests, want 2", n)
				}
				if len(early) != 0 {
					e.Error("who has the answer is woken")
				}
			})
		})
	}
}

// A refusal is remembered for half a minute; then who heard it is woken, once.
func TestRefusalIsRemembered(t *testing.T) {
	denied := &aws.Fault{Status: 403, Code: "AccessDenied"}
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.fail(denied)
		if _, err := e.lookAt(g, true); !errors.Is(err, ErrRefused) {
			e.Fatal(err)
		}
		refused := time.Now()
		e.fail(nil)
		time.Sleep(5 * time.Second)
		wake := newWake()
		if _, known, err := e.watcher.Look(g, time.Now(), false, wake); !known || !errors.Is(err, ErrRefused) {
			e.Errorf("a later question: %v, %v", known, err)
		}
		subscribed := newWake()
		s := e.join(g, subscribed)
		defer s.Close()
		if look, err := s.Latest(); look != nil || !errors.Is(err, ErrRefused) {
			e.Errorf("a new poller: %v, %v", look, err)
		}
		asOther := g
		asOther.RoleARN = "arn:aws:iam::210987654321:role/drain"
		if _, known, _ := e.watcher.Look(asOther, time.Now(), false, newWake()); known {
			e.Error("the refusal of one role is that of another")
		}
		<-wake
		if after := time.Since(refused); after != refusedFor {
			e.Errorf("woken after %v", after)
		}
		time.Sleep(150 * ms)
		if look, err := s.Latest(); look == nil || err != nil || len(subscribed) != 1 {
			e.Errorf("then: %v, %v, %d wakes", look, err, len(subscribed))
		}
		if look, err := e.lookAt(g, false); look == nil || err != nil {
			e.Errorf("then: %v, %v", look, err)
		}
		time.Sleep(time.Minute)
		if len(wake) != 0 {
			e.Error("woken again")
		}
	})
	run(t, nil, func(e *env) { // by a poller
		g := e.group("web")
		wake := newWake()
		s := e.join(g, wake)
		e.await("a look", s, wake, time.Second, anyLook)
		e.fail(denied)
		e.await("a refusal", s, wake, 2*time.Second, anyError)
		refused := e.now()
		e.watcher.Checkpoint(g.ARN, "new hash", true)
		again := e.join(g, wake)
		if _, known, err := e.watcher.Look(g, time.Now(), true, newWake()); !known || !errors.Is(err, ErrRefused) {
			e.Errorf("a question: %v, %v", known, err)
		}
		tries := len(e.looks(g))
		time.Sleep(refusedFor + 200*ms)
		// At the cadence: it was allowed before.
		if looks := e.looks(g)[tries:]; len(looks) < 5 || len(looks) > 6 {
			e.Errorf("asked again at %v, refused at %v", looks, refused)
		}
		e.fail(nil)
		e.await("a look again", s, wake, 6*time.Second, func(_ *Look, err error) bool { return err == nil })
		s.Close()
		again.Close()
		if look, err := e.lookAt(g, true); look == nil || err != nil {
			e.Errorf("the refusal is remembered too long: %v", err)
		}
	})
}

// A look that only the sweep wants goes last, until a wait wants it, too.
func TestLookIsRaised(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }
	for _, urgent := range []bool{true, false} {
		run(t, scarce, func(e *env) {
			var groups []Group
			for i := range 4 {
				groups = append(groups, e.group(fmt.Sprint("g", i)))
			}
			wake := newWake()
			began := time.Now()
			for _, g := range groups { // the first one spends the token
				if _, known, err := e.watcher.Look(g, began, false, wake); known || err != nil {
					e.Error(known, err)
				}
				time.Sleep(ms)
			}
			if urgent {
				_, _, _ = e.watcher.Look(groups[3], began, true, wake)
				_, _, _ = e.watcher.Look(groups[3], began, false, wake) // lowers nothing
			}
			time.Sleep(1200 * ms)
			want := map[bool]int{true: 3, false: 1}[urgent]
			for i, g := range groups {
				look, known, _ := e.watcher.Look(g, began, false, wake)
				if known != (i == 0 || i == want) {
					e.Errorf("urgent %v: group %d is known: %v", urgent, i, known)
				}
				if known && i > 0 && look.Queued.Round(10*ms) != time.Second {
					e.Errorf("queued for %v, want 1s", look.Queued)
				}
			}
		})
	}
}

// A look of the group's poller is an answer, too, and a group that is gone one.
func TestLookOfPollerServes(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		began := time.Now()
		e.await("a look", s, wake, time.Second, anyLook)
		latest, _ := s.Latest()
		if look, known, err := e.watcher.Look(g, began, true, newWake()); look != latest || !known || err != nil {
			e.Errorf("%v, %v, %v, want %v", look, known, err, latest)
		}
		if _, known, _ := e.watcher.Look(g, time.Now(), true, newWake()); known {
			e.Error("a look that began before")
		}
		g.ARN += "0"
		if look, err := e.lookAt(g, true); err != nil || !look.Gone || look.Began.Before(began) {
			e.Errorf("at no group: %+v, %v", look, err)
		}
	})
}

// Wakes that nobody asks for again are let go with the next answer, and answers
// that are no good any more with the next question.
func TestNothingLeaks(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		w := e.watcher
		wakes := func() (n int) {
			w.mu.Lock()
			defer w.mu.Unlock()
			for _, r := range w.requests {
				n += len(r.wakes)
			}
			return n
		}
		for range 10 {
			_, _, _ = w.Look(g, time.Now(), true, newWake())
		}
		time.Sleep(failedFor)
		if n := wakes(); n != 10 {
			e.Errorf("%d wait, want 10", n)
		}
		time.Sleep(200 * ms)
		if n := wakes(); n != 0 {
			e.Errorf("%d wait after the error, want none", n)
		}
		e.fail(nil)
		_, _ = e.lookAt(g, true)
		time.Sleep(lookFor + ms)
		_, _ = e.describe(g)
		w.mu.Lock()
		defer w.mu.Unlock()
		if len(w.requests) != 1 {
			e.Errorf("remembered: %v", w.requests)
		}
	})
}

func TestTroubleOfLongAgo(t *testing.T) {
	run(t, nil, func(e *env) {
		e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		g := e.group("web")
		for _, pause := range []time.Duration{0, 1200 * ms, 10 * time.Second} {
			time.Sleep(pause)
			_, known, err := e.watcher.Look(g, time.Now(), true, newWake())
			if known || (err != nil) != (pause == 1200*ms) {
				e.Errorf("after %v: %v, %v", pause, known, err)
			}
		}
	})
}

// A question that failed is not asked again sooner because others come.
func TestPauseIsKept(t *testing.T) {
	run(t, nil, func(e *env) {
		e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		wake := newWake()
		for i := range 10 {
			if _, known, _ := e.watcher.Look(Group{ARN: "a"}, e.began, true, wake); known {
				e.Error("known")
			}
			_, _, _ = e.watcher.Look(Group{ARN: fmt.Sprint(i)}, e.began, true, newWake())
			time.Sleep(100 * ms)
		}
		if n := len(e.looks(Group{ARN: "a"})); n != 1 || len(wake) != 0 {
			e.Errorf("%d tries in a second, %d wakes", n, len(wake))
		}
		e.watcher.Close()
		if len(wake) != 1 {
			e.Error("who waits is not woken by the end")
		}
	})
}

func TestCheck(t *testing.T) {
	const role = "arn:aws:iam::210987654321:role/drain"
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.inWorld(func() { e.world.AWS.AddRole(role, "") })
		for _, g := range []Group{g, {}, {ARN: g.ARN, RoleARN: role}} {
			if err := e.watcher.Check(e.Context(), g); err != nil {
				e.Errorf("%v: %v", g, err)
			}
		}
		if err := e.watcher.Check(e.Context(), Group{ARN: g.ARN, RoleARN: role + "-none"}); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), g.ARN) {
			e.Errorf("with no role: %v", err)
		}
		e.fail(&aws.Fault{Status: 403, Code: "AccessDenied"})
		if err := e.watcher.Check(e.Context(), g); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "grant elasticloadbalancing:DescribeTargetGroups") {
			e.Errorf("without permission: %v", err)
		}
		e.fail(&aws.Fault{Hang: true})
		ctx, cancel := context.WithTimeout(e.Context(), time.Second)
		defer cancel()
		began := time.Now()
		if err := e.watcher.Check(ctx, g); err == nil || IsPermanent(err) || time.Since(began) != time.Second {
			e.Errorf("without an answer: %v after %v", err, time.Since(began))
		}
		time.AfterFunc(time.Second, e.watcher.Close)
		began = time.Now()
		if err := e.watcher.Check(e.Context(), g); !errors.Is(err, ErrClosed) || time.Since(began) != time.Second {
			e.Errorf("closed: %v after %v", err, time.Since(began))
		}
		if err := e.watcher.Check(e.Context(), g); !errors.Is(err, ErrClosed) {
			e.Errorf("closed before: %v", err)
		}
	})
}

func TestTroubleIsWaitedOut(t *testing.T) {
	for name, begin := range map[string]func(*env){
		"throttled":    func(e *env) { e.fail(&aws.Fault{Status: 400, Code: "Throttling"}) },
		"out of order": func(e *env) { e.fail(&aws.Fault{Status: 503, Code: "ServiceUnavailable"}) },
		"no answer":    func(e *env) { e.fail(&aws.Fault{Hang: true}) },
		"expired":      func(e *env) { e.inWorld(func() { e.world.AWS.ExpireCredentials(true) }) },
	} {
		t.Run(name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				g := e.group("web")
				begin(e)
				err := e.ask(7500*ms, func(since time.Time, wake chan<- struct{}) (known bool, err error) {
					_, known, err = e.watcher.Describe(g, since, wake)
					return known, err
				})
				if !errors.Is(err, errOpen) || !strings.Contains(err.Error(), "describe target group "+g.ARN) {
					e.Error(err)
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
					e.inWorld(func() { e.world.AWS.ExpireCredentials(false) })
				}
				if info, err := e.describe(g); err != nil || info.Group != g {
					e.Errorf("in the end: %v, %v", info, err)
				}
				time.Sleep(foundFor)
				if _, known, err := e.watcher.Describe(g, time.Now(), newWake()); known || err != nil {
					e.Errorf("an error of long ago: %v, %v", known, err)
				}
			})
		})
	}
}

func TestGroupsByHostname(t *testing.T) {
	run(t, nil, func(e *env) {
		var alb, nlb, bare string
		var web, api, tcp Group
		e.inWorld(func() {
			lb := e.world.AWS.AddLoadBalancer("k8s-shop-front", aws.ALB)
			alb = lb.DNSName()
			web.ARN = e.world.AWS.AddTargetGroup("web", 80, lb).ARN()
			api.ARN = e.world.AWS.AddTargetGroup("api", 80, lb).ARN()
			lb = e.world.AWS.AddLoadBalancer("k8s-shop-tcp", aws.NLB)
			nlb = lb.DNSName()
			tcp.ARN = e.world.AWS.AddTargetGroup("tcp", 80, lb).ARN()
			bare = e.world.AWS.AddLoadBalancer("bare", aws.ALB).DNSName()
		})
		e.fault = func(operation, resource string) *aws.Fault {
			if operation == "DescribeLoadBalancers" && strings.HasPrefix(resource, "-") {
				return &aws.Fault{Status: 400, Code: "ValidationError"}
			}
			return nil
		}
		front := []GroupInfo{{web, "ip", ALB}, {api, "ip", ALB}}
		const fast = "DescribeLoadBalancers OK"
		for _, tt := range []struct {
			hostname string
			want     []GroupInfo
			err      error
			calls    map[string]int
		}{
			{alb, front, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			{"dualstack." + alb, front, nil, map[string]int{"DescribeTargetGroups OK": 1}},
			{strings.ToUpper(alb) + ".", front, nil, map[string]int{"DescribeTargetGroups OK": 1}},
			{nlb, []GroupInfo{{tcp, "ip", NLB}}, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			{bare, nil, nil, map[string]int{fast: 1, "DescribeTargetGroups OK": 1}},
			// Another load balancer had the name.
			{strings.Replace(alb, "-1.", "-99.", 1), nil, ErrNoLoadBalancer, map[string]int{fast: 2}},
			{"internal-" + alb, nil, ErrNoLoadBalancer, map[string]int{fast: 2}},
			{"none-1.us-east-1.elb.amazonaws.com", nil, ErrNoLoadBalancer, map[string]int{fast: 1, "DescribeLoadBalancers LoadBalancerNotFound": 1}},
			// What cannot be a name.
			{"-none--1.us-east-1.elb.amazonaws.com", nil, ErrNoLoadBalancer, map[string]int{fast: 1, "DescribeLoadBalancers ValidationError": 1}},
			{"www.example.com", nil, ErrNoLoadBalancer, map[string]int{fast: 1}},
			{"", nil, ErrNoLoadBalancer, nil},
		} {
			before := e.calls()
			got, err := e.groupsByHostname(tt.hostname)
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
		got, _ := e.groupsByHostname(alb)
		got[0] = GroupInfo{}
		if again, _ := e.groupsByHostname(alb); !slices.Equal(again, front) {
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
				hostname = e.world.AWS.AddLoadBalancer(fmt.Sprint("lb", i), aws.ALB).DNSName()
			}
			lb := e.world.AWS.AddLoadBalancer("last", aws.ALB)
			for i := range 450 { // two pages
				want = append(want, GroupInfo{Group{ARN: e.world.AWS.AddTargetGroup(fmt.Sprint("g", i), 80, lb).ARN()}, "ip", ALB})
			}
			hostname = lb.DNSName()
		})
		// Once the name is gone the search goes by the list.
		e.fault = func(operation, resource string) *aws.Fault {
			if operation == "DescribeLoadBalancers" && resource == "last" {
				return &aws.Fault{Status: 400, Code: "LoadBalancerNotFound"}
			}
			return nil
		}
		began := time.Now()
		got, err := e.groupsByHostname(hostname)
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
			e.inWorld(func() { hostname = e.world.AWS.AddLoadBalancer("web", aws.ALB).DNSName() })
			e.fault = func(op, _ string) *aws.Fault {
				if op == operation {
					return &aws.Fault{Status: 403, Code: "AccessDenied"}
				}
				return nil
			}
			asked := time.Now()
			_, err := e.groupsByHostname(hostname)
			if !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "grant elasticloadbalancing:"+operation) || !strings.Contains(err.Error(), hostname) {
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
			return len(w.requests)
		}
		waiting := newWake()
		w.mu.Lock()
		for i := range maxAnswers {
			r := w.request(question{hostname: fmt.Sprint(i)})
			r.until = time.Now().Add(foundFor)
			r.wakes[waiting] = struct{}{}
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
		if len(waiting) != 1 {
			e.Error("who waits for what is forgotten is not woken")
		}
		time.Sleep(foundFor)
		_, _ = e.describe(Group{Name: "none"})
		if n := known(); n != 1 {
			e.Errorf("%d answers are remembered, want the one that holds", n)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetGroups OK": 1, "DescribeTargetGroups TargetGroupNotFound": 1})
	})
}

// The load balancer of a host name is found once in five minutes, unless it turns
// out to be gone.
func TestBalancerIsRemembered(t *testing.T) {
	run(t, nil, func(e *env) {
		var hostname string
		var lb *aws.LoadBalancer
		e.inWorld(func() {
			lb = e.world.AWS.AddLoadBalancer("web", aws.ALB)
			hostname = lb.DNSName()
		})
		for i := range 3 {
			var g Group
			e.inWorld(func() { g.ARN = e.world.AWS.AddTargetGroup(fmt.Sprint("g", i), 80, lb).ARN() })
			if groups, err := e.groupsByHostname(hostname); err != nil || len(groups) != i+1 || groups[i].Group != g {
				e.Errorf("the newest group is missing: %v, %v", groups, err)
			}
			time.Sleep(140 * time.Second)
		}
		e.checkCalls("in five minutes", map[string]int{"DescribeLoadBalancers OK": 1, "DescribeTargetGroups OK": 3})
		_, _ = e.groupsByHostname(hostname)
		e.checkCalls("then", map[string]int{"DescribeLoadBalancers OK": 2, "DescribeTargetGroups OK": 4})
		gone := true
		e.fault = func(operation, _ string) *aws.Fault {
			if operation != "DescribeTargetGroups" || !gone {
				return nil
			}
			gone = false
			return &aws.Fault{Status: 400, Code: "LoadBalancerNotFound"}
		}
		if groups, err := e.groupsByHostname(hostname); err != nil || len(groups) != 3 {
			e.Errorf("anew: %v, %v", groups, err)
		}
		e.checkCalls("in the end", map[string]int{
			"DescribeLoadBalancers OK": 3, "DescribeTargetGroups OK": 5, "DescribeTargetGroups LoadBalancerNotFound": 1,
		})
	})
}
