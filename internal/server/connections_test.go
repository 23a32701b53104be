package server

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"drainwait/internal/sim/memnet"
)

// strangers are connections to a server with a bound on them. Requests for /wait last
// until the test is over or the caller hangs up.
type strangers struct {
	*testing.T
	listener *memnet.Listener
	requests chan struct{} // closed when the requests for /wait may end
	closed   chan struct{} // closed when the server has closed a connection
}

// watched is what a server listens on. It notices that the server closes a connection
// whose other end does not read.
type watched struct {
	net.Listener
	onClose func()
}

func (l watched) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return &watchedConn{conn, l.onClose}, err
}

type watchedConn struct {
	net.Conn
	onClose func()
}

func (c *watchedConn) Close() error {
	c.onClose()
	return c.Conn.Close()
}

// withConnections runs f before a server with the bounds of the port for hooks.
func withConnections(t *testing.T, limit int, f func(s *strangers)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &strangers{t, memnet.NewListener(), make(chan struct{}), make(chan struct{})}
		mux := http.NewServeMux()
		mux.HandleFunc("/health", ok)
		mux.HandleFunc("/wait", func(_ http.ResponseWriter, r *http.Request) {
			select {
			case <-s.requests:
			case <-r.Context().Done():
			}
		})
		mux.HandleFunc("/large", func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(make([]byte, 1<<20)) })
		srv := newHTTPServer(mux, limit, 10*time.Second, slog.New(slog.DiscardHandler))
		go func() { _ = srv.Serve(watched{s.listener, sync.OnceFunc(func() { close(s.closed) })}) }()
		defer srv.Close()
		defer close(s.requests)
		f(s)
	})
}

// send makes a connection, and writes text to it.
func (s *strangers) send(text string) *stranger {
	s.Helper()
	conn, err := s.listener.Dial(context.Background(), netip.MustParseAddr("10.0.0.1"))
	if err != nil {
		s.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		s.Fatal(err)
	}
	time.Sleep(time.Millisecond) // idle for as long as no other
	return &stranger{Conn: conn, answers: bufio.NewReader(conn)}
}

const request = " HTTP/1.1\r\nHost: a\r\n\r\n"

// stranger is one connection.
type stranger struct {
	net.Conn
	answers *bufio.Reader
}

// open says whether the server keeps the connection, which has no answer to read.
func (c *stranger) open() bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Millisecond))
	_, err := c.answers.Peek(1)
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func (c *stranger) answered() bool {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	res, err := http.ReadResponse(c.answers, nil)
	if err != nil {
		return false
	}
	body, err := io.ReadAll(res.Body)
	return err == nil && res.StatusCode == http.StatusOK && string(body) == "OK\n"
}

// TestIdleConnectionsMakeRoom: whoever asks is served, however many only connect.
func TestIdleConnectionsMakeRoom(t *testing.T) {
	withConnections(t, 100, func(s *strangers) {
		wait := s.send("GET /wait" + request)
		honest := s.send("GET /health" + request)
		if !honest.answered() {
			t.Fatal("no answer")
		}
		time.Sleep(time.Millisecond)
		slow := s.send("GET /health HTTP/1.1\r\nX-Slow: ") // has no request as long as its headers are not whole
		var idle []*stranger
		for range 10_000 {
			idle = append(idle, s.send(""))
		}
		if honest.open() || slow.open() {
			t.Error("a connection that had no request for longer than 10,000 others is open")
		}
		if open := []bool{idle[0].open(), idle[len(idle)-100].open(), idle[len(idle)-99].open(), idle[len(idle)-1].open()}; open[0] || open[1] || !open[2] || !open[3] {
			t.Errorf("of 100 connections, with one wait, these are open: %v, want the last 99", open)
		}
		if again := s.send("GET /health" + request); !again.answered() {
			t.Error("an honest caller got no answer")
		}
		if !wait.open() {
			t.Error("a wait lost its connection")
		}
	})
}

// TestNoConnectionIsIdle: requests that are carried out go on, and the newest
// connection is closed.
func TestNoConnectionIsIdle(t *testing.T) {
	withConnections(t, 3, func(s *strangers) {
		waits := []*stranger{s.send("GET /wait" + request), s.send("GET /wait" + request), s.send("GET /wait" + request)}
		newest, err := s.listener.Dial(context.Background(), netip.MustParseAddr("10.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := newest.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("the newest reads %v", err)
		}
		for i, c := range waits {
			if !c.open() {
				t.Errorf("wait %d lost its connection", i)
			}
		}
		waits[0].Close()
		time.Sleep(time.Second)
		if next := s.send("GET /health" + request); !next.answered() {
			t.Error("no answer although a connection was closed")
		}
	})
}

// TestSlowStrangers: what does not come, or is not taken, is not waited for.
func TestSlowStrangers(t *testing.T) {
	const chunked = "POST /health HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\na\r\n12345"
	body := func(length int) string {
		return fmt.Sprintf("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n12345", length)
	}
	for name, c := range map[string]struct {
		sends    string
		answered bool
		after    time.Duration
	}{
		"half of the headers":    {"GET /health HTTP/1.1\r\nX-Slow: ", false, 5 * time.Second},
		"nothing":                {"", false, 5 * time.Second},
		"no second request":      {"GET /health" + request, true, time.Minute},
		"an answer is not read":  {"GET /large" + request, false, 10 * time.Second},
		"half of a body":         {body(10), true, 0},
		"half of a chunk":        {chunked, true, 0},
		"no second after a body": {body(5), true, time.Minute},
	} {
		withConnections(t, 0, func(s *strangers) {
			began := time.Now()
			conn := s.send(c.sends)
			if c.answered && !conn.answered() {
				t.Errorf("%s: no answer", name)
			}
			<-s.closed
			if took := time.Since(began); took < c.after-100*time.Millisecond || took > c.after+time.Second {
				t.Errorf("%s: the connection was closed after %s, want %s", name, took, c.after)
			}
		})
	}
}

// outOfFiles is a listener that cannot accept the first connection.
type outOfFiles struct {
	net.Listener
	failed bool
}

func (l *outOfFiles) Accept() (net.Conn, error) {
	if !l.failed {
		l.failed = true
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// TestAcceptErrors: an operator learns that connections are not accepted.
func TestAcceptErrors(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		listener := memnet.NewListener()
		srv := newHTTPServer(http.NotFoundHandler(), 0, time.Second, slog.New(slog.NewTextHandler(&log, nil)))
		go func() { _ = srv.Serve(&outOfFiles{Listener: listener}) }()
		conn, err := listener.Dial(t.Context(), netip.MustParseAddr("10.0.0.1"))
		if err != nil {
			t.Fatal(err)
		}
		conn.Close()
		_ = srv.Close()
		if want := `level=WARN msg="http server failed" error="http: Accept error: accept tcp: too many open files; retrying`; !strings.Contains(log.String(), want) {
			t.Errorf("the log is %q", log.String())
		}
	})
}
