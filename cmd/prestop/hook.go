package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drainwait/internal/api"
)

// Times between two questions to the service. A pause is drawn between half of
// it and all of it, so that the hooks of a node do not ask in step.
const (
	firstPause   = 400 * time.Millisecond
	longestPause = 4 * time.Second // and the longest Retry-After that is honoured
)

const (
	dialTimeout = 3 * time.Second              // ends a look-up and a connect that nobody answers
	unlimited   = time.Duration(math.MaxInt64) // the maxDelay of a hook that was given none
	// longestRefusal is more than the service takes to refuse a request, which it
	// does within two seconds or not at all: what was open for longer was a wait.
	longestRefusal = 3 * time.Second
)

// hook is one run of the client.
type hook struct {
	server             *url.URL
	maxDelay, fallback time.Duration
	strict             bool // exit with 1 if the service did not decide
	logFile            string
	query              url.Values // what the service is told in every case
	dial               func(ctx context.Context, network, address string) (net.Conn, error)
	say                func(format string, args ...any)
}

// failure is why there is no answer. Its reason is one of [api.Reasons].
type failure struct {
	reason     string
	retryAfter time.Duration
	sent       time.Time     // when the request was made; zero where there was no connection
	budget     time.Duration // of the wait that was cut, from then on; 0 where there was none
	err        error
}

// run holds the caller until the pod may stop. It says whether the service
// decided that.
func (h *hook) run() bool {
	p := newPatience(h.maxDelay, h.fallback)
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		a, f := h.ask(p)
		if f == nil {
			h.say("%s after %s%s%s", a.Outcome, round(time.Since(p.began)), dangers[a.Outcome], remarks(a.LastError, a.Warnings))
			return true
		}
		if f.reason == api.Refused {
			end := p.fallBack(h.fallback)
			h.say("%v; waiting %s instead", f.err, round(time.Until(end)))
			h.report(f.reason, p.limit.at)
			time.Sleep(time.Until(end))
			return false
		}
		if p.renew(f, h.fallback) {
			pause = firstPause
		}
		end := p.end()
		wait := max(pause/2+rand.N(pause/2), min(f.retryAfter, longestPause))
		if time.Until(end.giveUp()) <= wait {
			h.giveUp(p, f)
			return false
		}
		if pause == firstPause {
			h.say("%v; retrying for %s", f.err, round(time.Until(end.at)))
		}
		time.Sleep(wait)
	}
}

// giveUp does without an answer.
func (h *hook) giveUp(p *patience, f *failure) {
	end := p.end()
	time.Sleep(time.Until(end.giveUp()))
	h.say("no answer in %s, so requests may fail: %v", round(end.at.Sub(p.began)), f.err)
	by := end.at
	if !f.sent.IsZero() {
		by = p.limit.at // who was reached is told, also where a hold took longer
	}
	h.report(f.reason, by)
	time.Sleep(time.Until(end.at))
}

// dangers are what an operator has to know of an outcome. What to change about it
// is in the service's warnings.
var dangers = map[api.Outcome]string{
	api.SettleCut:   ". Too early, so requests may fail: the load balancers may still send",
	api.BudgetSpent: ". Too early, so requests may fail: the pod may still be in its target groups",
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// ask asks the service once.
func (h *hook) ask(p *patience) (*api.Answer, *failure) {
	ctx, cancel := context.WithDeadline(context.Background(), p.answerBy())
	defer cancel()
	connecting, cancel := context.WithDeadline(ctx, p.connectBy())
	defer cancel()
	conn, err := h.connect(connecting)
	if err != nil {
		return nil, &failure{reason: api.Unreachable, err: fmt.Errorf("cannot reach %s: %w", h.server, err)}
	}
	query := h.whoAndWhat(conn.LocalAddr())
	if h.maxDelay != unlimited {
		// In whole seconds: the service lets equal calls, those of the containers of
		// one pod, share a wait. The half second is for its answer to arrive in.
		left := max(0, time.Until(p.limit.giveUp())-500*time.Millisecond)
		query.Set(api.MaxDelay, strconv.Itoa(int(left.Seconds())))
	}
	return h.exchange(ctx, conn, query)
}

// exchange makes the request and reads what comes of it.
func (h *hook) exchange(ctx context.Context, conn net.Conn, query url.Values) (*api.Answer, *failure) {
	sent := time.Now()
	noAnswer := func(err error) *failure {
		return &failure{reason: api.Broken, sent: sent, err: fmt.Errorf("no answer from %s in %s: %w", h.server, round(time.Since(sent)), err)}
	}
	resp, err := h.do(ctx, conn, http.MethodGet, api.DrainDelayPath, query)
	if err != nil {
		return nil, noAnswer(err)
	}
	defer resp.Body.Close()
	noService := func(err error) *failure {
		return noAnswer(fmt.Errorf("status %d: %w", resp.StatusCode, cmp.Or(err, errors.New("not a drain-wait service"))))
	}
	if resp.StatusCode == http.StatusSwitchingProtocols {
		return nil, noService(nil) // what follows is no answer, and ctx would not end the reading of it
	}
	body := json.NewDecoder(io.LimitReader(resp.Body, 1<<20))
	if resp.StatusCode == http.StatusOK {
		a := new(api.Answer)
		if err := body.Decode(a); err != nil || a.Outcome == "" {
			return nil, noService(err)
		}
		return a, nil
	}
	var refusal api.Failure
	if err := body.Decode(&refusal); err != nil || refusal.Error == "" {
		return nil, noService(err)
	}
	f := &failure{reason: api.Refused, sent: sent, err: fmt.Errorf("%s answered %d: %s%s", h.server, resp.StatusCode, refusal.Message, remarks("", refusal.Warnings))}
	if resp.StatusCode == http.StatusServiceUnavailable {
		s, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16) // 0 where there is none
		f.reason, f.retryAfter, f.budget = api.Unavailable, time.Duration(s)*time.Second, refusal.BudgetSeconds.Duration()
	}
	return nil, f
}

// connect makes a connection of its own for each request. A name is looked up
// anew, and a Service can choose another replica.
func (h *hook) connect(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	return h.dial(ctx, "tcp", net.JoinHostPort(h.server.Hostname(), cmp.Or(h.server.Port(), "80")))
}

// whoAndWhat adds the address of this end of a connection where neither the
// pod's name nor its address is known.
func (h *hook) whoAndWhat(local net.Addr) url.Values {
	query := maps.Clone(h.query)
	if query.Has(api.IP) || query.Has(api.Pod) {
		return query
	}
	// A loopback address means that a proxy in the pod passes the call on.
	if at, err := netip.ParseAddrPort(local.String()); err == nil && at.Addr().IsGlobalUnicast() {
		query.Set(api.IP, at.Addr().Unmap().WithZone("").String())
	}
	return query
}

// do makes a request over a connection, and closes it with the answer's body.
func (h *hook) do(ctx context.Context, conn net.Conn, method, path string, query url.Values) (*http.Response, error) {
	u := h.server.JoinPath(path)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "prestop/"+buildVersion())
	t := &http.Transport{
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return conn, nil },
		DisableKeepAlives: true,
	}
	resp, err := t.RoundTrip(req)
	if err != nil {
		conn.Close() // where the time was over before it was used
	}
	return resp, err
}

// report tells the service that it was done without, if that can be told within
// a second and by end.
func (h *hook) report(reason string, end time.Time) {
	ctx, cancel := context.WithTimeout(context.Background(), min(time.Second, time.Until(end)))
	defer cancel()
	conn, err := h.connect(ctx)
	if err != nil {
		return
	}
	query := url.Values{api.Reason: {reason}}
	for name, v := range h.whoAndWhat(conn.LocalAddr()) {
		if name == api.IP || name == api.Namespace || name == api.Pod {
			query[name] = v
		}
	}
	if resp, err := h.do(ctx, conn, http.MethodPost, api.FallbackPath, query); err == nil {
		resp.Body.Close()
	}
}

// remarks is what else an answer has to say.
func remarks(lastError string, warnings []string) string {
	var out strings.Builder
	if lastError != "" {
		out.WriteString("; last error: " + lastError)
	}
	for _, w := range warnings {
		out.WriteString("; warning: " + w)
	}
	return out.String()
}
