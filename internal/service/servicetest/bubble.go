// Package servicetest runs a whole service in a simulated world, in virtual
// time, for tests.
package servicetest

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
	"drainwait/internal/sim/memnet"
)

// Bubble is a simulated world and a whole service in it, in one synctest bubble:
// the real SDK, the real informers and a real HTTP server in virtual time. The test's
// goroutine carries the world forward.
type Bubble struct {
	*testing.T
	*sim.World
	// Config is what the service is started with.
	Config service.Config
	// Replica is the one that runs now.
	*Replica
}

// Replica is a service in a bubble.
type Replica struct {
	Service *service.Service
	// Hooks and Admin are what it listens on.
	Hooks, Admin *memnet.Listener
	// SIGTERM does to the service what that signal does to the program.
	SIGTERM context.CancelFunc
	// Over is closed when the service has ended.
	Over <-chan struct{}
}

// URL is where the hooks of a bubble's world find the service.
const URL = "http://drain-wait:8080"

// Main prepares the packages that we use for bubbles, and runs the tests.
func Main(m *testing.M) {
	Quiet()
	m.Run()
}

// Quiet prepares the packages that we use for bubbles.
func Quiet() {
	// The second of client-go's error handlers slows down a process that has many
	// errors. Its clock was read outside any bubble, so it would sleep for the years
	// between that clock and the bubble's.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // an API server that is away is nothing special here
}

// Run runs f with a new world. change, which may be nil, changes the service's
// configuration before the service starts.
func Run(t *testing.T, cfg sim.Config, change func(*service.Config), f func(b *Bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &Bubble{T: t}
		cfg.Quiesce = synctest.Wait
		cfg.HookClient = func(pod netip.Addr) *http.Client { return b.Hooks.Client(pod) }
		b.World = sim.New(cfg)
		b.Config = b.serviceConfig()
		if change != nil {
			change(&b.Config)
		}
		b.Replica = b.Start()
		defer func() {
			b.End()
			b.Close()
			<-b.Over
		}()
		f(b)
	})
}

// serviceConfig leads to the world's cluster and account.
func (b *Bubble) serviceConfig() service.Config {
	endpoint := "http://aws.invalid"
	c := service.DefaultConfig()
	c.AWS = aws.Config{
		Region:       simaws.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
		HTTPClient:   &http.Client{Transport: memnet.Transport(b.AWS.Handler())},
		BaseEndpoint: &endpoint,
	}
	c.Kubernetes = &rest.Config{Host: "http://cluster.invalid", Transport: memnet.Transport(b.Kube.Handler())}
	c.Log = slog.New(slog.DiscardHandler)
	return c
}

// Start starts one more replica. The test has to end it.
func (b *Bubble) Start() *Replica {
	svc, err := service.New(b.Config)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	r := &Replica{Service: svc, Hooks: memnet.NewListener(), Admin: memnet.NewListener(), SIGTERM: cancel, Over: over}
	go func() {
		defer close(over)
		if err := svc.Serve(ctx, r.Hooks, r.Admin); err != nil {
			b.Error(err)
		}
	}()
	return r
}

// End stops the service. The service needs the world until its last goroutine is gone.
func (b *Bubble) End() {
	b.SIGTERM()
	b.AdvanceUntil(10*time.Minute, func() bool { return IsClosed(b.Over) })
}

// Restart ends the service and starts a new one, which knows nothing.
func (b *Bubble) Restart() {
	b.End()
	b.Replica = b.Start()
}

// Advance carries the world on by d.
func (b *Bubble) Advance(d time.Duration) { b.World.Run(b.Context(), b.Now()+d) }

// AdvanceUntil carries the world on until done returns true, for d at most. It asks done
// ten times a second, and returns its last answer.
func (b *Bubble) AdvanceUntil(d time.Duration, done func() bool) bool {
	for end := b.Now() + d; !done(); b.Advance(100 * time.Millisecond) {
		if b.Now() >= end {
			return false
		}
	}
	return true
}

// IsClosed says whether a channel that carries nothing is closed.
func IsClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// Call is a request that a test makes instead of a hook. Its answer is there when Done
// is closed.
type Call struct {
	Status int
	Header http.Header
	Body   []byte
	Err    error
	Took   time.Duration
	Done   chan struct{}
	HangUp context.CancelFunc
}

// Ask asks the service for a wait, from an address. [Bubble.Await] gets the answer.
func (b *Bubble) Ask(from, query string) *Call {
	return b.Get(b.Hooks.Client(netip.MustParseAddr(from)), URL+"/drain-delay?"+query)
}

// AskWith is Ask with a header, such as proxies add.
func (b *Bubble) AskWith(from, query, header string) *Call {
	return b.Request(b.Hooks.Client(netip.MustParseAddr(from)), http.MethodGet, URL+"/drain-delay?"+query, header)
}

// Get makes a GET request.
func (b *Bubble) Get(client *http.Client, url string) *Call {
	return b.Request(client, http.MethodGet, url)
}

// Request makes any request.
func (b *Bubble) Request(client *http.Client, method, url string, headers ...string) *Call {
	ctx, cancel := context.WithCancel(b.Context())
	c := &Call{Done: make(chan struct{}), HangUp: cancel}
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	for _, h := range headers {
		req.Header.Set(h, "proxy")
	}
	began := time.Now()
	go func() {
		defer close(c.Done)
		defer cancel()
		defer func() { c.Took = time.Since(began) }()
		resp, err := client.Do(req)
		if err != nil {
			c.Err = err
			return
		}
		defer resp.Body.Close()
		c.Status, c.Header = resp.StatusCode, resp.Header
		c.Body, c.Err = io.ReadAll(resp.Body)
	}()
	return c
}

// Await carries the world on until the call is answered, for ten minutes at most.
func (b *Bubble) Await(c *Call) *Call {
	b.Helper()
	if !b.AdvanceUntil(10*time.Minute, func() bool { return IsClosed(c.Done) }) {
		b.Fatal("no answer within ten minutes")
	}
	if c.Err != nil {
		b.Fatal(c.Err)
	}
	return c
}

// OK is the body of a 200. Any other status ends the test.
func (c *Call) OK(t *testing.T) api.Answer {
	t.Helper()
	var a api.Answer
	if err := json.Unmarshal(c.Body, &a); err != nil || c.Status != http.StatusOK {
		t.Fatalf("got %d %s, %v", c.Status, c.Body, err)
	}
	return a
}

// Failed is the body of any status except 200. A 200 ends the test.
func (c *Call) Failed(t *testing.T) api.Failure {
	t.Helper()
	var f api.Failure
	if err := json.Unmarshal(c.Body, &f); err != nil || c.Status == http.StatusOK {
		t.Fatalf("got %d %s, %v", c.Status, c.Body, err)
	}
	return f
}
