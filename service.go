package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/pflag"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"drainwait/internal/cluster"
	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/server"
)

// serviceOptions are the flags of every command that watches a cluster and an
// AWS account.
type serviceOptions struct {
	awsProfile string
	awsRegion  string
	kubeconfig string
	namespaces []string
	drain      drain.Config
	elb        elb.Config
}

func (o *serviceOptions) register(f *pflag.FlagSet) {
	o.drain, o.elb = drain.DefaultConfig(), elb.DefaultConfig()
	f.StringVar(&o.awsProfile, "aws-profile", "", "profile of the AWS configuration files (default: the SDK's chain, which knows IRSA and Pod Identity)")
	f.StringVar(&o.awsRegion, "aws-region", "", "AWS Region of the load balancers (default: the one in each target group's ARN)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig (default: $KUBECONFIG, ~/.kube/config, or the service account in a pod)")
	f.StringSliceVar(&o.namespaces, "namespaces", nil, "namespaces to serve, separated by commas (default: all)")
	f.DurationVar(&o.drain.SettleALB, "settle-alb", o.drain.SettleALB, "time from a target's leaving an ALB's target group until it gets no new requests")
	f.DurationVar(&o.drain.SettleNLB, "settle-nlb", o.drain.SettleNLB, "time from a target's leaving an NLB's target group until it gets no new connections")
	f.DurationVar(&o.drain.MaxDelay, "default-max-delay", o.drain.MaxDelay, "budget of a wait that names none and whose pod is not known")
	f.Float64Var(&o.elb.Rate, "aws-rate", o.elb.Rate, "most requests per second to ELBv2, for all replicas together; the account's limit is shared with the AWS Load Balancer Controller")
	f.IntVar(&o.elb.Burst, "aws-burst", o.elb.Burst, "most requests to ELBv2 at once, for all replicas together")
}

func (o *serviceOptions) validate() error {
	switch {
	case o.drain.SettleALB < 0:
		return errors.New("--settle-alb: want 0 or more")
	case o.drain.SettleNLB < 0:
		return errors.New("--settle-nlb: want 0 or more")
	case o.drain.MaxDelay <= 0:
		return errors.New("--default-max-delay: want more than 0")
	case o.elb.Rate <= 0:
		return errors.New("--aws-rate: want more than 0 requests per second")
	case o.elb.Burst < 1:
		return errors.New("--aws-burst: want 1 or more")
	}
	return nil
}

// config finds the cluster and the account that the flags lead to.
func (o *serviceOptions) config(ctx context.Context, log *slog.Logger) (serviceConfig, error) {
	awsConfig, err := loadAWS(ctx, o.awsProfile, o.awsRegion)
	if err != nil {
		return serviceConfig{}, err
	}
	kube, err := loadKubernetes(o.kubeconfig)
	if err != nil {
		return serviceConfig{}, err
	}
	return serviceConfig{
		aws: awsConfig, region: o.awsRegion, kubernetes: kube, namespaces: o.namespaces,
		drain: o.drain, elb: o.elb, log: log,
	}, nil
}

// awsTimeout ends a request to AWS whatever it is for; it is longer than what the
// looks at target groups allow themselves.
const awsTimeout = 10 * time.Second

func loadAWS(ctx context.Context, profile, region string) (aws.Config, error) {
	// The SDK fetches credentials without a deadline, so that without one of the
	// client's a silent STS would block all calls for ever.
	opts := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(awsTimeout)),
	}
	if profile != "" {
		opts = append(opts, awsconfig.WithSharedConfigProfile(profile))
	}
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w (check --aws-profile)", err)
	}
	return cfg, nil
}

// loadKubernetes finds the cluster as kubectl does, and the one that we run in.
func loadKubernetes(kubeconfig string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no cluster found: give --kubeconfig FILE or run in a pod; " +
			"without a cluster, `drain-wait demo` shows what this does and `drain-wait serve --simulate` serves a simulated one")
	case err != nil:
		return nil, fmt.Errorf("load kubeconfig: %w", err)
	}
	version, _, _ := buildVersion()
	cfg.UserAgent = "drain-wait/" + version
	return cfg, nil
}

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
	ownService string
	drain      drain.Config
	elb        elb.Config
	server     server.Settings
	log        *slog.Logger
}

func newService(c serviceConfig) (*service, error) {
	s := new(service)
	metrics := prometheus.NewRegistry()
	s.watcher = elb.New(c.elb, elb.NewClients(c.aws, c.region).For, metrics)
	var err error
	s.index, err = cluster.New(cluster.Config{
		REST:       c.kubernetes,
		Namespaces: c.namespaces,
		OwnService: c.ownService,
		OnCheckpoint: func(arn, value string, ok bool) {
			if ok {
				s.watcher.Checkpoint(arn, value)
			} else {
				s.watcher.ForgetCheckpoint(arn)
			}
		},
		OnReplicas: s.watcher.SetShare,
		Log:        c.log,
	})
	if err != nil {
		return nil, err
	}
	s.index.Register(metrics)
	s.drainer = drain.New(c.drain, s.index, s.watcher, c.log, metrics)
	version, _, _ := buildVersion()
	s.server = server.New(server.Config{Settings: c.server, Drainer: s.drainer, Log: c.log, Version: version, Metrics: metrics})
	return s, nil
}

// isReady says whether waits can be carried out.
func (s *service) isReady() bool { return s.drainer.Ready() == nil }

// start keeps the view of the cluster up to date until stop is called, which
// returns when all goroutines of the service are gone.
func (s *service) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { s.index.Run(ctx) })
	running.Go(func() { s.drainer.Run(ctx) })
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
