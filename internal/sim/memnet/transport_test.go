package memnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestTransport(t *testing.T) {
	h := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		rw.Header().Set("X-Test", "1")
		rw.WriteHeader(http.StatusTeapot)
		rw.Header().Set("X-Late", "1")
		fmt.Fprintf(rw, "%s %s %s %s %q %v", r.Method, r.RequestURI, r.Host, r.RemoteAddr, body, err)
	})
	req, err := http.NewRequestWithContext(t.Context(), "POST", "http://example:80/a%2Fb?c=d", strings.NewReader("hello"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`POST /a%2Fb?c=d example:80 192.0.2.1:1234 "hello" <nil>`,
		`POST /a%2Fb?c=d example:80 192.0.2.1:1234 "" <nil>`,
	} {
		resp, err := Transport(h).RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if err != nil || string(body) != want {
			t.Errorf("body is %q, %v, want %q", body, err, want)
		}
		if resp.Status != "418 I'm a teapot" || resp.Header.Get("X-Test") != "1" || resp.Header.Get("X-Late") != "" {
			t.Errorf("response is %s with %v", resp.Status, resp.Header)
		}
		req.Body = nil
	}
}

func TestTransportOfEmptyResponse(t *testing.T) {
	h := http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})
	req, cancel := newRequest(t)
	defer cancel()
	resp, err := Transport(h).RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) != 0 || resp.StatusCode != http.StatusOK {
		t.Fatalf("got %s %q, %v", resp.Status, body, err)
	}
}

func TestTransportStream(t *testing.T) {
	var ended atomic.Int32
	stream := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		defer ended.Add(1)
		_ = http.NewResponseController(rw).Flush()
		_, _ = io.WriteString(rw, "one")
		<-r.Context().Done()
		_, _ = io.WriteString(rw, "two")
	})
	silent := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	buf := make([]byte, 10)

	for name, end := range map[string]func(*http.Response, context.CancelFunc) error{
		"close":  func(r *http.Response, _ context.CancelFunc) error { return r.Body.Close() },
		"cancel": func(_ *http.Response, cancel context.CancelFunc) error { cancel(); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				req, cancel := newRequest(t)
				defer cancel()
				resp, err := Transport(stream).RoundTrip(req)
				if err != nil {
					t.Fatal(err)
				}
				if n, err := resp.Body.Read(buf); err != nil || string(buf[:n]) != "one" {
					t.Errorf("read %q, %v", buf[:n], err)
				}
				if err := end(resp, cancel); err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if ended.Swap(0) != 1 {
					t.Error("the handler still runs")
				}
				if n, err := resp.Body.Read(buf); err == nil {
					t.Errorf("read %q after the end", buf[:n])
				}
			})
		})
	}
	t.Run("never answered", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			req, cancel := newRequest(t)
			go func() {
				synctest.Wait()
				cancel()
			}()
			if _, err := Transport(silent).RoundTrip(req); !errors.Is(err, context.Canceled) {
				t.Errorf("got %v, want a canceled context", err)
			}
		})
	})
}

func newRequest(t *testing.T) (*http.Request, context.CancelFunc) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	req, err := http.NewRequestWithContext(ctx, "GET", "http://example/", nil)
	if err != nil {
		t.Fatal(err)
	}
	return req, cancel
}
