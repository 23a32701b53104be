package cli

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"drainwait/internal/api"
	"drainwait/internal/rollout"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// worldOptions say what is in the world of `sim` and of `serve --simulate`.
type worldOptions struct {
	listenAddress string
	seed          uint64
	speed         float64
	replicas      int
	hookURL       string
	rollEvery     time.Duration
}

// simOptions are the flags of `sim`.
type simOptions struct {
	worldOptions
	dir string
	log logOptions
}

func newSim() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run a simulated AWS account and Kubernetes cluster on loopback",
		Long: "sim runs one simulated world on loopback: the APIs of ELBv2, STS and Kubernetes, a\n" +
			"deployment behind an ALB, the AWS Load Balancer Controller, and clients with a steady load.\n" +
			"It writes a kubeconfig and an AWS credentials file, prints how to use them, and removes\n" +
			"them at the end.",
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listenAddress, "listen-address", "127.0.0.1:0", "loopback address of the simulated APIs")
	f.StringVar(&o.dir, "dir", "", "directory for the kubeconfig and the AWS files (default: a new temporary one)")
	f.Uint64Var(&o.seed, "seed", 1, "seed of everything that chance decides")
	f.Float64Var(&o.speed, "speed", 1, "seconds in the world for each real second")
	f.IntVar(&o.replicas, "replicas", 3, "number of pods in the deployment")
	f.StringVar(&o.hookURL, "hook-url", "", "service that the pods' preStop hooks ask, as in http://127.0.0.1:8080 (default: none; hooks last for the whole grace period, so you can play the hook)")
	f.Var((*api.Duration)(&o.rollEvery), "roll-every", "how often to roll the deployment, in the world's time (default: never)")
	o.log.register(f)
	return cmd
}

func (o *simOptions) validate() error {
	switch {
	case o.speed <= 0:
		return fmt.Errorf("--speed %v: want more than 0", o.speed)
	case o.replicas < 1:
		return fmt.Errorf("--replicas %d: want 1 or more", o.replicas)
	}
	if o.hookURL != "" {
		u, err := api.ParseService(o.hookURL)
		if err != nil {
			return fmt.Errorf("--hook-url %q: %w", o.hookURL, err)
		}
		o.hookURL = u.String()
	}
	return nil
}

func (o *simOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	log, err := o.log.logger(stderr)
	if err != nil {
		return err
	}
	s, pod, err := startWorld(o.worldOptions, log)
	if err != nil {
		return err
	}
	defer s.stop()
	files := worldFiles{dir: o.dir, url: s.url}
	defer files.remove()
	if err := files.write(); err != nil {
		return err
	}
	fmt.Fprint(stdout, files.manual(pod))
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// The one application of the world that `sim` runs.
const (
	simNamespace = "default"
	simApp       = "web"
)

// startWorld starts a simulation with an application in it, and returns its first pod.
func startWorld(o worldOptions, log *slog.Logger) (s *simulation, pod sim.PodReport, err error) {
	w := sim.New(sim.Config{Seed: o.seed, Speed: o.speed, Assumptions: sim.DefaultAssumptions()})
	hook := sim.Hook{Hold: true}
	if o.hookURL != "" {
		hook = sim.Hook{URL: o.hookURL, MaxDelay: time.Minute, Fallback: rollout.Fallback}
	}
	deployment, group := w.AddApp(sim.App{
		Namespace: simNamespace, Name: simApp, Kind: aws.ALB, Replicas: o.replicas, Port: 8080,
		Grace: 90 * time.Second, Hook: hook,
	})
	if s, err = newSimulation(w, o.listenAddress); err != nil {
		return nil, pod, err
	}
	w.WhenUp(deployment, nil, func() {
		w.AddClients(group, rollout.Load)
		if o.rollEvery > 0 {
			rollAgainAndAgain(w, deployment, o.rollEvery, log)
		}
	})
	pod = *w.Pods()[0]
	s.start()
	return s, pod, nil
}

// rollAgainAndAgain rolls a deployment over and over while the world runs, and logs
// what the clients saw.
func rollAgainAndAgain(w *sim.World, d *sim.Deployment, every time.Duration, log *slog.Logger) {
	w.After(every, func() {
		log.Info("simulation: rolling the deployment")
		w.Rollout(d, nil, func() {
			stats := w.Stats()
			log.Info("simulation: rollout done", "requests", stats.Requests, "failed", stats.Failed)
			rollAgainAndAgain(w, d, every, log)
		})
	})
}

// worldFiles are the files by which a service and kubectl find a world.
type worldFiles struct {
	dir       string // empty for a temporary one
	url       string // of the world's APIs
	temporary bool
	written   []string
}

func (f *worldFiles) write() (err error) {
	if f.dir == "" {
		f.temporary = true
		f.dir, err = os.MkdirTemp("", "drain-wait-sim-")
	} else {
		err = os.MkdirAll(f.dir, 0o755)
	}
	if err != nil {
		return fmt.Errorf("make directory for the kubeconfig: %w", err)
	}
	environment := []string{
		"AWS_ENDPOINT_URL=" + f.url,
		"AWS_SHARED_CREDENTIALS_FILE=" + f.path("credentials"),
		"KUBECONFIG=" + f.path("kubeconfig"),
	}
	for name, text := range map[string]string{
		"kubeconfig":  fmt.Sprintf(kubeconfigText, f.url),
		"credentials": fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", aws.AccessKeyID, aws.SecretAccessKey),
		"env":         "export " + strings.Join(environment, "\nexport ") + "\n",
	} {
		if err := os.WriteFile(f.path(name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
		f.written = append(f.written, f.path(name))
	}
	return nil
}

// remove removes what write made. Nobody needs to know if that fails.
func (f *worldFiles) remove() {
	for _, name := range f.written {
		_ = os.Remove(name)
	}
	if f.temporary {
		_ = os.Remove(f.dir)
	}
}

func (f *worldFiles) path(name string) string { return filepath.Join(f.dir, name) }

const kubeconfigText = `apiVersion: v1
kind: Config
clusters:
- name: sim
  cluster: {server: %q}
contexts:
- name: sim
  context: {cluster: sim, user: sim, namespace: default}
users:
- name: sim
  user: {}
current-context: sim
`

func (f *worldFiles) manual(pod sim.PodReport) string {
	return fmt.Sprintf(`A simulated cluster and AWS account are at %[1]s until you press ^C.

# In another terminal: run the service, as for a real cluster.
. %[2]s
go run . --aws-profile default --aws-region us-east-1 --kubeconfig %[3]s

# In a third terminal: look around, play the kubelet, and play the pod's preStop hook.
kubectl --kubeconfig %[3]s get svc,ingress,pods
curl -X DELETE %[1]s/api/v1/namespaces/%[4]s/pods/%[5]s
curl 'localhost:8080/drain-delay?max-delay=60&ip=%[6]s&namespace=%[4]s&ingress=%[7]s'

`, f.url, f.path("env"), f.path("kubeconfig"), pod.Namespace, pod.Name, pod.IP, simApp)
}

// simulated gives the service a world of its own, whose pods' hooks ask it.
func (o *serveOptions) simulated(port string) (*simulation, error) {
	s, _, err := startWorld(worldOptions{
		listenAddress: "127.0.0.1:0", seed: 1, speed: 1, replicas: 3,
		hookURL: "http://127.0.0.1:" + port, rollEvery: 2 * time.Minute,
	}, o.Log)
	if err != nil {
		return nil, err
	}
	s.connect(&o.Config)
	o.Log.Info("simulation: started", "apis", s.url)
	return s, nil
}
