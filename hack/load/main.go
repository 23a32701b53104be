// Load shows what the service costs and what it withstands, in processes of their own on
// loopback: the real `drain-wait serve`, a simulated cluster and AWS account, callers, and
// for the second table fools, whose calls nobody needs.
//
//	go run ./hack/load [-short] [-only regexp] [-waits 7000] [-memory 512]
//
// Each figure is printed with its bound, and ok or OVER. It fails if one is over. With
// -short the loads are smaller, and times are printed but not judged: that is the form for
// CI. It needs Linux, where all of 127.0.0.0/8 is loopback, and go in $PATH.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"syscall"
	"time"
)

// options are the flags, and what follows from them.
type options struct {
	short  bool
	only   *regexp.Regexp
	waits  int
	memory int    // the limit of the server's memory, in MiB
	goMem  int    // its GOMEMLIMIT, in MiB
	dir    string // for binaries and files, deleted at the end
}

func main() {
	if len(os.Args) > 2 && os.Args[1] == "world" {
		exit(worldMain(os.Args[2:]))
	}
	if len(os.Args) > 2 && os.Args[1] == "fool" {
		exit(foolMain(os.Args[2:]))
	}
	var o options
	flag.BoolVar(&o.short, "short", false, "smaller loads; judge counts, memory and calls, not times")
	only := flag.String("only", "", "run those scenarios alone whose name matches this `regexp`")
	flag.IntVar(&o.waits, "waits", 0, "how many waits to hold (default 7000; 2000 with -short)")
	flag.IntVar(&o.memory, "memory", 0, "limit of the server's memory in `MiB` (default: the manifest's)")
	flag.Parse()
	exit(o.run(*only))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (o *options) run(only string) (err error) {
	if o.only, err = regexp.Compile(only); err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	if o.waits == 0 {
		o.waits = scaled(o.short, 7000, 2000)
	}
	if err := o.checkFiles(); err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, 20*time.Minute)
	defer cancel()
	if o.dir, err = os.MkdirTemp("", "drain-wait-load-"); err != nil {
		return err
	}
	defer os.RemoveAll(o.dir)
	if err := o.prepare(ctx); err != nil {
		return err
	}
	fmt.Printf("%d waits; memory limit %d MiB, GOMEMLIMIT %d MiB; %d CPUs for all processes together, %s.\n",
		o.waits, o.memory, o.goMem, runtime.NumCPU(), runtime.Version())
	over := 0
	for _, scenario := range []func(context.Context, *options) (*table, error){held, hostile} {
		t, err := scenario(ctx, o)
		if err != nil {
			return err
		}
		over += t.print(os.Stdout)
	}
	if over > 0 {
		return fmt.Errorf("%d figures are OVER", over)
	}
	return nil
}

// checkFiles makes sure that sockets for all waits, or for the idle connections, can be open
// in one process. Go's own start has raised the soft limit to the hard one.
func (o *options) checkFiles() error {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return err
	}
	if need := uint64(max(o.waits, o.scale(10_000)) + 500); limit.Max < need {
		return fmt.Errorf("a process may open %d files, and this needs %d: raise the hard limit, or give -short or fewer -waits", limit.Max, need)
	}
	return nil
}

// scale is the size of a hostile load.
func (o *options) scale(n int) int { return scaled(o.short, n, min(n, 2000)) }

func scaled[T any](short bool, whole, less T) T {
	if short {
		return less
	}
	return whole
}

// prepare builds the server, and reads what its manifest says of memory.
func (o *options) prepare(ctx context.Context) error {
	build := exec.CommandContext(ctx, "go", "build", "-ldflags", "-s -w", "-o", o.server(), "drainwait")
	build.Stderr = os.Stderr
	if err := build.Run(); err != nil {
		return fmt.Errorf("build the server: %w (call this from the root of the checkout)", err)
	}
	manifest, err := os.ReadFile("deploy/deployment.yaml")
	if err != nil {
		return err
	}
	memory, goMem, err := manifestMemory(string(manifest))
	if err != nil {
		return err
	}
	if o.memory == 0 {
		o.memory = memory
	}
	o.goMem = o.memory * goMem / memory
	return nil
}

func (o *options) server() string { return filepath.Join(o.dir, "drain-wait") }
