package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/cobra"
	"golang.org/x/term"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"

	"drainwait/internal/drain"
	"drainwait/internal/elb"
)

// serveOptions are the flags of `serve`.
type serveOptions struct {
	awsProfile    string
	awsRegion     string
	kubeconfig    string
	namespaces    []string
	listenAddress string
	adminAddress  string
	drain         drain.Config
	elb           elb.Config
	quiet         time.Duration
	grace         time.Duration
	simulate      bool
	log           logOptions
}

func newServeCommand() *cobra.Command {
	o := serveOptions{drain: drain.DefaultConfig(), elb: elb.DefaultConfig()}
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer preStop hooks (what drain-wait does without a command)",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	f.StringVar(&o.awsProfile, "aws-profile", "", "profile of the AWS configuration files (default: the SDK's chain, which knows IRSA and Pod Identity)")
	f.StringVar(&o.awsRegion, "aws-region", "", "AWS Region of the load balancers (default: the one in each target group's ARN)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig (default: $KUBECONFIG, ~/.kube/config, or the service account in a pod)")
	f.StringSliceVar(&o.namespaces, "namespaces", nil, "namespaces to serve, separated by commas (default: all)")
	f.StringVar(&o.listenAddress, "listen-address", ":8080", "address on which hooks are answered")
	f.StringVar(&o.adminAddress, "admin-address", ":9090", "address of /healthz and /readyz")
	f.DurationVar(&o.drain.SettleALB, "settle-alb", o.drain.SettleALB, "time from a target's leaving an ALB's target group until it gets no new requests")
	f.DurationVar(&o.drain.SettleNLB, "settle-nlb", o.drain.SettleNLB, "time from a target's leaving an NLB's target group until it gets no new connections")
	f.DurationVar(&o.drain.MaxDelay, "default-max-delay", o.drain.MaxDelay, "budget of a hook that names none and whose pod is not known")
	f.Float64Var(&o.elb.Rate, "aws-rate", o.elb.Rate, "most requests per second to ELBv2; the account's limit is shared with the AWS Load Balancer Controller")
	f.IntVar(&o.elb.Burst, "aws-burst", o.elb.Burst, "most requests to ELBv2 at once")
	f.DurationVar(&o.quiet, "shutdown-quiet", 10*time.Second, "how long to go on taking hooks after SIGTERM, counted from the last new connection")
	f.DurationVar(&o.grace, "shutdown-grace", 295*time.Second, "how long after SIGTERM the waits that are left are cut; less than the pod's terminationGracePeriodSeconds")
	f.BoolVar(&o.simulate, "simulate", false, "serve a simulated cluster and AWS account in this process, to try it out")
	o.log.register(f)
	return cmd
}

func (o *serveOptions) validate() error {
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
	case o.quiet < 0 || o.grace < o.quiet:
		return errors.New("--shutdown-quiet: want 0 or more, and no more than --shutdown-grace")
	}
	return nil
}

func (o *serveOptions) run(ctx context.Context, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	log, err := o.log.logger(stderr)
	if err != nil {
		return err
	}
	klog.SetSlogLogger(log)
	hooks, err := net.Listen("tcp", o.listenAddress)
	if err != nil {
		return fmt.Errorf("--listen-address: %w", err)
	}
	defer hooks.Close()
	admin, err := net.Listen("tcp", o.adminAddress)
	if err != nil {
		return fmt.Errorf("--admin-address: %w", err)
	}
	defer admin.Close()
	if o.simulate {
		stop, err := o.startSimulation(hooks.Addr(), log)
		if err != nil {
			return err
		}
		defer stop()
	}
	awsConfig, err := loadAWS(ctx, o.awsProfile, o.awsRegion)
	if err != nil {
		return err
	}
	kube, err := loadKubernetes(o.kubeconfig)
	if err != nil {
		return err
	}
	s, err := newService(serviceConfig{
		aws: awsConfig, region: o.awsRegion, kubernetes: kube, namespaces: o.namespaces,
		drain: o.drain, elb: o.elb, quiet: o.quiet, grace: o.grace, log: log,
	})
	if err != nil {
		return err
	}
	log.Info("serving", "hooks", hooks.Addr().String(), "admin", admin.Addr().String(), "cluster", kube.Host,
		"settle_alb", o.drain.SettleALB, "settle_nlb", o.drain.SettleNLB)
	return s.run(ctx, hooks, admin)
}

func loadAWS(ctx context.Context, profile, region string) (aws.Config, error) {
	var opts []func(*awsconfig.LoadOptions) error
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

// logOptions are the flags of commands that log.
type logOptions struct{ level, format string }

func (o *logOptions) register(f interface {
	StringVar(p *string, name, value, usage string)
}) {
	f.StringVar(&o.level, "log-level", "info", "least severe level that is logged: debug, info, warn or error")
	f.StringVar(&o.format, "log-format", "", "json or text (default: text on a terminal, json elsewhere)")
}

func (o *logOptions) logger(out io.Writer) (*slog.Logger, error) {
	var level slog.Level
	if err := level.UnmarshalText([]byte(o.level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: want debug, info, warn or error", o.level)
	}
	format := o.format
	if format == "" {
		format = "json"
		if isTerminal(out) {
			format = "text"
		}
	}
	opts := &slog.HandlerOptions{Level: level}
	switch format {
	case "json":
		return slog.New(slog.NewJSONHandler(out, opts)), nil
	case "text":
		return slog.New(slog.NewTextHandler(out, opts)), nil
	default:
		return nil, fmt.Errorf("--log-format %q: want json or text", o.format)
	}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
