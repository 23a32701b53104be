package main

import (
	"context"
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

	"drainwait/internal/sim"
)

// service stands in for the replicas of a service, in a synctest bubble. Each
// connection goes to the next one of those that are there.
type service struct {
	replicas []*replica
	dials    int
	asked    []url.Values  // what hooks asked, in order
	reports  []url.Values  // what they told of fallbacks
	reported time.Duration // when the last report came
	began    time.Time
}

// replica answers after a time, or breaks the connection then.
type replica struct {
	listener   *sim.Listener
	after      time.Duration
	status     int // 0 to break the connection
	retryAfter string
	body       string
}

const drained = `{"outcome": "drained", "warnings": ["container log has no preStop hook"]}`

func (s *service) add(r replica) {
	r.listener = sim.NewListener()
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
	r := s.replicas[s.dials%len(s.replicas)]
	s.dials++
	return r.listener.Dial(ctx, netip.MustParseAddr("10.0.0.1"))
}

// ran is what became of a hook.
type ran struct {
	served bool
	took   time.Duration
	said   []string
}

// inBubble runs a hook with a budget of 60 s and a fallback of 25 s.
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
		s.add(replica{after: 21 * time.Second, status: 200, body: drained})
		h.query.Add("ingress", "a")
		h.query.Add("ingress", "b")
		h.query.Add("settle", "15s")
	}, func(s *service, r ran) {
		if !r.served || r.took != 21*time.Second {
			t.Errorf("served %v after %s", r.served, r.took)
		}
		want := []url.Values{{"pod": {"web-1"}, "namespace": {"default"}, "ip": {"10.0.0.1"}, "ingress": {"a", "b"}, "settle": {"15s"}, "max-delay": {"58"}}}
		if diff := cmp.Diff(want, s.asked); diff != "" {
			t.Errorf("asked (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]string{"drained after 21s; warning: container log has no preStop hook"}, r.said); diff != "" {
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
				said := fmt.Sprintf("http://drain-wait.drain-wait:8080 answers %d: no such\nthing; waiting %s in its place", status, tt.want)
				if diff := cmp.Diff([]string{said}, r.said); diff != "" {
					t.Errorf("said (-want +got):\n%s", diff)
				}
			})
		}
	}
}

// TestReplicaKilled is the end of a replica in the middle of a wait: another one
// gets what is left of the budget.
func TestReplicaKilled(t *testing.T) {
	inBubble(t, nil, func(s *service, _ *hook) {
		s.add(replica{after: 30 * time.Second}) // and breaks
		s.add(replica{after: 20 * time.Second, status: 200, body: drained})
	}, func(s *service, r ran) {
		if !r.served || r.took < 50*time.Second+firstPause/2 || r.took > 50*time.Second+firstPause || s.dials != 2 {
			t.Errorf("served %v after %s and %d connections", r.served, r.took, s.dials)
		}
		if got := s.asked[1].Get("max-delay"); got != "28" {
			t.Errorf("asked the second one for %s", got)
		}
		if len(r.said) != 2 || !strings.Contains(r.said[0], "EOF; asking again, until 1m0s are over") || !strings.HasPrefix(r.said[1], "drained after 50.") {
			t.Errorf("said %q", r.said)
		}
	})
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

// TestNoAnswer holds the pod for the whole budget, never less and never more.
func TestNoAnswer(t *testing.T) {
	html := replica{status: 200, body: "<html>It works!</html>"}
	for name, tt := range map[string]struct {
		replica     *replica
		reason      string
		said        string
		least, most int // questions in a minute
	}{
		"down":           {nil, "", "connection refused", 0, 0},
		"hangs":          {&replica{after: time.Hour}, "broken", "context deadline exceeded", 1, 1},
		"breaks":         {&replica{}, "broken", "EOF", 14, 35},
		"503":            {&replica{status: 503, retryAfter: "1", body: `{"error": "unavailable"}`}, "unavailable", "answers 503", 14, 30},
		"another's":      {&html, "broken", "status 200: invalid character", 14, 35},
		"another's 404":  {&replica{status: 404, body: "404 page not found"}, "broken", "status 404", 14, 35},
		"another's API":  {&replica{status: 200, body: "{}"}, "broken", "this is no drain-wait service", 14, 35},
		"proxy's 503":    {&replica{status: 503, retryAfter: "1", body: "upstream connect error"}, "broken", "status 503", 14, 30},
		"half of a body": {&replica{status: 200, body: `{"outcome": "drai`}, "broken", "unexpected EOF", 14, 35},
	} {
		inBubble(t, nil, func(s *service, _ *hook) {
			if tt.replica != nil {
				s.add(*tt.replica)
			}
		}, func(s *service, r ran) {
			if r.served || r.took != time.Minute || len(s.asked) < tt.least || len(s.asked) > tt.most {
				t.Errorf("%s: served %v after %s and %d questions", name, r.served, r.took, len(s.asked))
			}
			last := r.said[len(r.said)-1]
			if !strings.HasPrefix(last, "no answer in 1m0s: ") || !strings.Contains(last, tt.said) || len(r.said) > 2 {
				t.Errorf("%s: said %q", name, r.said)
			}
			if tt.reason == "" {
				return
			}
			if len(s.reports) != 1 || s.reports[0].Get("reason") != tt.reason || s.reported < 59*time.Second {
				t.Errorf("%s: reported %v after %s", name, s.reports, s.reported)
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
		if r.served || r.took != time.Minute || len(s.asked) > 0 {
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
		if r.served || r.took != time.Minute {
			t.Errorf("served %v after %s", r.served, r.took)
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
