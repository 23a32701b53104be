package kube

import (
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A watch that stands, and on which nothing comes in.
func TestSilentWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const path = "/api/v1/pods"
		c := &Client{ages: ages{last: make(map[string]time.Time)}}
		c.ages.heard(path)
		req, err := http.NewRequest(http.MethodGet, "http://cluster"+path+"?watch=true", nil)
		if err != nil {
			t.Fatal(err)
		}
		api := roundTripper(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader("an event"))}, nil
		})
		watch, err := (&transport{next: api, c: c}).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer watch.Body.Close()
		time.Sleep(maxAge + time.Second)
		if err := c.Ready(); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("ready: %v", err)
		}
		if _, err := watch.Body.Read(make([]byte, 100)); err != nil {
			t.Fatal(err)
		}
		if err := c.Ready(); err != nil {
			t.Errorf("after an event, not ready: %v", err)
		}
	})
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }
