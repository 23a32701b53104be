package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Times between two questions to the service. A pause is drawn between half of
// it and all of it, so that the hooks of a node do not ask in step.
const (
	firstPause   = 400 * time.Millisecond
	longestPause = 4 * time.Second // and the longest Retry-After that is honoured
)

// dialTimeout ends a look-up and a connect that nobody answers.
const dialTimeout = 3 * time.Second

// hook is one run of the client.
type hook struct {
	server             *url.URL
	maxDelay, fallback time.Duration
	query              url.Values // what the service is told in every case
	dial               func(ctx context.Context, network, address string) (net.Conn, error)
	say                func(format string, args ...any)
}

// reply is what is read of the service's answers: of a 200, and of any other.
type reply struct {
	Outcome, LastError string
	Error, Message     string
	Warnings           []string
}

// trouble is why there is no answer. Its reason is one of those that the service
// counts fallbacks by.
type trouble struct {
	reason     string
	retryAfter time.Duration
	err        error
}

const (
	unreachable = "unreachable" // no connection
	broken      = "broken"      // no answer, or none of a drain-wait service
	unavailable = "unavailable" // 503
	refused     = "refused"     // any other status: asking again is of no use
)

// run holds the caller until the pod may stop, for maxDelay at most. It says
// whether the service decided that.
func (h *hook) run() bool {
	began := time.Now()
	end := began.Add(h.maxDelay)
	giveUp := end.Add(-min(time.Second, h.maxDelay/10)) // and then report that
	for pause := firstPause; ; pause = min(2*pause, longestPause) {
		a, t := h.ask(giveUp)
		if t == nil {
			h.say("%s after %s%s", a.Outcome, round(time.Since(began)), a.remarks())
			return true
		}
		if t.reason == refused {
			until := time.Now().Add(min(h.fallback, time.Until(end)))
			h.say("%v; waiting %s in its place", t.err, round(time.Until(until)))
			h.report(t.reason, end)
			time.Sleep(time.Until(until))
			return false
		}
		wait := max(pause/2+rand.N(pause/2), min(t.retryAfter, longestPause))
		if time.Until(giveUp) <= wait {
			time.Sleep(time.Until(giveUp))
			h.say("no answer in %s: %v", h.maxDelay, t.err)
			h.report(t.reason, end)
			time.Sleep(time.Until(end))
			return false
		}
		if pause == firstPause {
			h.say("%v; asking again, until %s are over", t.err, h.maxDelay)
		}
		time.Sleep(wait)
	}
}

func round(d time.Duration) time.Duration { return d.Round(100 * time.Millisecond) }

// ask asks the service once. It returns by giveUp.
func (h *hook) ask(giveUp time.Time) (*reply, *trouble) {
	ctx, cancel := context.WithDeadline(context.Background(), giveUp)
	defer cancel()
	conn, err := h.connect(ctx)
	if err != nil {
		return nil, &trouble{reason: unreachable, err: fmt.Errorf("cannot reach %s: %w", h.server, err)}
	}
	query := h.whoAndWhat(conn.LocalAddr())
	// In whole seconds: the service lets equal calls, those of the containers of
	// one pod, share a wait. The half second is for its answer to arrive in.
	left := max(0, time.Until(giveUp)-500*time.Millisecond)
	query.Set("max-delay", strconv.Itoa(int(left.Seconds())))
	resp, err := h.do(ctx, conn, http.MethodGet, "drain-delay", query)
	if err != nil {
		return nil, &trouble{reason: broken, err: fmt.Errorf("no answer of %s: %w", h.server, err)}
	}
	defer resp.Body.Close()
	a := new(reply)
	if err := json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(a); err != nil || a.Outcome+a.Error == "" {
		err = cmp.Or(err, errors.New("this is no drain-wait service"))
		return nil, &trouble{reason: broken, err: fmt.Errorf("no answer of %s: status %d: %w", h.server, resp.StatusCode, err)}
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return a, nil
	case http.StatusServiceUnavailable:
		s, _ := strconv.ParseUint(resp.Header.Get("Retry-After"), 10, 16) // 0 where there is none
		return nil, &trouble{unavailable, time.Duration(s) * time.Second, fmt.Errorf("%s answers 503: %s", h.server, a.Message)}
	default:
		return nil, &trouble{reason: refused, err: fmt.Errorf("%s answers %d: %s%s", h.server, resp.StatusCode, a.Message, a.remarks())}
	}
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
	if query.Has("ip") || query.Has("pod") {
		return query
	}
	// A loopback address means that a proxy in the pod passes the call on.
	if at, err := netip.ParseAddrPort(local.String()); err == nil && at.Addr().IsGlobalUnicast() {
		query.Set("ip", at.Addr().Unmap().WithZone("").String())
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
	return t.RoundTrip(req)
}

// report tells the service that it was done without, if that can be told within
// a second and by end.
func (h *hook) report(reason string, end time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), end)
	defer cancel()
	ctx, cancel = context.WithTimeout(ctx, time.Second)
	defer cancel()
	conn, err := h.connect(ctx)
	if err != nil {
		return
	}
	query := url.Values{"reason": {reason}}
	for name, v := range h.whoAndWhat(conn.LocalAddr()) {
		if name == "ip" || name == "namespace" || name == "pod" {
			query[name] = v
		}
	}
	if resp, err := h.do(ctx, conn, http.MethodPost, "fallback", query); err == nil {
		resp.Body.Close()
	}
}

// remarks is what else an answer has to say.
func (a *reply) remarks() string {
	var out strings.Builder
	if a.LastError != "" {
		out.WriteString("; last error: " + a.LastError)
	}
	for _, w := range a.Warnings {
		out.WriteString("; warning: " + w)
	}
	return out.String()
}
