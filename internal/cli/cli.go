// Package cli has the commands of the program: their flags, what they print, and
// their exit codes.
package cli

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

// Main runs the program and returns its exit code: 0, or 1 after an error, which
// is on stderr. The version is that of the build, empty to ask the build itself.
func Main(version string) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	return run(ctx, version, os.Args[1:], os.Stdout, os.Stderr)
}

// run is the whole program but for the process.
func run(ctx context.Context, version string, args []string, stdout, stderr io.Writer) int {
	root := Root(version)
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(stderr, "drain-wait:", err)
		return 1
	}
	return 0
}

// Root makes the command with all its subcommands.
func Root(version string) *cobra.Command {
	b := newBuild(version)
	serve := newServe(b)
	root := &cobra.Command{
		Use:   "drain-wait",
		Short: "Tell a pod behind an AWS load balancer when it may stop",
		Long: "drain-wait answers a pod's preStop hook as soon as no AWS load balancer sends the pod\n" +
			"new requests any more. Without a command it serves.",
		Args:              cobra.NoArgs,
		RunE:              serve.RunE,
		SilenceErrors:     true,
		SilenceUsage:      true,
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return fromEnvironment(cmd.Flags(), os.LookupEnv) },
	}
	root.Flags().AddFlagSet(serve.Flags())
	root.AddCommand(serve, newWait(b), newDemo(), newSim(), newVersion(b))
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

func newVersion(b build) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version, the commit and the Go release it was built with",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintln(cmd.OutOrStdout(), b)
			return err
		},
	}
}

// build is what the program was built from.
type build struct{ version, commit, goVersion string }

func newBuild(version string) build {
	b := build{version: version, commit: "unknown", goVersion: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	b.goVersion = info.GoVersion
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			b.commit = s.Value
		}
	}
	if b.version == "" {
		b.version = info.Main.Version
	}
	return b
}

func (b build) String() string {
	return fmt.Sprintf("drain-wait %s (commit %s, %s)", b.version, b.commit, b.goVersion)
}
