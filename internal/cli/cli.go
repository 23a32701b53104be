// Package cli has the commands of the program: their flags, what they print, and
// their exit codes.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"drainwait/internal/api"
)

// Main runs the program and returns its exit code: 0, or 1 after an error, which it
// prints to stderr. The first SIGINT or SIGTERM ends a command in order, the second one
// the process. If version is empty, it comes from the build information.
func Main(version string) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	first := make(chan os.Signal, 1)
	signal.Notify(first, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-first
		signal.Stop(first) // before anybody knows of it: from now on a signal ends the process
		cancel()
	}()
	root := Root(version)
	if strings.HasPrefix(filepath.Base(os.Args[0]), "kubectl-") { // kubectl's rule for the names of its plugins
		root.Annotations = map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl drain-wait"}
	}
	root.SetOut(os.Stdout)
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", root.DisplayName(), err)
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
			"new requests any more. Without a command it runs serve.",
		Version:       b.String(), // a template for it would link a third more: text/template keeps all methods
		Args:          noArgs,
		RunE:          serve.RunE,
		SilenceErrors: true,
		SilenceUsage:  true,
	}
	root.SetFlagErrorFunc(explainFlag)
	root.Flags().AddFlagSet(serve.Flags())
	root.AddCommand(serve, newWait(b), newDemo(), newSim(), newVersion(b))
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		return fromEnvironment(root, cmd.Flags(), os.Environ())
	}
	return root
}

// noArgs refuses arguments. At the root an argument was meant as a command.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !cmd.HasSubCommands() {
		return fmt.Errorf("unexpected argument %q; %s takes flags only", args[0], cmd.CommandPath())
	}
	var known []string
	for _, c := range cmd.Commands() {
		known = append(known, c.Name())
	}
	return unknown(cmd, "command", args[0], "", known)
}

// explainFlag names the flag that was probably meant.
func explainFlag(cmd *cobra.Command, err error) error {
	var missing *pflag.NotExistError
	if !errors.As(err, &missing) {
		return err
	}
	var known []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { known = append(known, f.Name) })
	return unknown(cmd, "flag", missing.GetSpecifiedName(), "--", known)
}

// unknown is the error for a name that is not among the known ones.
func unknown(cmd *cobra.Command, what, name, prefix string, known []string) error {
	err := fmt.Errorf("unknown %s %s%s", what, prefix, name)
	if nearest := api.Nearest(name, known); nearest != "" {
		return fmt.Errorf("%w; did you mean %s%s?", err, prefix, nearest)
	}
	return fmt.Errorf("%w; %s --help lists what there is", err, cmd.Root().DisplayName())
}

// serviceLink matches the variables that the kubelet adds to each container's
// environment for a Service called drain-wait or drain-wait-something. These are no
// mistake of the user.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_\w+)?)?)$`)

// fromEnvironment sets each flag that is not on the command line from its variable.
// A variable with our prefix that belongs to no flag of any command is an error: it
// was meant to set one.
func fromEnvironment(root *cobra.Command, flags *pflag.FlagSet, environment []string) error {
	known := make(map[string]bool)
	for _, c := range append(root.Commands(), root) {
		c.Flags().VisitAll(func(f *pflag.Flag) { known[api.Variable(f.Name)] = true })
	}
	given := make(map[string]string)
	for _, assignment := range environment {
		name, value, _ := strings.Cut(assignment, "=")
		switch {
		case !strings.HasPrefix(name, api.VariablePrefix), serviceLink.MatchString("_" + strings.TrimPrefix(name, api.VariablePrefix)):
		case !known[name]:
			return unknown(root, "environment variable", name, "", slices.Sorted(maps.Keys(known)))
		default:
			given[name] = value
		}
	}
	var failed error
	flags.VisitAll(func(f *pflag.Flag) {
		name := api.Variable(f.Name)
		value, ok := given[name]
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
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "%s version %s\n", cmd.Root().DisplayName(), b) // what --version prints
			return err
		},
	}
}

// build is what the program was built from.
type build struct{ version, commit, goVersion string }

func newBuild(version string) build {
	b := build{version: version, commit: "unknown", goVersion: "unknown"}
	if info, ok := debug.ReadBuildInfo(); ok {
		b.version, b.goVersion = cmp.Or(version, info.Main.Version), info.GoVersion
		for _, s := range info.Settings {
			if s.Key == "vcs.revision" {
				b.commit = s.Value
			}
		}
	}
	return b
}

func (b build) String() string {
	return fmt.Sprintf("%s (commit %s, %s)", b.version, b.commit, b.goVersion)
}
