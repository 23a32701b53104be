package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/spf13/cobra"
	"k8s.io/client-go/rest"
	"k8s.io/klog/v2"

	"drainwait/internal/drain"
	"drainwait/internal/elb"
	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
)

// demoOptions are the flags of `demo`.
type demoOptions struct {
	seed   uint64
	speed  float64
	output string
}

func newDemoCommand() *cobra.Command {
	var o demoOptions
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Roll a deployment under load in simulated worlds, once for each way to delay a pod's stop",
		Long: "demo rolls one deployment behind an ALB under client load, once for each preStop policy,\n" +
			"in simulated worlds that run side by side and sped up. Where the policy is drain-wait, the\n" +
			"service that runs is the real one, with every duration divided by the speed.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.Uint64Var(&o.seed, "seed", 1, "what everything drawn by chance depends on")
	f.Float64Var(&o.speed, "speed", 10, "seconds of the worlds in one real second")
	f.StringVar(&o.output, "output", "table", "table or json")
	return cmd
}

func (o demoOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	switch {
	case o.speed < 1 || o.speed > 20:
		return fmt.Errorf("--speed %v: want 1 to 20; faster than that a process on a busy machine falls behind its world", o.speed)
	case o.output != "table" && o.output != "json":
		return fmt.Errorf("--output %q: want table or json", o.output)
	}
	klog.SetSlogLogger(slog.New(slog.DiscardHandler))
	worlds := rollouts()
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	show := newProgress(stderr, len(worlds))
	rows := make([]row, len(worlds))
	var running sync.WaitGroup
	for i, r := range worlds {
		running.Go(func() {
			var err error
			if rows[i], err = o.roll(ctx, r); err != nil {
				cancel(fmt.Errorf("%s, %s: %w", r.scenario.name, r.policy.name, err))
				return
			}
			show.finished(rows[i])
		})
	}
	running.Wait()
	show.stop()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if err := o.print(stdout, rows, time.Since(began)); err != nil {
		return err
	}
	return check(worlds, rows)
}

// check is the verdict on the whole: drain-wait must keep its promise where the
// tail is within the settle time, and a world in which nothing happened proves
// nothing.
func check(worlds []rollout, rows []row) error {
	var errs []error
	for i, r := range rows {
		if replicas := worlds[i].scenario.replicas; r.Requests == 0 || r.Pods != replicas {
			errs = append(errs, fmt.Errorf("%s, %s: nothing was measured (%d requests, %d of %d pods rolled)", r.Scenario, r.Policy, r.Requests, r.Pods, replicas))
		}
		if worlds[i].mustHold() && r.Failed > 0 {
			errs = append(errs, fmt.Errorf("%s, %s: %d requests failed", r.Scenario, r.Policy, r.Failed))
		}
	}
	return errors.Join(errs...)
}

func (o demoOptions) print(out io.Writer, rows []row, took time.Duration) error {
	if o.output == "json" {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		return enc.Encode(struct {
			Seed  uint64  `json:"seed"`
			Speed float64 `json:"speed"`
			Rows  []row   `json:"rows"`
		}{o.seed, o.speed, rows})
	}
	fmt.Fprintf(out, "Rolling updates behind a load balancer at %d requests per second; seed %d.\n", simLoad, o.seed)
	fmt.Fprintf(out, "Times are seconds of the simulated worlds, which ran side by side at %g times real time in %.0f s.\n\n", o.speed, took.Seconds())
	t := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "world\tpreStop\tfailed requests\tof\tpod held, mean\tlongest\trollout\tAWS calls\t\t")
	previous := ""
	for _, r := range rows {
		name := r.Scenario
		if name == previous {
			name = ""
		} else if previous != "" {
			fmt.Fprintln(t, "\t\t\t\t\t\t\t\t\t")
		}
		previous = r.Scenario
		fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%.1f s\t%.1f s\t%.0f s\t%d\t%s\t\n",
			name, r.Policy, r.Failed, r.Requests, r.HeldMean, r.HeldMax, r.RolloutSeconds, r.AWSCalls, r.Verdict)
	}
	if err := t.Flush(); err != nil {
		return fmt.Errorf("print table: %w", err)
	}
	typical, worst := simaws.TypicalTail, simaws.WorstTail
	settle := drain.DefaultConfig()
	_, err := fmt.Fprintf(out, `
ALB, NLB:       after deregistration the load balancer goes on sending for up to %.0f s (ALB), %.0f s (NLB).
leader change:  besides, nothing deregisters for 15 to 30 s while the controller changes its leader.
worst tail:     the load balancer goes on for up to %.0f s (ALB), %.0f s (NLB). The settle times that ship,
                %.0f s and %.0f s, do not cover that: drain-wait is expected to fail here, and with settle=0.
`, typical.ALB.Max.Seconds(), typical.NLB.Max.Seconds(), worst.ALB.Max.Seconds(), worst.NLB.Max.Seconds(),
		settle.SettleALB.Seconds(), settle.SettleNLB.Seconds())
	return err
}

// roll plays one rollout in a world of its own, over sockets and in real time.
func (o demoOptions) roll(ctx context.Context, r rollout) (row, error) {
	w := sim.New(sim.Config{Seed: o.seed, Speed: o.speed, Assumptions: r.assumptions()})
	s, err := serveWorld(w, "127.0.0.1:0")
	if err != nil {
		return row{}, err
	}
	defer s.stop()
	var url string
	var ready func() bool
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if r.service {
		svc, err := startDemoService(ctx, s, r.drainConfig(), o.speed)
		if err != nil {
			return row{}, err
		}
		defer svc.wait()
		defer cancel()
		s.failed, url, ready = svc.failed, svc.url, svc.isReady
	}
	done := make(chan row, 1)
	r.plan(w, url, ready, func(m row) { done <- m })
	s.start()
	select {
	case m := <-done:
		return m, nil
	case err := <-s.failed:
		return row{}, err
	case <-ctx.Done():
		return row{}, ctx.Err()
	}
}

// demoService is the real service in a world of the demo.
type demoService struct {
	*service
	url    string
	failed chan error
	wait   func()
}

func startDemoService(ctx context.Context, s *simulation, cfg drain.Config, speed float64) (*demoService, error) {
	hooks, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for hooks: %w", err)
	}
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for probes: %w", err)
	}
	svc, err := newService(serviceConfig{
		aws: aws.Config{
			Region:       simaws.Region,
			Credentials:  credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
			BaseEndpoint: &s.url,
		},
		kubernetes: &rest.Config{Host: s.url},
		drain:      fasterDrain(cfg, speed),
		elb:        fasterELB(elb.DefaultConfig(), speed),
		log:        slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return nil, err
	}
	d := &demoService{service: svc, url: "http://" + hooks.Addr().String(), failed: make(chan error, 1)}
	over := make(chan struct{})
	d.wait = func() { <-over }
	go func() {
		defer close(over)
		if err := svc.run(ctx, hooks, admin); err != nil {
			d.failed <- err
		}
	}()
	return d, nil
}

// fasterDrain and fasterELB divide every duration of the service by the speed
// of the world. Only the time-out of a call stays: it is not waited for, and a
// busy machine needs it.

func fasterDrain(c drain.Config, speed float64) drain.Config {
	for _, d := range []*time.Duration{&c.SettleALB, &c.SettleNLB, &c.MaxDelay, &c.Reserve, &c.OneLook, &c.TerminationCheck} {
		*d = time.Duration(float64(*d) / speed)
	}
	return c
}

func fasterELB(c elb.Config, speed float64) elb.Config {
	for _, d := range []*time.Duration{&c.Steady, &c.Busy, &c.Spacing} {
		*d = time.Duration(float64(*d) / speed)
	}
	c.Rate *= speed
	return c
}
