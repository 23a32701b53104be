// Package server is the HTTP face of the service: it reads a hook's parameters, has
// the wait carried out and answers with a status and JSON.
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
	"net/http/pprof"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"drainwait/internal/api"
	"drainwait/internal/drain"
)

// Settings are what an operator may change.
type Settings struct {
	// Quiet is how long the server goes on accepting connections once it shuts down,
	// counted from the last call of a hook: routers learn late that we shut down. It is
	// three times as long at most.
	Quiet time.Duration
	Grace time.Duration // from the beginning of the shutdown until the remaining waits are cut
	// Pprof adds Go's profiles, below /debug/pprof/, to the admin listener. They show
	// names and addresses, and a profile costs time.
	Pprof bool
	// WaitsPerSource is how many waits one source address may hold; equal ones count
	// once. A proxy can hide a whole node behind one address.
	WaitsPerSource int
	// MaxWaits is how many waits there may be in all; 0 means any number. The memory
	// that they need is known; see deploy/deployment.yaml.
	MaxWaits int
}

// DefaultSettings are what the service ships with.
func DefaultSettings() Settings {
	return Settings{Quiet: 10 * time.Second, Grace: 295 * time.Second, WaitsPerSource: 256, MaxWaits: 7000}
}

// Config makes a [Server].
type Config struct {
	Settings
	Drainer *drain.Drainer
	Log     *slog.Logger
	Version string // of the program
	// Metrics is what GET /metrics shows. The server adds its own.
	Metrics *prometheus.Registry
}

// Server answers hooks.
type Server struct {
	cfg      Config
	metrics  *metrics
	sources  *sources
	base     context.Context // its end cuts all waits
	cut      context.CancelCauseFunc
	closing  atomic.Bool
	lastHook atomic.Int64 // when the last hook called, in Unix nanoseconds
	callers  atomic.Int64 // that are held now
	hooks    http.Handler // on the listener for hooks
	admin    http.Handler // on the one for probes, metrics and the contract
}

//go:embed openapi.yaml
var openAPI []byte

// New makes a Server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, sources: newSources(cfg.WaitsPerSource)}
	s.metrics = newMetrics(cfg.Metrics, cfg.Version, &s.callers)
	s.base, s.cut = context.WithCancelCause(context.Background())
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.DrainDelayPath, s.drainDelay)
	mux.HandleFunc("POST "+api.FallbackPath, s.fallback)
	mux.HandleFunc("GET /health", ok)
	s.hooks = mux
	admin := http.NewServeMux()
	admin.HandleFunc("GET /healthz", ok)
	admin.HandleFunc("GET /readyz", s.readyz)
	admin.Handle("GET /metrics", promhttp.HandlerFor(cfg.Metrics, promhttp.HandlerOpts{}))
	admin.HandleFunc("GET /openapi.yaml", func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "application/yaml")
		_, _ = rw.Write(openAPI)
	})
	if cfg.Pprof {
		admin.HandleFunc("GET /debug/pprof/", pprof.Index) // with heap, goroutine and the like
		admin.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		admin.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	s.admin = admin
	return s
}

func ok(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "OK\n") }

func (s *Server) readyz(rw http.ResponseWriter, r *http.Request) {
	err := s.cfg.Drainer.Ready()
	if s.closing.Load() {
		err = errors.New("shutting down")
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	ok(rw, r)
}

// drainDelay is GET /drain-delay: it answers when the pod may stop.
func (s *Server) drainDelay(rw http.ResponseWriter, r *http.Request) {
	s.lastHook.Store(time.Now().UnixNano())
	s.callers.Add(1)
	defer s.callers.Add(-1)
	c := &call{Server: s, log: s.cfg.Log.With("caller", r.RemoteAddr), began: time.Now(), done: func() {}}
	c.carryOut(r)
	c.reply(rw)
}

// call is a hook's call while it is held. It is no local variable: all that stands on the
// stack of a connection for as long as a wait decides whether the stack can shrink.
type call struct {
	*Server
	log     *slog.Logger
	began   time.Time
	request drain.Request
	done    func() // gives back its place among those of its source
	answer  *api.Answer
	err     error
}

// admit reads the request, and sets the error of one that must not wait.
func (c *call) admit(r *http.Request) {
	if limit := c.cfg.MaxWaits; limit > 0 && c.callers.Load() > int64(limit) {
		c.err = fmt.Errorf("%w: this replica holds %d waits; call again, to reach another replica, or raise --max-waits", drain.ErrUnavailable, limit)
		return
	}
	if c.request, c.err = parse(r); c.err != nil {
		return
	}
	c.request.OnWarning = func(warning string) {
		c.log.Warn("wait has a problem", "namespace", c.request.Namespace, "pod", c.request.Pod, "ip", c.request.IP, "problem", warning)
	}
	done, err := c.sources.acquire(c.request.Caller.String(), r.URL.RawQuery)
	if c.err = err; err == nil {
		c.done = done
	}
}

// carryOut waits until the caller hangs up or the server is cut. A panic ends this wait
// alone, with an error.
func (c *call) carryOut(r *http.Request) {
	defer c.leave()
	if c.admit(r); c.err == nil {
		c.answer, c.err = c.cfg.Drainer.Wait(r.Context(), &c.request)
	}
}

func (c *call) leave() {
	if p := recover(); p != nil {
		c.metrics.panics.Inc()
		c.log.Error("wait panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		c.err = errors.New("a bug in the service has ended this wait; its log has the stack")
	}
	c.done()
}

func (c *call) reply(rw http.ResponseWriter) {
	took := time.Since(c.began)
	switch {
	case errors.Is(c.err, context.Canceled):
		c.metrics.countWait("hung_up", took)
		c.log.Info("caller hung up", "waited_seconds", api.InSeconds(took))
	case c.err != nil:
		c.refuse(rw, took)
	default:
		c.accept(rw, took)
	}
}

func (c *call) accept(rw http.ResponseWriter, took time.Duration) {
	a := c.answer
	c.metrics.countWait(string(a.Outcome), took)
	level := slog.LevelInfo
	if a.Outcome == api.SettleCut || a.Outcome == api.BudgetSpent {
		level = slog.LevelWarn
	}
	c.log.Log(context.Background(), level, "wait over", "outcome", a.Outcome, "namespace", a.Namespace, "pod", a.Pod,
		"waited_seconds", a.WaitedSeconds, "budget_seconds", a.BudgetSeconds, "bounded_by", a.BoundedBy,
		"targets", len(a.Targets), "warnings", a.Warnings, "last_error", a.LastError)
	write(rw, http.StatusOK, a)
}

func (c *call) refuse(rw http.ResponseWriter, took time.Duration) {
	status, name := statusOf(c.err)
	c.metrics.countWait(name, took)
	c.log.Warn("wait refused", "status", status, "error", c.err, "warnings", c.request.Warnings)
	if status == http.StatusServiceUnavailable {
		rw.Header().Set("Retry-After", "1")
	}
	f := api.Failure{APIVersion: api.Version, Error: name, Message: c.err.Error(), Warnings: append([]string{}, c.request.Warnings...)}
	if cut, ok := errors.AsType[*drain.CutError](c.err); ok {
		f.BudgetSeconds = api.InSeconds(cut.Budget)
	}
	write(rw, status, f)
}

// fallback is POST /fallback: a hook reports that it went without an answer.
func (s *Server) fallback(rw http.ResponseWriter, r *http.Request) {
	s.lastHook.Store(time.Now().UnixNano())
	query, err := queryOf(r)
	p := parameters{query: query, err: err}
	reason, namespace, pod, ip := p.get(api.Reason), p.name(api.Namespace), p.name(api.Pod), p.address()
	if !slices.Contains(api.Reasons, reason) {
		p.fail(api.Reason, reason, "one of "+strings.Join(api.Reasons, ", "))
	}
	if p.err != nil {
		status, name := statusOf(p.err)
		write(rw, status, api.Failure{APIVersion: api.Version, Error: name, Message: p.err.Error(), Warnings: []string{}})
		return
	}
	s.metrics.fallbacks.WithLabelValues(reason).Inc()
	s.cfg.Log.Warn("hook fell back", "caller", r.RemoteAddr, "reason", reason, "namespace", namespace, "pod", pod, "ip", ip)
	rw.WriteHeader(http.StatusNoContent)
}

// statusOf is the one place where an error becomes a status. The name is the "error"
// of the JSON body.
func statusOf(err error) (status int, name string) {
	_, bad := errors.AsType[*badParameter](err)
	switch {
	case bad:
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
	_ = http.NewResponseController(rw).SetWriteDeadline(time.Now().Add(takeAnswer)) // the one of the request is over after a wait
	rw.Header().Set("Content-Type", "application/json")
	rw.WriteHeader(status)
	enc := json.NewEncoder(rw)
	enc.SetIndent("", "  ")
	_ = enc.Encode(body) // fails only where the caller is gone
}

const (
	// takeAnswer is how long a hook may take to read its answer.
	takeAnswer = 10 * time.Second
	// spareConnections is how many there may be that hold no wait.
	spareConnections = 1000
)

// Serve answers on two listeners until ctx ends. Then it shuts down: it is unready at
// once, accepts new waits until no hook has called for [Settings].Quiet, and cuts
// the waits that are not over at the end of the grace with a 503. It returns when
// there is no wait any more.
func (s *Server) Serve(ctx context.Context, hooks, admin net.Listener) error {
	defer s.cut(nil)
	connections := 0
	if s.cfg.MaxWaits > 0 {
		connections = s.cfg.MaxWaits + spareConnections
	}
	hookServer := newHTTPServer(s.hooks, connections, takeAnswer, s.cfg.Log)
	hookServer.BaseContext = func(net.Listener) context.Context { return s.base }
	adminServer := newHTTPServer(s.admin, spareConnections, 30*time.Second, s.cfg.Log) // a scrape is large
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
	s.lastHook.Store(time.Now().UnixNano()) // the quiet begins now at the earliest
	s.closing.Store(true)
	s.cfg.Log.Info("shutting down", "waits", s.callers.Load())
	s.awaitQuiet(end)
	finish, done := context.WithDeadline(context.Background(), end)
	defer done()
	if hookServer.Shutdown(finish) == nil {
		return nil
	}
	s.cfg.Log.Warn("the shutdown grace is over: cutting the remaining waits", "waits", s.callers.Load())
	s.cut(fmt.Errorf("%w: shutting down; retry", drain.ErrUnavailable))
	finish, done = context.WithTimeout(context.Background(), time.Second)
	defer done()
	return hookServer.Shutdown(finish)
}

// awaitQuiet returns when no hook has called for a while, when it has waited for three
// times as long, or at end.
func (s *Server) awaitQuiet(end time.Time) {
	if longest := time.Now().Add(3 * s.cfg.Quiet); longest.Before(end) {
		end = longest
	}
	for {
		wait := min(time.Until(time.Unix(0, s.lastHook.Load()).Add(s.cfg.Quiet)), time.Until(end))
		if wait <= 0 {
			return
		}
		time.Sleep(wait)
	}
}
