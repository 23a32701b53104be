package drain

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

// scripted is an ELBv2 that gives one answer after the other, a second each from
// its birth on, and the last one for good. An answer takes 100 ms. It is an error
// code, or a list as in "10.0.0.1:80 draining Target.NotInUse, 10.0.0.2:80 healthy".
type scripted struct {
	born    time.Time
	answers []string
}

// RoundTrip implements [http.RoundTripper].
func (s scripted) RoundTrip(r *http.Request) (*http.Response, error) {
	n := min(int(time.Since(s.born)/time.Second), len(s.answers)-1)
	time.Sleep(100 * time.Millisecond)
	status, body := http.StatusOK, ""
	if text := s.answers[n]; text != "" && !strings.Contains(text, ":") {
		status, body = http.StatusBadRequest, fmt.Sprintf("<ErrorResponse><Error><Code>%s</Code><Message>no</Message></Error></ErrorResponse>", text)
	} else {
		body = "<DescribeTargetHealthResponse><DescribeTargetHealthResult>" + listOf(text) + "</DescribeTargetHealthResult></DescribeTargetHealthResponse>"
	}
	return &http.Response{StatusCode: status, Header: make(http.Header), Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

func listOf(text string) string {
	var members strings.Builder
	for t := range strings.SplitSeq(text, ", ") {
		if target, health, ok := strings.Cut(t, " "); ok {
			at := netip.MustParseAddrPort(target)
			state, reason, _ := strings.Cut(health, " ")
			fmt.Fprintf(&members, "<member><Target><Id>%s</Id><Port>%d</Port></Target><TargetHealth><State>%s</State><Reason>%s</Reason></TargetHealth></member>",
				at.Addr(), at.Port(), state, reason)
		}
	}
	return "<TargetHealthDescriptions>" + members.String() + "</TargetHealthDescriptions>"
}

// watching runs f beside a Watcher whose ELBv2 answers as scripted.
func watching(t *testing.T, answers []string, f func(t *testing.T, w *elb.Watcher)) {
	synctest.Test(t, func(t *testing.T) {
		endpoint := "http://aws.invalid"
		w := elb.New(elb.DefaultConfig(), elb.Clients(aws.Config{
			Region:       "eu-central-1",
			Credentials:  credentials.NewStaticCredentialsProvider("AKID", "secret", ""),
			HTTPClient:   &http.Client{Transport: scripted{time.Now(), answers}},
			BaseEndpoint: &endpoint,
		}, ""), slog.New(slog.DiscardHandler), nil)
		defer w.Close()
		f(t, w)
	})
}

var (
	webID  = elb.Group{ARN: "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/web/1"}
	shopID = elb.Group{ARN: "arn:aws:elasticloadbalancing:eu-central-1:111122223333:targetgroup/shop/2"}
)

// TestUpdate takes in a look a second, each of which takes 100 ms.
func TestUpdate(t *testing.T) {
	const (
		healthy  = "10.0.0.1:80 healthy"
		draining = "10.0.0.1:80 draining Target.DeregistrationInProgress"
		noGroup  = "TargetGroupNotFound"
		denied   = "AccessDenied"
	)
	for _, c := range []struct {
		name    string
		tie     tie
		since   time.Duration
		answers []string
		news    []string // with each look
		refused error    // by the last
		err     error    // of the tries since the newest look that counts
		state   string
	}{
		{
			"leaves and settles for two seconds", tie{}, 0, []string{healthy, draining, draining, "", ""},
			[]string{"in rotation", "left", "", "", "settled"}, nil, nil, "absent",
		},
		{"returns", tie{}, 0, []string{draining, healthy, healthy, ""}, []string{"left", "returned", "", "left"}, nil, nil, "absent"},
		{"a look from before the wait", tie{}, 500 * time.Millisecond, []string{"", healthy}, []string{"", "in rotation"}, nil, nil, "healthy"},
		{"a look that began before the wait", tie{}, 50 * time.Millisecond, []string{"", healthy}, []string{"", "in rotation"}, nil, nil, "healthy"},
		{"a group that was never seen", tie{}, 0, []string{noGroup}, []string{""}, elb.ErrNoGroup, elb.ErrNoGroup, ""},
		{"a group that was read before the wait is gone", tie{seen: true}, 0, []string{noGroup}, []string{"left"}, nil, nil, "absent"},
		{"a group of a former binding is gone", tie{former: true}, 0, []string{noGroup}, []string{"left"}, nil, nil, "absent"},
		{"a group is deleted in the middle", tie{}, 0, []string{healthy, noGroup}, []string{"in rotation", "left"}, nil, nil, "absent"},
		{"refused", tie{}, 0, []string{denied}, []string{""}, elb.ErrRefused, elb.ErrRefused, ""},
		{"refused in the middle", tie{}, 0, []string{healthy, denied}, []string{"in rotation", ""}, nil, elb.ErrRefused, "healthy"},
		{"throttled", tie{}, 0, []string{"Throttling"}, []string{""}, nil, errAny, ""},
		{"throttled in passing", tie{}, 0, []string{"Throttling", healthy}, []string{"", "in rotation"}, nil, nil, "healthy"},
		{
			"another port is in rotation", tie{}, 0, []string{draining + ", 10.0.0.1:81 healthy"},
			[]string{"in rotation"}, nil, nil, "draining (Target.DeregistrationInProgress), healthy",
		},
		{
			"another pod's port is in rotation", tie{otherPorts: []int{81, 82}}, 0, []string{draining + ", 10.0.0.1:81 healthy"},
			[]string{"left"}, nil, nil, "draining (Target.DeregistrationInProgress)",
		},
		{"a port beside another pod's", tie{otherPorts: []int{81}}, 0, []string{healthy}, []string{"in rotation"}, nil, nil, "healthy"},
		{"another pod", tie{}, 0, []string{"10.0.0.3:80 healthy"}, []string{"left"}, nil, nil, "absent"},
		{"the second address", tie{}, 0, []string{"10.0.0.1:80 unused Target.NotRegistered, [fd00::1]:80 initial"}, []string{"in rotation"}, nil, nil, "unused (Target.NotRegistered), initial"},
	} {
		t.Run(c.name, func(t *testing.T) {
			watching(t, c.answers, func(t *testing.T, w *elb.Watcher) {
				began := time.Now()
				g := &group{Group: webID, tie: c.tie}
				g.sub = w.Subscribe(webID, podIPs, elb.Plan{Latest: began.Add(time.Hour)}, make(chan struct{}, 1))
				defer g.sub.Close()
				time.Sleep(500 * time.Millisecond)
				var refused error
				for i, want := range c.news {
					var news []string
					news, refused = g.update(began.Add(c.since), podIPs, 2*time.Second)
					if got := strings.Join(news, ", "); got != want {
						t.Errorf("look %d tells %q, want %q", i, got, want)
					}
					time.Sleep(time.Second)
				}
				if !is(refused, c.refused) {
					t.Errorf("refused: %v, want %v", refused, c.refused)
				}
				if !is(g.err, c.err) {
					t.Errorf("error of the tries: %v, want %v", g.err, c.err)
				}
				if got := g.state(podIPs); got != c.state {
					t.Errorf("the state is %q, want %q", got, c.state)
				}
				if g.look == nil {
					return
				}
				for target := range g.look.Targets() {
					if !slices.Contains(podIPs, target.IP) {
						t.Errorf("the target %s of another pod is kept", target.IP)
					}
				}
			})
		})
	}
}

// errAny stands for any error that is no refusal.
var errAny = errors.New("any")

func is(err, want error) bool {
	if errors.Is(want, errAny) {
		return err != nil && !elb.IsPermanent(err)
	}
	return errors.Is(err, want)
}

var podIPs = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}

// TestMissing: who is cut learns how many seconds were missing, and what to raise.
func TestMissing(t *testing.T) {
	const settle = 20 * time.Second
	look := verdict.Progress{Looked: true}
	left := func(second float64) verdict.Progress { return verdict.Progress{Looked: true, LeftAt: at(second)} }
	confirmed := left(3)
	confirmed.Confirmed = true
	for _, c := range []struct {
		name     string
		progress verdict.Progress
		by, want string
	}{
		{"settled", confirmed, verdict.ByMaxDelay, ""},
		{"left", left(12), verdict.ByMaxDelay, "ARN: left after 12.0 s and settled for 8.0 s of 20s; requests may fail. Raise max-delay by 13s or more"},
		{"left, by grace", left(12), verdict.ByGrace, "ARN: left after 12.0 s and settled for 8.0 s of 20s; requests may fail. Raise terminationGracePeriodSeconds by 13s or more"},
		{"settled, but for the look", left(-5), verdict.ByMaxDelay, "ARN: left after -5.0 s and settled for 20.0 s of 20s; requests may fail. Raise max-delay by 1s or more"},
		{"in rotation", look, verdict.ByMaxDelay, "ARN: still in rotation () after 20.0 s; requests will fail. Is the controller late? Raise max-delay if it takes longer than that to deregister the pod"},
		{"never read", verdict.Progress{}, verdict.ByGrace, "ARN: could not be read in 20.0 s; requests may fail"},
	} {
		g := &group{Group: elb.Group{ARN: "ARN"}, progress: c.progress}
		if got := g.missing(at(0), at(20), settle, podIPs, c.by); got != c.want {
			t.Errorf("%s: got %q, want %q", c.name, got, c.want)
		}
	}
}

// TestFollow: two ties to a group are one group, and what the newest survey says
// of it counts.
func TestFollow(t *testing.T) {
	watching(t, []string{""}, func(t *testing.T, e *elb.Watcher) {
		w := handMade(t, Request{})
		w.elb, w.surveys = e, 1
		defer w.close()
		w.follow(webID, tie{publishesNotReady: true, otherPorts: []int{1, 2}})
		w.follow(webID, tie{publishesNotReady: true, otherPorts: []int{2, 3}})
		w.follow(shopID, tie{publishesNotReady: true})
		if g := w.group(webID); len(w.groups) != 2 || !g.publishesNotReady || !slices.Equal(g.otherPorts, []int{2}) {
			t.Errorf("after a survey: %d groups, %+v", len(w.groups), g)
		}
		sub := w.group(webID).sub
		w.surveys++
		w.follow(webID, tie{former: true})
		if g := w.group(webID); g.publishesNotReady || !g.former || g.otherPorts != nil || g.sub != sub {
			t.Errorf("after another one: %+v", g)
		}
	})
}

// TestRuledOut: an address that no pod has is in none of the groups or, as far as
// can be told, in all of them; a pod is in those that list it.
func TestRuledOut(t *testing.T) {
	for _, c := range []struct {
		name    string
		address bool
		listed  bool // by one group
		want    int
	}{
		{"an address, in a group", true, true, 2},
		{"an address, in none", true, false, 0},
		{"a pod", false, true, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			watching(t, []string{""}, func(t *testing.T, e *elb.Watcher) {
				w := handMade(t, Request{})
				w.elb, w.surveys = e, 1
				defer w.close()
				if c.address {
					w.pod.UID = ""
				}
				if c.listed {
					w.follow(webID, tie{})
				}
				w.ruleOut(shopID, tie{})
				w.followRuledOut()
				if len(w.groups) != c.want {
					t.Errorf("%d groups are followed, want %d", len(w.groups), c.want)
				}
			})
		})
	}
}

// TestJoin: of two ties the more cautious counts.
func TestJoin(t *testing.T) {
	both := tie{former: true, seen: false, publishesNotReady: true, otherPorts: []int{1, 2, 3}}
	for _, c := range []struct {
		name        string
		other, want tie
	}{
		{"a present tie", tie{publishesNotReady: true, otherPorts: []int{2}}, tie{publishesNotReady: true, otherPorts: []int{2}}},
		{"a tie with other ports", tie{former: true, otherPorts: []int{0, 1, 3, 4}}, tie{former: true, otherPorts: []int{1, 3}}},
		{"a tie that does not publish", tie{former: true}, tie{former: true}},
		{"one that was seen", tie{former: true, seen: true, publishesNotReady: true}, tie{former: true, seen: true, publishesNotReady: true}},
		{"one with a type", tie{former: true, kind: elb.NLB, publishesNotReady: true}, tie{former: true, kind: elb.NLB, publishesNotReady: true}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, got := range []tie{both.join(c.other), c.other.join(both)} {
				if fmt.Sprint(got) != fmt.Sprint(c.want) {
					t.Errorf("got %+v, want %+v", got, c.want)
				}
			}
		})
	}
}

func TestPlan(t *testing.T) {
	const settle = 20 * time.Second
	deadline, deletion := at(60), at(-1)
	for _, c := range []struct {
		name     string
		progress verdict.Progress
		want     elb.Plan
	}{
		{"in rotation", verdict.Progress{Looked: true}, elb.Plan{DeletionSeen: deletion, Latest: at(40)}},
		{"left", verdict.Progress{Looked: true, LeftAt: at(30)}, elb.Plan{ConfirmAt: at(50), Latest: deadline}},
		{"left in the last moment", verdict.Progress{Looked: true, LeftAt: at(40)}, elb.Plan{ConfirmAt: at(60), Latest: deadline}},
		{"left too late", verdict.Progress{Looked: true, LeftAt: at(41)}, elb.Plan{ConfirmAt: at(61)}},
		{"confirmed", verdict.Progress{Looked: true, LeftAt: at(30), Confirmed: true}, elb.Plan{Done: true}},
	} {
		if got := (&group{progress: c.progress}).plan(deletion, deadline, settle); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}
