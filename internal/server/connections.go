package server

import (
	"bytes"
	"container/list"
	"log"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// newHTTPServer makes a server for a port that anyone can reach: what a connection may
// cost has a bound. Callers have as long as taking to read their answer, counted from
// their request. An answer that is late on purpose sets a new deadline.
func newHTTPServer(h http.Handler, connections int, taking time.Duration, logger *slog.Logger) *http.Server {
	return &http.Server{
		Handler:           withoutBodies(h),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
		WriteTimeout:      taking,
		MaxHeaderBytes:    16 << 10,
		ConnState:         newConnections(connections).track,
		ErrorLog:          log.New(serverErrors{logger}, "", 0),
	}
}

// withoutBodies takes of a request's body only what has come with its headers. No call
// needs one, but net/http would wait for it before it answers.
func withoutBodies(h http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.ContentLength != 0 {
			_ = http.NewResponseController(rw).SetReadDeadline(time.Now())
		}
		h.ServeHTTP(rw, r)
	})
}

// serverErrors logs what goes wrong in a server, such as no file descriptor for a new
// connection. The text names addresses, so it is no message.
type serverErrors struct{ log *slog.Logger }

// Write implements [io.Writer].
func (e serverErrors) Write(text []byte) (int, error) {
	e.log.Warn("http server failed", "error", string(bytes.TrimSpace(text)))
	return len(text), nil
}

// connections bounds how many connections a server has. If there is one too many, the
// one that has had no running request for the longest time makes room; where every
// other has one, that is the newest.
type connections struct {
	limit int // 0 for any number

	mu   sync.Mutex                 // guards what follows; held for a moment only
	all  map[net.Conn]*list.Element // its place in idle; nil while a request runs
	idle *list.List                 // of net.Conn, the longest idle first
}

func newConnections(limit int) *connections {
	return &connections{limit: limit, all: make(map[net.Conn]*list.Element), idle: list.New()}
}

// track is for ConnState of [http.Server].
func (c *connections) track(conn net.Conn, state http.ConnState) {
	if c.limit == 0 {
		return
	}
	if surplus := c.update(conn, state); surplus != nil {
		_ = surplus.Close() // its goroutine notices, and tells us
	}
}

// update takes in a connection's state. Only a new connection can be one too many.
func (c *connections) update(conn net.Conn, state http.ConnState) (surplus net.Conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if place := c.all[conn]; place != nil {
		c.idle.Remove(place)
	}
	switch state {
	case http.StateNew, http.StateIdle:
		c.all[conn] = c.idle.PushBack(conn)
	case http.StateActive:
		c.all[conn] = nil
	default:
		delete(c.all, conn)
	}
	if state != http.StateNew || len(c.all) <= c.limit {
		return nil
	}
	first := c.idle.Front()
	c.idle.Remove(first)
	surplus = first.Value.(net.Conn)
	c.all[surplus] = nil
	return surplus
}
