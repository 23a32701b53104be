package main

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"k8s.io/client-go/rest"

	"drainwait/internal/cluster"
	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/server"
)

// service is everything that one running service is made of.
type service struct {
	index   *cluster.Index
	watcher *elb.Watcher
	drainer *drain.Drainer
	server  *server.Server
}

// serviceConfig is what a service needs to be told. The clients come ready, so
// that where they lead to is nobody's business in here.
type serviceConfig struct {
	aws        aws.Config
	region     string // overrides the Region in the ARN of a group
	kubernetes *rest.Config
	namespaces []string
	drain      drain.Config
	elb        elb.Config
	quiet      time.Duration
	grace      time.Duration
	log        *slog.Logger
}

func newService(c serviceConfig) (*service, error) {
	s := &service{watcher: elb.New(c.elb, elb.NewClients(c.aws, c.region).For, nil)}
	var err error
	s.index, err = cluster.New(cluster.Config{
		REST:       c.kubernetes,
		Namespaces: c.namespaces,
		OnCheckpoint: func(arn, value string, ok bool) {
			if ok {
				s.watcher.Checkpoint(arn, value)
			} else {
				s.watcher.ForgetCheckpoint(arn)
			}
		},
		Log: c.log,
	})
	if err != nil {
		return nil, err
	}
	s.drainer = drain.New(c.drain, s.index, s.watcher)
	s.server = server.New(server.Config{Drainer: s.drainer, Log: c.log, Quiet: c.quiet, Grace: c.grace})
	return s, nil
}

// run serves until ctx ends and every wait is answered.
func (s *service) run(ctx context.Context, hooks, admin net.Listener) error {
	// Waits in flight need the cluster and ELBv2 until they are over, so these
	// two end after the server and not with ctx.
	indexCtx, stopIndex := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.index.Run(indexCtx) })
	err := s.server.Serve(ctx, hooks, admin)
	stopIndex()
	s.watcher.Close()
	running.Wait()
	return err
}
