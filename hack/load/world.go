package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

const (
	namespace = "web"
	podPort   = 8080
)

// podAddress is where the nth pod lives: loopback, so that its hook can call from there.
func podAddress(n int) netip.Addr { return netip.AddrFrom4([4]byte{127, 1, byte(n >> 8), byte(n)}) }

// podName is the name of the nth pod.
func podName(n int) string { return fmt.Sprint("pod-", n) }

// counts are what the world has seen so far.
type counts struct {
	AWS, Kube    int                      // calls that came in; the driver's own are left out
	Deregistered map[netip.Addr]time.Time // when LBC's call for a pod returned
}

// world is what the process of the simulated cluster and account runs.
type world struct {
	*sim.World
	pods, groups, busy int
	stuck, noHash      bool
}

// worldMain is the process of the simulated cluster and account. When all pods are in
// rotation it prints the URL of its APIs. It ends with its standard input.
func worldMain(args []string) error {
	var w world
	f := flag.NewFlagSet("world", flag.ExitOnError)
	f.IntVar(&w.pods, "pods", 0, "pods, spread over the busy groups")
	f.IntVar(&w.groups, "groups", 0, "target groups in the namespace")
	f.IntVar(&w.busy, "busy", 0, "groups that hold those pods; each other holds one more pod")
	f.BoolVar(&w.stuck, "stuck", false, "delete the pods, while the controller does nothing: they stay in rotation")
	f.BoolVar(&w.noHash, "no-checkpoints", false, "the controller writes no checkpoints, as before its version 2.10")
	_ = f.Parse(args) // it exits
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	w.make()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go w.Run(ctx, 24*time.Hour)
	mux := http.NewServeMux()
	mux.Handle("/", w.Kube.Handler())
	mux.Handle("/{$}", w.AWS.Handler())
	mux.HandleFunc("GET /load/counts", w.counts)
	mux.HandleFunc("POST /load/leave", w.leave)
	go func() { _ = http.Serve(l, mux) }() // its end is the end of the process
	for up := false; !up; time.Sleep(200 * time.Millisecond) {
		if err := w.Do(ctx, "load", func() { up = w.up() }); err != nil {
			return err
		}
	}
	fmt.Printf("http://%s\n", l.Addr())
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// make makes the world. Nobody waits to see pods start, or has clients, so that all of this
// is short and cheap.
func (w *world) make() {
	as := sim.DefaultAssumptions()
	as.AWS.RegistrationTime = timeline.Between(0, time.Second)
	as.AWS.MutateRate, as.AWS.Nodes = 100, 1
	as.StartTime = timeline.Between(0, time.Second)
	w.World = sim.New(sim.Config{Seed: 1, Assumptions: as, NoCheckpoint: w.noHash})
	for g := range w.groups {
		w.AddApp(sim.App{Namespace: namespace, Name: fmt.Sprint("app-", g), Kind: aws.ALB, Port: podPort})
	}
	for n := range w.pods + w.groups - w.busy {
		g := n % w.busy
		if n >= w.pods {
			g = w.busy + n - w.pods
		}
		w.AddPod(sim.PodSpec{
			Namespace: namespace, Name: podName(n), Labels: map[string]string{"app": fmt.Sprint("app-", g)}, Port: podPort,
			Grace: time.Hour, Hook: sim.Hook{Hold: true}, Addresses: []netip.Addr{podAddress(n)},
		})
	}
}

// up says whether all pods are in rotation. If they shall get stuck, it then deletes them.
func (w *world) up() bool {
	n := 0
	for _, g := range w.AWS.Groups() {
		n += len(g.Registered())
	}
	if n < w.pods+w.groups-w.busy {
		return false
	}
	if w.stuck {
		w.LBC.Stop()
		for n := range w.pods {
			_ = w.DeletePod(namespace, podName(n)) // it is there
		}
	}
	return true
}

// leave takes all pods out of the busy groups at once.
func (w *world) leave(_ http.ResponseWriter, r *http.Request) {
	_ = w.Do(r.Context(), "load", func() { // the caller sees what came of it
		for _, g := range w.AWS.Groups()[:w.busy] {
			w.AWS.DeregisterTargets(g, g.Registered())
		}
	})
}

func (w *world) counts(rw http.ResponseWriter, r *http.Request) {
	c := counts{Deregistered: make(map[netip.Addr]time.Time)}
	err := w.Do(r.Context(), "load", func() {
		for _, n := range w.AWS.Calls() {
			c.AWS += n
		}
		for request, n := range w.Kube.Requests() {
			if !strings.HasPrefix(request, "delete ") {
				c.Kube += n
			}
		}
		for _, p := range w.Pods() {
			if p.Deregistered > 0 {
				c.Deregistered[p.IP] = w.Wall(p.Deregistered)
			}
		}
	})
	if err == nil {
		err = json.NewEncoder(rw).Encode(c)
	}
	if err != nil {
		http.Error(rw, err.Error(), http.StatusInternalServerError)
	}
}
