// Package service puts a whole service together: the watchers of the cluster and
// of ELBv2, the waits, and the server in front of them.
package service

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"drainwait/internal/cluster"
	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/server"
)

// Config is what a service needs to know. The clients come ready: the service does not
// care where they lead.
type Config struct {
	AWS        aws.Config
	Region     string // replaces the Region in the ARN of a group
	Kubernetes *rest.Config
	Namespaces []string // the namespaces to serve; all if empty
	OwnService string   // namespace/name of the Service in front of the replicas that share the rate
	Drain      drain.Config
	ELB        elb.Config
	Server     server.Settings
	Version    string // of the program
	Log        *slog.Logger
}

// DefaultConfig has the defaults. It lacks the clients and the log.
func DefaultConfig() Config {
	return Config{Drain: drain.DefaultConfig(), ELB: elb.DefaultConfig(), Server: server.DefaultSettings()}
}

// Service is everything that one running service is made of.
type Service struct {
	Index   *cluster.Index
	Watcher *elb.Watcher
	Drainer *drain.Drainer
	Server  *server.Server

	cancel  context.CancelFunc
	running sync.WaitGroup
}

// New makes a service that does nothing yet.
func New(c Config) (*Service, error) {
	s := new(Service)
	metrics := prometheus.NewRegistry()
	c.ELB.Shared = c.OwnService != ""
	s.Watcher = elb.New(c.ELB, elb.Clients(c.AWS, c.Region), c.Log, metrics)
	var err error
	s.Index, err = cluster.New(cluster.Config{
		REST:         c.Kubernetes,
		Namespaces:   c.Namespaces,
		OwnService:   c.OwnService,
		OnCheckpoint: s.Watcher.Checkpoint,
		OnReplicas:   s.Watcher.SetShare,
		Metrics:      metrics,
		Log:          c.Log,
	})
	if err != nil {
		return nil, err
	}
	s.Drainer = drain.New(c.Drain, s.Index, s.Watcher, c.Log, metrics)
	s.Server = server.New(server.Config{Settings: c.Server, Drainer: s.Drainer, Log: c.Log, Version: c.Version, Metrics: metrics})
	return s, nil
}

// IsReady says whether waits can be carried out.
func (s *Service) IsReady() bool { return s.Drainer.Ready() == nil }

// AwaitReady returns when the cluster has been read.
func (s *Service) AwaitReady(ctx context.Context, timeout time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for err := s.Drainer.Ready(); err != nil; err = s.Drainer.Ready() {
		select {
		case <-time.After(20 * time.Millisecond):
		case <-ctx.Done():
			return fmt.Errorf("the cluster could not be read: %w; the log above says why", err)
		}
	}
	return nil
}

// Start begins to follow the cluster. Call Stop once afterwards.
func (s *Service) Start() {
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	s.running.Go(func() { s.Index.Run(ctx) })
	s.running.Go(func() { s.Drainer.Run(ctx) })
}

// Stop returns when all goroutines of the service are gone.
func (s *Service) Stop() {
	s.cancel()
	s.Watcher.Close()
	s.running.Wait()
}

// Serve starts, serves until ctx ends and every wait is answered, and stops.
func (s *Service) Serve(ctx context.Context, hooks, admin net.Listener) error {
	// Waits in flight need the cluster and ELBv2 until they are over. So these two
	// end after the server, not with ctx.
	s.Start()
	defer s.Stop()
	return s.Server.Serve(ctx, hooks, admin)
}
