// Package server is the HTTP face of the service: it reads a hook's parameters,
// has the wait carried out and says the result in a status and JSON.
package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"drainwait/internal/drain"
)

// Config makes a [Server].
type Config struct {
	Drainer *drain.Drainer
	Log     *slog.Logger
	// Quiet is how long after the end was asked for the server goes on taking
	// connections, counted from the last new one: those who route to us learn
	// late that we go away.
	Quiet time.Duration
	// Grace is how long after the end was asked for the last wait is cut.
	Grace time.Duration
}

// Server answers hooks.
type Server struct {
	cfg       Config
	closing   atomic.Bool
	lastConn  atomic.Int64 // when the last connection came in, in Unix nanoseconds
	waits     atomic.Int64 // in flight
	handler   http.Handler
	adminFace http.Handler
}

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /drain-delay", s.drainDelay)
	mux.HandleFunc("GET /health", ok)
	s.handler = mux
	admin := http.NewServeMux()
	admin.HandleFunc("GET /healthz", ok)
	admin.HandleFunc("GET /readyz", s.readyz)
	s.adminFace = admin
	return s
}

// Handler answers hooks and GET /health.
func (s *Server) Handler() http.Handler { return s.handler }

// Admin answers the kubelet's probes: GET /healthz and GET /readyz.
func (s *Server) Admin() http.Handler { return s.adminFace }

func ok(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "OK\n") }

func (s *Server) readyz(rw http.ResponseWriter, _ *http.Request) {
	switch {
	case s.closing.Load():
		http.Error(rw, "going away", http.StatusServiceUnavailable)
	case !s.cfg.Drainer.Ready():
		http.Error(rw, "the cluster has not been read yet", http.StatusServiceUnavailable)
	default:
		_, _ = io.WriteString(rw, "OK\n")
	}
}

// drainDelay is GET /drain-delay: it answers when the pod may stop.
func (s *Server) drainDelay(rw http.ResponseWriter, r *http.Request) {
	s.waits.Add(1)
	defer s.waits.Add(-1)
	began := time.Now()
	log := s.cfg.Log.With("caller", r.RemoteAddr)
	req, warnings, err := parse(r)
	var result *drain.Result
	if err == nil {
		result, err = s.cfg.Drainer.Wait(r.Context(), req)
	}
	if errors.Is(err, context.Canceled) {
		log.Info("caller hung up", "waited", time.Since(began))
		return
	}
	if err != nil {
		status, name := statusOf(err)
		log.Warn("wait refused", "status", status, "error", err, "warnings", warnings)
		if status == http.StatusServiceUnavailable {
			rw.Header().Set("Retry-After", "1")
		}
		write(rw, status, failure{APIVersion: apiVersion, Error: name, Message: err.Error(), Warnings: warnings})
		return
	}
	result.Warnings = append(warnings, result.Warnings...)
	log.Info("wait over", "outcome", result.Outcome, "namespace", result.Namespace, "pod", result.Pod,
		"waited", result.Waited, "targets", len(result.Targets), "warnings", result.Warnings)
	write(rw, http.StatusOK, newAnswer(result))
}

// statusOf is the one place where an error becomes a status. The name is the
// "error" of the JSON body.
func statusOf(err error) (status int, name string) {
	var bad *badParameter
	switch {
	case errors.As(err, &bad):
		return http.StatusBadRequest, "bad_request"
	case errors.Is(err, drain.ErrNotFound):
		return http.StatusNotFound, "not_found"
	case errors.Is(err, drain.ErrUnsupported):
		return http.StatusUnprocessableEntity, "unsupported_targets"
	case errors.Is(err, drain.ErrRefused):
		return http.StatusBadGateway, "refused_by_aws"
	case errors.Is(err, drain.ErrUnavailable):
		return http.StatusServiceUnavailable, "unavailable"
	default:
		return http.StatusInternalServerError, "internal"
	}
}

func write(rw http.ResponseWriter, status int, body any) {
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	enc := json.NewEncoder(rw)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) // fails only where the caller is gone
}

// Serve answers on two listeners until ctx ends, and then goes away in good
// order: unready at once, new waits still taken until it has been quiet for a
// while, those in flight carried to their end, and the rest cut with a 503 when
// the grace is over. It returns when no wait is left.
func (s *Server) Serve(ctx context.Context, hooks, admin net.Listener) error {
	base, cut := context.WithCancelCause(context.Background())
	defer cut(nil)
	s.lastConn.Store(time.Now().UnixNano())
	hookServer := &http.Server{
		Handler:           s.handler,
		ReadHeaderTimeout: 5 * time.Second, // and no write timeout: answers are late on purpose
		BaseContext:       func(net.Listener) context.Context { return base },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.lastConn.Store(time.Now().UnixNano())
			}
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	adminServer := &http.Server{Handler: s.adminFace, ReadHeaderTimeout: 5 * time.Second}
	failed := make(chan error, 2)
	go func() { failed <- fmt.Errorf("serve hooks on %s: %w", hooks.Addr(), hookServer.Serve(hooks)) }()
	go func() { failed <- fmt.Errorf("serve admin on %s: %w", admin.Addr(), adminServer.Serve(admin)) }()
	defer adminServer.Close()
	defer hookServer.Close()

	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	end := time.Now().Add(s.cfg.Grace)
	s.closing.Store(true)
	s.cfg.Log.Info("going away", "waits", s.waits.Load())
	s.awaitQuiet(end)
	finish, done := context.WithDeadline(context.Background(), end)
	defer done()
	if hookServer.Shutdown(finish) == nil {
		return nil
	}
	s.cfg.Log.Warn("cutting the waits that are left", "waits", s.waits.Load())
	cut(fmt.Errorf("%w: it goes away and its time is over; ask again", drain.ErrUnavailable))
	finish, done = context.WithTimeout(context.Background(), time.Second)
	defer done()
	return hookServer.Shutdown(finish)
}

// awaitQuiet returns when no connection has come in for a while, or at end.
func (s *Server) awaitQuiet(end time.Time) {
	for {
		quiet := time.Unix(0, s.lastConn.Load()).Add(s.cfg.Quiet)
		if began := end.Add(-s.cfg.Grace).Add(s.cfg.Quiet); quiet.Before(began) {
			quiet = began
		}
		if end.Before(quiet) {
			quiet = end
		}
		wait := time.Until(quiet)
		if wait <= 0 {
			return
		}
		time.Sleep(wait)
	}
}
