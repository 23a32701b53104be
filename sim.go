package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// simOptions are the flags of `sim`.
type simOptions struct {
	listenAddress string
	dir           string
	seed          uint64
	speed         float64
	replicas      int
	hookURL       string
	rollEvery     time.Duration
	log           logOptions
}

// forever is a world time that does not come.
const forever = 365 * 24 * time.Hour

func newSimCommand() *cobra.Command {
	var o simOptions
	cmd := &cobra.Command{
		Use:   "sim",
		Short: "Run a simulated AWS account and Kubernetes cluster on loopback",
		Long: "sim runs one simulated world on loopback: the APIs of ELBv2, STS and Kubernetes, a\n" +
			"deployment behind an ALB, the AWS Load Balancer Controller and clients under steady load.\n" +
			"It writes a kubeconfig and an AWS credentials file and prints how to use them.",
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	f.StringVar(&o.listenAddress, "listen-address", "127.0.0.1:0", "loopback address of the simulated APIs")
	f.StringVar(&o.dir, "dir", "", "directory for the kubeconfig and the AWS files (default: a new temporary one)")
	f.Uint64Var(&o.seed, "seed", 1, "what everything drawn by chance depends on")
	f.Float64Var(&o.speed, "speed", 1, "seconds of the world in one real second")
	f.IntVar(&o.replicas, "replicas", 3, "pods of the deployment")
	f.StringVar(&o.hookURL, "hook-url", "", "service that the pods' preStop hooks ask, as in http://127.0.0.1:8080 (default: hooks last for the grace period, so that you can be the hook)")
	f.DurationVar(&o.rollEvery, "roll-every", 0, "roll the deployment so often, in the world's time (default: never)")
	o.log.register(f)
	return cmd
}

func (o *simOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	log, err := o.log.logger(stderr)
	if err != nil {
		return err
	}
	s, err := startSim(*o, log)
	if err != nil {
		return err
	}
	defer s.stop()
	fmt.Fprint(stdout, s.manual())
	select {
	case <-ctx.Done():
		return nil
	case err := <-s.failed:
		return err
	}
}

// simulation is a world that runs in real time behind a loopback listener.
type simulation struct {
	world  *sim.World
	url    string
	dir    string
	pods   []*sim.PodReport
	failed chan error
	start  func()
	stop   func()
}

// The one application of the world that `sim` runs.
const (
	simNamespace = "default"
	simApp       = "web"
	simLoad      = 50 // requests per second of the world
)

func startSim(o simOptions, log *slog.Logger) (*simulation, error) {
	if o.speed <= 0 {
		return nil, fmt.Errorf("--speed %v: want more than 0", o.speed)
	}
	if o.replicas < 1 {
		return nil, fmt.Errorf("--replicas %d: want 1 or more", o.replicas)
	}
	w := sim.New(sim.Config{Seed: o.seed, Speed: o.speed, Assumptions: sim.DefaultAssumptions()})
	hook := sim.Hook{Hold: true}
	if o.hookURL != "" {
		hook = sim.Hook{URL: o.hookURL, MaxDelay: time.Minute, Fallback: 25 * time.Second}
	}
	deployment, group := w.AddApp(sim.App{
		Namespace: simNamespace, Name: simApp, Kind: aws.ALB, Replicas: o.replicas, Port: 8080,
		Grace: 90 * time.Second, Hook: hook,
	})
	s, err := serveWorld(w, o.listenAddress)
	if err != nil {
		return nil, err
	}
	s.pods = append(s.pods, w.Pods()...)
	w.WhenUp(deployment, nil, func() {
		w.AddClients(group, simLoad)
		if o.rollEvery > 0 {
			rollAgainAndAgain(w, deployment, o.rollEvery, log)
		}
	})
	if err := s.writeFiles(o.dir); err != nil {
		s.stop()
		return nil, err
	}
	s.start()
	return s, nil
}

// rollAgainAndAgain rolls a deployment for as long as the world runs, and logs
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

// serveWorld opens a world's APIs on an address; start begins to answer there
// and lets the world run.
func serveWorld(w *sim.World, address string) (*simulation, error) {
	host, _, err := net.SplitHostPort(address)
	if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsLoopback() {
		return nil, fmt.Errorf("--listen-address %q: want a loopback address with a port, as in 127.0.0.1:0: the simulated APIs let everybody in", address)
	}
	l, err := net.Listen("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen for the simulated APIs: %w", err)
	}
	mux := http.NewServeMux()
	mux.Handle("/", w.Kube.Handler())
	mux.Handle("/{$}", w.AWS.Handler())
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	s := &simulation{world: w, url: "http://" + l.Addr().String(), failed: make(chan error, 1)}
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = sync.OnceFunc(func() {
		cancel()
		w.Close()
		_ = srv.Close()
		_ = l.Close()
		running.Wait()
	})
	s.start = func() {
		running.Go(func() { w.Run(ctx, forever) })
		running.Go(func() {
			if err := srv.Serve(l); ctx.Err() == nil {
				s.failed <- fmt.Errorf("serve the simulated APIs: %w", err)
			}
		})
	}
	return s, nil
}

// writeFiles writes what a service and kubectl need to find the world.
func (s *simulation) writeFiles(dir string) error {
	if dir == "" {
		var err error
		if dir, err = os.MkdirTemp("", "drain-wait-sim-"); err != nil {
			return fmt.Errorf("make directory for the kubeconfig: %w", err)
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return fmt.Errorf("make directory for the kubeconfig: %w", err)
	}
	s.dir = dir
	for name, text := range map[string]string{
		"kubeconfig":  fmt.Sprintf(kubeconfigText, s.url),
		"credentials": fmt.Sprintf("[default]\naws_access_key_id = %s\naws_secret_access_key = %s\n", aws.AccessKeyID, aws.SecretAccessKey),
		"env":         "export " + strings.Join(s.environment(), "\nexport ") + "\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

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

// environment is what leads the AWS SDK and kubectl into the world.
func (s *simulation) environment() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + s.url,
		"AWS_SHARED_CREDENTIALS_FILE=" + filepath.Join(s.dir, "credentials"),
		"KUBECONFIG=" + filepath.Join(s.dir, "kubeconfig"),
	}
}

func (s *simulation) manual() string {
	pod := s.pods[0]
	return fmt.Sprintf(`A simulated cluster and AWS account are at %[1]s until you press ^C.

# In another terminal: the service, as it would run for a real cluster.
. %[2]s
go run . --aws-profile default --aws-region us-east-1 --kubeconfig %[3]s

# In a third one: be the kubelet. Delete a pod, and be its preStop hook.
curl -X DELETE %[1]s/api/v1/namespaces/%[4]s/pods/%[5]s
curl 'localhost:8080/drain-delay?max-delay=60&ip=%[6]s&namespace=%[4]s&ingress=%[7]s'

`, s.url, filepath.Join(s.dir, "env"), filepath.Join(s.dir, "kubeconfig"), pod.Namespace, pod.Name, pod.IP, simApp)
}

// startSimulation gives the service a world of its own, on loopback and by way
// of the environment, like any other.
func (o *serveOptions) startSimulation(hooks net.Addr, log *slog.Logger) (stop func(), err error) {
	_, port, err := net.SplitHostPort(hooks.String())
	if err != nil {
		return nil, fmt.Errorf("address of the hooks %s: %w", hooks, err)
	}
	s, err := startSim(simOptions{
		listenAddress: "127.0.0.1:0", seed: 1, speed: 1, replicas: 3,
		hookURL: "http://127.0.0.1:" + port, rollEvery: 2 * time.Minute,
	}, log)
	if err != nil {
		return nil, err
	}
	for _, assignment := range s.environment() {
		name, value, _ := strings.Cut(assignment, "=")
		if err := os.Setenv(name, value); err != nil {
			s.stop()
			return nil, fmt.Errorf("set %s: %w", name, err)
		}
	}
	o.awsProfile, o.kubeconfig = "default", filepath.Join(s.dir, "kubeconfig")
	log.Info("simulation: started", "apis", s.url, "kubeconfig", o.kubeconfig)
	return func() {
		s.stop()
		_ = os.RemoveAll(s.dir)
	}, nil
}
