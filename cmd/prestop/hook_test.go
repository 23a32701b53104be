package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"drainwait/internal/sim/memnet"
)

// service stands in for the replicas of a service, in a synctest bubble. Each
// connection goes to the next one, and those that come later to the last.
type service struct {
	replicas []*replica
	dials    int
	asked    []url.Values  // what hooks asked, in order
	reports  []url.Values  // what they told of fallbacks
	reported time.Duration // when the last report came
	began    time.Time
}

// replica answers after a time, or breaks the connection then, or refuses it.
type replica struct {
	listener   *memnet.Listener
	refuses    bool
	after      time.Duration
	status     int // 0 to break the connection
	retryAfter string
	body       string
}

const drained = `{"outcome": "drained", "warnings": ["container log has no preStop hook"]}`

func (s *service) add(r replica) {
	r.listener = memnet.NewListener()
	s.replicas = append(s.replicas, &r)
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(rw http.ResponseWriter, req *http.Request) {
		switch req.Method + " " + req.URL.Path {
		case "POST /fallback":
			s.reports, s.reported = append(s.reports, req.URL.Query()), time.Since(s.began)
			rw.WriteHeader(http.StatusNoContent)
		case "GET /drain-delay":
			s.asked = append(s.asked, req.URL.Query())
			select {
			case <-time.After(r.after):
			case <-req.Context().Done():
				return
			}
			if r.status == 0 {
				panic(http.ErrAbortHandler)
			}
			rw.Header().Set("Retry-After", r.retryAfter)
			rw.WriteHeader(r.status)
			_, _ = io.WriteString(rw, r.body)
		default:
			http.NotFound(rw, req)
		}
	})}
	go func() { _ = server.Serve(r.listener) }()
}

func (s *service) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if network != "tcp" || address != "drain-wait.drain-wait:8080" {
		return nil, fmt.Errorf("dial %s %s", network, address)
	}
	if len(s.replicas) == 0 {
		return nil, fmt.Errorf("connection refused")
	}
	r := s.replicas[min(s.dials, len(s.replicas)-1)]
	if s.dials++; s.dials > 1000 {
		panic("the hook asks for ever")
	}
	if r.refuses {
		return nil, fmt.Errorf("connection refused")
	}
	return r.listener.Dial(ctx, netip.MustParseAddr("10.0.0.1"))
}

// ran is what became of a hook.
type ran struct {
	served bool
	took   time.Duration
	said   []string
}

// inBubble runs a hook with a fallback of 25 s and no max-delay.
func inBubble(t *testing.T, env map[string]string, setUp func(s *service, h *hook), check func(s *service, r ran)) {
	t.Helper()
	synctest.Test(t, func(*testing.T) {
		h := newHook(func(name string) string { return env[name] })
		s := &service{began: time.Now()}
		h.dial = s.dial
		var r ran
		h.say = func(format string, args ...any) { r.said = append(r.said, fmt.Sprintf(format, args...)) }
		setUp(s, h)
		r.served = h.run()
		r.took = time.Since(s.began)
		check(s, r)
		for _, rep := range s.replicas {
			rep.listener.Close()
		}
	})
}

func TestAnswered(t *testing.T) {
	env := map[string]string{"POD_NAME": "web-1", "POD_NAMESPACE": "default", "POD_IP": "10.0.0.1"}
	inBubble(t, env, func(s *service, h *hook) {
		s.add(replica{after: 205 * time.Second, status: 200, body: drained}) // behind an NLB
		h.query.Add("ingress", "a")
		h.query.Add("ingress", "b")
		h.query.Add("settle", "15s")
	}, func(s *service, r ran) {
		if !r.served || r.took != 205*time.Second {
			t.Errorf("served %v after %s", r.served, r.took)
		}
		want := []url.Values{{"pod": {"web-1"}, "namespace": {"default"}, "ip": {"10.0.0.1"}, "ingress": {"a", "b"}, "settle": {"15s"}}}
		if diff := cmp.Diff(want, s.asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"drained after 3m25s; warning: container log has no preStop hook"}, r.said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
		if len(s.reports) > 0 {
			t.Errorf("reported %v", s.reports)
		}
	})
}

// TestRefused: what will not change is not asked again, and the hook waits as it
// did before there was a service.
func TestRefused(t *testing.T) {
	for _, status := range []int{400, 404, 422, 429, 500, 502} {
		for _, tt := range []struct{ maxDelay, fallback, want time.Duration }{
			{60 * time.Second, 25 * time.Second, 25 * time.Second},
			{20 * time.Second, 25 * time.Second, 20 * time.Second},
			{60 * time.Second, 0, 0},
			{unlimited, 25 * time.Second, 25 * time.Second},
		} {
			env := map[string]string{"POD_NAME": "web-1", "POD_NAMESPACE": "default"}
			inBubble(t, env, func(s *service, h *hook) {
				s.add(replica{status: status, body: `{"error": "some_error", "message": "no such\nthing", "warnings": []}`})
				h.maxDelay, h.fallback = tt.maxDelay, tt.fallback
			}, func(s *service, r ran) {
				if r.served || r.took != tt.want || len(s.asked) != 1 {
					t.Errorf("%d %v: served %v after %s and %d questions", status, tt, r.served, r.took, len(s.asked))
				}
				want := []url.Values{{"reason": {"refused"}, "pod": {"web-1"}, "namespace": {"default"}}}
				if diff := cmp.Diff(want, s.reports); diff != "" || s.reported != 0 {
					t.Errorf("%d %v: reported after %s (-want +got):\n%s", status, tt, s.reported, diff)
				}
				said := fmt.Sprintf("http://drain-wait.drain-wait:8080 answered %d: no such\nthing; waiting %s instead", status, tt.want)
				if diff := cmp.Diff([]string{said}, r.said); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestMaxDelay: the service is asked for what is left of it.
func TestMaxDelay(t *testing.T) {
	inBubble(t, nil, func(s *service, h *hook) {
		s.add(replica{after: 30 * time.Second}) // and breaks
		s.add(replica{after: 20 * time.Second, status: 200, body: drained})
		h.maxDelay = time.Minute
	}, func(s *service, r ran) {
		if !r.served || r.took < 50*time.Second+firstPause/2 || r.took > 50*time.Second+firstPause || len(s.asked) != 2 {
			t.Fatalf("served %v after %s and %d questions", r.served, r.took, len(s.asked))
		}
		if first, second := s.asked[0].Get("max-delay"), s.asked[1].Get("max-delay"); first != "58" || second != "28" {
			t.Errorf("asked for %s and %s", first, second)
		}
		want := []string{
			"no answer from http://drain-wait.drain-wait:8080 in 30s: EOF; retrying for 25s",
			fmt.Sprintf("drained after %s; warning: container log has no preStop hook", round(r.took)),
		}
		if diff := cmp.Diff(want, r.said); diff != "" {
			t.Errorf("said (-want +got):\n%s", diff)
		}
	})
}

// TestDanger: an answer that came too early for the load balancers says so, and
// what to set.
func TestDanger(t *testing.T) {
	for outcome, want := range map[string]string{
		"settle_cut":      "settle_cut after 58s. Too early, so requests may fail: the load balancers may still send; last error: throttled; warning: set 210",
		"budget_spent":    "budget_spent after 58s. Too early, so requests may fail: the pod may still be in its target groups; last error: throttled; warning: set 210",
		"not_terminating": "not_terminating after 58s; last error: throttled; warning: set 210",
	} {
		inBubble(t, nil, func(s *service, _ *hook) {
			body := fmt.Sprintf(`{"outcome": %q, "lastError": "throttled", "warnings": ["set 210"]}`, outcome)
			s.add(replica{after: 58 * time.Second, status: 200, body: body})
		}, func(_ *service, r ran) {
			if diff := cmp.Diff([]string{want}, r.said); diff != "" || !r.served {
				t.Errorf("served %v, said (-want +got):\n%s", r.served, diff)
			}
		})
	}
}

func TestNotReadyAtFirst(t *testing.T) {
	for retryAfter, wait := range map[string]struct{ least, most time.Duration }{
		"":                              {firstPause / 2, firstPause},
		"2":                             {2 * time.Second, 2 * time.Second},
		"3600":                          {longestPause, longestPause},
		"-1":                            {firstPause / 2, firstPause},
		"Wed, 21 Oct 2026 07:28:00 GMT": {firstPause / 2, firstPause},
	} {
		inBubble(t, nil, func(s *service, _ *hook) {
			s.add(replica{status: 503, retryAfter: retryAfter, body: `{"error": "unavailable", "message": "not yet"}`})
			s.add(replica{status: 200, body: drained})
		}, func(s *service, r ran) {
			if !r.served || r.took < wait.least || r.took > wait.most || len(s.reports) > 0 {
				t.Errorf("Retry-After %q: served %v after %s, reports %v", retryAfter, r.served, r.took, s.reports)
			}
		})
	}
}

// TestNoAnswer holds the pod for the fallback, never less and never more.
func TestNoAnswer(t *testing.T) {
	html := replica{status: 200, body: "<html>It works!</html>"}
	for name, tt := range map[string]struct {
		replica     *replica
		reason      string
		said        string
		least, most int // questions in 25 s
	}{
		"down":           {nil, "", "connection refused", 0, 0},
		"breaks":         {&replica{}, "broken", "in 0s: EOF", 8, 18},
		"503":            {&replica{status: 503, retryAfter: "1", body: `{"error": "unavailable"}`}, "unavailable", "answered 503", 8, 15},
		"no budget":      {&replica{status: 503, body: `{"error": "unavailable", "budgetSeconds": -9}`}, "unavailable", "answered 503", 8, 18},
		"another's":      {&html, "broken", "status 200: invalid character", 8, 18},
		"another's 404":  {&replica{status: 404, body: "404 page not found"}, "broken", "status 404", 8, 18},
		"another's API":  {&replica{status: 200, body: "{}"}, "broken", "not a drain-wait service", 8, 18},
		"proxy's 503":    {&replica{status: 503, retryAfter: "1", body: "upstream connect error"}, "broken", "status 503", 8, 15},
		"half of a body": {&replica{status: 200, body: `{"outcome": "drai`}, "broken", "unexpected EOF", 8, 18},
	} {
		inBubble(t, nil, func(s *service, _ *hook) {
			if tt.replica != nil {
				s.add(*tt.replica)
			}
		}, func(s *service, r ran) {
			if r.served || r.took != 25*time.Second || len(s.asked) < tt.least || len(s.asked) > tt.most {
				t.Errorf("%s: served %v after %s and %d questions", name, r.served, r.took, len(s.asked))
			}
			if len(r.said) != 2 || !strings.HasSuffix(r.said[0], "; retrying for 25s") ||
				!strings.HasPrefix(r.said[1], "no answer in 25s, so requests may fail: ") || !strings.Contains(r.said[1], tt.said) {
				t.Errorf("%s: said %q", name, r.said)
			}
			for _, asked := range s.asked {
				if asked.Has("max-delay") {
					t.Errorf("%s: asked for %v", name, asked)
				}
			}
			if tt.reason == "" {
				return
			}
			if len(s.reports) != 1 || s.reports[0].Get("reason") != tt.reason || s.reported != 24*time.Second {
				t.Errorf("%s: reported %v after %s", name, s.reports, s.reported)
			}
		})
	}
}

func inSeconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }

// TestHeld: a hold is no failure, and the fallback is counted from its break.
func TestHeld(t *testing.T) {
	down, notReady := replica{refuses: true}, replica{status: 503, body: `{"error": "unavailable"}`}
	heldFor := func(seconds float64) replica { return replica{after: inSeconds(seconds)} }
	answers := func(seconds float64) replica {
		return replica{after: inSeconds(seconds), status: 200, body: drained}
	}
	late503 := notReady
	late503.after = 100 * time.Second
	soon503 := notReady
	soon503.after = 2 * time.Second
	for name, tt := range map[string]struct {
		replicas []replica
		maxDelay float64 // s; 0 for none
		served   bool
		took     float64 // s
		pauses   float64 // what it may take more
		lines    int
	}{
		"for long":                      {[]replica{answers(3000)}, 0, true, 3000, 0, 1},
		"breaks":                        {[]replica{heldFor(100), down}, 0, false, 125, 0, 2},
		"breaks, nobody is ready":       {[]replica{heldFor(100), notReady}, 0, false, 125, 0, 2},
		"breaks after failures":         {[]replica{down, down, down, heldFor(100), down}, 0, false, 125, 3, 3},
		"breaks twice":                  {[]replica{heldFor(100), heldFor(50), down}, 0, false, 175, 0.4, 3},
		"again for long":                {[]replica{heldFor(100), down, down, down, answers(80)}, 0, true, 180, 6, 2},
		"breaks soon, time and again":   {[]replica{heldFor(1)}, 0, false, 25, 0, 2},
		"breaks later, time and again":  {[]replica{heldFor(2.9)}, 0, false, 25, 2.9, 2},
		"503 soon, time and again":      {[]replica{soon503}, 0, false, 25, 2, 2},
		"503 without a budget":          {[]replica{late503, down}, 0, false, 125, 0, 2},
		"max-delay":                     {[]replica{heldFor(100), down}, 110, false, 110, 0, 2},
		"max-delay while it is held":    {[]replica{heldFor(100), heldFor(100)}, 150, false, 150, 0, 2},
		"max-delay while it hangs":      {[]replica{heldFor(1e6)}, 60, false, 60, 0, 1},
		"max-delay beyond the fallback": {[]replica{down}, 60, false, 25, 0, 2},
		"max-delay before the fallback": {[]replica{down}, 20, false, 20, 0, 2},
	} {
		inBubble(t, nil, given(tt.replicas, tt.maxDelay), func(s *service, r ran) {
			checkReports(t, name, s, r)
			if r.served != tt.served || r.took < inSeconds(tt.took) || r.took > inSeconds(tt.took+tt.pauses) || len(r.said) != tt.lines {
				t.Errorf("%s: served %v after %s, said %q", name, r.served, r.took, r.said)
			}
		})
	}
}

// given sets up a service of some replicas, and a hook with a maxDelay in seconds;
// 0 for none.
func given(replicas []replica, maxDelay float64) func(*service, *hook) {
	return func(s *service, h *hook) {
		for _, r := range replicas {
			s.add(r)
		}
		if maxDelay > 0 {
			h.maxDelay = inSeconds(maxDelay)
		}
	}
}

// checkReports: who did without an answer tells the last replica, if that is
// there.
func checkReports(t *testing.T, name string, s *service, r ran) {
	t.Helper()
	want := 1
	if r.served || s.replicas[len(s.replicas)-1].refuses {
		want = 0
	}
	if len(s.reports) != want {
		t.Errorf("%s: reported %v, want %d", name, s.reports, want)
	}
}

// TestCut: after a 503 that names the budget of the wait that it cuts, the hook
// asks until that is over, and no longer.
func TestCut(t *testing.T) {
	down, notReady := replica{refuses: true}, replica{status: 503, body: `{"error": "unavailable"}`}
	cut := func(after, budget float64) replica {
		return replica{after: inSeconds(after), status: 503, retryAfter: "1", body: fmt.Sprintf(`{"error": "unavailable", "message": "goes away", "budgetSeconds": %g}`, budget)}
	}
	broken := func(after float64) replica { return replica{after: inSeconds(after)} }
	refusedNow := replica{status: 404, body: `{"error": "not_found"}`}
	answers := func(after float64, outcome string) replica {
		return replica{after: inSeconds(after), status: 200, body: fmt.Sprintf(`{"outcome": %q}`, outcome)}
	}
	for name, tt := range map[string]struct {
		replicas []replica
		maxDelay float64 // s; 0 for none
		served   bool
		took     float64 // s
		pauses   float64 // what it may take more
		said     string  // the last line begins with it
	}{
		"nobody is there":         {[]replica{cut(100, 230.5), down}, 0, false, 230.5, 0, "no answer in 3m50.5s, so requests may fail: cannot reach"},
		"nobody is ready":         {[]replica{cut(100, 230), notReady}, 0, false, 230, 0, "no answer in 3m50s, so requests may fail: http://drain-wait.drain-wait:8080 answered 503"},
		"another answers":         {[]replica{cut(100, 230), answers(120, "drained")}, 0, true, 221, 0, "drained after 3m41s"},
		"after failures":          {[]replica{down, down, cut(100, 130), down}, 0, false, 130.6, 0.6, "no answer in 2m1"}, // counted from the request
		"at once":                 {[]replica{cut(0, 60)}, 0, false, 60, 0, "no answer in 1m0s"},
		"another answers late":    {[]replica{cut(100, 130), answers(29.5, "settle_cut")}, 0, true, 130.5, 0, "settle_cut after 2m10.5s. Too early"},
		"another hangs":           {[]replica{cut(100, 130), broken(1e6)}, 0, false, 131, 0, "no answer in 2m10s"},
		"another breaks":          {[]replica{cut(10, 130), broken(10), down}, 0, false, 130, 0, "no answer in 2m10s"},
		"another breaks at last":  {[]replica{cut(100, 130), broken(20), down}, 0, false, 130, 0, "no answer in 2m10s"},
		"another is cut":          {[]replica{cut(100, 130), cut(10, 60), down}, 0, false, 130, 0, "no answer in 2m10s"},
		"the budget shrinks":      {[]replica{cut(100, 130), cut(5, 10), down}, 0, false, 111, 0, "no answer in 1m51s"},
		"another refuses":         {[]replica{cut(100, 230), refusedNow}, 0, false, 126, 0, "http://drain-wait.drain-wait:8080 answered 404: ; waiting 25s instead"},
		"another refuses at last": {[]replica{cut(120, 130), refusedNow}, 0, false, 130, 0, "http://drain-wait.drain-wait:8080 answered 404: ; waiting 9s instead"},
		"at the end of a budget":  {[]replica{cut(130, 130), down}, 0, false, 130, 0, "no answer in 2m10s"},
		"max-delay":               {[]replica{cut(100, 230), down}, 150, false, 150, 0, "no answer in 2m30s"},
		"nonsense":                {[]replica{cut(100, 1e300), down}, 150, false, 150, 0, "no answer in 2m30s"},
	} {
		inBubble(t, nil, given(tt.replicas, tt.maxDelay), func(s *service, r ran) {
			checkReports(t, name, s, r)
			last := r.said[len(r.said)-1]
			if r.served != tt.served || r.took < inSeconds(tt.took) || r.took > inSeconds(tt.took+tt.pauses) || !strings.HasPrefix(last, tt.said) {
				t.Errorf("%s: served %v after %s, said %q", name, r.served, r.took, r.said)
			}
			if len(r.said) > 3 || len(s.asked) > 70 {
				t.Errorf("%s: %d questions, said %q", name, len(s.asked), r.said)
			}
			if tt.maxDelay == 0 && s.asked[len(s.asked)-1].Has("max-delay") {
				t.Errorf("%s: asked for %v", name, s.asked)
			}
		})
	}
}

// TestShortFallback: where no time is left to do without an answer, the service is
// asked all the same.
func TestShortFallback(t *testing.T) {
	hangs := func(ctx context.Context, _, _ string) (net.Conn, error) {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	for _, fallback := range []time.Duration{0, 100 * time.Millisecond} {
		inBubble(t, nil, func(s *service, h *hook) {
			s.add(replica{after: 50 * time.Second, status: 200, body: drained})
			h.fallback = fallback
		}, func(_ *service, r ran) {
			if !r.served || r.took != 50*time.Second {
				t.Errorf("fallback %s: served %v after %s", fallback, r.served, r.took)
			}
		})
		inBubble(t, nil, func(_ *service, h *hook) { h.fallback = fallback }, func(_ *service, r ran) {
			if r.served || r.took != fallback {
				t.Errorf("fallback %s, nobody is there: served %v after %s", fallback, r.served, r.took)
			}
		})
		inBubble(t, nil, func(_ *service, h *hook) { h.fallback, h.dial = fallback, hangs }, func(_ *service, r ran) {
			if r.served || r.took != time.Second {
				t.Errorf("fallback %s, no connection: served %v after %s", fallback, r.served, r.took)
			}
		})
	}
}

// TestReportedAfterAll: the service comes back too late to be of use.
func TestReportedAfterAll(t *testing.T) {
	inBubble(t, nil, func(s *service, h *hook) {
		say := h.say
		h.say = func(format string, args ...any) {
			say(format, args...)
			if strings.HasPrefix(format, "no answer") {
				s.add(replica{status: 200, body: drained})
			}
		}
	}, func(s *service, r ran) {
		if r.served || r.took != 25*time.Second || len(s.asked) > 0 {
			t.Errorf("served %v after %s and %d questions", r.served, r.took, len(s.asked))
		}
		if diff := cmp.Diff([]url.Values{{"reason": {"unreachable"}}}, s.reports); diff != "" {
			t.Errorf("reported (-want +got):\n%s", diff)
		}
	})
}

// TestNoConnection: nobody answers the attempt to connect.
func TestNoConnection(t *testing.T) {
	inBubble(t, nil, func(_ *service, h *hook) {
		h.dial = func(ctx context.Context, _, _ string) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		}
	}, func(_ *service, r ran) {
		if r.served || r.took != 25*time.Second {
			t.Errorf("served %v after %s", r.served, r.took)
		}
	})
}

// TestUnusedConnection: a connection that came too late is closed.
func TestUnusedConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		near, far := net.Pipe()
		_, err := newHook(func(string) string { return "" }).do(ctx, near, http.MethodGet, "drain-delay", nil)
		if n, readErr := far.Read(make([]byte, 1)); err == nil || n > 0 || !errors.Is(readErr, io.EOF) {
			t.Errorf("request: %v; the other end reads %d bytes: %v", err, n, readErr)
		}
	})
}

func TestWho(t *testing.T) {
	for name, tt := range map[string]struct {
		env   map[string]string
		local string
		want  string
	}{
		"nothing is known":         {nil, "", ""},
		"the connection knows":     {map[string]string{"POD_NAMESPACE": "default"}, "10.0.0.1:40000", "ip=10.0.0.1&namespace=default"},
		"over IPv6":                {nil, "[2001:db8::1%eth0]:40000", "ip=2001%3Adb8%3A%3A1"},
		"as IPv6":                  {nil, "[::ffff:10.0.0.1]:40000", "ip=10.0.0.1"},
		"through a proxy":          {nil, "127.0.0.1:40000", ""},
		"link-local":               {nil, "[fe80::1%eth0]:40000", ""},
		"a given address wins":     {map[string]string{"POD_IP": "10.0.0.7"}, "10.0.0.1:40000", "ip=10.0.0.7"},
		"so does a name":           {map[string]string{"POD_NAME": "web-1", "POD_NAMESPACE": "default"}, "10.0.0.1:40000", "namespace=default&pod=web-1"},
		"a name without namespace": {map[string]string{"POD_NAME": "web-1"}, "10.0.0.1:40000", "ip=10.0.0.1"},
	} {
		h := newHook(func(name string) string { return tt.env[name] })
		if got := h.whoAndWhat(address(tt.local)).Encode(); got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

type address string

func (a address) Network() string { return "tcp" }
func (a address) String() string  { return string(a) }
