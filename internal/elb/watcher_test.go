package elb

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

func TestManySubscribersCostOnePoller(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		const n = 100
		var subs []*Subscription
		var wakes []chan struct{}
		e.began = time.Now()
		for range n {
			wakes = append(wakes, newWake())
			subs = append(subs, e.join(g, wakes[len(subs)]))
			e.sleepUntil(ms)
		}
		// A look for the first one, and from 0.5 s on one a second for all.
		e.sleepUntil(11 * time.Second)
		e.checkCalls("with 100", map[string]int{"DescribeTargetHealth OK": 12})
		if got := e.watcher.Pollers(); got != 1 {
			e.Errorf("%d pollers, want 1", got)
		}
		first, err := subs[0].Latest()
		for i, s := range subs {
			if look, err := s.Latest(); look != first || err != nil || len(wakes[i]) != 1 {
				e.Errorf("subscription %d: look %v, error %v, %d wakes", i, look, err, len(wakes[i]))
			}
			<-wakes[i]
		}
		if err != nil {
			e.Error(err)
		}

		// In the middle of a look all but one leave, and one of them twice. The
		// look goes on, for the one.
		e.sleepUntil(11520 * ms)
		for _, s := range subs[1:] {
			s.Close()
		}
		subs[1].Close()
		e.sleepUntil(21 * time.Second)
		e.checkCalls("with one", map[string]int{"DescribeTargetHealth OK": 22})
		if look, _ := subs[0].Latest(); len(wakes[0]) != 0 || len(wakes[1]) != 0 || look == first {
			e.Errorf("nothing happened, and yet who stays has %d wakes, who left %d; look %v", len(wakes[0]), len(wakes[1]), look)
		}

		// The last one leaves in the middle of a look.
		e.sleepUntil(21520 * ms)
		subs[0].Close()
		if got := e.watcher.Pollers(); got != 0 {
			e.Errorf("%d pollers, want 0", got)
		}
		e.sleepUntil(21521 * ms)
		want := map[string]int{"DescribeTargetHealth OK": 22, "DescribeTargetHealth canceled": 1}
		e.checkCalls("with none", want)
		e.sleepUntil(time.Minute)
		e.checkCalls("long after", want)

		s := e.join(g, wakes[1])
		defer s.Close()
		e.await("a new subscriber", s, wakes[1], 200*ms, anyLook)
		want["DescribeTargetHealth OK"]++
		e.checkCalls("with a new one", want)
	})
}

// A subscription that follows the last one at once has a poller of its own,
// though that of the last one is not quite gone.
func TestLeaveAndJoinAtOnce(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		wake := newWake()
		for range 50 {
			e.join(g, wake).Close()
		}
		s := e.join(g, wake)
		defer s.Close()
		e.await("first look", s, wake, 5*time.Second, anyLook)
		if n := e.watcher.Pollers(); n != 1 {
			e.Errorf("%d pollers, want 1", n)
		}
	})
}

// A look that ends with the last subscription is no error of the group.
func TestLeaveInTheMiddleOfALook(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		s := e.join(g, newWake())
		time.Sleep(50 * ms)
		s.Close()
		time.Sleep(ms)
		if _, known, err := e.watcher.Look(g, time.Now(), true, newWake()); known || err != nil {
			e.Errorf("%v, %v", known, err)
		}
	})
}

func TestCloseReleasesEverybody(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.fail(&aws.Fault{Hang: true})
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		described := make(chan error)
		go func() {
			_, err := e.describe(g)
			described <- err
		}()
		time.Sleep(time.Second)
		e.watcher.Close()
		if err := <-described; !errors.Is(err, ErrClosed) {
			e.Errorf("Describe: %v, want ErrClosed", err)
		}
		e.await("end of the poller", s, wake, 0, func(_ *Look, err error) bool { return errors.Is(err, ErrClosed) })
		late := newWake()
		s = e.join(g, late)
		defer s.Close()
		if _, err := s.Latest(); !errors.Is(err, ErrClosed) || len(late) != 1 {
			e.Errorf("a late subscriber: %v, %d wakes", err, len(late))
		}
		if _, err := e.describe(Group{Name: "web"}); !errors.Is(err, ErrClosed) {
			e.Errorf("a late Describe: %v", err)
		}
	})
}

func TestCloseReleasesWhoWaitsForTheBudget(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 0.001, 1 }
	run(t, scarce, func(e *env) {
		g := e.group("web")
		_, _ = e.describe(g) // the one token
		s := e.join(g, newWake())
		defer s.Close()
		described := make(chan error)
		go func() {
			_, err := e.describe(Group{Name: "web"})
			described <- err
		}()
		time.Sleep(time.Second)
		asked := time.Now()
		e.watcher.Close()
		if err := <-described; !errors.Is(err, ErrClosed) || time.Since(asked) != 0 {
			e.Errorf("%v after %v", err, time.Since(asked))
		}
		if _, err := s.Latest(); !errors.Is(err, ErrClosed) {
			e.Error(err)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetGroups OK": 1})
	})
}

// A look of the cadence that still waits for the budget when the checkpoint is
// emptied is put off, too.
func TestEmptyPutsOffALookThatIsQueued(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 0.1, 1 }
	run(t, scarce, func(e *env) {
		g := e.group("web")
		e.began = time.Now()
		e.watcher.Checkpoint(g.ARN, "h", true)
		s := e.join(g, newWake())
		defer s.Close()
		e.sleepUntil(9500 * ms) // due since 5 s, and paid for at 10 s
		e.watcher.Checkpoint(g.ARN, "", true)
		e.sleepUntil(15 * time.Second)
		if got, want := e.looks(g), []time.Duration{0, 10500 * ms}; !slices.Equal(got, want) {
			e.Errorf("looks at %v, want %v", got, want)
		}
	})
}

// TestPace checks the very moments of all looks at a group.
func TestPace(t *testing.T) {
	const s = time.Second
	type act struct {
		at   time.Duration
		what string // "confirm", "forget", "join", "" or a hash
	}
	for _, tt := range []struct {
		name  string
		first []string // checkpoints before anybody subscribes
		acts  []act
		want  []time.Duration // up to 9.9 s
	}{
		{"no checkpoint", nil, nil, []time.Duration{0, 1 * s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s, 8 * s, 9 * s}},
		{"empty", []string{"h", ""}, nil, []time.Duration{0, 1 * s, 2 * s, 3 * s, 4 * s, 5 * s, 6 * s, 7 * s, 8 * s, 9 * s}},
		{"hash", []string{"", "h"}, nil, []time.Duration{0, 5 * s}},
		{"same hash again", []string{"h"}, []act{{2 * s, "h"}, {6 * s, "h"}}, []time.Duration{0, 5 * s}},
		{"new hash", []string{"h"}, []act{{2300 * ms, "i"}}, []time.Duration{0, 2300 * ms, 7300 * ms}},
		{"first hash", nil, []act{{1700 * ms, "h"}}, []time.Duration{0, 1 * s, 1700 * ms, 6700 * ms}},
		{"emptied", []string{"h"}, []act{{6200 * ms, ""}}, []time.Duration{0, 5 * s, 7200 * ms, 8200 * ms, 9200 * ms}},
		{"emptied and again", []string{"h"}, []act{{6200 * ms, ""}, {6900 * ms, ""}}, []time.Duration{0, 5 * s, 7200 * ms, 8200 * ms, 9200 * ms}},
		{"emptied long after a look", []string{"h"}, []act{{4900 * ms, ""}}, []time.Duration{0, 5900 * ms, 6900 * ms, 7900 * ms, 8900 * ms}},
		{"emptied, then the hash", []string{"h"}, []act{{3200 * ms, ""}, {3208 * ms, "i"}}, []time.Duration{0, 3208 * ms, 8208 * ms}},
		{"hash soon after a look", []string{"h"}, []act{{5150 * ms, "i"}}, []time.Duration{0, 5 * s, 5150 * ms}},
		{"hash during a look", []string{"h"}, []act{{5050 * ms, "i"}}, []time.Duration{0, 5 * s, 5100 * ms}},
		{"hash soon after a hash", []string{"h"}, []act{{3 * s, "i"}, {3150 * ms, "j"}, {3200 * ms, "k"}}, []time.Duration{0, 3 * s, 3500 * ms, 8500 * ms}},
		{"confirm", []string{"h"}, []act{{3 * s, "confirm"}}, []time.Duration{0, 3 * s}},
		{"confirm soon after a look", []string{"h"}, []act{{5150 * ms, "confirm"}, {5300 * ms, "confirm"}}, []time.Duration{0, 5 * s, 5150 * ms, 5300 * ms}},
		{"confirm during a look", []string{"h"}, []act{{5050 * ms, "confirm"}}, []time.Duration{0, 5 * s, 5100 * ms}},
		{"confirm soon after a hash", []string{"h"}, []act{{3 * s, "i"}, {3150 * ms, "confirm"}}, []time.Duration{0, 3 * s, 3150 * ms}},
		{"hash for all that wait", []string{"h"}, []act{{5150 * ms, "confirm"}, {5260 * ms, "i"}}, []time.Duration{0, 5 * s, 5150 * ms, 5260 * ms}},
		{"another subscriber", []string{"h"}, []act{{3 * s, "join"}, {5 * s, "join"}, {5200 * ms, "join"}}, []time.Duration{0, 3 * s, 5 * s, 5500 * ms}},
		{"forgotten", []string{"h"}, []act{{6200 * ms, "forget"}}, []time.Duration{0, 5 * s, 6200 * ms, 7200 * ms, 8200 * ms, 9200 * ms}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				g := e.group("web")
				e.began = time.Now()
				for _, c := range tt.first {
					e.watcher.Checkpoint(g.ARN, c, true)
				}
				e.watcher.Checkpoint(g.ARN+"-other", "other", true)
				wake := newWake()
				sub := e.join(g, wake)
				defer sub.Close()
				for _, a := range tt.acts {
					e.sleepUntil(a.at)
					switch a.what {
					case "confirm":
						sub.confirm()
					case "forget":
						e.watcher.Checkpoint(g.ARN, "", false)
					case "join":
						defer e.join(g, wake).Close()
					default:
						e.watcher.Checkpoint(g.ARN, a.what, true)
					}
				}
				e.sleepUntil(9900 * ms)
				if got := e.looks(g); !slices.Equal(got, tt.want) {
					e.Errorf("looks at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// The answer to a Confirm is a look that began after it, whatever else goes on.
func TestConfirmLooksAfterwards(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		for i := range 40 {
			e.sleepUntil(time.Duration(i) * 1037 * ms)
			asked := time.Now()
			s.confirm()
			e.await("confirming look", s, wake, 600*ms+1, func(l *Look, _ error) bool {
				return l != nil && !l.Began.Before(asked)
			})
		}
	})
}

func TestHungCallEndsAtTimeout(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.watcher.Checkpoint(g.ARN, "h", true)
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		e.await("first look", s, wake, time.Second, anyLook)
		seen, _ := s.Latest()
		e.fail(&aws.Fault{Hang: true})
		e.sleepUntil(13900 * ms) // the looks at 5 s and, as that failed, at 8 s and 11 s hang
		e.fail(nil)
		if look, err := s.Latest(); look != seen || err == nil || errors.Is(err, ErrRefused) {
			e.Errorf("look %v, error %v, want the old look and a time-out", look, err)
		}
		e.sleepUntil(14200 * ms)
		if look, err := s.Latest(); look == seen || err != nil {
			e.Errorf("look %v, error %v, want a new look", look, err)
		}
		e.checkCalls("in the end", map[string]int{"DescribeTargetHealth OK": 2, "DescribeTargetHealth timeout": 3})
	})
}

// A look that fails is asked for again after the busy cadence, not the steady
// one: what it was to show is not known yet.
func TestFailedLookIsAskedForAgain(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.began = time.Now()
		e.watcher.Checkpoint(g.ARN, "h", true)
		s := e.join(g, newWake())
		defer s.Close()
		e.sleepUntil(3 * time.Second)
		e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		s.confirm()
		e.sleepUntil(5500 * ms)
		e.fail(nil)
		e.sleepUntil(9900 * ms)
		const s1 = time.Second
		if got, want := e.looks(g), []time.Duration{0, 3 * s1, 4 * s1, 5 * s1, 6 * s1}; !slices.Equal(got, want) {
			e.Errorf("looks at %v, want %v", got, want)
		}
	})
}

func TestThrottlingHalvesTheRate(t *testing.T) {
	run(t, nil, func(e *env) {
		var groups []Group
		for i := range 10 {
			groups = append(groups, e.group(fmt.Sprint("g", i)))
		}
		if got := e.watcher.Rate(); got != 5 {
			e.Errorf("rate %v, want 5", got)
		}
		e.fail(&aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"})
		wake := newWake()
		for _, g := range groups {
			defer e.join(g, wake).Close()
		}
		e.sleepUntil(150 * ms)
		if got := e.watcher.Rate(); got < 2.5 || got > 2.6 {
			e.Errorf("rate %v after ten throttled at once, want it halved once", got)
		}
		for range 60 {
			time.Sleep(time.Second)
			if got := e.watcher.Rate(); got < 1 || got > 2.6 {
				e.Errorf("rate %v while throttled", got)
			}
		}
		e.fail(nil)
		time.Sleep(10 * time.Second)
		if got := e.watcher.Rate(); got < 1.5 || got > 3 {
			e.Errorf("rate %v after 10 s, want a slow recovery", got)
		}
		time.Sleep(50 * time.Second)
		if got := e.watcher.Rate(); got != 5 {
			e.Errorf("rate %v after a minute, want all of 5", got)
		}
	})
}

// Where AWS allows less than we do, calls are turned away now and then, but most
// succeed, and everybody sees the group.
func TestLivesWithLessThanConfigured(t *testing.T) {
	scarce := func(_ *Config, as *sim.Assumptions) { as.AWS.DescribeRate, as.AWS.DescribeBurst = 2, 5 }
	run(t, scarce, func(e *env) {
		wake := newWake()
		var subs []*Subscription
		for i := range 20 {
			s := e.join(e.group(fmt.Sprint("g", i)), wake)
			defer s.Close()
			subs = append(subs, s)
		}
		time.Sleep(5 * time.Minute)
		calls := e.calls()
		ok, turned := calls["DescribeTargetHealth OK"], calls["DescribeTargetHealth Throttling"]
		if ok < 450 || turned == 0 || turned > ok/2 {
			e.Errorf("%d calls succeeded of the 605 that AWS allows, and %d were throttled", ok, turned)
		}
		for i, s := range subs {
			if look, _ := s.Latest(); look == nil || time.Since(look.Began) > time.Minute {
				e.Errorf("group %d was last seen %v", i, look)
			}
		}
	})
}

// With more groups than the budget allows, the rate holds, all groups have their
// turns, and a look that somebody waits for comes soon.
func TestManyGroupsShareTheBudget(t *testing.T) {
	run(t, nil, func(e *env) {
		const n = 200
		wake := newWake()
		var groups []Group
		for i := range n {
			groups = append(groups, e.group(fmt.Sprint("g", i)))
		}
		e.began = time.Now()
		var subs []*Subscription
		for _, g := range groups {
			s := e.join(g, wake)
			defer s.Close()
			subs = append(subs, s)
		}
		e.sleepUntil(time.Minute)
		var slowest time.Duration
		for i := range 100 {
			s, mine := subs[i*61%n], newWake()
			own := e.join(groups[i*61%n], mine)
			asked := time.Now()
			s.confirm()
			e.await("confirming look", own, mine, 10*time.Second, func(l *Look, _ error) bool {
				return l != nil && !l.Began.Before(asked)
			})
			slowest = max(slowest, time.Since(asked))
			s.Update(nil, Plan{Latest: time.Now().Add(time.Hour)})
			own.Close()
			time.Sleep(1731 * ms)
		}
		// Two turns of the queue, the spacing and the call itself.
		if slowest > time.Second {
			e.Errorf("the slowest confirming look took %v", slowest)
		}
		e.sleepUntil(6 * time.Minute)
		var all []time.Duration
		for _, g := range groups {
			looks := e.looks(g)
			all = append(all, looks...)
			for i := 1; i < len(looks); i++ {
				if gap := looks[i] - looks[i-1]; gap > 90*time.Second {
					e.Errorf("no look at %s between %v and %v", g.ARN, looks[i-1], looks[i])
				}
			}
		}
		slices.Sort(all)
		if err := withinBudget(all, 5, 10); err != nil {
			e.Error(err)
		}
		if want := 10 + 5*6*60; len(all) < want*98/100 {
			e.Errorf("%d looks in 6 minutes, want about %d: the budget is not used", len(all), want)
		}
		e.Logf("slowest confirming look %v, %d looks", slowest, len(all))
	})
}

// withinBudget checks requests, by when they were sent, against a token bucket.
func withinBudget(sent []time.Duration, rate, burst float64) error {
	tokens, at := burst, time.Duration(0)
	for i, t := range sent {
		tokens = min(burst, tokens+rate*(t-at).Seconds())
		at = t
		if tokens--; tokens < -0.01 { // times are cut to milliseconds
			return fmt.Errorf("request %d at %v exceeds %v/s with a burst of %v by %v", i, t, rate, burst, -tokens)
		}
	}
	return nil
}

func TestShare(t *testing.T) {
	run(t, nil, func(e *env) {
		var groups []Group
		for i := range 40 {
			groups = append(groups, e.group(fmt.Sprint("g", i)))
		}
		e.watcher.SetShare(0)
		if got := e.watcher.Rate(); got != 5 {
			e.Errorf("rate %v with no replica, want 5", got)
		}
		e.watcher.SetShare(4)
		if got := e.watcher.Rate(); got != 1.25 {
			e.Errorf("rate %v of four replicas, want 1.25", got)
		}
		e.began = time.Now()
		wake := newWake()
		for _, g := range groups {
			defer e.join(g, wake).Close()
		}
		sent := func() (all []time.Duration) {
			for _, g := range groups {
				all = append(all, e.looks(g)...)
			}
			slices.Sort(all)
			return all
		}
		e.sleepUntil(20100 * ms)
		all := sent()
		if err := withinBudget(all, 1.25, 2.5); err != nil || len(all) != 2+25 {
			e.Errorf("%d looks in 20 s of a quarter, want 27; %v", len(all), err)
		}
		e.watcher.SetShare(1)
		changed := e.now()
		e.sleepUntil(30100 * ms)
		if n := len(sent()) - len(all); n < 49 || n > 51 {
			e.Errorf("%d looks in 10 s of the whole, want 50", n)
		}
		if next := sent()[len(all)]; next-changed > 200*ms {
			e.Errorf("the first look of the whole came after %v", next-changed)
		}
	})
}

// TestLatency measures how long after DeregisterTargets returns the look ends
// that shows the target gone, at any phase of the cadence. The checkpoint is
// emptied just before the call, or long before it, where new pods wait for their
// readiness gates; the hash, where one is written, reaches us up to 60 ms after
// the call.
func TestLatency(t *testing.T) {
	for _, tt := range []struct {
		name    string
		emptied bool // long before
		hash    bool
		most    time.Duration
	}{
		{"hash", false, true, 400 * ms},
		{"hash after long", true, true, 400 * ms},
		{"stays empty", false, false, 1300 * ms},
		{"empty all along", true, false, 1300 * ms},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				const n = 300
				g := e.group("web")
				e.watcher.Checkpoint(g.ARN, "h", true)
				wake := newWake()
				target, ip := "10.0.0.1:80", netip.MustParseAddr("10.0.0.1")
				s := e.join(g, wake, ip)
				defer s.Close()
				draining := func(want bool) func(*Look, error) bool {
					return func(l *Look, _ error) bool {
						ts := l.At(ip)
						return len(ts) == 1 && (ts[0].State == types.TargetHealthStateEnumDraining) == want
					}
				}
				e.await("first look", s, wake, time.Second, anyLook)
				var took []time.Duration
				for i := range n {
					e.register(g, target)
					if !tt.emptied {
						e.watcher.Checkpoint(g.ARN, fmt.Sprint("registered ", i), true)
					}
					e.await("registration", s, wake, 6*time.Second, draining(false))
					if i%2 == 0 {
						other := e.join(g, wake) // as a neighbour's wait would
						defer other.Close()
					}
					time.Sleep(time.Duration(i*i*7919%6000) * ms)
					e.watcher.Checkpoint(g.ARN, "", true)
					e.deregister(g, target)
					gone := time.Now()
					if tt.hash {
						go func() {
							time.Sleep(10*ms + time.Duration(i*31%50)*ms)
							e.watcher.Checkpoint(g.ARN, fmt.Sprint("deregistered ", i), true)
						}()
					}
					e.await("deregistration", s, wake, 6*time.Second, draining(true))
					took = append(took, time.Since(gone))
					time.Sleep(time.Second)
					if tt.emptied {
						e.watcher.Checkpoint(g.ARN, "", true)
					}
				}
				slices.Sort(took)
				e.Logf("p50 %v, p99 %v, longest %v", took[n/2], took[n*99/100], took[n-1])
				if took[n*99/100] > tt.most {
					e.Errorf("p99 %v, want at most %v", took[n*99/100], tt.most)
				}
			})
		})
	}
}

// TestShareThatIsNotKnownYet: a replica that does not know of the others begins with the
// share of one of three, and leaves the burst to them.
func TestShareThatIsNotKnownYet(t *testing.T) {
	run(t, func(c *Config, _ *sim.Assumptions) { c.Shared = true }, func(e *env) {
		wake := newWake()
		var groups []Group
		for i := range 10 {
			groups = append(groups, e.group(fmt.Sprint("g", i)))
			defer e.join(groups[i], wake).Close()
		}
		sent := func() (n int) {
			for _, g := range groups {
				n += len(e.looks(g))
			}
			return n
		}
		for _, at := range []struct {
			after time.Duration
			looks int
		}{{550 * ms, 0}, {1100 * ms, 1}, {3100 * ms, 5}} {
			e.sleepUntil(at.after)
			if got := sent(); got != at.looks {
				e.Errorf("%d looks in %s, want %d", got, at.after, at.looks)
			}
		}
	})
}
