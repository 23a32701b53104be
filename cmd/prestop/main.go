// Prestop is a preStop hook for any image: it asks the drain-wait service when
// the pod may stop, and ends then. It is one static file that needs nothing
// beside itself: no shell, no curl, no certificates.
//
//	prestop [flags]        wait until the pod may stop, and end with 0
//	prestop install DIR    copy this program to DIR/prestop, for an init container
//	prestop version        print the version
//
// The flags of the hook, each of which can be given in the environment too, as
// DRAIN_WAIT_MAX_DELAY for --max-delay; a flag on the command line wins:
//
//	--server URL           the service; http only (http://drain-wait.drain-wait:8080)
//	--max-delay TIME       the most that the hook may take, fallback included (no
//	                       more than the pod's grace period allows)
//	--fallback TIME        how long to wait where the service cannot help (25s)
//	--settle TIME          passed on: the settle time, in place of that for the load
//	                       balancer's type
//	--ingress NAME         passed on: an Ingress whose load balancers count, too; may be
//	                       repeated
//	--strict               end with 1 where the service did not decide
//	--log-file FILE        where to say what happened (/proc/1/fd/1)
//
// A TIME is seconds, as in 60, or a duration with a unit, as in 1m30s.
//
// # Which pod
//
// The service is told $POD_NAME, $POD_IP and $POD_NAMESPACE, as far as they are
// set. In place of the namespace stands that of the service account. Where
// neither name nor address is set, it is told the address of this end of the
// connection, so that translation on the way does no harm; and where that is of
// no use, it goes by the caller's. A pod in the host network shares its address
// and needs $POD_NAME. Proxies named in the environment are not used.
//
// # How long it holds the pod
//
// As long as the service does. The service answers when the load balancers are
// done with the pod, and in time before its grace period is over: that leaves
// min(5 s, 20 % of it) to the application. So one hook suits an ALB and an NLB. A
// --max-delay is for an application that needs longer to shut down; the service
// is then asked for one or two seconds less.
//
// # What it does about trouble
//
// A replica of the service that cannot be reached, answers 503 or breaks the
// connection is trouble that passes: the hook asks again, over a new connection
// to a name that it has looked up anew. Where nobody answers it ends when
// --fallback is over, and has waited no longer than that.
//
// To be held by the service is no trouble, however long it lasts. Where such a
// connection breaks, another replica is asked for --fallback from that moment on,
// until one holds the hook again. Where a replica is stopped and says so, with a
// 503 that names the budget of the wait that it cuts, others are asked until that
// budget is over. What breaks within three seconds did not hold the hook.
//
// Any other refusal, such as 404 or 422, will not change: it waits for --fallback.
//
// All of this ends with --max-delay where that is given. A hook that has done
// without an answer tells the service, which counts it in
// drain_wait_fallbacks_total, if it can.
//
// An answer can mean that the time was too short: the line then says that requests
// may fail, and the service's warnings in it what to set.
//
// One line says what happened, and an earlier one that there is trouble. They go
// to the standard output of the container's first process, so that `kubectl
// logs` shows why a pod lingered, or else to standard error, and are lost where
// neither takes them.
//
// It ends with 0, with 1 where --strict asks for it, or with 2 where it was
// started in a wrong way. That includes a flag that it does not know; it then
// still waits for --fallback, since a hook that ends at once costs requests.
//
// A signal ends it at once. The kubelet sends none to a hook: it kills it
// together with its container when the grace period is over.
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
	"strconv"
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
		fmt.Fprintln(stderr, "prestop: want no command, install DIR or version; prestop --help says more")
		return 2
	}
	if err != nil {
		fmt.Fprintln(stderr, "prestop:", err)
		return 1
	}
	return 0
}

func runHook(args []string, stdout, stderr io.Writer) int {
	h, o := newHook(os.Getenv), options{}
	flags := o.flags(h)
	err := parse(flags, args, os.LookupEnv)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(stdout, "prestop waits until the pod may stop. Its flags:")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return 0
	}
	h.say = func(format string, a ...any) { say(o.logFile, stderr, fmt.Sprintf(format, a...)) }
	switch {
	case err != nil:
		wait := min(h.fallback, h.maxDelay)
		h.say("%v; waiting %s", err, wait)
		time.Sleep(wait)
		return 2
	case !h.run() && o.strict:
		return 1
	default:
		return 0
	}
}

// options are the flags that do not concern the hook itself.
type options struct {
	strict  bool
	logFile string
}

// flags makes the flags of the hook, and sets the defaults.
func (o *options) flags(h *hook) *flag.FlagSet {
	f := flag.NewFlagSet("prestop", flag.ContinueOnError)
	f.SetOutput(io.Discard) // an error is said once, where the rest is said
	f.Func("server", "`URL` of the service (default http://drain-wait.drain-wait:8080)", func(v string) (err error) {
		h.server, err = parseServer(v)
		return err
	})
	f.Func(api.MaxDelay, "the most `time` that the hook may take, fallback included (default: no more than the pod's grace period allows)",
		(*duration)(&h.maxDelay).Set)
	f.Var((*duration)(&h.fallback), "fallback", "`time` to wait where the service cannot help")
	passOn := func(name string) func(string) error {
		return func(v string) error { h.query.Add(name, v); return nil }
	}
	f.Func(api.Settle, "passed on: the settle `time`, in place of that for the load balancer's type", passOn(api.Settle))
	f.Func(api.Ingress, "passed on: `name` of an Ingress whose load balancers count, too; may be repeated", passOn(api.Ingress))
	f.BoolVar(&o.strict, "strict", false, "end with 1 where the service did not decide")
	f.StringVar(&o.logFile, "log-file", "/proc/1/fd/1", "`file` in which to say what happened; standard error where it cannot be written")
	return f
}

// parse sets the flags from the environment and the command line. A bad variable
// does not keep the rest from being set.
func parse(f *flag.FlagSet, args []string, lookup func(string) (string, bool)) (failed error) {
	f.VisitAll(func(fl *flag.Flag) {
		name := "DRAIN_WAIT_" + strings.ToUpper(strings.ReplaceAll(fl.Name, "-", "_"))
		value, ok := lookup(name)
		if !ok || value == "" || onCommandLine(args, fl.Name) {
			return
		}
		if err := f.Set(fl.Name, value); err != nil {
			failed = fmt.Errorf("environment variable %s: %w", name, err)
		}
	})
	if err := f.Parse(args); err != nil {
		return err
	}
	if f.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", f.Arg(0))
	}
	return failed
}

// onCommandLine says whether a flag is given there: the environment must not add
// to a flag that may be repeated.
func onCommandLine(args []string, name string) bool {
	for _, a := range args {
		a, _, _ = strings.Cut(a, "=")
		if a == "-"+name || a == "--"+name {
			return true
		}
	}
	return false
}

func parseServer(v string) (*url.URL, error) {
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" || u.Hostname() == "" {
		return nil, errors.New("want http://host:port")
	}
	return u, nil
}

// duration is a flag: seconds, or a Go duration.
type duration time.Duration

// String implements [flag.Value].
func (d *duration) String() string { return time.Duration(*d).String() }

// Set implements [flag.Value].
func (d *duration) Set(v string) error {
	parsed, err := time.ParseDuration(v)
	if s, notNumber := strconv.ParseUint(v, 10, 31); notNumber == nil {
		parsed, err = time.Duration(s)*time.Second, nil
	}
	if err != nil || parsed < 0 {
		return errors.New("want seconds, as in 60, or a duration with a unit, as in 1m30s")
	}
	*d = duration(parsed)
	return nil
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
		// A replica whose node is gone says nothing more: keep-alive probes find
		// that out within a quarter of a minute.
		dial: (&net.Dialer{KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 5 * time.Second, Interval: 3 * time.Second, Count: 3}}).DialContext,
	}
	name := getenv("POD_NAME")
	if namespace == "" {
		name = "" // it would be refused
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

// install copies this program to dir/prestop. Whoever runs dir/prestop gets an
// old or the new one, and never a part.
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
