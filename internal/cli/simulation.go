package cli

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"k8s.io/client-go/rest"

	"drainwait/internal/service"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// simulation is a world that runs in real time behind a listener on loopback.
type simulation struct {
	world    *sim.World
	url      string
	failed   chan error // gets the error that ended the APIs, or the service in the world
	listener net.Listener
	server   *http.Server
	ctx      context.Context // ends with stop
	cancel   context.CancelFunc
	running  sync.WaitGroup
}

// newSimulation opens a world's APIs on an address. Call stop once afterwards.
func newSimulation(w *sim.World, address string) (*simulation, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("--listen-address %q: want a loopback address with a port, as in 127.0.0.1:0, because the simulated APIs let everybody in", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the simulated APIs: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", w.Kube.Handler())
	mux.Handle("/{$}", w.AWS.Handler())
	s := &simulation{
		world: w, url: "http://" + l.Addr().String(), failed: make(chan error, 2), listener: l,
		server: &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second},
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	return s, nil
}

// forever is a world time that never comes.
const forever = 365 * 24 * time.Hour

// start serves the APIs and lets the world run.
func (s *simulation) start() {
	s.running.Go(func() { s.world.Run(s.ctx, forever) })
	s.running.Go(func() {
		if err := s.server.Serve(s.listener); s.ctx.Err() == nil {
			s.failed <- fmt.Errorf("serve the simulated APIs: %w", err)
		}
	})
}

// stop ends the world and all calls into it, whether it was started or not.
func (s *simulation) stop() {
	s.cancel()
	s.world.Close()
	_ = s.server.Close()
	_ = s.listener.Close()
	s.running.Wait()
}

// connect makes a service use the world.
func (s *simulation) connect(c *service.Config) {
	c.AWS.Region = aws.Region
	c.AWS.Credentials = credentials.NewStaticCredentialsProvider(aws.AccessKeyID, aws.SecretAccessKey, "")
	c.AWS.BaseEndpoint = &s.url
	c.Kubernetes = &rest.Config{Host: s.url}
}
