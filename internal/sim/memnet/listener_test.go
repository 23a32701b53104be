package memnet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// A hook's caller address, its hang-up and a server that drains: all over a real
// http.Server and a real http.Client in a bubble.
func TestListener(t *testing.T) {
	pod := netip.MustParseAddr("2001:db8::7")
	type answer struct {
		body string
		err  error
		at   time.Duration
	}
	ask := func(l *Listener, ctx context.Context, path string) <-chan answer {
		c, began := make(chan answer, 1), time.Now()
		go func() {
			req, err := http.NewRequestWithContext(ctx, "GET", "http://drain-wait:8080"+path, http.NoBody)
			if err != nil {
				t.Error(err)
			}
			resp, err := l.Client(pod).Do(req)
			if err != nil {
				c <- answer{"", err, time.Since(began)}
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			c <- answer{string(body), err, time.Since(began)}
		}()
		return c
	}
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, l *Listener, srv *http.Server)
		hung int // how many handlers saw their caller hang up
	}{
		{"answered", func(t *testing.T, l *Listener, _ *http.Server) {
			a := <-ask(l, t.Context(), "/")
			if a.err != nil || a.body != "2001:db8::7 drain-wait:8080" || a.at != time.Minute {
				t.Errorf("got %+v", a)
			}
		}, 0},
		{"hang-up", func(t *testing.T, l *Listener, _ *http.Server) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			if a := <-ask(l, ctx, "/"); !errors.Is(a.err, context.DeadlineExceeded) || a.at != time.Second {
				t.Errorf("got %+v", a)
			}
		}, 1},
		{"shutdown", func(t *testing.T, l *Listener, srv *http.Server) {
			early := ask(l, t.Context(), "/")
			time.Sleep(time.Second)
			began := time.Now()
			if err := srv.Shutdown(t.Context()); err != nil {
				t.Error(err)
			}
			if d := time.Since(began); d < 59*time.Second || d > 61*time.Second {
				t.Errorf("the server shut down after %v, want the end of its last request", d)
			}
			if a := <-early; a.err != nil || a.at != time.Minute {
				t.Errorf("a request in flight at the shutdown: %+v", a)
			}
			if a := <-ask(l, t.Context(), "/"); !errors.Is(a.err, syscall.ECONNREFUSED) {
				t.Errorf("a request after the shutdown: %+v, want a refused connection", a)
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				hung := 0
				l := NewListener()
				srv := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
					select {
					case <-time.After(time.Minute):
						from := netip.MustParseAddrPort(r.RemoteAddr)
						fmt.Fprint(rw, from.Addr(), " ", r.Host)
					case <-r.Context().Done():
						hung++
					}
				})}
				served := make(chan error)
				go func() { served <- srv.Serve(l) }()
				tt.run(t, l, srv)
				synctest.Wait()
				if hung != tt.hung {
					t.Errorf("%d handlers saw a hang-up, want %d", hung, tt.hung)
				}
				_ = srv.Close()
				if err := <-served; !errors.Is(err, http.ErrServerClosed) {
					t.Error(err)
				}
			})
		})
	}
}
