package main

import (
	"log/slog"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"k8s.io/client-go/rest"

	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/sim"
)

// bubble is a simulated world and a service in it, whole but for its sockets,
// in one synctest bubble: the real SDK and the real informers in virtual time.
// The goroutine of the test is the one that carries the world forward.
type bubble struct {
	*testing.T
	*sim.World
	svc *service
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
		cfg.HookClient = func(netip.Addr) *http.Client {
			return &http.Client{Transport: sim.Transport(b.svc.server.Handler())}
		}
		b.World = sim.New(cfg)
		endpoint := "http://aws.invalid"
		c := serviceConfig{
			aws: aws.Config{
				Region:       sim.Region,
				Credentials:  credentials.NewStaticCredentialsProvider(sim.AccessKeyID, sim.SecretAccessKey, ""),
				HTTPClient:   &http.Client{Transport: sim.Transport(b.AWSHandler())},
				BaseEndpoint: &endpoint,
			},
			kubernetes: &rest.Config{Host: "http://cluster.invalid", Transport: sim.Transport(b.KubeHandler())},
			drain:      drain.DefaultConfig(),
			elb:        elb.DefaultConfig(),
			log:        slog.New(slog.DiscardHandler),
		}
		if change != nil {
			change(&c)
		}
		var err error
		if b.svc, err = newService(c); err != nil {
			t.Fatal(err)
		}
		stop := b.svc.start()
		defer func() {
			// The goroutines of the service need the world until they are gone.
			var stopping sync.WaitGroup
			stopping.Go(stop)
			b.run(time.Second)
			b.Close()
			stopping.Wait()
		}()
		f(b)
	})
}

// run carries the world on by d.
func (b *bubble) run(d time.Duration) { b.World.Run(b.Context(), b.Now()+d) }
