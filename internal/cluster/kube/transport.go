package kube

import (
	"net/http"
	"time"
)

// transport leads to the API server. It learns from each answer the time, the age
// of watches, and whether there is a way at all, and keeps watches apart that fail.
type transport struct {
	next http.RoundTripper
	host string
	c    *Client
}

// RoundTrip implements [http.RoundTripper].
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := t.paced(req)
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
	return resp, nil
}

// paced sends a request, a watch when its time has come.
func (t *transport) paced(req *http.Request) (*http.Response, error) {
	what := watched(req)
	if what != "" {
		t.c.pacer.await(req.Context(), what)
	}
	sent := time.Now()
	resp, err := t.next.RoundTrip(req)
	if err == nil {
		if date, err := http.ParseTime(resp.Header.Get("Date")); err == nil {
			t.c.Clock.answered(sent, time.Now(), date)
		}
	}
	switch {
	case what == "":
	case err != nil || resp.StatusCode != http.StatusOK:
		t.c.pacer.ended(what, sent)
	default:
		resp.Body = t.c.listen(resp.Body, what, t.c.ages.expected(req), sent)
	}
	return resp, err
}
