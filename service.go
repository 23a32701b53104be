package main

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
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
	kubeConfig := rest.CopyConfig(c.kubernetes)
	kubeConfig.QPS = -1 // informers alone use it; the default of 5/s would delay their start
	kube, err := kubernetes.NewForConfig(kubeConfig)
	if err != nil {
		return nil, fmt.Errorf("make Kubernetes client for %s: %w", kubeConfig.Host, err)
	}
	dyn, err := dynamic.NewForConfig(kubeConfig)
	if err != nil {
		return nil, fmt.Errorf("make Kubernetes client for %s: %w", kubeConfig.Host, err)
	}
	s := &service{watcher: elb.New(c.elb, elb.NewClients(c.aws, c.region).For, nil)}
	s.index, err = cluster.New(cluster.Config{
		Kubernetes: kube,
		Dynamic:    dyn,
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

// start keeps the view of the cluster up to date until stop is called, which
// returns when all goroutines of the service are gone.
func (s *service) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.index.Run(ctx) })
	return func() {
		cancel()
		s.watcher.Close()
		running.Wait()
	}
}

// run serves until ctx ends and every wait is answered.
func (s *service) run(ctx context.Context, hooks, admin net.Listener) error {
	// Waits in flight need the cluster and ELBv2 until they are over, so these
	// two end after the server and not with ctx.
	defer s.start()()
	return s.server.Serve(ctx, hooks, admin)
}
