package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"drainwait/internal/drain"
	"drainwait/internal/rollout"
	"drainwait/internal/service"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// demoOptions are the flags of `demo`.
type demoOptions struct {
	seed   uint64
	speed  float64
	output string
}

func newDemo() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Roll a deployment under load in simulated worlds, once for each way to delay a pod's stop",
		Long: "demo rolls a deployment behind a load balancer while clients send requests, once for each\n" +
			"preStop policy. The worlds are simulated; they run side by side and sped up. For the policy\n" +
			"drain-wait the real service runs, with every duration divided by the speed.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.seed, "seed", 1, "seed of everything that chance decides")
	f.Float64Var(&o.speed, "speed", 10, "seconds in the worlds for each real second")
	f.StringVar(&o.output, "output", "table", "table or json")
	return cmd
}

func (o demoOptions) validate() error {
	switch {
	case o.speed < 1 || o.speed > 20:
		return fmt.Errorf("--speed %v: want 1 to 20; above that, a busy machine cannot keep up with its worlds", o.speed)
	case o.output != "table" && o.output != "json":
		return fmt.Errorf("--output %q: want table or json", o.output)
	}
	return nil
}

func (o demoOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	began := time.Now()
	results, err := o.rollAll(ctx, stderr)
	if err != nil {
		return err
	}
	if o.output == "json" {
		err = printJSON(stdout, struct {
			Seed  uint64           `json:"seed"`
			Speed float64          `json:"speed"`
			Rows  []rollout.Result `json:"rows"`
		}{o.seed, o.speed, results})
	} else {
		err = o.printTable(stdout, results, time.Since(began))
	}
	for i, r := range rollout.All() {
		err = errors.Join(err, r.Check(results[i]))
	}
	return err
}

// rollAll plays all rollouts side by side.
func (o demoOptions) rollAll(ctx context.Context, stderr io.Writer) ([]rollout.Result, error) {
	rollouts := rollout.All()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var finished atomic.Int32
	defer showStatus(stderr, func() string { return fmt.Sprintf("%d of %d worlds done", finished.Load(), len(rollouts)) })()
	results := make([]rollout.Result, len(rollouts))
	var running sync.WaitGroup
	for i, r := range rollouts {
		running.Go(func() {
			var err error
			if results[i], err = o.roll(ctx, r); err != nil {
				cancel(fmt.Errorf("%s: %w", r, err))
				return
			}
			finished.Add(1)
		})
	}
	running.Wait()
	return results, context.Cause(ctx)
}

// roll plays one rollout in its own world, over sockets and in real time.
func (o demoOptions) roll(ctx context.Context, r rollout.Rollout) (rollout.Result, error) {
	var none rollout.Result
	w := sim.New(sim.Config{Seed: o.seed, Speed: o.speed, Assumptions: r.Assumptions()})
	s, err := newSimulation(w, "127.0.0.1:0")
	if err != nil {
		return none, err
	}
	defer s.stop()
	var url string
	var ready func() bool
	if r.Policy.DrainWait {
		svc, hooks, stop, err := o.startService(s)
		if err != nil {
			return none, err
		}
		defer stop()
		url, ready = hooks, svc.IsReady
	}
	done := make(chan rollout.Result, 1)
	r.Plan(w, url, ready, func(m rollout.Result) { done <- m })
	s.start()
	select {
	case m := <-done:
		return m, nil
	case err := <-s.failed:
		return none, err
	case <-ctx.Done():
		return none, ctx.Err()
	}
}

// startService runs the real service in a world of the demo, and says where it
// answers hooks.
func (o demoOptions) startService(s *simulation) (svc *service.Service, url string, stop func(), err error) {
	hooks, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, fmt.Errorf("listen for hooks: %w", err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, "", nil, fmt.Errorf("listen for probes: %w", err)
	}
	cfg := service.DefaultConfig()
	cfg.Log = slog.New(slog.DiscardHandler)
	hurry(&cfg, o.speed)
	s.connect(&cfg)
	if svc, err = service.New(cfg); err != nil {
		return nil, "", nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	var over sync.WaitGroup
	over.Go(func() {
		if err := svc.Serve(ctx, hooks, admin); err != nil {
			s.failed <- err
		}
	})
	return svc, "http://" + hooks.Addr().String(), func() { cancel(); over.Wait() }, nil
}

// hurry divides every duration of the service by the speed of its world. Only the
// time-out of a call stays as it is: nobody waits for it, and a busy machine needs it.
func hurry(c *service.Config, speed float64) {
	for _, d := range []*time.Duration{
		&c.Drain.SettleALB, &c.Drain.SettleNLB, &c.Drain.MaxDelay, &c.Drain.Reserve, &c.Drain.OneLook, &c.Drain.TerminationCheck,
		&c.ELB.Steady, &c.ELB.Busy, &c.ELB.Spacing, &c.Server.Quiet, &c.Server.Grace,
	} {
		*d = time.Duration(float64(*d) / speed)
	}
	c.ELB.Rate *= speed
}

// Widths of the table's columns, which fit a terminal with 80.
const (
	worldWidth = 27
	cellWidth  = 13
)

// printTable prints a row for each world and a column for each policy: how many
// requests failed, or, if none did, how long a pod was held.
func (o demoOptions) printTable(out io.Writer, results []rollout.Result, took time.Duration) error {
	policies := rollout.Policies()
	fmt.Fprintf(out, "A deployment is rolled at %d requests per second. How many failed, or, where\n"+
		"none did, for how long preStop held a pod (seed %d, %gx real time, %.0f s):\n\n",
		rollout.Load, o.seed, o.speed, took.Seconds())
	fmt.Fprintf(out, "%-*s", worldWidth, "")
	for _, p := range policies {
		fmt.Fprintf(out, "%*s", cellWidth, p.Name)
	}
	fmt.Fprintln(out)
	colour := isTerminal(out)
	for i, r := range results {
		if i%len(policies) == 0 {
			fmt.Fprintf(out, "%-*s", worldWidth, r.Scenario)
		}
		fmt.Fprint(out, cell(r, colour))
		if i%len(policies) == len(policies)-1 {
			fmt.Fprintln(out)
		}
	}
	typical, worst, settle := aws.TypicalTail, aws.WorstTail, drain.DefaultConfig()
	fmt.Fprintf(out, `
After deregistration a load balancer goes on sending for up to %.0f s (ALB) or
%.0f s (NLB); in the worst tail for %.0f s or %.0f s, which the settle times that
ship, %.0f s and %.0f s, do not cover: drain-wait is expected to fail there.
`, typical.ALB.Max.Seconds(), typical.NLB.Max.Seconds(), worst.ALB.Max.Seconds(), worst.NLB.Max.Seconds(),
		settle.SettleALB.Seconds(), settle.SettleNLB.Seconds())
	_, err := fmt.Fprintf(out, "\n%s\n", sums(results))
	return err
}

// cell is one result, as wide as the cell in any colour.
func cell(r rollout.Result, colour bool) string {
	text, code := fmt.Sprintf("ok %.0f s", r.HeldMean), "32"
	if r.Failed > 0 {
		text, code = fmt.Sprintf("FAILS %d", r.Failed), "31"
	}
	padding := fmt.Sprintf("%*s", cellWidth-len(text), "")
	if !colour {
		return padding + text
	}
	return padding + "\x1b[" + code + "m" + text + "\x1b[0m"
}

// sums compares drain-wait with sleep 60, over the worlds whose tails the settle times
// cover.
func sums(results []rollout.Result) string {
	failed, held := make(map[string]int), make(map[string]float64)
	worlds := 0
	for i, r := range rollout.All() {
		if r.Scenario.Covered {
			failed[r.Policy.Name] += results[i].Failed
			held[r.Policy.Name] += results[i].HeldMean
			if r.Policy.DrainWait {
				worlds++
			}
		}
	}
	mean := func(policy string) float64 { return held[policy] / float64(worlds) }
	return fmt.Sprintf("Worlds 1-%d: drain-wait failed %d, held %.0f s; sleep 60 failed %d, held %.0f s.",
		worlds, failed["drain-wait"], mean("drain-wait"), failed["sleep 60"], mean("sleep 60"))
}
