package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"

	"drainwait/internal/api"
	"drainwait/internal/server"
	"drainwait/internal/service"
)

// waitOptions are the flags of `wait`.
type waitOptions struct {
	serviceOptions
	server string
	query  url.Values // what a hook would send
	output string
	log    logOptions
}

func newWait(b build) *cobra.Command {
	o := waitOptions{query: make(url.Values)}
	cmd := &cobra.Command{
		Use:   "wait",
		Short: "Carry out one wait in the foreground, or ask a service for it",
		Long: "wait does for one pod what the service does for a preStop hook, with your own rights, and\n" +
			"prints what it sees. With --server it asks a running service instead.\n" +
			"It exits with 0 when the pod may stop, whatever the outcome, and with 1 if no wait was possible.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	passOn := func(name, usage string) {
		f.Func(name, usage, func(v string) error { o.query.Add(name, v); return nil })
	}
	passOn(api.IP, "address of the target")
	passOn(api.Pod, "name of the pod, instead of --ip; needs --namespace")
	passOn(api.Namespace, "namespace of the pod")
	passOn(api.Ingress, "an Ingress whose load balancers count too; may be repeated")
	passOn(api.MaxDelay, "longest that the wait may take: seconds, or a duration such as 90s; 0 means one look (default: as long as the pod's grace period allows)")
	passOn(api.Settle, "settle time, instead of the one for the load balancer's type")
	f.StringVar(&o.server, "server", "", "ask the service at this address, as in drain-wait.drain-wait:8080, instead of the cluster and AWS")
	f.StringVar(&o.output, "output", "text", "text or json (the body of the service's answer)")
	o.serviceOptions.register(f, b)
	o.log.register(f)
	return cmd
}

func (o *waitOptions) validate() error {
	switch {
	case o.query.Get(api.IP) == "" && o.query.Get(api.Pod) == "" && o.server == "":
		return errors.New("say which pod: --ip, or --pod with --namespace")
	case o.output != "text" && o.output != "json":
		return fmt.Errorf("--output %q: want text or json", o.output)
	}
	return o.serviceOptions.validate()
}

func (o *waitOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	var a *api.Answer
	var err error
	if o.server != "" {
		a, err = o.ask(ctx, stderr)
	} else {
		a, err = o.wait(ctx, stdout, stderr)
	}
	if err != nil {
		return err
	}
	if o.output == "json" {
		return printJSON(stdout, a)
	}
	return printAnswer(stdout, a)
}

// ask has a service carry out the wait.
func (o *waitOptions) ask(ctx context.Context, stderr io.Writer) (*api.Answer, error) {
	u, err := api.ParseService(o.server)
	if err != nil {
		return nil, fmt.Errorf("--server %q: %w", o.server, err)
	}
	defer showStatus(stderr, func() string { return "waiting for the answer of " + u.Host })()
	full := u.JoinPath(api.DrainDelayPath)
	full.RawQuery = o.query.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, full.String(), http.NoBody)
	if err != nil {
		return nil, fmt.Errorf("--server %q: %w", o.server, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, fmt.Errorf("ask the service: %w", err)
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusOK {
		a := new(api.Answer)
		if err := json.NewDecoder(resp.Body).Decode(a); err != nil {
			return nil, fmt.Errorf("read the answer of %s: %w", o.server, err)
		}
		return a, nil
	}
	var f api.Failure
	if err := json.NewDecoder(resp.Body).Decode(&f); err != nil || f.Message == "" {
		return nil, fmt.Errorf("%s answers %s; is it a drain-wait service?", o.server, resp.Status)
	}
	return nil, fmt.Errorf("%s answers %s: %s", o.server, resp.Status, f.Message)
}

// readTimeout is how long reading the cluster may take.
const readTimeout = 30 * time.Second

// wait carries the wait out itself. As text, what the targets do is printed as it
// happens.
func (o *waitOptions) wait(ctx context.Context, stdout, stderr io.Writer) (a *api.Answer, err error) {
	if o.Log, err = o.log.logger(stderr); err != nil {
		return nil, err
	}
	klog.SetSlogLogger(o.Log)
	req, err := server.ParseQuery(o.query)
	if err != nil {
		return nil, err
	}
	if o.output == "text" {
		req.OnStep = func(arn string, s api.StepAnswer) {
			fmt.Fprintf(stdout, "%6.1f s  %s: %s\n", s.AfterSeconds, s.Event, arn)
		}
	}
	if err := o.connect(ctx); err != nil {
		return nil, err
	}
	s, err := service.New(o.Config)
	if err != nil {
		return nil, err
	}
	s.Start()
	defer s.Stop()
	if err := s.AwaitReady(ctx, readTimeout); err != nil {
		return nil, err
	}
	return s.Drainer.Wait(ctx, &req)
}

func printAnswer(out io.Writer, a *api.Answer) error {
	for _, w := range a.Warnings {
		fmt.Fprintf(out, "warning: %s\n", w)
	}
	if a.LastError != "" {
		fmt.Fprintf(out, "last error: %s\n", a.LastError)
	}
	for _, t := range a.Targets {
		fmt.Fprintf(out, "%s load balancer, %s: %s\n", t.LoadBalancerType, t.State, t.TargetGroupARN)
	}
	_, err := fmt.Fprintf(out, "%s after %.1f s of at most %.1f s (%s)\n", a.Outcome, a.WaitedSeconds, a.BudgetSeconds, a.BoundedBy)
	return err
}
