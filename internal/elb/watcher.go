package elb

import (
	"context"
	"sync"
	"time"
)

// Config sets the pace of a [Watcher].
type Config struct {
	// Rate is the most requests per second to ELBv2, and Burst how many of
	// them at once.
	Rate  float64
	Burst int
	// Steady is the time between two looks at a group whose controller is done
	// with its last change, Busy while it is at one or where nothing is known.
	Steady, Busy time.Duration
	// Spacing is the least time between two looks at one group; those that the
	// checkpoint asks for are counted apart.
	Spacing time.Duration
	// Timeout ends a request that gets no answer.
	Timeout time.Duration
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

// Watcher looks at target groups for as long as somebody subscribes to them.
type Watcher struct {
	cfg     Config
	client  func(Group) API
	limit   *limiter
	observe func(operation, code string)
	ctx     context.Context // that of all pollers: shared work never runs under a caller's
	cancel  context.CancelFunc
	running sync.WaitGroup

	// mu guards the maps and is never held across a call or a wait. Lock order:
	// Watcher.mu, then poller.mu.
	mu          sync.Mutex
	pollers     map[Group]*poller
	checkpoints map[string]string // the last one heard, by group ARN
	answers     map[question]*answer
}

// New makes a Watcher. client returns the client for a group's Region and
// role and must not block; observe, which may be nil, hears of each call to AWS
// with its error code, "OK" for none.
func New(cfg Config, client func(Group) API, observe func(operation, code string)) *Watcher {
	if observe == nil {
		observe = func(string, string) {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	return &Watcher{
		cfg:         cfg,
		client:      client,
		limit:       newLimiter(cfg.Rate, float64(cfg.Burst)),
		observe:     observe,
		ctx:         ctx,
		cancel:      cancel,
		pollers:     make(map[Group]*poller),
		checkpoints: make(map[string]string),
		answers:     make(map[question]*answer),
	}
}

// Close stops all pollers and requests and waits until they are gone. Whoever
// still waits for one of them gets [ErrClosed].
func (w *Watcher) Close() {
	w.mu.Lock() // nothing is started any more
	w.cancel()
	w.mu.Unlock()
	w.running.Wait()
}

// SetShare divides the configured rate and burst by the number of replicas that
// draw on the same AWS account; a number below 1 counts as 1.
func (w *Watcher) SetShare(replicas int) {
	n := float64(max(1, replicas))
	w.limit.resize(w.cfg.Rate/n, max(1, float64(w.cfg.Burst)/n))
}

// Rate is how many requests per second to ELBv2 are allowed now: this replica's
// share, or less where AWS has throttled us lately.
func (w *Watcher) Rate() float64 { return w.limit.current() }

// Pollers is the number of groups that are watched now.
func (w *Watcher) Pollers() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.pollers)
}

// Subscription is one waiter's share in a group's poller.
type Subscription struct {
	w    *Watcher
	p    *poller
	wake chan<- struct{}
}

// Subscribe watches a group, named by its ARN, until the subscription is
// closed. A first look begins as soon as the pace allows. After each look, and
// after each failed try, one token is put into wake without blocking; a channel
// with a buffer of one, which several subscriptions may share, loses nothing.
func (w *Watcher) Subscribe(g Group, wake chan<- struct{}) *Subscription {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.pollers[g]
	born := p == nil
	if born {
		p = w.newPoller(g)
	}
	s := &Subscription{w: w, p: p, wake: wake}
	p.mu.Lock()
	p.subs[s] = struct{}{}
	p.mu.Unlock()
	p.demand(time.Now(), nudged)
	switch {
	case w.ctx.Err() != nil:
		p.publish(nil, ErrClosed)
	case born: // now that the first look is asked for, lest it be taken twice
		w.running.Go(p.run)
	}
	return s
}

// newPoller makes the poller of a group; call it with mu held.
func (w *Watcher) newPoller(g Group) *poller {
	p := &poller{
		w: w, group: g, api: w.client(g),
		kick: make(chan struct{}, 1), subs: make(map[*Subscription]struct{}),
	}
	p.ctx, p.stop = context.WithCancel(w.ctx)
	p.checkpoint, p.signals = w.checkpoints[g.ARN]
	w.pollers[g] = p
	return p
}

// Close ends the subscription. The last one to close ends the poller, and with
// it a call that is under way.
func (s *Subscription) Close() {
	s.w.mu.Lock()
	defer s.w.mu.Unlock()
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	delete(s.p.subs, s)
	if len(s.p.subs) == 0 && s.w.pollers[s.p.group] == s.p {
		delete(s.w.pollers, s.p.group)
		s.p.stop()
	}
}

// Latest is the newest look, nil where there is none yet, and the error of the
// tries since, nil where the newest try was that look.
func (s *Subscription) Latest() (*Look, error) {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	return s.p.look, s.p.err
}

// Confirm asks for a look that begins after now, ahead of all other looks.
func (s *Subscription) Confirm() { s.p.demand(time.Now(), confirming) }

// Checkpoint tells what the AWS Load Balancer Controller last wrote as the
// checkpoint of a group's TargetGroupBinding: "" just before it changes the
// group's targets, a hash once it is done. It sets the pace of the looks and is
// never taken for proof. It may be told of groups that nobody watches.
func (w *Watcher) Checkpoint(groupARN, value string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.checkpoints[groupARN] = value
	for g, p := range w.pollers {
		if g.ARN == groupARN {
			p.setCheckpoint(value)
		}
	}
}

// ForgetCheckpoint takes back what [Watcher.Checkpoint] said of a group.
func (w *Watcher) ForgetCheckpoint(groupARN string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.checkpoints, groupARN)
	for g, p := range w.pollers {
		if g.ARN == groupARN {
			p.forgetCheckpoint()
		}
	}
}
