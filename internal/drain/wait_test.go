package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"drainwait/internal/cluster"
	"drainwait/internal/cluster/ties"
	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

var errTest = errors.New("test")

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// at is a moment of a test, in seconds.
func at(seconds float64) time.Time {
	return start.Add(time.Duration(seconds * float64(time.Second)))
}

// handMade is a wait of a pod that was read live with the lists of its namespace,
// without a cluster and without AWS.
func handMade(t *testing.T, r Request) *wait {
	w := newWait(t.Context(), New(DefaultConfig(), nil, nil, slog.New(slog.DiscardHandler), nil), &r)
	w.pod = &cluster.Pod{Namespace: "default", Name: "web", UID: "web", Grace: 5 * time.Minute}
	w.identified = true
	w.survey.live = true
	return w
}

// with follows one more group.
func (w *wait) with(id elb.Group, p verdict.Progress, publishes bool) {
	i, _ := slices.BinarySearchFunc(w.groups, id, compareGroups)
	w.groups = slices.Insert(w.groups, i, &group{Group: id, progress: p, tie: tie{publishesNotReady: publishes}})
}

var (
	rotating = verdict.Progress{Looked: true}
	gone     = verdict.Progress{Looked: true, LeftAt: start}
	settled  = verdict.Progress{Looked: true, LeftAt: start, Confirmed: true}
)

// TestSetPod: addresses that the pod had are looked for as well, and another pod of
// the same name begins anew.
func TestSetPod(t *testing.T) {
	x, err := cluster.New(cluster.Config{REST: &rest.Config{Host: "http://127.0.0.1:1"}}) // nobody asks it
	if err != nil {
		t.Fatal(err)
	}
	old, young := netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")
	for _, c := range []struct {
		name      string
		uid       types.UID
		addresses []netip.Addr
		groups    int
		stays     bool
	}{
		{"the same pod", "web", []netip.Addr{old, young}, 1, true},
		{"another one of its name", "new", []netip.Addr{young}, 0, false},
	} {
		watching(t, []string{""}, func(t *testing.T, e *elb.Watcher) {
			w := handMade(t, Request{})
			w.cluster, w.elb, w.pod = x, e, nil
			defer w.close()
			w.setPod(&cluster.Pod{Namespace: "default", Name: "web", UID: "web", IPs: []netip.Addr{old}})
			w.follow(webID, tie{})
			w.termination.stays = true
			w.setPod(&cluster.Pod{Namespace: "default", Name: "web", UID: c.uid, IPs: []netip.Addr{young}})
			if !slices.Equal(w.addresses, c.addresses) || len(w.groups) != c.groups || w.termination.stays != c.stays || w.pod.UID != c.uid {
				t.Errorf("%s: addresses %v, %d groups, stays %t", c.name, w.addresses, len(w.groups), w.termination.stays)
			}
		})
	}
}

// TestFacts changes one thing about an ordinary wait, and says what differs then
// in the facts.
func TestFacts(t *testing.T) {
	none, minute := time.Duration(0), time.Minute
	for _, c := range []struct {
		name   string
		delay  *time.Duration
		change func(*wait)
		want   func(*verdict.Facts)
	}{
		{"ordinary", &minute, func(*wait) {}, func(*verdict.Facts) {}},
		{"no pod yet", &minute, func(w *wait) { w.pod = nil }, func(f *verdict.Facts) { f.Live, f.Open = false, true }},
		{"not identified", &minute, func(w *wait) { w.identified = false }, func(f *verdict.Facts) { f.Live = false }},
		{"no live lists", &minute, func(w *wait) { w.survey.live = false }, func(f *verdict.Facts) { f.Live = false }},
		{"live Ingresses", &minute, func(w *wait) { w.survey.ingresses = true }, func(f *verdict.Facts) { f.Ingresses = true }},
		{"a question", &minute, func(w *wait) { w.noteOpen("what") }, func(f *verdict.Facts) { f.Open = true }},
		{"refused", &minute, func(w *wait) { w.survey.refused = errTest }, func(f *verdict.Facts) { f.Refused = errTest }},
		{"hidden", &minute, func(w *wait) { w.survey.hidden = errTest }, func(f *verdict.Facts) { f.Unable = errTest }},
		{"an address", &minute, func(w *wait) { w.pod.UID = ""; w.pod.IPs = podIPs }, func(f *verdict.Facts) { f.Address, f.Unable = true, ErrNotFound }},
		{"stays", &minute, func(w *wait) { w.termination.stays = true }, func(f *verdict.Facts) { f.Stays = true }},
		{"stays, and is deleted after all", &minute, func(w *wait) {
			w.termination.stays = true
			w.pod.KillAt = w.began.Add(time.Hour)
		}, func(*verdict.Facts) {}},
		{"the pod cannot be read", &minute, func(w *wait) { w.setLookupError(aboutPod, errTest) }, func(f *verdict.Facts) { f.Unread = errTest }},
		{"the lists cannot be read", &minute, func(w *wait) { w.survey.unread = errTest }, func(f *verdict.Facts) { f.Unread = errTest }},
		{"a moment before the last one to refuse", &minute, func(*wait) { time.Sleep(2*time.Second - 1) }, func(*verdict.Facts) {}},
		{"the last moment to refuse", &minute, func(*wait) { time.Sleep(2 * time.Second) }, func(f *verdict.Facts) { f.Last = true }},
		{"past that", &minute, func(w *wait) { w.pastRefusal = true }, func(f *verdict.Facts) { f.Early = false }},
		{"a moment before the end", &minute, func(*wait) { time.Sleep(minute - 1) }, func(f *verdict.Facts) { f.Last = true }},
		{"the end", &minute, func(*wait) { time.Sleep(minute) }, func(f *verdict.Facts) { f.Last, f.Over = true, true }},
		{"one look was taken", &none, func(w *wait) { w.with(webID, rotating, false) }, func(f *verdict.Facts) { f.Over, f.Tally = true, verdict.Tally{Followed: 1, Looked: 1} }},
		{"one look was taken, and more are wanted", &minute, func(w *wait) { w.with(webID, rotating, false) }, func(f *verdict.Facts) { f.Tally = verdict.Tally{Followed: 1, Looked: 1} }},
		{"one look was taken, of two", &none, func(w *wait) {
			w.with(webID, rotating, false)
			w.with(shopID, verdict.Progress{}, false)
		}, func(f *verdict.Facts) { f.Tally = verdict.Tally{Followed: 2, Looked: 1} }},
		{"one look was taken, with a question", &none, func(w *wait) {
			w.with(webID, rotating, false)
			w.noteOpen("what")
		}, func(f *verdict.Facts) { f.Open, f.Tally = true, verdict.Tally{Followed: 1, Looked: 1} }},
		{"one look was taken, by a cache alone", &none, func(w *wait) {
			w.with(webID, rotating, false)
			w.survey.live = false
		}, func(f *verdict.Facts) { f.Live, f.Tally = false, verdict.Tally{Followed: 1, Looked: 1} }},
		{"nothing to look at", &none, func(*wait) {}, func(*verdict.Facts) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := handMade(t, Request{MaxDelay: c.delay})
				want := verdict.Facts{Early: true, Live: true, Unread: errNoAnswer}
				c.change(w)
				c.want(&want)
				got := w.facts()
				if !errors.Is(got.Unable, want.Unable) {
					t.Errorf("unable: %v, want %v", got.Unable, want.Unable)
				}
				if !errors.Is(got.Unread, want.Unread) || !errors.Is(got.Unread, ErrUnavailable) {
					t.Errorf("unread: %v, want %v", got.Unread, want.Unread)
				}
				got.Unable, want.Unable = nil, nil
				got.Unread, want.Unread = nil, nil
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		})
	}
}

func TestTally(t *testing.T) {
	w := handMade(t, Request{})
	for i, g := range []struct {
		p         verdict.Progress
		publishes bool
	}{
		{verdict.Progress{}, false}, {verdict.Progress{}, true}, {rotating, false}, {rotating, true}, {gone, false}, {gone, true}, {settled, false}, {settled, true},
	} {
		w.with(elb.Group{ARN: fmt.Sprint(i)}, g.p, g.publishes)
	}
	if got, want := w.tally(), (verdict.Tally{Followed: 8, Looked: 6, Left: 4, Confirmed: 2, Stuck: 1}); got != want {
		t.Errorf("got %+v, want %+v", got, want)
	}
}

// TestJudge: a reason to refuse counts until the last moment to refuse, and what
// the caller got wrong comes before what AWS refuses.
func TestJudge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		delay := time.Minute
		w := handMade(t, Request{MaxDelay: &delay})
		w.pod.KillAt = w.began.Add(time.Hour)
		w.survey.refused = fmt.Errorf("%w: no", ErrRefused)
		if _, err := w.judge(); !errors.Is(err, ErrRefused) {
			t.Errorf("at once: %v", err)
		}
		w.unknown = fmt.Errorf("%w: who", ErrNotFound)
		time.Sleep(2 * time.Second)
		if _, err := w.judge(); !errors.Is(err, ErrNotFound) {
			t.Errorf("in the last moment: %v", err)
		}
		if o, err := w.judge(); o != "" || err != nil {
			t.Errorf("after it: %q, %v", o, err)
		}
	})
}

func TestNextTurn(t *testing.T) {
	delay := time.Minute
	for _, c := range []struct {
		name   string
		change func(*wait)
		want   time.Duration
	}{
		{"the last moment to refuse", func(*wait) {}, 2 * time.Second},
		{"the check whether it is being deleted", func(w *wait) { w.pastRefusal = true }, 5 * time.Second},
		{"another check", func(w *wait) { w.pastRefusal = true; w.termination.again = w.began.Add(7 * time.Second) }, 7 * time.Second},
		{"the end, for a pod that is deleted", func(w *wait) { w.pastRefusal = true; w.pod.KillAt = w.began.Add(time.Hour) }, delay},
		{"the end, for an address", func(w *wait) { w.pastRefusal = true; w.pod.UID = "" }, delay},
		{"the end, without a pod", func(w *wait) { w.pastRefusal = true; w.pod = nil }, delay},
		{"the end, while it is asked", func(w *wait) { w.pastRefusal = true; w.termination.running = true }, delay},
		{"the end, for a pod that leaves all the same", func(w *wait) { w.pastRefusal = true; w.termination.leaves = true }, delay},
		{"the end, for a pod that stays", func(w *wait) { w.pastRefusal = true; w.termination.stays = true }, delay},
	} {
		w := handMade(t, Request{MaxDelay: &delay})
		c.change(w)
		if got := w.nextTurn().Sub(w.began); got != c.want {
			t.Errorf("%s: got %s, want %s", c.name, got, c.want)
		}
	}
}

func TestCheckedTermination(t *testing.T) {
	for _, c := range []struct {
		name        string
		same, stays bool
		err         error
		want        terminationCheck
		failed      bool
	}{
		{"it stays", true, true, nil, terminationCheck{stays: true}, false},
		{"it leaves", true, false, nil, terminationCheck{leaves: true}, false},
		{"nobody knows", true, false, errTest, terminationCheck{again: at(1)}, true},
		{"nobody knows, and it may stay", true, true, errTest, terminationCheck{again: at(1)}, true},
		{"of another pod", false, true, nil, terminationCheck{running: true}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := handMade(t, Request{})
				w.termination.running = true
				w.checkedTermination(c.same, c.stays, c.err)
				got := w.termination
				if !got.again.IsZero() {
					got.again = at(time.Until(got.again).Seconds())
				}
				if got != c.want || (w.lastError() != "") != c.failed {
					t.Errorf("got %+v, want %+v; the last error is %q", got, c.want, w.lastError())
				}
			})
		})
	}
}

func TestSettle(t *testing.T) {
	cfg := DefaultConfig()
	w := handMade(t, Request{})
	for kind, want := range map[elb.Type]time.Duration{elb.ALB: cfg.SettleALB, elb.NLB: cfg.SettleNLB, "": cfg.SettleNLB} {
		if got := w.settleTime(kind); got != want {
			t.Errorf("%q: got %s, want %s", kind, got, want)
		}
	}
	own := time.Duration(0)
	w.request.Settle = &own
	if got := w.settleTime(elb.NLB); got != 0 {
		t.Errorf("the caller's: got %s, want 0", got)
	}
}

// TestPlanOf: whoever has time for a single look takes it at once.
func TestPlanOf(t *testing.T) {
	long, short := time.Minute, time.Second
	for _, delay := range []*time.Duration{nil, &long, &short} {
		w := handMade(t, Request{MaxDelay: delay})
		w.pod.DeletionSeen = at(0)
		if got := w.planOf(&group{}).DeletionSeen; got.IsZero() != (delay == &short) {
			t.Errorf("max-delay %v: the deletion was seen at %s", delay, got)
		}
	}
}

// TestLastError: the newest lookup error that is not over.
func TestLastError(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := handMade(t, Request{})
		errs := []error{errors.New("first"), errors.New("second")}
		for _, step := range []struct {
			about string
			err   error
			want  string
		}{
			{"b", errs[0], "first"}, {"a", errs[1], "second"},
			{"b", errors.New("first"), "second"}, // the same as before
			{"b", errors.New("third"), "third"},
			{"b", nil, "second"}, {"a", nil, ""},
		} {
			time.Sleep(time.Second)
			w.setLookupError(step.about, step.err)
			if got := w.lastError(); got != step.want {
				t.Errorf("after %s of %s: got %q, want %q", step.err, step.about, got, step.want)
			}
		}
	})
}

// TestWarnOfBudget: a budget that cannot hold the settle time is told at once.
func TestWarnOfBudget(t *testing.T) {
	secs := func(n int) *time.Duration { d := time.Duration(n) * time.Second; return &d }
	for _, c := range []struct {
		name   string
		delay  *time.Duration
		grace  time.Duration
		change func(*wait)
		want   string
	}{
		{"enough", secs(120), time.Hour, func(*wait) {}, ""},
		{"max-delay", secs(119), time.Hour, func(*wait) {}, "max-delay is 119.0 s, too short to settle for 2m0s"},
		{"grace", nil, 124 * time.Second, func(*wait) {}, "grace period leaves 119.0 s, too short to settle for 2m0s after leaving " + webID.ARN + "; raise terminationGracePeriodSeconds to 155 or more"},
		{"the type is not known yet", secs(60), time.Hour, func(w *wait) { w.untyped = true }, ""},
		{"the pod is not known yet", secs(60), time.Hour, func(w *wait) { w.identified = false }, ""},
	} {
		w := handMade(t, Request{MaxDelay: c.delay})
		w.pod.Grace = c.grace
		w.groups = []*group{{Group: webID, tie: tie{kind: elb.NLB}}}
		c.change(w)
		w.warnOfBudget()
		w.warnOfBudget()
		if got := strings.Join(w.warnings, "\n"); !strings.Contains(got, c.want) || (got == "") != (c.want == "") || len(w.warnings) > 1 {
			t.Errorf("%s: got %q, want %q", c.name, w.warnings, c.want)
		}
	}
}

// TestUnable: why no group does not mean that the pod is registered nowhere.
func TestUnable(t *testing.T) {
	pod := &cluster.Pod{Namespace: "default", Name: "web", UID: "web"}
	address := &cluster.Pod{Namespace: "default", IPs: podIPs}
	for _, c := range []struct {
		name   string
		survey survey
		pod    *cluster.Pod
		want   error
	}{
		{"nothing in the way", survey{}, pod, nil},
		{"instance targets", survey{unsupported: []string{"x"}, hidden: errTest}, pod, ErrUnsupported},
		{"hidden", survey{hidden: errTest, noAddress: []string{"x"}}, pod, ErrRefused},
		{"an address", survey{}, address, ErrNotFound},
		{"no address of a load balancer", survey{noAddress: []string{"x"}}, pod, ErrNotFound},
		{"no such Ingress", survey{missing: []string{"x"}}, pod, ErrNotFound},
	} {
		if err := c.survey.unable(c.pod); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
			t.Errorf("%s: got %v, want %v", c.name, err, c.want)
		}
	}
}

func TestCanWatch(t *testing.T) {
	for _, c := range []struct {
		targetType  string
		tied        bool
		can         bool
		unsupported int
	}{
		{"ip", true, true, 0}, {"ip", false, true, 0}, {"instance", true, false, 1}, {"instance", false, false, 0}, {"alb", true, false, 0}, {"lambda", true, false, 0},
	} {
		w := handMade(t, Request{})
		if can := w.canWatch("x", c.targetType, c.tied); can != c.can || len(w.survey.unsupported) != c.unsupported {
			t.Errorf("%s, tied %t: got %t, and %q", c.targetType, c.tied, can, w.survey.unsupported)
		}
	}
}

// TestNoteRefused: what AWS refuses to show is a refusal where it is tied to the
// pod, and else keeps the wait from saying that the pod is registered nowhere.
func TestNoteRefused(t *testing.T) {
	w := handMade(t, Request{})
	w.noteRefused("x", false, errTest)
	if s := w.survey; s.refused != nil || !errors.Is(s.hidden, errTest) || len(w.warnings) != 1 || w.lastError() != "" {
		t.Errorf("not tied: %+v, warnings %q, last error %q", s, w.warnings, w.lastError())
	}
	w = handMade(t, Request{})
	w.noteRefused("x", true, errTest)
	if s := w.survey; !errors.Is(s.refused, ErrRefused) || !errors.Is(s.refused, errTest) || s.hidden != nil || w.lastError() == "" {
		t.Errorf("tied: %+v, last error %q", s, w.lastError())
	}
}

func TestGroupOf(t *testing.T) {
	b := ties.Binding{BindingSpec: ties.BindingSpec{TargetGroupARN: "arn", TargetGroupName: "name", RoleARN: "role", ExternalID: "secret"}}
	if got, want := groupOf(b), (elb.Group{ARN: "arn", RoleARN: "role", ExternalID: "secret"}); got != want {
		t.Errorf("by ARN: got %+v, want %+v", got, want)
	}
	b.TargetGroupARN = ""
	if got, want := groupOf(b), (elb.Group{Name: "name", RoleARN: "role", ExternalID: "secret"}); got != want {
		t.Errorf("by name: got %+v, want %+v", got, want)
	}
}

// TestDenied: a refusal of an account is told once, and until AWS answers.
func TestDenied(t *testing.T) {
	var log strings.Builder
	metrics := prometheus.NewRegistry()
	s := &sweeper{Drainer: New(DefaultConfig(), nil, nil, slog.New(slog.NewTextHandler(&log, nil)), metrics), refused: make(map[access]string)}
	ours, theirs := access{region: "eu-central-1"}, access{roleARN: "role"}
	for _, step := range []struct {
		access access
		err    error
		denied int
		lines  int
	}{
		{ours, errTest, 0, 0}, // passes
		{ours, elb.ErrRefused, 1, 1},
		{ours, elb.ErrRefused, 1, 1},
		{theirs, elb.ErrNoGroup, 2, 2},
		{ours, nil, 1, 3},
		{ours, nil, 1, 3},
	} {
		s.tellAccess(step.access, step.err)
		families, err := metrics.Gather()
		if err != nil || len(families) != 1 {
			t.Fatalf("%d metrics, %v", len(families), err)
		}
		denied := int(families[0].GetMetric()[0].GetGauge().GetValue())
		if lines := strings.Count(log.String(), "\n"); denied != step.denied || lines != step.lines {
			t.Errorf("after %+v: %d denied, %d lines", step, denied, lines)
		}
	}
	if got := slices.Collect(maps.Keys(s.refused)); !slices.Equal(got, []access{theirs}) {
		t.Errorf("refused: %v", got)
	}
}

// TestSurveyErrors: what a survey met with is over when the next one does not.
func TestSurveyErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := handMade(t, Request{})
		w.setLookupError(aboutPod, errors.New("pod"))
		for _, survey := range []struct {
			errs map[string]string
			want string
		}{
			{map[string]string{"a": "first"}, "first"},
			{map[string]string{"a": "first", "b": "second"}, "second"},
			{map[string]string{"a": "first"}, "first"},
			{nil, "pod"},
		} {
			time.Sleep(time.Second)
			w.surveys++
			w.setSurveyError("c", nil)
			for about, text := range survey.errs {
				w.setSurveyError(about, errors.New(text))
			}
			w.dropSurveyErrors()
			if got := w.lastError(); got != survey.want {
				t.Errorf("after survey %d: got %q, want %q", w.surveys, got, survey.want)
			}
		}
	})
}

// TestPanics: whatever panics for a wait, on whatever goroutine, panics on that of its
// caller, and tells where.
func TestPanics(t *testing.T) {
	for name, f := range map[string]func(*wait){
		"a turn":     func(w *wait) { _, _ = w.turn(explode, false, nil) },
		"a question": func(w *wait) { w.spawn(func(context.Context) func() { explode(); return nil }); (<-w.answers)() },
		"an answer": func(w *wait) {
			w.spawn(func(context.Context) func() { return explode })
			_, _ = w.turn(<-w.answers, false, nil)
		},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if v := fmt.Sprint(recover()); !strings.Contains(v, "boom") || !strings.Contains(v, "drain.explode") {
					t.Errorf("the caller's goroutine panics with %.300s", v)
				}
			}()
			f(handMade(t, Request{}))
		})
	}
}

func explode() { panic("boom") }

// TestMuchToTell: however much is unknown or wrong, a wait tells some of it, and that
// there is more.
func TestMuchToTell(t *testing.T) {
	w := handMade(t, Request{})
	for i := range 100 {
		w.noteOpen("what %d is", i)
	}
	w.warnOfOpen()
	if want := []string{"what 0 is", "as much is not known about 92 more"}; len(w.warnings) != 9 || w.warnings[0] != want[0] || w.warnings[8] != want[1] {
		t.Errorf("of open questions: %q", w.warnings)
	}
	for i := range 1000 {
		w.warn("warning %d", i)
	}
	if last := w.warnings[len(w.warnings)-1]; len(w.warnings) != 51 || last != "there are more warnings, which are left out" {
		t.Errorf("%d warnings, the last is %q", len(w.warnings), last)
	}
}

// TestStale: a group that was confirmed long before the last of them is settled needs one
// more look, which is due then.
func TestStale(t *testing.T) {
	for began, stale := range map[float64]bool{30: true, 177.9: true, 178: false, 180: false} {
		w := handMade(t, Request{})
		w.with(webID, settled, false)
		w.with(shopID, verdict.Progress{Looked: true, LeftAt: at(60)}, false) // settled at 180
		g := w.group(webID)
		g.look = &elb.Look{Began: at(began)}
		if plan := w.planOf(g); (w.tally().Confirmed == 0) != stale || plan.Done == stale || stale && !plan.ConfirmAt.Equal(at(180)) {
			t.Errorf("confirmed by a look at %g s: %d confirmed, plan %+v", began, w.tally().Confirmed, plan)
		}
	}
}
