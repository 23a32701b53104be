package drain

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drainwait/internal/elb"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a moment of a test, in seconds.
func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// looks reads observations as in "0 in, 5-6 out": a look that began at second 5
// and ended at second 6 and did not list the pod; "draining" lists it.
func looks(text string) (os []observation) {
	for part := range strings.SplitSeq(text, ", ") {
		var began, ended float64
		when, what, _ := strings.Cut(part, " ")
		if n, _ := fmt.Sscanf(when, "%g-%g", &began, &ended); n < 2 {
			ended = began
		}
		os = append(os, observation{began: at(began), ended: at(ended), listed: what != "out", inRotation: what == "in"})
	}
	return os
}

func TestProgress(t *testing.T) {
	const settle = 20 * time.Second
	for _, c := range []struct {
		name, looks string
		settle      time.Duration
		events      string
	}{
		{"leaves and settles", "0 in, 1 draining, 21 out", settle, "in rotation, left, settled"},
		{"gone at the first look", "0 out, 20 out", settle, "left, settled"},
		{"a look too early confirms nothing", "0 in, 1 out, 20.9 out", settle, "in rotation, left"},
		{"the settle time counts from the end of the look that shows it left", "0-3 out, 22 out", settle, "left"},
		{"and is over by then", "0-3 out, 23 out", settle, "left, settled"},
		{"a look must begin when it is over, not end", "0 out, 19-21 out", settle, "left"},
		{"comes back while it settles", "0 in, 1 draining, 10 in, 12 draining, 31 out", settle, "in rotation, left, returned, left"},
		{"comes back and settles anew", "0 in, 1 draining, 10 in, 12 draining, 32 out", settle, "in rotation, left, returned, left, settled"},
		{"comes back after it was confirmed", "0 out, 20 out, 25 in, 26 out, 45 out", settle, "left, settled, returned, left"},
		{"stays where it is", "0 in, 1 in, 2 out, 3 out, 4 in, 5 in", settle, "in rotation, left, returned"},
		{"is registered after the first look", "0 out, 10 draining, 20 draining, 29 out", settle, "left, left"},
		{"and settles from there", "0 out, 10 draining, 20 draining, 30 out", settle, "left, left, settled"},
		{"stays confirmed", "0 out, 20 out, 21 out", settle, "left, settled"},
		{"without a settle time", "0 in, 1-2 draining", 0, "in rotation, left, settled"},
		{"without a settle time, comes back", "0 out, 1 in", 0, "left, settled, returned"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var p progress
			var events []string
			for _, o := range looks(c.looks) {
				before := p
				p = p.observe(o, c.settle)
				events = append(events, p.events(before)...)
				if again := p.observe(o, c.settle); again != p {
					t.Errorf("the look %+v counts twice: %+v, then %+v", o, p, again)
				}
			}
			if got := strings.Join(events, ", "); got != c.events {
				t.Errorf("got %s, want %s", got, c.events)
			}
		})
	}
}

// TestProgressHolds plays random looks and holds each step against what the
// whole list of them says.
func TestProgressHolds(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		settle := []time.Duration{0, 3 * time.Second, 10 * time.Second}[r.IntN(3)]
		var p progress
		var seen []observation
		now := 0.0
		for range 1 + r.IntN(8) {
			began := now + float64(r.IntN(5))
			now = began + float64(r.IntN(3))
			o := observation{began: at(began), ended: at(now), inRotation: r.IntN(4) == 0}
			o.listed = o.inRotation || r.IntN(2) == 0
			seen, p = append(seen, o), p.observe(o, settle)
			if want := told(seen, settle); p != want {
				t.Fatalf("after %+v with a settle time of %s: got %+v, want %+v", seen, settle, p, want)
			}
		}
	}
}

// told is the progress that a list of looks amounts to.
func told(seen []observation, settle time.Duration) progress {
	p := progress{looked: true, listed: seen[len(seen)-1].listed}
	gone := seen
	for i, o := range seen {
		switch {
		case o.inRotation:
			gone = seen[i+1:]
		case i > 0 && o.listed && !seen[i-1].listed: // it was registered in between
			gone = seen[i:]
		}
	}
	if len(gone) == 0 {
		return p
	}
	p.leftAt = gone[0].ended
	p.confirmed = settle == 0 || slices.ContainsFunc(gone[1:], func(o observation) bool { return o.began.Sub(p.leftAt) >= settle })
	return p
}

func TestInRotation(t *testing.T) {
	target := func(state, reason string) elb.Target {
		return elb.Target{State: types.TargetHealthStateEnum(state), Reason: types.TargetHealthReasonEnum(reason)}
	}
	gone := []elb.Target{
		target("draining", "Target.DeregistrationInProgress"), target("unused", "Target.NotRegistered"), target("unused", "Target.NotInUse"),
		target("unused", "Target.InvalidState"), target("unused", "Target.IpUnusable"),
	}
	if inRotation(gone) || inRotation(nil) {
		t.Error("what has left, or is not listed, counts as in rotation")
	}
	for _, x := range []elb.Target{
		target("initial", "Elb.RegistrationInProgress"), target("healthy", ""), target("unhealthy", "Target.Timeout"),
		target("unhealthy.draining", "Target.FailedHealthChecks"), target("unavailable", "Elb.InternalError"),
		target("unused", ""), target("unused", "Target.SomethingNew"), target("resting", ""), target("", ""),
		target("healthy", "Target.NotRegistered"),
	} {
		if !inRotation([]elb.Target{x}) || !inRotation(append(gone, x)) {
			t.Errorf("%v does not count as in rotation", x)
		}
	}
}

func TestIntersect(t *testing.T) {
	if got := intersect([]int{1, 2, 3}, []int{3, 4, 1}); !slices.Equal(got, []int{1, 3}) {
		t.Errorf("got %v", got)
	}
	if got := intersect([]int{1}, nil); got != nil {
		t.Errorf("got %v: a port counts where one tie says so", got)
	}
}

// TestJoin: of two ties the more cautious counts.
func TestJoin(t *testing.T) {
	both := tie{former: true, seen: false, publishesNotReady: true, otherPorts: []int{1, 2}}
	for _, c := range []struct {
		name        string
		other, want tie
	}{
		{"a present tie", tie{publishesNotReady: true, otherPorts: []int{2}}, tie{publishesNotReady: true, otherPorts: []int{2}}},
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
		progress progress
		want     elb.Plan
	}{
		{"in rotation", progress{looked: true}, elb.Plan{DeletionSeen: deletion, Latest: at(40)}},
		{"left", progress{looked: true, leftAt: at(30)}, elb.Plan{ConfirmAt: at(50), Latest: deadline}},
		{"left in the last moment", progress{looked: true, leftAt: at(40)}, elb.Plan{ConfirmAt: at(60), Latest: deadline}},
		{"left too late", progress{looked: true, leftAt: at(41)}, elb.Plan{ConfirmAt: at(61)}},
		{"confirmed", progress{looked: true, leftAt: at(30), confirmed: true}, elb.Plan{Done: true}},
	} {
		if got := (&group{progress: c.progress}).plan(deletion, deadline, settle); got != c.want {
			t.Errorf("%s: got %+v, want %+v", c.name, got, c.want)
		}
	}
}

var webIP = netip.MustParseAddr("10.0.0.1")
