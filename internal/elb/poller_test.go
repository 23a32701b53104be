package elb

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

const never = 24 * time.Hour

// plan is a [Plan] by times since the test began; zero for none.
type plan struct {
	confirm, latest, seen time.Duration
	done                  bool
}

func (e *env) plan(p plan) Plan {
	at := func(d time.Duration) time.Time {
		if d == 0 {
			return time.Time{}
		}
		return e.began.Add(d)
	}
	return Plan{ConfirmAt: at(p.confirm), Latest: at(p.latest), DeletionSeen: at(p.seen), Done: p.done}
}

// TestPlans checks the very moments of all looks at a group by what its
// subscribers plan. A checkpoint, if any, was written a minute before.
func TestPlans(t *testing.T) {
	const s = time.Second
	type act struct {
		at   time.Duration
		what any // plan: of the first subscriber; join: one more; string: a checkpoint; error code or "" to heal
	}
	type join plan
	type forget struct{}
	type fail string
	for _, tt := range []struct {
		name       string
		checkpoint string // "-" for none
		first      plan
		acts       []act
		want       []time.Duration // up to 12.9 s
	}{
		// The cadence of 5 s would come at 5 and 10 s, that of 1 s each second.
		{"confirm a moment after the cadence", "h", plan{}, []act{{s, plan{confirm: 5100 * ms}}}, []time.Duration{0, 5100 * ms}},
		{"confirm with the cadence", "h", plan{}, []act{{s, plan{confirm: 5 * s}}}, []time.Duration{0, 5 * s}},
		{"confirm less than half of a cadence later", "h", plan{}, []act{{s, plan{confirm: 7400 * ms}}}, []time.Duration{0, 7400 * ms}},
		{"confirm half of a cadence later", "h", plan{}, []act{{s, plan{confirm: 7500 * ms}}}, []time.Duration{0, 7500 * ms}},
		{"confirm before the cadence", "h", plan{}, []act{{s, plan{confirm: 4800 * ms}}}, []time.Duration{0, 4800 * ms}},
		{"others still wait", "-", plan{}, []act{{100 * ms, join{}}, {600 * ms, plan{confirm: 3900 * ms}}, {4500 * ms, plan{done: true}}},
			// The first looks at 0 and 0.5 s; 3.5 s is no more than the spacing before.
			[]time.Duration{0, 500 * ms, 1500 * ms, 2500 * ms, 3900 * ms, 4900 * ms, 5900 * ms, 6900 * ms, 7900 * ms, 8900 * ms, 9900 * ms, 10900 * ms, 11900 * ms}},
		{"emptied before a confirm", "h", plan{}, []act{{100 * ms, plan{confirm: 4 * s}}, {2600 * ms, ""}}, []time.Duration{0, 4 * s}},
		{"emptied long before a confirm", "h", plan{}, []act{{100 * ms, plan{confirm: 4 * s}}, {2400 * ms, ""}}, []time.Duration{0, 3400 * ms, 4 * s}},
		{"no hash while all settle", "-", plan{}, []act{{1500 * ms, plan{confirm: never}}}, []time.Duration{0, s, 11 * s}},
		{"empty while all settle", "", plan{}, []act{{1500 * ms, plan{confirm: never}}}, []time.Duration{0, s, 11 * s}},
		{"all are done", "-", plan{}, []act{{1500 * ms, plan{done: true}}}, []time.Duration{0, s, 11 * s}},
		{"one has not left", "-", plan{done: true}, []act{{8600 * ms, join{}}}, []time.Duration{0, 8600 * ms, 9600 * ms, 10600 * ms, 11600 * ms, 12600 * ms}},
		{"done confirms nothing", "h", plan{confirm: 3 * s, done: true}, nil, []time.Duration{0, 10 * s}},
		{"confirms in a moment are a moment apart", "h", plan{}, []act{{s, plan{confirm: 3 * s}}, {s, join{confirm: 3080 * ms}}, {s, join{confirm: 3100 * ms}}},
			[]time.Duration{0, s, 3 * s, 3100 * ms}},
		{"confirms a moment apart", "h", plan{}, []act{{s, plan{confirm: 3 * s}}, {s, join{confirm: 3101 * ms}}}, []time.Duration{0, s, 3 * s, 3101 * ms}},
		{"confirm during a look that confirms", "h", plan{}, []act{{s, plan{confirm: 3 * s}}, {3050 * ms, plan{confirm: 3051 * ms}}}, []time.Duration{0, 3 * s, 3100 * ms}},
		{"confirm that fails is asked for again", "h", plan{}, []act{{s, plan{confirm: 3 * s}}, {2 * s, fail("HealthUnavailable")}, {3500 * ms, fail("")}}, []time.Duration{0, 3 * s, 4 * s}},
		{"another confirm after one that failed", "h", plan{}, []act{{s, plan{confirm: 3 * s}}, {s, join{confirm: 3500 * ms}}, {2 * s, fail("HealthUnavailable")}, {3200 * ms, fail("")}},
			[]time.Duration{0, s, 3 * s, 3500 * ms}},
		{"new hash that fails is asked for again", "h", plan{}, []act{{2 * s, fail("HealthUnavailable")}, {3 * s, "i"}, {3500 * ms, fail("")}}, []time.Duration{0, 3 * s, 4 * s, 9 * s}},

		{"deletion seen, the old hash", "h", plan{seen: -s}, nil, []time.Duration{s, 6 * s, 11 * s}},
		{"deletion seen, then a new hash", "h", plan{seen: -s}, []act{{1200 * ms, ""}, {1208 * ms, "i"}}, []time.Duration{s, 1208 * ms, 6208 * ms, 11208 * ms}},
		{"deletion seen, then emptied", "h", plan{seen: -s}, []act{{4800 * ms, ""}}, []time.Duration{s, 5800 * ms, 6800 * ms, 7800 * ms, 8800 * ms, 9800 * ms, 10800 * ms, 11800 * ms, 12800 * ms}},
		{"deletion seen, emptied at once, then a new hash", "h", plan{seen: -s}, []act{{200 * ms, ""}, {600 * ms, "i"}}, []time.Duration{600 * ms, 5600 * ms, 10600 * ms}},
		{"deletion seen, emptied at once, no hash", "h", plan{seen: -s}, []act{{200 * ms, ""}, {8500 * ms, plan{done: true}}}, []time.Duration{1200 * ms, 2200 * ms, 3200 * ms, 4200 * ms, 5200 * ms, 6200 * ms, 7200 * ms, 8200 * ms}},
		{"emptied, then another plan", "h", plan{seen: -s}, []act{{4800 * ms, ""}, {4900 * ms, plan{seen: -s, latest: never}}}, []time.Duration{s, 5800 * ms, 6800 * ms, 7800 * ms, 8800 * ms, 9800 * ms, 10800 * ms, 11800 * ms, 12800 * ms}},
		{"deletion seen, then forgotten", "h", plan{seen: -s}, []act{{3300 * ms, forget{}}, {3900 * ms, "h"}}, []time.Duration{s, 3300 * ms, 3900 * ms, 8900 * ms}},
		{"deletion seen before the hash", "h", plan{seen: -2 * time.Minute}, nil, []time.Duration{0, 5 * s, 10 * s}},
		{"deletion seen, no checkpoint", "-", plan{seen: -s, done: true}, nil, []time.Duration{0, 10 * s}},
		{"deletion seen while it is empty", "", plan{seen: -s, done: true}, nil, []time.Duration{0, 10 * s}},
		{"deletion not seen", "h", plan{}, nil, []time.Duration{0, 5 * s, 10 * s}},
		{"deletion seen late", "h", plan{}, []act{{3 * s, join{seen: 2 * s}}, {4 * s, join{seen: 2 * s}}}, []time.Duration{0, 4 * s, 9 * s}},
		{"one who has not seen it", "h", plan{seen: -s}, []act{{3 * s, join{}}}, []time.Duration{s, 3 * s, 8 * s}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				g := e.group("web")
				if tt.checkpoint != "-" {
					e.watcher.Checkpoint(g.ARN, tt.checkpoint, true)
				}
				time.Sleep(time.Minute)
				e.began = time.Now()
				wake := newWake()
				sub := e.watcher.Subscribe(g, nil, e.plan(tt.first), wake)
				defer sub.Close()
				for _, a := range tt.acts {
					e.sleepUntil(a.at)
					switch what := a.what.(type) {
					case plan:
						sub.Update(nil, e.plan(what))
					case join:
						defer e.watcher.Subscribe(g, nil, e.plan(plan(what)), wake).Close()
					case forget:
						e.watcher.Checkpoint(g.ARN, "", false)
					case string:
						e.watcher.Checkpoint(g.ARN, what, true)
					case fail:
						e.fail(nil)
						if what != "" {
							e.fail(&aws.Fault{Status: 500, Code: string(what)})
						}
					}
				}
				e.sleepUntil(12900 * ms)
				if got := e.looks(g); !slices.Equal(got, tt.want) {
					e.Errorf("looks at %v, want %v", got, tt.want)
				}
			})
		})
	}
}

// A group that is gone is asked for once more to confirm it, and then by nobody
// but who has a reason to.
func TestGoneIsConfirmedOnce(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.watcher.Checkpoint(g.ARN, "h", true)
		e.began = time.Now()
		wake := newWake()
		s := e.watcher.Subscribe(g, nil, Plan{}, wake)
		defer s.Close()
		e.await("first look", s, wake, time.Second, anyLook)
		e.fail(&aws.Fault{Status: 400, Code: "TargetGroupNotFound"})
		e.await("the end", s, wake, 6*time.Second, func(l *Look, err error) bool { return l.Gone && err == nil }) // the look at 5 s
		s.Update(nil, e.plan(plan{confirm: 25 * time.Second}))
		e.sleepUntil(26 * time.Second)
		s.Update(nil, Plan{Done: true})
		e.sleepUntil(60 * time.Second)
		e.watcher.Checkpoint(g.ARN, "", true)
		e.sleepUntil(70 * time.Second)
		e.watcher.Checkpoint(g.ARN, "i", true)
		e.sleepUntil(80 * time.Second)
		patient := e.watcher.Subscribe(g, nil, e.plan(plan{seen: 79 * time.Second}), newWake())
		defer patient.Close()
		e.sleepUntil(90 * time.Second)
		late := e.watcher.Subscribe(g, nil, Plan{}, newWake())
		defer late.Close()
		e.sleepUntil(5 * time.Minute)
		var want []time.Duration
		for _, s := range []time.Duration{0, 5, 25, 61, 70, 81, 90} {
			want = append(want, s*time.Second)
		}
		if got := e.looks(g); !slices.Equal(got, want) {
			e.Errorf("looks at %v, want %v", got, want)
		}
		if code := e.calls()["DescribeTargetHealth TargetGroupNotFound"]; code != len(want)-1 {
			e.Errorf("%d calls tell of it", code)
		}
	})
}

// A look wakes those alone whom it concerns.
func TestLookWakesWhomItConcerns(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		var ips []netip.Addr
		var wakes []chan struct{}
		var subs []*Subscription
		for i := range 4 {
			ip := fmt.Sprint("10.0.0.", i)
			e.register(g, ip+":80", ip+":81")
			ips, wakes = append(ips, netip.MustParseAddr(ip)), append(wakes, newWake())
		}
		time.Sleep(5 * time.Second) // they are unhealthy now, as nobody answers
		e.began = time.Now()
		for i := range wakes {
			s := e.watcher.Subscribe(g, ips[i:i+1], Plan{}, wakes[i])
			defer s.Close()
			subs = append(subs, s)
		}
		woken := func(what string, want ...int) {
			e.Helper()
			var got []int
			for i, w := range wakes {
				if len(w) > 0 {
					<-w
					got = append(got, i)
				}
			}
			if !slices.Equal(got, want) {
				e.Errorf("%s: %v are woken, want %v", what, got, want)
			}
		}
		e.sleepUntil(900 * ms)
		woken("first look", 0, 1, 2, 3)
		e.sleepUntil(10 * time.Second)
		woken("nothing happens")
		e.deregister(g, "10.0.0.2:81") // one of its ports
		e.sleepUntil(12 * time.Second)
		woken("one leaves", 2)

		at := time.Now()
		subs[1].Update(ips[1:2], Plan{ConfirmAt: at.Add(3 * time.Second)})
		woken("a plan for later")
		subs[1].Update(ips[1:2], Plan{ConfirmAt: at.Add(3 * time.Second)})
		time.Sleep(2 * time.Second)
		woken("looks before it")
		time.Sleep(3 * time.Second)
		woken("one confirms", 1)
		subs[1].Update(ips[1:2], Plan{ConfirmAt: at.Add(3500 * ms)})
		woken("a look serves already", 1)
		subs[3].Update(ips[2:3], Plan{})
		woken("other addresses", 3)

		e.fail(&aws.Fault{Status: 500, Code: "HealthUnavailable"})
		time.Sleep(2 * time.Second)
		woken("looks begin to fail", 0, 1, 2, 3)
		time.Sleep(5 * time.Second)
		woken("looks still fail")
		e.fail(&aws.Fault{Status: 403, Code: "AccessDenied"})
		time.Sleep(2 * time.Second)
		woken("they fail for good", 0, 1, 2, 3)
		e.fail(nil)
		time.Sleep(refusedFor)
		woken("they succeed", 0, 1, 2, 3)
		e.fail(&aws.Fault{Status: 400, Code: "TargetGroupNotFound"})
		time.Sleep(2 * time.Second)
		woken("the group is gone", 0, 1, 2, 3)
	})
}

// Looks that an answer waits for go by the last moment at which they are of use,
// before all others, until that moment is over.
func TestLatestOrdersLooks(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }
	const s = time.Second
	for _, tt := range []struct {
		name    string
		latest  []time.Duration // by group, of its subscribers
		another time.Duration   // of one more subscriber of the last group
		want    string          // groups in order of their looks
	}{
		{"the earliest first", []time.Duration{50 * s, 40 * s, 30 * s}, 0, "x210"},
		{"zero and past are not urgent", []time.Duration{0, -s, 50 * s, 40 * s}, 0, "x3201"},
		{"by the most urgent of a group", []time.Duration{50 * s, 60 * s}, 40 * s, "x10"},
		{"one who is late does not count", []time.Duration{50 * s, 60 * s}, -s, "x01"},
		{"what passes while it waits", []time.Duration{900 * ms, 40 * s, 41 * s, 42 * s}, 0, "x1230"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, scarce, func(e *env) {
				names := map[string]string{}
				e.began = time.Now()
				_, _, _ = e.watcher.Look(e.group("x"), time.Now(), false, newWake()) // takes the one token
				time.Sleep(ms)
				for i, latest := range tt.latest {
					g := e.group(fmt.Sprint(i))
					names[g.ARN] = fmt.Sprint(i)
					e.watcher.Checkpoint(g.ARN, "h", true)
					defer e.watcher.Subscribe(g, nil, e.plan(plan{latest: latest}), newWake()).Close()
					if i == len(tt.latest)-1 && tt.another != 0 {
						defer e.watcher.Subscribe(g, nil, e.plan(plan{latest: tt.another}), newWake()).Close()
					}
				}
				e.sleepUntil(time.Duration(len(tt.latest))*time.Second + 200*ms)
				got := "x"
				e.mu.Lock()
				defer e.mu.Unlock()
				for _, a := range e.arrived[1:] {
					got += names[a.resource]
				}
				if got != tt.want {
					e.Errorf("looks at %s, want %s", got, tt.want)
				}
			})
		})
	}
}

// Neither what nobody waits for any more, nor what can wait, comes before what
// somebody waits for.
func TestWhatIsUrgent(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }
	for _, tt := range []struct {
		name   string
		first  plan
		happen func(e *env, g Group)
		want   bool // it comes before the question
	}{
		{"new hash while the target is there", plan{latest: time.Hour}, func(e *env, g Group) { e.watcher.Checkpoint(g.ARN, "i", true) }, true},
		{"new hash while it settles", plan{latest: time.Hour, confirm: time.Hour}, func(e *env, g Group) { e.watcher.Checkpoint(g.ARN, "i", true) }, false},
		{"first look that waited, and the binding is gone", plan{latest: time.Hour, seen: 1}, func(e *env, g Group) { e.watcher.Checkpoint(g.ARN, "", false) }, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, scarce, func(e *env) {
				g := e.group("web")
				e.watcher.Checkpoint(g.ARN, "h", true)
				time.Sleep(ms)
				e.began = time.Now()
				defer e.watcher.Subscribe(g, nil, e.plan(tt.first), newWake()).Close()
				if e.sleepUntil(900 * ms); tt.first.seen == 0 { // who can wait has waited for a second then
					e.sleepUntil(2 * time.Second)
				}
				_, _ = e.describe(Group{Name: "takes the token"})
				seen := len(e.looks(g))
				tt.happen(e, g)
				_, _, _ = e.watcher.Describe(g, time.Now(), newWake())
				if !tt.want {
					_, _, _ = e.watcher.Describe(Group{Name: "another"}, time.Now(), newWake())
				}
				time.Sleep(1100 * ms)
				if got := len(e.looks(g)) > seen; got != tt.want {
					e.Errorf("it comes before the question: %v", got)
				}
			})
		})
	}
}

// Looks that confirm keep a moment from each other.
func TestConfirmsKeepAMoment(t *testing.T) {
	quick := func(_ *Config, as *sim.Assumptions) { as.AWS.APILatency = timeline.Range{Min: 20 * ms, Max: 20 * ms} }
	run(t, quick, func(e *env) {
		g := e.group("web")
		e.began = time.Now()
		s := e.watcher.Subscribe(g, nil, e.plan(plan{confirm: 300 * ms}), newWake())
		defer s.Close()
		e.sleepUntil(310 * ms)
		s.Update(nil, e.plan(plan{confirm: 330 * ms}))
		e.sleepUntil(500 * ms)
		if looks := e.looks(g); len(looks) != 3 || looks[2]-looks[1] != 100*ms {
			e.Errorf("looks at %v", looks)
		}
	})
}

// A look says how long it waited for the rate.
func TestQueued(t *testing.T) {
	scarce := func(c *Config, _ *sim.Assumptions) { c.Rate, c.Burst = 1, 1 }
	run(t, scarce, func(e *env) {
		for i := range 3 {
			g := e.group(fmt.Sprint(i))
			wake := newWake()
			s := e.join(g, wake)
			defer s.Close()
			if i == 2 {
				e.await("look", s, wake, 3*time.Second, anyLook)
				if look, _ := s.Latest(); look.Queued.Round(10*ms) != 2*time.Second {
					e.Errorf("queued for %v, want 2s", look.Queued)
				}
			}
		}
	})
}

// TestCrowd deletes many apps at once, each in a group of its own and with 60 s
// to drain, of which it settles for 20. The controller deregisters four a second
// after a burst of 20, and five looks a second are allowed. So few can be seen
// to leave in time and be confirmed that none may be wasted.
func TestCrowd(t *testing.T) {
	for _, tt := range []struct{ apps, least int }{{120, 115}, {240, 124}} {
		run(t, nil, func(e *env) { e.crowd(tt.apps, tt.least) })
	}
}

func (e *env) crowd(apps, least int) {
	const budget, settle = 60 * time.Second, 20 * time.Second
	ip := netip.MustParseAddr("10.0.0.1")
	var groups []*aws.TargetGroup
	e.inWorld(func() {
		for i := range apps {
			name := fmt.Sprint("g", i)
			g := e.world.AWS.AddTargetGroup(name, 80, e.world.AWS.AddLoadBalancer(name, aws.ALB))
			e.world.AWS.Register(g, ip, 80)
			e.watcher.Checkpoint(g.ARN(), "h", true)
			groups = append(groups, g)
		}
	})
	time.Sleep(10 * time.Second)
	e.began = time.Now()
	results := make(chan bool)
	for _, g := range groups {
		go func() { results <- e.drains(Group{ARN: g.ARN()}, ip, budget, settle) }()
	}
	go func() {
		for i, g := range groups {
			if i >= 20 {
				time.Sleep(250 * ms)
			}
			e.inWorld(func() { e.world.AWS.Deregister(g, ip, 80) })
			e.watcher.Checkpoint(g.ARN(), "deregistered", true)
		}
	}()
	confirmed := 0
	for range groups {
		if <-results {
			confirmed++
		}
	}
	e.Logf("%d of %d confirmed by %v; calls %v", confirmed, apps, budget, e.calls())
	if confirmed < least {
		e.Errorf("%d of %d are confirmed by %v, want %d", confirmed, apps, budget, least)
	}
}

// drains waits as a wait does, for one target.
func (e *env) drains(g Group, ip netip.Addr, budget, settle time.Duration) bool {
	wake := newWake()
	plan := Plan{DeletionSeen: e.began, Latest: e.began.Add(budget - settle)}
	s := e.watcher.Subscribe(g, []netip.Addr{ip}, plan, wake)
	defer s.Close()
	over := time.After(budget - e.now())
	for {
		look, _ := s.Latest()
		switch {
		case look == nil || look.At(ip)[0].State != "draining":
		case plan.ConfirmAt.IsZero():
			plan.ConfirmAt, plan.Latest = look.Ended.Add(settle), e.began.Add(budget)
			s.Update([]netip.Addr{ip}, plan)
		case !look.Began.Before(plan.ConfirmAt):
			return true
		}
		select {
		case <-wake:
		case <-over:
			return false
		}
	}
}
