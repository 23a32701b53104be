package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/klog/v2"

	"drainwait/internal/api"
	"drainwait/internal/service"
)

// serveOptions are the flags of `serve`.
type serveOptions struct {
	serviceOptions
	listenAddress string
	adminAddress  string
	simulate      bool
	log           logOptions
}

func newServe(b build) *cobra.Command {
	var o serveOptions
	cmd := &cobra.Command{
		Use:   "serve",
		Short: "Answer preStop hooks (the default command)",
		Args:  noArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.ErrOrStderr()) },
	}
	f := cmd.Flags()
	o.serviceOptions.register(f, b)
	f.StringVar(&o.listenAddress, "listen-address", ":8080", "address of the API that answers hooks")
	f.StringVar(&o.adminAddress, "admin-address", ":9090", "address of /healthz, /readyz, /metrics and /openapi.yaml")
	f.StringVar(&o.OwnService, "own-service", "", "namespace/name of the Service in front of the replicas, which share the rate of requests to AWS (default: this is the only replica)")
	f.IntVar(&o.Server.WaitsPerSource, "max-waits-per-source", o.Server.WaitsPerSource, "most waits that one source address may hold; equal calls count once, up to four times as many")
	f.IntVar(&o.Server.MaxWaits, "max-waits", o.Server.MaxWaits, "most waits in all, which decide how much memory is needed; 0 means any number")
	f.Var((*api.Duration)(&o.Server.Quiet), "shutdown-quiet", "how long to go on taking hooks after SIGTERM, counted from the last call of one; three times as long at most")
	f.Var((*api.Duration)(&o.Server.Grace), "shutdown-grace", "when to cut the waits that are left, counted from SIGTERM; less than the pod's terminationGracePeriodSeconds")
	f.BoolVar(&o.Server.Pprof, "pprof", false, "serve Go's profiles at /debug/pprof/ on the admin address")
	f.BoolVar(&o.simulate, "simulate", false, "serve a simulated cluster and AWS account in this process, to try drain-wait out")
	o.log.register(f)
	return cmd
}

func (o *serveOptions) validate() error {
	switch {
	case o.Server.WaitsPerSource < 1:
		return errors.New("--max-waits-per-source: want 1 or more")
	case o.Server.MaxWaits < 0:
		return errors.New("--max-waits: want 0 or more")
	case o.Server.Grace < o.Server.Quiet:
		return errors.New("--shutdown-quiet: want 0 or more, and no more than --shutdown-grace")
	}
	if o.OwnService != "" {
		namespace, name, _ := strings.Cut(o.OwnService, "/")
		if errors.Join(checkName(namespace), checkName(name)) != nil {
			return fmt.Errorf("--own-service %q: want namespace/name", o.OwnService)
		}
	}
	return o.serviceOptions.validate()
}

func (o *serveOptions) run(ctx context.Context, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	log, err := o.log.logger(stderr)
	if err != nil {
		return err
	}
	log = slog.New(service.LimitLog(log.Handler()))
	klog.SetSlogLogger(log)
	o.Log = log
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
		_, port, _ := net.SplitHostPort(hooks.Addr().String()) // a listener's address always has one
		world, err := o.simulated(port)
		if err != nil {
			return err
		}
		defer world.stop()
	} else if err := o.connect(ctx); err != nil {
		return err
	}
	s, err := service.New(o.Config)
	if err != nil {
		return err
	}
	log.Info("serving", "hooks", hooks.Addr().String(), "admin", admin.Addr().String(), "cluster", o.Kubernetes.Host,
		"settle_alb", o.Drain.SettleALB.String(), "settle_nlb", o.Drain.SettleNLB.String())
	return s.Serve(ctx, hooks, admin)
}

// logOptions are the flags of commands that log.
type logOptions struct{ level, format string }

func (o *logOptions) register(f *pflag.FlagSet) {
	f.StringVar(&o.level, "log-level", "info", "lowest level to log: debug, info, warn or error")
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
