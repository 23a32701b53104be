package elb

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"drainwait/internal/elb/limiter"
)

// Config sets the pace of a [Watcher].
type Config struct {
	Rate  float64 // most requests per second to ELBv2
	Burst int     // most of them at once
	// Shared says that other replicas draw on the same Rate and Burst. Then the Watcher
	// begins with none of the Burst, and with a small share until [Watcher.SetShare].
	Shared bool
	// Steady is the time between two looks at a group whose controller has finished
	// its last change; twice that once all subscribers have seen their targets leave.
	// Busy is the time while the controller makes a change or nothing is known.
	Steady, Busy time.Duration
	// Spacing is the least time between two looks at one group. The looks that the
	// checkpoint asks for are counted apart, and so are those that confirm, which
	// may be five times as frequent.
	Spacing time.Duration
	Timeout time.Duration // ends a request that gets no answer
}

// DefaultConfig is the pace that the service ships with: half of the smallest
// documented bucket of Describe* calls (10/s), which the AWS Load Balancer
// Controller shares.
func DefaultConfig() Config {
	return Config{
		Rate:    5,
		Burst:   10,
		Steady:  5 * time.Second,
		Busy:    time.Second,
		Spacing: 500 * time.Millisecond,
		Timeout: 3 * time.Second,
	}
}

// Watcher looks at target groups for as long as somebody subscribes to them, and
// answers questions about them.
type Watcher struct {
	cfg     Config
	client  func(Group) API
	log     *slog.Logger
	limit   *limiter.Limiter
	ctx     context.Context // of all requests: they never run under a caller's
	cancel  context.CancelFunc
	running sync.WaitGroup

	calls     *prometheus.CounterVec
	throttles prometheus.Counter

	// mu guards what follows, with all that is in it, and is never held across a
	// call or a wait. Lock order: Watcher.mu, then the limiter's.
	mu          sync.Mutex
	pollers     map[Group]*poller
	checkpoints map[string]checkpoint // the last one heard, by group ARN
	requests    map[question]*request
	said        map[[3]string]time.Time // when each failure was last logged
}

// checkpoint is what the controller wrote last, and when we heard of it and of
// its last hash.
type checkpoint struct {
	value           string
	changed, hashed time.Time
}

// awaits says whether the controller has yet to deal with what happened at t: it has
// not begun, or it began after t and has not finished. See [Plan].DeletionSeen.
func (c checkpoint) awaits(t time.Time) bool {
	return !t.IsZero() && c.changed.Before(t) == (c.value != "")
}

// New makes a Watcher, and registers its metrics with reg unless that is nil.
// client returns the client for a group's Region and role and must not block. log gets
// the texts of AWS' errors, which no error of this package has in it.
func New(cfg Config, client func(Group) API, log *slog.Logger, reg prometheus.Registerer) *Watcher {
	ctx, cancel := context.WithCancel(context.Background())
	w := &Watcher{
		cfg:         cfg,
		client:      client,
		log:         log,
		limit:       limiter.New(cfg.Rate, float64(cfg.Burst)),
		ctx:         ctx,
		cancel:      cancel,
		pollers:     make(map[Group]*poller),
		checkpoints: make(map[string]checkpoint),
		requests:    make(map[question]*request),
		said:        make(map[[3]string]time.Time),
	}
	if cfg.Shared {
		w.limit.Resize(cfg.Rate, 0) // the others may have the burst
		w.SetShare(unknownReplicas)
	}
	auto := promauto.With(reg) // no metric carries the name of a target group: there are too many
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_pollers", Help: "Target groups that are watched now.",
	}, func() float64 { return float64(w.Pollers()) })
	auto.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "drain_wait_aws_rate_budget", Help: "Requests per second to AWS that are allowed now: less than configured while AWS throttles, and shared by the replicas.",
	}, w.Rate)
	w.calls = auto.NewCounterVec(prometheus.CounterOpts{
		Name: "drain_wait_aws_calls_total", Help: "Calls to AWS, by operation and error code (OK for none).",
	}, []string{"operation", "code"})
	w.throttles = auto.NewCounter(prometheus.CounterOpts{
		Name: "drain_wait_aws_throttled_total", Help: "Calls that AWS turned away for their rate.",
	})
	return w
}

// Close stops all pollers and requests and waits for their end. Whoever still waits
// for one of them gets [ErrClosed].
func (w *Watcher) Close() {
	w.mu.Lock() // nothing is started any more
	w.cancel()
	for _, r := range w.requests {
		r.wakeAll()
	}
	for _, p := range w.pollers {
		p.err = ErrClosed
		for s := range p.subs {
			wakeUp(s.wake)
		}
	}
	w.mu.Unlock()
	w.running.Wait()
}

// unknownReplicas is how many replicas a Watcher assumes that does not know: the two that
// we ship, and the new one of a rollout.
const unknownReplicas = 3

// SetShare divides the configured rate and burst by the number of replicas that
// draw on the same AWS account; a number below 1 counts as 1. With more replicas than
// Burst, each still gets a burst of 1: it could send nothing with less.
func (w *Watcher) SetShare(replicas int) {
	n := float64(max(1, replicas))
	w.limit.Resize(w.cfg.Rate/n, max(1, float64(w.cfg.Burst)/n))
}

// Rate is how many requests per second to ELBv2 are allowed now: this replica's
// share, or less if AWS has throttled us lately.
func (w *Watcher) Rate() float64 { return w.limit.Rate() }

// Pollers is the number of groups that are watched now.
func (w *Watcher) Pollers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pollers)
}

// Plan is what a subscriber wants of the looks at its group.
type Plan struct {
	// ConfirmAt is when the look that confirms is due, at the end of the settle
	// time; zero while the target has not left, and once that is confirmed.
	ConfirmAt time.Time
	// Latest is the last moment at which the look that the subscriber waits for is
	// of use to it: to see its target leave, the end of its budget less the settle
	// time; to confirm that, the end of its budget. If it is zero or past, its looks
	// give way to all that others wait for.
	Latest time.Time
	// DeletionSeen is when our watch first saw that the pod is being deleted, or
	// zero. While the group's checkpoint is a hash from before that, the controller
	// has not acted on it: the first look may wait for the next checkpoint, and
	// gives way to others after a second.
	DeletionSeen time.Time
	Done         bool // no more looks are needed; it counts as settling
}

// settling says whether the subscriber has seen its target leave.
func (p Plan) settling() bool { return p.Done || !p.ConfirmAt.IsZero() }

// confirmBy is when a look that confirms should begin, or forever if it is of no use
// any more: after a third of the time that it has. If it always let others go first,
// then in a crowd looks would be spent on seeing targets leave that no look could
// confirm any more: of 240 groups that want two looks each, with 310 looks to be
// had, 119 were confirmed so, and 138 as it is.
func (p Plan) confirmBy(now time.Time) time.Time {
	if !p.Latest.After(now) {
		return forever
	}
	return p.ConfirmAt.Add(p.Latest.Sub(p.ConfirmAt) / 3)
}

// Subscription is one waiter's share in a group's poller. Watcher.mu guards addrs
// and plan.
type Subscription struct {
	p      *poller
	wake   chan<- struct{}
	joined time.Time

	addrs []netip.Addr
	plan  Plan
}

// Subscribe watches a group, named by its ARN, until the subscription is closed.
// addrs are the addresses that the subscriber cares for.
//
// wake gets a token, without blocking, after a look that changed the targets at one
// of addrs, after the first look that began after the subscription, after one that
// [Plan].ConfirmAt asked for, when looks begin to fail (at once if they already do)
// or to succeed again, and when they fail for good instead of for now or the other
// way round. A channel with a buffer of one, which several subscriptions may share,
// loses nothing.
func (w *Watcher) Subscribe(g Group, addrs []netip.Addr, plan Plan, wake chan<- struct{}) *Subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pollers[g]
	if p == nil {
		p = w.newPoller(g)
	}
	s := &Subscription{p: p, wake: wake, joined: time.Now(), addrs: slices.Clone(addrs), plan: plan}
	p.subs[s] = struct{}{}
	if p.err != nil {
		wakeUp(wake)
	}
	wakeUp(p.kick)
	return s
}

// newPoller makes and starts the poller of a group; call it with mu held.
func (w *Watcher) newPoller(g Group) *poller {
	p := &poller{
		w: w, group: g, born: time.Now(),
		kick: make(chan struct{}, 1), subs: make(map[*Subscription]struct{}),
	}
	p.ctx, p.stop = context.WithCancel(w.ctx)
	if r := w.requests[question{group: g, look: true}]; r != nil && r.known(forever) {
		p.err, p.retry = r.err, r.until
	}
	w.pollers[g] = p
	if w.ctx.Err() != nil {
		p.err = ErrClosed
	} else {
		w.running.Go(p.run)
	}
	return p
}

// Close ends the subscription. The last one to close ends the poller, and with
// it a call that is under way.
func (s *Subscription) Close() {
	p := s.p
	p.w.mu.Lock()
	defer p.w.mu.Unlock()
	delete(p.subs, s)
	if len(p.subs) == 0 && p.w.pollers[p.group] == p {
		delete(p.w.pollers, p.group)
		p.stop()
	}
}

// Latest is the newest look, or nil, and the error of the tries since, or nil.
func (s *Subscription) Latest() (*Look, error) {
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	return s.p.look, s.p.err
}

// Update changes what the subscriber cares for and wants; if nothing changes, it
// costs next to nothing. wake gets a token if the newest look already serves a new
// ConfirmAt, or if the addresses change.
func (s *Subscription) Update(addrs []netip.Addr, plan Plan) {
	s.p.w.mu.Lock()
	defer s.p.w.mu.Unlock()
	moved := !slices.Equal(s.addrs, addrs)
	if !moved && s.plan == plan {
		return
	}
	if moved || !plan.ConfirmAt.IsZero() && plan.ConfirmAt != s.plan.ConfirmAt && !s.p.lacks(plan.ConfirmAt) {
		wakeUp(s.wake)
	}
	s.addrs, s.plan = slices.Clone(addrs), plan
	wakeUp(s.p.kick)
}

// wakeUp puts a token into a channel unless there is one.
func wakeUp(wake chan<- struct{}) {
	select {
	case wake <- struct{}{}:
	default:
	}
}

// Checkpoint tells what the AWS Load Balancer Controller last wrote as the
// checkpoint of a group's TargetGroupBinding: "" just before it changes the
// group's targets, a hash once it is done. It sets the pace of the looks and proves
// nothing. The group need not be watched. ok is false where there is no such
// annotation (any more).
func (w *Watcher) Checkpoint(groupARN, value string, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	c, heard := w.checkpoints[groupARN]
	switch {
	case !ok:
		delete(w.checkpoints, groupARN)
	case heard && c.value == value:
		return
	default:
		c.value, c.changed = value, time.Now()
		if value != "" {
			c.hashed = c.changed
		}
		w.checkpoints[groupARN] = c
	}
	for g, p := range w.pollers { // one for each role
		if g.ARN == groupARN {
			wakeUp(p.kick)
		}
	}
}
