package kube

import (
	"net/http"
	"time"
)

// transport leads to the API server. It learns from each answer the time, the age
// of watches, and whether there is a way at all.
type transport struct {
	next http.RoundTripper
	host string
	c    *Client
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	sent := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err != nil {
		// Retries go on behind our back, so the first of them is told and no other.
		if req.Context().Err() == nil && !t.c.lost.Swap(true) {
			t.c.log.Warn("cannot reach the API server: not ready until it answers; still trying", "server", t.host, "error", err)
		}
		return nil, err
	}
	if t.c.lost.Swap(false) {
		t.c.log.Info("the API server answers again", "server", t.host)
	}
	if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
		t.c.Clock.answered(sent, time.Now(), date)
	}
	t.c.ages.opened(req, resp)
	return resp, nil
}

// WrappedRoundTripper lets client-go find the transport below.
func (t *transport) WrappedRoundTripper() http.RoundTripper { return t.next }
