package elb

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
)

// scarce allows one request a second.
func scarce(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }

// TestLeaverCostsNothing: a look that waits for the rate is not paid for when nobody waits
// for it any more, and it counts from when it was sent.
func TestLeaverCostsNothing(t *testing.T) {
	run(t, scarce, func(e *env) {
		first, left, last := e.group("first"), e.group("left"), e.group("last")
		e.began = time.Now()
		defer e.join(first, newWake()).Close()
		e.sleepUntil(ms)
		leaver := e.join(left, newWake())
		e.sleepUntil(100 * ms)
		leaver.Close()
		wake := newWake()
		s := e.join(last, wake)
		defer s.Close()
		e.await("look", s, wake, 3*time.Second, anyLook)
		if got := e.looks(last); len(got) == 0 || got[0].Round(10*ms) != time.Second || len(e.looks(left)) > 0 {
			e.Errorf("looks at %v, and at the group that was left at %v; want one after a second", got, e.looks(left))
		}
		if look, _ := s.Latest(); look.Began.Sub(e.began).Round(10*ms) != time.Second {
			e.Errorf("the look began after %v", look.Began.Sub(e.began))
		}
	})
}

// TestRefusalIsNotAskedAgainSoon: a group that AWS refuses to show costs one call in half
// a minute.
func TestRefusalIsNotAskedAgainSoon(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.fail(&simaws.Fault{Status: 403, Code: "AccessDenied"})
		e.began = time.Now()
		wake := newWake()
		defer e.join(g, wake).Close()
		e.sleepUntil(29 * time.Second)
		e.checkCalls("within half a minute", map[string]int{"DescribeTargetHealth AccessDenied": 1})
		e.sleepUntil(32 * time.Second)
		e.checkCalls("after that", map[string]int{"DescribeTargetHealth AccessDenied": 2})
	})
}

// TestManyReplicas: the share of each is small, but not too small for a single look.
func TestManyReplicas(t *testing.T) {
	run(t, nil, func(e *env) {
		e.watcher.SetShare(20)
		wake := newWake()
		s := e.join(e.group("web"), wake)
		defer s.Close()
		e.await("look", s, wake, 5*time.Second, anyLook)
	})
}

// TestLeaveTwice: who leaves again does not end the looks of who came later.
func TestLeaveTwice(t *testing.T) {
	run(t, nil, func(e *env) {
		g, wake := e.group("web"), newWake()
		first := e.join(g, newWake())
		first.Close()
		second := e.join(g, wake)
		defer second.Close()
		first.Close()
		if got := e.watcher.Pollers(); got != 1 {
			e.Errorf("%d pollers, want 1", got)
		}
		e.await("look", second, wake, time.Second, anyLook)
	})
}

// TestConfirmBy: a look that would come too late to be of use does not hurry.
func TestConfirmBy(t *testing.T) {
	now := time.Now()
	p := Plan{ConfirmAt: now.Add(20 * time.Second), Latest: now.Add(50 * time.Second)}
	if got := p.confirmBy(now); !got.Equal(now.Add(30 * time.Second)) {
		t.Errorf("by %s, want a third of the time after 20s", got.Sub(now))
	}
	for _, late := range []time.Duration{0, -time.Second} {
		p.Latest = now.Add(late)
		if got := p.confirmBy(now); !got.Equal(forever) {
			t.Errorf("of use until %s from now: by %s, want never", late, got.Sub(now))
		}
	}
}

// TestErrorThatIsOver: once there was an answer, the error before it is not told again.
func TestErrorThatIsOver(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.fail(&simaws.Fault{Status: 500, Code: "InternalFailure"})
		if err := e.ask(1500*ms, func(since time.Time, wake chan<- struct{}) (bool, error) {
			_, known, err := e.watcher.Look(g, since, true, wake)
			return known, err
		}); !errors.Is(err, errOpen) || !strings.Contains(err.Error(), "InternalFailure") {
			e.Fatalf("error %v", err)
		}
		e.fail(nil)
		time.Sleep(failedFor)
		if _, err := e.lookAt(g, true); err != nil {
			e.Fatal(err)
		}
		if _, known, err := e.watcher.Look(g, time.Now(), true, newWake()); known || err != nil {
			e.Errorf("a new question: known %t, error %v", known, err)
		}
	})
}

// TestListBeginsWithItsFirstPage: who asks while the second page is read is not served by
// the first.
func TestListBeginsWithItsFirstPage(t *testing.T) {
	run(t, scarce, func(e *env) {
		var hostname string
		e.inWorld(func() {
			lb := e.world.AWS.AddLoadBalancer("web", simaws.ALB)
			for i := range 450 { // two pages
				e.world.AWS.AddTargetGroup(fmt.Sprint("g", i), 80, lb)
			}
			hostname = lb.DNSName()
		})
		e.began = time.Now()
		wake := newWake()
		ask := func(since time.Time) bool {
			_, known, err := e.watcher.GroupsByHostname(hostname, since, wake)
			if err != nil {
				e.Error(err)
			}
			return known
		}
		if ask(e.began) {
			e.Fatal("known at once")
		}
		e.sleepUntil(1500 * ms) // the load balancer was found, and the first page was read
		amid := time.Now()
		e.sleepUntil(2500 * ms) // and the second one
		if !ask(e.began) || ask(amid) {
			e.Errorf("known since the beginning: %t, since the middle: %t", ask(e.began), ask(amid))
		}
	})
}

// TestListInAnyOrder: AWS promises no order of targets, and lists what is no address, too.
func TestListInAnyOrder(t *testing.T) {
	list := func(targets ...string) canned {
		body := "<TargetHealthDescriptions>"
		for _, s := range targets {
			id, port, _ := strings.Cut(s, " ")
			body += "<member><Target><Id>" + id + "</Id><Port>" + port + "</Port></Target><TargetHealth><State>healthy</State></TargetHealth></member>"
		}
		return canned{200, start + body + "</TargetHealthDescriptions>" + end}
	}
	read := func(c canned) (last *Look) {
		answered(t, c, func(question string, known bool, look *Look, err error) {
			if question == "look" && known {
				if last = look; err != nil {
					t.Fatal(err)
				}
			}
		})
		return last
	}
	one := read(list("10.0.0.9 80", "10.0.0.1 81", "i-0123456789abcdef0 80", "10.0.0.5 80", "10.0.0.1 80", "10.0.0.3 80"))
	for address, ports := range map[string]int{"10.0.0.1": 2, "10.0.0.3": 1, "10.0.0.5": 1, "10.0.0.9": 1, "10.0.0.2": 0} {
		if got := one.At(netip.MustParseAddr(address)); len(got) != ports {
			t.Errorf("%s: %v, want %d", address, got, ports)
		}
	}
	other := read(list("10.0.0.1 80", "10.0.0.1 81"))
	if other.differs(one, []netip.Addr{netip.MustParseAddr("10.0.0.1")}) {
		t.Error("another order of ports is a change")
	}
}

// TestHostnameInCapitals: AWS keeps the capitals of a load balancer's name in its host
// name, which a status shows as it likes.
func TestHostnameInCapitals(t *testing.T) {
	const body = "<LoadBalancers><member><DNSName>Web-1.us-east-1.elb.amazonaws.com</DNSName><LoadBalancerArn>lb</LoadBalancerArn></member></LoadBalancers>" +
		"<TargetGroups><member><TargetGroupArn>group</TargetGroupArn></member></TargetGroups>"
	asked := 0
	answered(t, canned{200, start + body + end}, func(question string, known bool, _ *Look, err error) {
		if question != "behind" {
			return
		}
		if asked++; asked == 2 && (!known || err != nil) {
			t.Errorf("known %t, error %v", known, err)
		}
	})
}

// TestRefusalsByAnyName: AWS has several names for the same.
func TestRefusalsByAnyName(t *testing.T) {
	for _, code := range []string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"} {
		run(t, nil, func(e *env) {
			g := e.group("web")
			e.fail(&simaws.Fault{Status: 403, Code: code})
			if _, err := e.lookAt(g, true); !errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), "grant elasticloadbalancing:DescribeTargetHealth") {
				e.Errorf("%s: %v", code, err)
			}
		})
	}
	for _, code := range []string{"Throttling", "ThrottlingException", "ThrottledException", "RequestLimitExceeded", "TooManyRequestsException"} {
		run(t, nil, func(e *env) {
			g := e.group("web")
			e.fail(&simaws.Fault{Status: 400, Code: code})
			defer e.join(g, newWake()).Close()
			time.Sleep(200 * ms)
			if got := e.watcher.Rate(); got > 3 {
				e.Errorf("%s: the rate is %v, want it halved", code, got)
			}
		})
	}
}

// TestCredentialsThatHang: nobody else ends a try to get them, for which all calls wait.
func TestCredentialsThatHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hang := newCredentialSource(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			select {
			case <-ctx.Done():
				return aws.Credentials{}, ctx.Err()
			case <-time.After(time.Hour):
				return aws.Credentials{}, errors.New("an hour later")
			}
		}))
		began := time.Now()
		if _, err := hang.Retrieve(t.Context()); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != credentialsTimeout {
			t.Errorf("after %s: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := hang.Retrieve(ctx); !errors.Is(err, context.Canceled) || IsPermanent(err) {
			t.Errorf("a call that is given up: %v, which is permanent: %t", err, IsPermanent(err))
		}
	})
}
