// Prestop is a preStop hook for any image: it asks the drain-wait service when
// the pod may stop, and exits then. It is one static file that needs nothing else:
// no shell, no curl, no certificates.
//
//	prestop [flags]        wait until the pod may stop, and exit with 0
//	prestop install DIR    copy this program to DIR/prestop, for an init container
//	prestop version        print the version
//
// The flags of the hook. Each can be set in the environment too, as
// DRAIN_WAIT_MAX_DELAY for --max-delay; a flag on the command line wins:
//
//	--server URL           the service; http only (http://drain-wait.drain-wait:8080)
//	--max-delay TIME       the longest that the hook may take, including the fallback
//	                       (as long as the pod's grace period allows)
//	--fallback TIME        how long to wait if the service cannot help (25s)
//	--settle TIME          passed on: the settle time, instead of the one for the load
//	                       balancer's type
//	--ingress NAME         passed on: an Ingress whose load balancers count too; may be
//	                       repeated
//	--strict               exit with 1 if the service did not decide
//	--log-file FILE        where to log (/proc/1/fd/1)
//
// A TIME is seconds, as in 60, or a duration with a unit, as in 1m30s.
//
// # Which pod
//
// The service is told $POD_NAME, $POD_IP and $POD_NAMESPACE, as far as they are
// set; the default for the namespace is that of the service account. If neither
// name nor address is set, it is told the address of this end of the connection, so
// that address translation on the way does no harm; if that is no use either, it
// goes by the address that it sees. A pod in the host network shares its address
// and needs $POD_NAME. Proxies named in the environment are not used.
//
// # How long it holds the pod
//
// As long as the service does. The service answers when the load balancers are
// done with the pod, and before its grace period is over: it leaves min(5 s, 20 %)
// of that to the application. So one hook suits both ALB and NLB. --max-delay is for
// an application that needs longer to shut down; the service is then asked for one
// or two seconds less.
//
// # What it does when something fails
//
// If the service cannot be reached, answers 503 or breaks the connection, the hook
// retries, over a new connection to a name that it has looked up again. If nobody
// answers, it exits when --fallback is over.
//
// Time in which the service holds the hook does not count as failure. If such a
// connection breaks, the hook retries for --fallback from that moment on, until
// another replica holds it. If a replica is stopped and says so, with a 503 that
// names the budget of the wait that it cuts, the hook retries until that budget is
// over. A connection that breaks within three seconds did not hold the hook.
//
// Any other refusal, such as 404 or 422, will not change: the hook waits for
// --fallback. --max-delay, if set, ends all of this. A hook that has gone without an
// answer reports that to the service if it can; drain_wait_fallbacks_total counts it.
//
// One line says what happened, and an earlier one that something fails. They go to
// the standard output of the container's first process, so that `kubectl logs` shows
// why a pod lingered, or else to standard error. If the time was too short, the line
// says that requests may fail, and the service's warnings in it what to change.
//
// It exits with 0, with 1 if --strict asks for it, or with 2 if it was started the
// wrong way. That includes an unknown flag; it then still waits for --fallback,
// since a hook that exits at once costs requests. A signal ends it at once; the kubelet
// sends none to a hook, but kills it with its container when the grace period is over.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	"time"

	"drainwait/internal/api"
)

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run is the whole program but for the process: it returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return runHook(args, stdout, stderr)
	}
	var err error
	switch {
	case args[0] == "install" && len(args) == 2:
		err = install(args[1])
	case args[0] == "version" && len(args) == 1:
		_, err = fmt.Fprintln(stdout, "prestop", buildVersion())
	default:
		fmt.Fprintln(stderr, "prestop: the commands are install DIR and version; see prestop --help")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "prestop:", err)
		return 1
	}
	return 0
}

func runHook(args []string, stdout, stderr io.Writer) int {
	h := newHook(os.Getenv)
	flags := h.flags()
	err := parse(flags, args, os.Getenv)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "prestop waits until the pod may stop. Flags:")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return 0
	}
	h.say = func(format string, a ...any) { say(h.logFile, stderr, fmt.Sprintf(format, a...)) }
	switch {
	case err != nil:
		wait := min(h.fallback, h.maxDelay)
		h.say("%v; waiting %s", err, wait)
		time.Sleep(wait)
		return 2
	case !h.run() && h.strict:
		return 1
	default:
		return 0
	}
}

// flags makes the flags of the hook, and sets the defaults.
func (h *hook) flags() *flag.FlagSet {
	f := flag.NewFlagSet("prestop", flag.ContinueOnError)
	f.SetOutput(io.Discard) // errors are logged once, with the rest
	f.Func("server", "`URL` of the service (default http://drain-wait.drain-wait:8080)", func(v string) (err error) {
		h.server, err = api.ParseService(v)
		return err
	})
	f.Func(api.MaxDelay, "longest `time` that the hook may take, including the fallback (default: as long as the pod's grace period allows)",
		(*api.Duration)(&h.maxDelay).Set)
	f.Var((*api.Duration)(&h.fallback), "fallback", "how long (`time`) to wait if the service cannot help")
	passOn := func(name string) func(string) error {
		return func(v string) error { h.query.Add(name, v); return nil }
	}
	f.Func(api.Settle, "passed on: the settle `time`, instead of the one for the load balancer's type", passOn(api.Settle))
	f.Func(api.Ingress, "passed on: `name` of an Ingress whose load balancers count too; may be repeated", passOn(api.Ingress))
	f.BoolVar(&h.strict, "strict", false, "exit with 1 if the service did not decide")
	f.StringVar(&h.logFile, "log-file", "/proc/1/fd/1", "`file` to log to; standard error if it cannot be written")
	return f
}

// parse sets the flags from the command line, and those that are not there from the
// environment: it must not add to a flag that may be repeated. A mistake does not keep
// the rest from being set.
func parse(f *flag.FlagSet, args []string, getenv func(string) string) error {
	failed := f.Parse(args)
	if failed == nil && f.NArg() > 0 {
		failed = fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	given := make(map[string]bool)
	f.Visit(func(fl *flag.Flag) { given[fl.Name] = true })
	f.VisitAll(func(fl *flag.Flag) {
		name := api.Variable(fl.Name)
		value := getenv(name)
		if value == "" || given[fl.Name] {
			return
		}
		if err := f.Set(fl.Name, value); err != nil {
			failed = cmp.Or(failed, fmt.Errorf("environment variable %s: %w", name, err))
		}
	})
	return failed
}

// newHook makes a hook with the defaults, which knows of its pod what the
// environment says.
func newHook(getenv func(string) string) *hook {
	namespace := getenv("POD_NAMESPACE")
	if namespace == "" {
		mounted, _ := os.ReadFile("/var/run/secrets/kubernetes.io/serviceaccount/namespace")
		namespace = strings.TrimSpace(string(mounted))
	}
	h := &hook{
		server:   &url.URL{Scheme: "http", Host: "drain-wait.drain-wait:8080"},
		maxDelay: unlimited,
		fallback: 25 * time.Second,
		query:    url.Values{},
		// A replica whose node is gone says nothing more; keep-alive probes notice
		// within 15 seconds.
		dial: (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}}).DialContext,
	}
	name := getenv("POD_NAME")
	if namespace == "" {
		name = "" // the service would refuse it
	}
	for parameter, v := range map[string]string{api.IP: getenv("POD_IP"), api.Namespace: namespace, api.Pod: name} {
		if v != "" {
			h.query.Set(parameter, v)
		}
	}
	return h
}

// version is set by the linker in a release.
var version string

func buildVersion() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		info = new(debug.BuildInfo)
	}
	return cmp.Or(version, info.Main.Version, "unknown")
}

// install copies this program to dir/prestop. Whoever runs dir/prestop gets the
// old one or the new one, never half of one.
func install(dir string) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	from, err := os.Open(self)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.CreateTemp(dir, ".prestop-*")
	if err != nil {
		return err
	}
	defer os.Remove(to.Name()) // fails where all went well
	_, err = io.Copy(to, from)
	err = cmp.Or(err, to.Chmod(0o755))
	if err = cmp.Or(err, to.Close()); err != nil {
		return fmt.Errorf("write %s: %w", to.Name(), err)
	}
	return os.Rename(to.Name(), filepath.Join(dir, "prestop"))
}
