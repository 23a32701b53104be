package main

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
	"k8s.io/client-go/rest"

	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/server"
	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
	"drainwait/internal/sim/memnet"
)

// bubble is a simulated world and a whole service in it, in one synctest bubble:
// the real SDK, the real informers and a real HTTP server in virtual time. The
// goroutine of the test is the one that carries the world forward.
type bubble struct {
	*testing.T
	*sim.World
	config serviceConfig
	svc    *service
	hooks  *memnet.Listener
	admin  *memnet.Listener
	stop   context.CancelFunc // what SIGTERM does to the service
	over   <-chan struct{}    // closed when the service has ended
}

// serviceURL is where the hooks of a bubble's world find the service.
const serviceURL = "http://drain-wait:8080"

// inBubble runs f beside a new world. change, which may be nil, changes the
// service before it starts.
func inBubble(t *testing.T, cfg sim.Config, change func(*serviceConfig), f func(b *bubble)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		b := &bubble{T: t}
		cfg.Quiesce = synctest.Wait
		cfg.HookClient = func(pod netip.Addr) *http.Client { return b.hooks.Client(pod) }
		b.World = sim.New(cfg)
		b.config = b.serviceConfig()
		if change != nil {
			change(&b.config)
		}
		b.start()
		defer func() {
			b.end()
			b.Close()
			<-b.over
		}()
		f(b)
	})
}

// serviceConfig leads to the world's cluster and account.
func (b *bubble) serviceConfig() serviceConfig {
	endpoint := "http://aws.invalid"
	return serviceConfig{
		aws: aws.Config{
			Region:       simaws.Region,
			Credentials:  credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
			HTTPClient:   &http.Client{Transport: memnet.Transport(b.AWS.Handler())},
			BaseEndpoint: &endpoint,
		},
		kubernetes: &rest.Config{Host: "http://cluster.invalid", Transport: memnet.Transport(b.Kube.Handler())},
		drain:      drain.DefaultConfig(),
		elb:        elb.DefaultConfig(),
		quiet:      10 * time.Second,
		grace:      295 * time.Second,
		log:        slog.New(slog.DiscardHandler),
	}
}

// start starts a service.
func (b *bubble) start() {
	b.hooks, b.admin = memnet.NewListener(), memnet.NewListener()
	svc, err := newService(b.config)
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	over := make(chan struct{})
	b.svc, b.stop, b.over = svc, cancel, over
	hooks, admin := b.hooks, b.admin
	go func() {
		defer close(over)
		if err := svc.run(ctx, hooks, admin); err != nil {
			b.Error(err)
		}
	}()
}

// end stops the service. It needs the world until the last of its goroutines is
// gone.
func (b *bubble) end() {
	b.stop()
	b.runUntil(10*time.Minute, func() bool { return isClosed(b.over) })
}

// restart ends the service and starts another one, which knows nothing.
func (b *bubble) restart() {
	b.end()
	b.start()
}

// run carries the world on by d.
func (b *bubble) run(d time.Duration) { b.World.Run(b.Context(), b.Now()+d) }

// runUntil carries the world on until done, which is asked ten times a second,
// but not for longer than d. It says whether it is done.
func (b *bubble) runUntil(d time.Duration, done func() bool) bool {
	for end := b.Now() + d; !done(); b.run(100 * time.Millisecond) {
		if b.Now() >= end {
			return false
		}
	}
	return true
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// call is a request that a test makes in place of a hook.
type call struct {
	status int
	header http.Header
	body   []byte
	err    error
	took   time.Duration
	done   chan struct{} // closed when the rest is there
	hangUp context.CancelFunc
}

// ask makes a request of the service from an address; run the world to get the
// answer.
func (b *bubble) ask(from, query string) *call {
	return b.get(b.hooks.Client(netip.MustParseAddr(from)), serviceURL+"/drain-delay?"+query)
}

// askWith is ask with a header, as proxies add.
func (b *bubble) askWith(from, query, header string) *call {
	return b.do(b.hooks.Client(netip.MustParseAddr(from)), http.MethodGet, serviceURL+"/drain-delay?"+query, header)
}

func (b *bubble) get(client *http.Client, url string) *call {
	return b.do(client, http.MethodGet, url)
}

func (b *bubble) do(client *http.Client, method, url string, headers ...string) *call {
	ctx, cancel := context.WithCancel(b.Context())
	c := &call{done: make(chan struct{}), hangUp: cancel}
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	for _, h := range headers {
		req.Header.Set(h, "proxy")
	}
	began := time.Now()
	go func() {
		defer close(c.done)
		defer cancel()
		defer func() { c.took = time.Since(began) }()
		resp, err := client.Do(req)
		if err != nil {
			c.err = err
			return
		}
		defer resp.Body.Close()
		c.status, c.header = resp.StatusCode, resp.Header
		c.body, c.err = io.ReadAll(resp.Body)
	}()
	return c
}

// answer runs the world until the call is answered, for ten minutes at most.
func (b *bubble) answer(c *call) *call {
	b.Helper()
	if !b.runUntil(10*time.Minute, func() bool { return isClosed(c.done) }) {
		b.Fatal("no answer within ten minutes")
	}
	if c.err != nil {
		b.Fatal(c.err)
	}
	return c
}

func (c *call) ok(t *testing.T) server.Answer {
	t.Helper()
	var a server.Answer
	if err := json.Unmarshal(c.body, &a); err != nil || c.status != http.StatusOK {
		t.Fatalf("got %d %s, %v", c.status, c.body, err)
	}
	return a
}

func (c *call) failed(t *testing.T) server.Failure {
	t.Helper()
	var f server.Failure
	if err := json.Unmarshal(c.body, &f); err != nil || c.status == http.StatusOK {
		t.Fatalf("got %d %s, %v", c.status, c.body, err)
	}
	return f
}

func decode(t *testing.T, body []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}
