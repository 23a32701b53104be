// Package server is the HTTP face of the service: it reads a hook's parameters,
// has the wait carried out and says the result in a status and JSON.
package server

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

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
	// WaitsPerSource is how many waits one source address may hold; equal ones
	// count once, and 0 means any number. A proxy can put a whole node behind
	// one address.
	WaitsPerSource int
	Metrics        *Metrics
	// Gatherer is what GET /metrics shows.
	Gatherer prometheus.Gatherer
}

// Server answers hooks.
type Server struct {
	cfg      Config
	waits    *shared
	base     context.Context // of all waits; its end cuts them
	cut      context.CancelCauseFunc
	closing  atomic.Bool
	lastConn atomic.Int64 // when the last connection came in, in Unix nanoseconds
	callers  atomic.Int64 // who are held now
	hooks    http.Handler // on the listener for hooks
	admin    http.Handler // on the one for probes, metrics and the contract
}

//go:embed openapi.yaml
var openAPI []byte

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, waits: newShared(cfg.WaitsPerSource, cfg.Drainer.Wait)}
	s.base, s.cut = context.WithCancelCause(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET /drain-delay", s.drainDelay)
	mux.HandleFunc("POST /fallback", s.fallback)
	mux.HandleFunc("GET /health", ok)
	s.hooks = mux
	admin := http.NewServeMux()
	admin.HandleFunc("GET /healthz", ok)
	admin.HandleFunc("GET /readyz", s.readyz)
	admin.Handle("GET /metrics", promhttp.HandlerFor(cfg.Gatherer, promhttp.HandlerOpts{}))
	admin.HandleFunc("GET /openapi.yaml", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/yaml")
		_, _ = rw.Write(openAPI)
	})
	s.admin = admin
	return s
}

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
	s.callers.Add(1)
	s.cfg.Metrics.inFlight.Inc()
	defer s.callers.Add(-1)
	defer s.cfg.Metrics.inFlight.Dec()
	began := time.Now()
	log := s.cfg.Log.With("caller", r.RemoteAddr)
	req, warnings, err := parse(r)
	var result *drain.Result
	if err == nil {
		result, err = s.waits.do(r.Context(), s.base, keyOf(r), req)
	}
	took := time.Since(began)
	if errors.Is(err, context.Canceled) {
		s.cfg.Metrics.over("hung_up", took)
		log.Info("caller hung up", "waited_seconds", toSeconds(took))
		return
	}
	if err != nil {
		status, name := statusOf(err)
		s.cfg.Metrics.over(name, took)
		log.Warn("wait refused", "status", status, "error", err, "warnings", warnings)
		if status == http.StatusServiceUnavailable {
			rw.Header().Set("Retry-After", "1")
		}
		write(rw, status, Failure{APIVersion: apiVersion, Error: name, Message: err.Error(), Warnings: append([]string{}, warnings...)})
		return
	}
	s.cfg.Metrics.over(string(result.Outcome), took)
	a := NewAnswer(result, took, warnings)
	log.Info("wait over", "outcome", a.Outcome, "namespace", a.Namespace, "pod", a.Pod,
		"waited_seconds", a.WaitedSeconds, "targets", len(a.Targets), "warnings", a.Warnings, "last_error", a.LastError)
	write(rw, http.StatusOK, a)
}

// fallback is POST /fallback: a hook tells that it has done without an answer.
func (s *Server) fallback(rw http.ResponseWriter, r *http.Request) {
	f, err := parseFallback(r.URL.Query())
	if err != nil {
		status, name := statusOf(err)
		write(rw, status, Failure{APIVersion: apiVersion, Error: name, Message: err.Error(), Warnings: []string{}})
		return
	}
	s.cfg.Metrics.fallbacks.WithLabelValues(f.reason).Inc()
	s.cfg.Log.Warn("hook fell back", "caller", r.RemoteAddr, "reason", f.reason, "namespace", f.namespace, "pod", f.pod, "ip", f.ip)
	rw.WriteHeader(http.StatusNoContent)
}

// keyOf is what makes two calls equal.
func keyOf(r *http.Request) flightKey {
	source, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		source = r.RemoteAddr
	}
	return flightKey{source, r.URL.Query().Encode()}
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
	case errors.Is(err, errTooMany):
		return http.StatusTooManyRequests, "too_many_waits"
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
	defer s.cut(nil)
	s.lastConn.Store(time.Now().UnixNano())
	hookServer := &http.Server{
		Handler:           s.hooks,
		ReadHeaderTimeout: 5 * time.Second, // and no write timeout: answers are late on purpose
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.lastConn.Store(time.Now().UnixNano())
			}
		},
		ErrorLog: slog.NewLogLogger(s.cfg.Log.Handler(), slog.LevelDebug),
	}
	adminServer := &http.Server{Handler: s.admin, ReadHeaderTimeout: 5 * time.Second}
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
	s.cfg.Log.Info("going away", "waits", s.callers.Load())
	s.awaitQuiet(end)
	finish, done := context.WithDeadline(context.Background(), end)
	defer done()
	if hookServer.Shutdown(finish) == nil {
		return nil
	}
	s.cfg.Log.Warn("cutting the waits that are left", "waits", s.callers.Load())
	s.cut(fmt.Errorf("%w: it goes away and its time is over; ask again", drain.ErrUnavailable))
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
