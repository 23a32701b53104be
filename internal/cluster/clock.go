package cluster

import (
	"net/http"
	"sync"
	"time"
)

// clock learns from the Date header of each answer how far the API server's
// clock is from ours. The header counts in whole seconds, so one answer only
// gives bounds; several narrow them.
type clock struct {
	mu sync.Mutex // guards the rest
	// least and most are the bounds of the API server's time less ours.
	least, most time.Duration
	known       bool
}

// Skew is the API server's clock less ours: zero where what was seen allows for
// it, else the least that it can be.
func (x *Index) Skew() time.Duration { return x.clock.skew() }

func (c *clock) skew() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return max(c.least, min(c.most, 0))
}

// answered takes in that an answer to a request of sent arrived at received: in
// between, the API server's clock showed date or a part of a second more. What
// contradicts the bounds so far replaces them: a clock was set or has drifted.
func (c *clock) answered(sent, received, date time.Time) {
	// By the wall clock, as date is. A monotonic one would hide that ours was set.
	least, most := date.Sub(received.Round(0)), date.Add(time.Second).Sub(sent.Round(0))
	if least > most {
		return // our clock was set in between
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.known || max(c.least, least) > min(c.most, most) {
		c.least, c.most, c.known = least, most, true
		return
	}
	c.least, c.most = max(c.least, least), min(c.most, most)
}

// wrap makes next, which leads to the API server, tell the time.
func (c *clock) wrap(next http.RoundTripper) http.RoundTripper { return &timed{next, c} }

type timed struct {
	next  http.RoundTripper
	clock *clock
}

// RoundTrip implements [http.RoundTripper].
func (t *timed) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.clock.answered(sent, time.Now(), date)
	}
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *timed) WrappedRoundTripper() http.RoundTripper { return t.next }
