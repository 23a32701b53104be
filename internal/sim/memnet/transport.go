// Package memnet joins HTTP clients and servers in memory, without sockets: in a
// synctest bubble, sockets would keep the clock from moving.
package memnet

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Transport gives requests to h without a network, in the caller's synctest bubble if
// there is one. As over a network, the response is there as soon as h flushes, and its
// body ends with the request's context.
func Transport(h http.Handler) http.RoundTripper { return transport{h} }

type transport struct{ handler http.Handler }

// RoundTrip implements [http.RoundTripper].
func (t transport) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancel(req.Context())
	pr, pw := io.Pipe()
	rw := &responseWriter{header: make(http.Header), pipe: pw, started: make(chan struct{})}
	go func() {
		// Reads and writes of a pipe know no context.
		stop := context.AfterFunc(ctx, func() { _ = pw.CloseWithError(ctx.Err()) })
		r := serverRequest(ctx, req)
		t.handler.ServeHTTP(rw, r)
		_ = r.Body.Close()
		rw.start()
		stop()
		_ = pw.Close()
		cancel()
	}()
	select {
	case <-rw.started:
	case <-req.Context().Done(): // not ctx: that ends with the handler
		return nil, req.Context().Err()
	}
	return &http.Response{
		Status:        fmt.Sprintf("%d %s", rw.status, http.StatusText(rw.status)),
		StatusCode:    rw.status,
		Proto:         "HTTP/1.1",
		ProtoMajor:    1,
		ProtoMinor:    1,
		Header:        rw.sent,
		Body:          &responseBody{pr, cancel},
		ContentLength: -1,
		Request:       req,
	}, nil
}

// serverRequest turns a client's request into what a server sees of it.
func serverRequest(ctx context.Context, req *http.Request) *http.Request {
	r := req.Clone(ctx)
	if r.Body == nil {
		r.Body = http.NoBody
	}
	if r.Host == "" {
		r.Host = r.URL.Host
	}
	r.RequestURI = r.URL.RequestURI()
	r.URL.Scheme, r.URL.Host, r.URL.User = "", "", nil
	r.Proto, r.ProtoMajor, r.ProtoMinor = "HTTP/1.1", 1, 1
	r.RemoteAddr = "192.0.2.1:1234"
	return r
}

// responseWriter is used by the handler's goroutine only. The caller reads
// status and sent after started.
type responseWriter struct {
	header  http.Header
	pipe    *io.PipeWriter
	status  int
	sent    http.Header // header as it was at WriteHeader
	started chan struct{}
	once    sync.Once
}

func (rw *responseWriter) Header() http.Header { return rw.header }

func (rw *responseWriter) WriteHeader(status int) {
	if rw.status == 0 {
		rw.status, rw.sent = status, rw.header.Clone()
	}
}

func (rw *responseWriter) Write(p []byte) (int, error) {
	rw.start()
	if len(p) == 0 {
		return 0, nil // a pipe would wait for somebody to read nothing
	}
	return rw.pipe.Write(p)
}

// Flush implements [http.Flusher].
func (rw *responseWriter) Flush() { rw.start() }

// start lets RoundTrip return.
func (rw *responseWriter) start() {
	rw.WriteHeader(http.StatusOK)
	rw.once.Do(func() { close(rw.started) })
}

// responseBody ends the request when it is closed.
type responseBody struct {
	*io.PipeReader
	cancel context.CancelFunc
}

func (b *responseBody) Close() error {
	b.cancel()
	return b.PipeReader.Close()
}
