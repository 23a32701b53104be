// Package drain decides when a pod may stop, from what the cluster knows of the pod
// and what ELBv2 shows of its targets.
package drain

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drainwait/internal/api"
	"drainwait/internal/cluster"
	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

// Config sets what a wait goes by.
type Config struct {
	// SettleALB and SettleNLB are the settle times: how long after a target has
	// left its group in the API the load balancer may still send it new
	// requests (ALB) or new connections (NLB). AWS publishes no figure; users
	// measured up to 18 s and about 120 s.
	SettleALB, SettleNLB time.Duration
	verdict.Limits
	// TerminationCheck is how long a wait believes that its pod is about to be
	// deleted. After that it asks the API server itself.
	TerminationCheck time.Duration
}

// DefaultConfig is what the service ships with.
func DefaultConfig() Config {
	return Config{
		SettleALB:        20 * time.Second,
		SettleNLB:        120 * time.Second,
		Limits:           verdict.Limits{MaxDelay: 60 * time.Second, Reserve: 5 * time.Second, OneLook: time.Second},
		TerminationCheck: 5 * time.Second,
	}
}

// Request is one call of a preStop hook.
type Request struct {
	cluster.PodRef // IP or Pod, or both
	// Forwarded says that the call came through a proxy, whose address is that of
	// Caller.
	Forwarded bool
	// Ingresses are Ingresses of the namespace whose load balancers count. They
	// add to what is found otherwise and never narrow it.
	Ingresses []string
	// MaxDelay is the longest that the caller will wait; nil if it does not say.
	MaxDelay *time.Duration
	// Settle overrides the settle time; nil for the default by type.
	Settle *time.Duration
	// Warnings are those of the caller's parameters.
	Warnings []string
	// OnStep and OnWarning, which may be nil, are called with each step of a target
	// and each warning as it comes. They must not block.
	OnStep    func(targetGroupARN string, s api.StepAnswer)
	OnWarning func(warning string)
}

// Errors of a wait that cannot be carried out. The caller takes its own
// fallback; they come within two seconds of the request or never.
var (
	ErrNotFound    = errors.New("not found")           // neither a pod nor a target group is known for the address
	ErrRefused     = errors.New("refused by AWS")      // AWS does not show a target group
	ErrUnsupported = errors.New("unsupported targets") // the pod is behind targets that cannot be seen to leave
	ErrUnavailable = errors.New("service unavailable") // the cluster is not read, or the service shuts down
)

// CutError is the error of a wait whose context ended: its caller hung up, or the
// service had to give it up.
type CutError struct {
	Budget time.Duration // how long the wait could have taken, from the request on
	error                // the cause of the context's end
}

// Unwrap gives access to the cause.
func (e *CutError) Unwrap() error { return e.error }

// Drainer carries out waits.
type Drainer struct {
	cfg     Config
	cluster *cluster.Index
	elb     *elb.Watcher
	log     *slog.Logger
	denied  prometheus.Gauge // accounts and Regions of which AWS refuses to show anything
	// turns has room for as many turns of waits as can make progress side by side: each
	// has a deep stack.
	turns chan struct{}
}

// New makes a Drainer, which is for concurrent use, and registers its metric with
// reg unless that is nil.
func New(cfg Config, c *cluster.Index, e *elb.Watcher, log *slog.Logger, reg prometheus.Registerer) *Drainer {
	denied := promauto.With(reg).NewGauge(prometheus.GaugeOpts{
		Name: "drain_wait_aws_accounts_denied", Help: "Accounts and Regions in which AWS has refused our first call, so that no wait can succeed there.",
	})
	return &Drainer{cfg: cfg, cluster: c, elb: e, log: log, denied: denied, turns: make(chan struct{}, runtime.GOMAXPROCS(0))}
}

// Ready says why waits cannot be carried out now with caches that can be trusted; nil
// if they can.
func (d *Drainer) Ready() error { return d.cluster.Ready() }

// Wait blocks until the targets of the pod that r names are drained, another outcome
// is certain, or ctx ends; then the error is a [CutError]. It never takes longer than
// the budget.
func (d *Drainer) Wait(ctx context.Context, r *Request) (*api.Answer, error) {
	if !d.cluster.Synced() {
		return nil, fmt.Errorf("%w: the cluster has not been read yet", ErrUnavailable)
	}
	return newWait(ctx, d, r).run()
}
