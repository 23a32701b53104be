package verdict

import (
	"fmt"
	"math/rand/v2"
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
func looks(text string) (os []Observation) {
	for part := range strings.SplitSeq(text, ", ") {
		var began, ended float64
		when, what, _ := strings.Cut(part, " ")
		if n, _ := fmt.Sscanf(when, "%g-%g", &began, &ended); n < 2 {
			ended = began
		}
		os = append(os, Observation{Began: at(began), Ended: at(ended), Listed: what != "out", InRotation: what == "in"})
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
			var p Progress
			var events []string
			for _, o := range looks(c.looks) {
				before := p
				p = p.Observe(o, c.settle)
				events = append(events, p.Events(before)...)
				if again := p.Observe(o, c.settle); again != p {
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
		var p Progress
		var seen []Observation
		now := 0.0
		for range 1 + r.IntN(8) {
			began := now + float64(r.IntN(5))
			now = began + float64(r.IntN(3))
			o := Observation{Began: at(began), Ended: at(now), InRotation: r.IntN(4) == 0}
			o.Listed = o.InRotation || r.IntN(2) == 0
			seen, p = append(seen, o), p.Observe(o, settle)
			if want := told(seen, settle); p != want {
				t.Fatalf("after %+v with a settle time of %s: got %+v, want %+v", seen, settle, p, want)
			}
		}
	}
}

// told is the progress that a list of looks amounts to.
func told(seen []Observation, settle time.Duration) Progress {
	p := Progress{Looked: true, Listed: seen[len(seen)-1].Listed}
	gone := seen
	for i, o := range seen {
		switch {
		case o.InRotation:
			gone = seen[i+1:]
		case i > 0 && o.Listed && !seen[i-1].Listed: // it was registered in between
			gone = seen[i:]
		}
	}
	if len(gone) == 0 {
		return p
	}
	p.LeftAt = gone[0].Ended
	p.Confirmed = settle == 0 || slices.ContainsFunc(gone[1:], func(o Observation) bool { return o.Began.Sub(p.LeftAt) >= settle })
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
	if InRotation(gone) || InRotation(nil) {
		t.Error("what has left, or is not listed, counts as in rotation")
	}
	for _, x := range []elb.Target{
		target("initial", "Elb.RegistrationInProgress"), target("healthy", ""), target("unhealthy", "Target.Timeout"),
		target("unhealthy.draining", "Target.FailedHealthChecks"), target("unavailable", "Elb.InternalError"),
		target("unused", ""), target("unused", "Target.SomethingNew"), target("resting", ""), target("", ""),
		target("healthy", "Target.NotRegistered"),
	} {
		if !InRotation([]elb.Target{x}) || !InRotation(append(gone, x)) {
			t.Errorf("%v does not count as in rotation", x)
		}
	}
}
