package elb

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"drainwait/internal/sim/aws"
)

// step is one thing that happens to a Watcher.
type step struct {
	after time.Duration
	what  string
	group int
	sub   int // which of the open subscriptions, counted around
}

var steps = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) step {
	return step{
		after: time.Duration(rapid.SampledFrom([]int{0, 1, 20, 60, 100, 300, 500, 1000, 7000}).Draw(t, "after")) * ms,
		what: rapid.SampledFrom([]string{
			"join", "join", "join", "leave", "leave", "confirm", "hash", "hash", "empty", "forget", "share", "whole",
			"throttle", "break", "refuse", "hang", "heal", "describe", "look", "settle", "settle", "done", "wait",
		}).Draw(t, "what"),
		group: rapid.IntRange(0, 2).Draw(t, "group"),
		sub:   rapid.IntRange(0, 9).Draw(t, "sub"),
	}
}), 1, 40)

// TestAnyOrder puts a Watcher through whatever can happen to it, in any order.
// Always: the requests keep within the budget, no group is looked at three times
// within the spacing but to confirm, everybody who is still there in the end gets a new look,
// and when all have left, no poller is left and nothing more is sent.
func TestAnyOrder(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		todo := steps.Draw(rt, "steps")
		var broken []string // rt is not for use inside of the bubble
		run(t, nil, func(e *env) { broken = e.play(todo) })
		if len(broken) > 0 {
			rt.Fatal(broken)
		}
	})
}

// play carries the steps out and says what was not as it should be.
func (e *env) play(todo []step) (broken []string) {
	complain := func(format string, args ...any) { broken = append(broken, fmt.Sprintf(format, args...)) }
	type open struct {
		*Subscription
		group int
		wake  chan struct{}
	}
	var groups []Group
	for i := range 3 {
		groups = append(groups, e.group(fmt.Sprint("g", i)))
	}
	var subs []open
	confirms, asked := make(map[Group]int), make(map[Group]int)
	lives := make(map[int][]time.Duration) // when a group got its first subscriber
	watched := func(group int) bool {
		return slices.ContainsFunc(subs, func(s open) bool { return s.group == group })
	}
	leave := func(i int) {
		subs[i].Close()
		subs = slices.Delete(subs, i, i+1)
	}
	for i, s := range todo {
		time.Sleep(s.after)
		switch s.what {
		case "join":
			if !watched(s.group) {
				lives[s.group] = append(lives[s.group], e.now())
			}
			wake := newWake()
			subs = append(subs, open{e.join(groups[s.group], wake), s.group, wake})
		case "leave", "confirm", "settle", "done", "wait":
			if len(subs) == 0 {
				continue
			}
			n := s.sub % len(subs)
			latest := time.Now().Add(time.Duration(s.sub) * time.Second)
			switch s.what {
			case "leave":
				leave(n)
			case "confirm":
				confirms[groups[subs[n].group]]++
				subs[n].confirm()
			case "settle":
				confirms[groups[subs[n].group]]++
				subs[n].Update(nil, Plan{ConfirmAt: time.Now().Add(time.Duration(s.sub) * 150 * ms), Latest: latest})
			case "done":
				subs[n].Update(nil, Plan{Done: true})
			case "wait":
				subs[n].Update(nil, Plan{DeletionSeen: time.Now(), Latest: latest})
			}
		case "hash":
			e.watcher.Checkpoint(groups[s.group].ARN, fmt.Sprint(i), true)
		case "empty":
			e.watcher.Checkpoint(groups[s.group].ARN, "", true)
		case "forget":
			e.watcher.Checkpoint(groups[s.group].ARN, "", false)
		case "share":
			e.watcher.SetShare(1 + s.sub)
		case "whole":
			e.watcher.SetShare(1)
		case "throttle":
			e.fail(&aws.Fault{Status: 400, Code: "Throttling"})
		case "break":
			e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		case "hang":
			e.fail(&aws.Fault{Hang: true})
		case "heal":
			e.fail(nil)
		case "refuse":
			e.fail(&aws.Fault{Status: 403, Code: "AccessDenied"})
		case "look":
			asked[groups[s.group]]++ // it comes beside those of the poller
			_, _, _ = e.watcher.Look(groups[s.group], time.Now(), s.sub%2 == 0, newWake())
		case "describe":
			_, _, _ = e.watcher.Describe(groups[s.group], time.Now(), newWake())
		}
	}

	e.fail(nil)
	healed := time.Now()
	for _, s := range subs {
		confirms[groups[s.group]]++
		s.confirm()
	}
	// A call that hangs, and the slowest rate: half a request per second, which
	// is a tenth of the configured one, with three groups and look-ups to share it.
	// A refusal is remembered for half a minute more.
	time.Sleep(30*time.Second + refusedFor)
	for _, s := range subs {
		if look, err := s.Latest(); look == nil || look.Began.Before(healed) || err != nil {
			complain("group %d has look %v, error %v, long after %v", s.group, look, err, healed)
		}
		if len(s.wake) == 0 {
			complain("a subscriber of group %d was not woken", s.group)
		}
	}
	for len(subs) > 0 {
		leave(0)
	}
	if n := e.watcher.Pollers(); n != 0 {
		complain("%d pollers when all have left", n)
	}
	time.Sleep(time.Second)
	e.mu.Lock()
	sent := len(e.arrived)
	e.mu.Unlock()
	time.Sleep(time.Minute)

	e.mu.Lock()
	defer e.mu.Unlock()
	if len(e.arrived) != sent {
		complain("requests when all have left: %v", e.arrived[sent:])
	}
	var all []time.Duration
	byGroup := make(map[string][]time.Duration)
	for _, a := range e.arrived {
		all = append(all, a.sent)
		if a.operation == "DescribeTargetHealth" {
			byGroup[a.resource] = append(byGroup[a.resource], a.sent)
		}
	}
	cfg := DefaultConfig()
	if err := withinBudget(all, cfg.Rate, float64(cfg.Burst)); err != nil {
		complain("%v", err)
	}
	for i, g := range groups {
		looks := byGroup[g.ARN]
		most := 2 + min(confirms[g], int(cfg.Spacing/(100*ms))) + asked[g]
		for j := most; j < len(looks); j++ {
			first, third := looks[j-most], looks[j]
			// A poller does not know what the one before it did.
			reborn := slices.ContainsFunc(lives[i], func(t time.Duration) bool { return t > first && t <= third+ms })
			if third-first < cfg.Spacing-ms && !reborn {
				complain("group %d: looks at %v", i, looks[j-most:j+1])
			}
		}
	}
	return broken
}
