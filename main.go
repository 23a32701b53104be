// Drain-wait tells a pod behind an AWS load balancer when it may stop.
//
// It answers GET /drain-delay on :8080, which a preStop hook calls, at the moment
// when no load balancer sends the pod new requests any more, or when the hook's
// budget is spent. Health, readiness and metrics are on :9090.
//
//	drain-wait                 the same as drain-wait serve
//	drain-wait serve           the service; --simulate gives it a simulated world
//	drain-wait wait            one wait in the foreground
//	drain-wait demo            what it is good for, in simulated worlds, in a minute
//	drain-wait sim             a simulated AWS account and cluster to point a service at
//	drain-wait version
//
// Each flag can be given in the environment too: --aws-region as
// DRAIN_WAIT_AWS_REGION. A flag on the command line wins.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// run is the whole program but for the process: it returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	root := newRootCommand()
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "drain-wait:", err)
		return 1
	}
	return 0
}

func newRootCommand() *cobra.Command {
	serve := newServeCommand()
	root := &cobra.Command{
		Use:   "drain-wait",
		Short: "Tell a pod behind an AWS load balancer when it may stop",
		Long: "drain-wait answers a pod's preStop hook at the moment when no AWS load balancer\n" +
			"sends the pod new requests any more. Without a command it serves.",
		Args:              cobra.NoArgs,
		RunE:              serve.RunE,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd.Flags(), os.LookupEnv) },
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.AddCommand(serve, newWaitCommand(), newDemoCommand(), newSimCommand(), newVersionCommand())
	return root
}

// fromEnvironment sets each flag that is not on the command line from its
// variable.
func fromEnvironment(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := "DRAIN_WAIT_" + strings.ToUpper(strings.ReplaceAll(f.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || f.Changed || failed != nil {
			return
		}
		if err := flags.Set(f.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	return failed
}

func newVersionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go release it was built with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			version, commit, goVersion := buildVersion()
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "drain-wait %s (commit %s, %s)\n", version, commit, goVersion)
			return err
		},
	}
}

// version is set by the linker in a release.
var version string

func buildVersion() (v, commit, goVersion string) {
	v, commit, goVersion = version, "unknown", "unknown"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return v, commit, goVersion
	}
	goVersion = info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			commit = s.Value
		}
	}
	if v == "" {
		v = info.Main.Version
	}
	return v, commit, goVersion
}
