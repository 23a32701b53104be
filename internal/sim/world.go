// Package sim is one simulated world to prove drain-wait in: an AWS account with
// load balancers that learn late, a Kubernetes cluster with its controllers and
// kubelets, and clients that count every failed request.
//
// It has an HTTP interface for each API, true enough for the real AWS SDK and the
// real client-go: [aws.Account.Handler] (the Query APIs of ELBv2 and STS) and
// [kube.Cluster.Handler] (reads, watches and writes of what the world has). It runs in
// real time over sockets, or in virtual time inside a testing/synctest bubble. It
// imports no package of this project except its own rooms, so it cannot inherit
// mistakes.
//
// [Assumptions] has what the simulator assumes about the world, each number with its
// source; docs/simulator.md is made from there.
package sim

import (
	"net/http"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

// Config makes a world.
type Config struct {
	// Seed decides everything that is random.
	Seed uint64
	// Speed is how many seconds of world time pass in one real second.
	Speed float64
	// Assumptions are the world's numbers.
	Assumptions Assumptions
	// Quiesce returns when nothing else can happen at this instant. In a
	// synctest bubble it is synctest.Wait; elsewhere nil.
	Quiesce func()
	// HookClient makes the HTTP client for the hook in the pod with this address.
	// If it is nil, one client calls from the host's address.
	HookClient func(pod netip.Addr) *http.Client
	// NoCheckpoint makes LBC write no checkpoint annotation, as before 2.10.
	NoCheckpoint bool
}

// World is one simulated AWS account and one simulated Kubernetes cluster on one
// timeline. This package itself has the pods and kubelets, the controllers other than
// LBC, and the clients.
//
// All state belongs to the goroutine that is inside Run. Controllers, kubelets, load
// balancer nodes and clients are events, not goroutines. Code outside reaches the
// state through the HTTP interfaces or through Do. See [timeline.Timeline].
type World struct {
	*timeline.Timeline
	AWS  *aws.Account
	Kube *kube.Cluster
	LBC  *lbc.Controller

	cfg         Config
	planned     map[string]bool             // work that a controller will do soon; see soon
	pods        map[string]*pod             // by namespace/name; those whose object exists
	byUID       map[types.UID]*pod          // all that ever were
	byObject    map[*corev1.Pod]*pod        // the same
	listeners   map[aws.TargetID]*container // who last listened there
	outside     map[aws.TargetID]bool       // addresses where something outside the world listens
	owners      map[place]*pod              // the pod that had the address when it was registered there
	addresses   map[netip.Addr]*pod         // the pod that got it last; without the nodes' addresses
	nodes       int                         // how many were ever made
	deployments []*Deployment
	clients     []*clients
	reports     []*PodReport
}

// New makes an empty world whose clock starts now. It does nothing until
// Run. In a synctest bubble it must be called inside.
func New(cfg Config) *World {
	if cfg.Speed == 0 {
		cfg.Speed = 1
	}
	w := &World{
		Timeline:  timeline.New(cfg.Seed, cfg.Speed, cfg.Quiesce),
		cfg:       cfg,
		planned:   make(map[string]bool),
		pods:      make(map[string]*pod),
		byUID:     make(map[types.UID]*pod),
		byObject:  make(map[*corev1.Pod]*pod),
		listeners: make(map[aws.TargetID]*container),
		outside:   make(map[aws.TargetID]bool),
		owners:    make(map[place]*pod),
		addresses: make(map[netip.Addr]*pod),
	}
	w.Kube = kube.New(w.Timeline, &w.cfg.Assumptions.Kube, kube.Kubelets{Delete: w.deleteIfRun, Updated: w.updated})
	w.AWS = aws.New(w.Timeline, &w.cfg.Assumptions.AWS, aws.Hosts{
		Listening:  w.listening,
		Registered: func(g *aws.TargetGroup, id aws.TargetID) { w.owners[place{g, id}] = w.receiver(id) },
		Deregistered: func(g *aws.TargetGroup, id aws.TargetID) {
			if p := w.owners[place{g, id}]; p != nil {
				p.deregistered(w.Present(), false)
			}
		},
	})
	w.LBC = lbc.New(w.Timeline, &w.cfg.Assumptions.LBC, w.Kube, w.AWS, w.podsForLBC())
	w.LBC.NoCheckpoint = cfg.NoCheckpoint
	w.Kube.OnChange(w.notice)
	return w
}

// place is where a target can be registered.
type place struct {
	group *aws.TargetGroup
	id    aws.TargetID
}

// podsForLBC are the pods as LBC finds them, and the world's notes of which pods are
// registered.
func (w *World) podsForLBC() lbc.Pods {
	return lbc.Pods{
		Find: func(namespace, name string) *corev1.Pod {
			if p := w.pods[key(namespace, name)]; p != nil {
				return p.obj
			}
			return nil
		},
		Over: func(obj *corev1.Pod) bool { return w.byObject[obj].over },
		SetGate: func(obj *corev1.Pod, gate corev1.PodConditionType, on bool) {
			w.setCondition(obj, gate, on)
			w.setConditions(w.byObject[obj])
		},
		Meant: w.meant,
		Registered: func(g *aws.TargetGroup, id aws.TargetID, obj *corev1.Pod) {
			w.owners[place{g, id}] = w.byObject[obj]
		},
		Leaving: func(g *aws.TargetGroup, ids []aws.TargetID) func() {
			var left []*pod
			for _, id := range ids {
				if p := w.owners[place{g, id}]; p != nil {
					left = append(left, p)
				}
			}
			return func() {
				for _, p := range left {
					p.deregistered(w.Present(), true)
				}
			}
		},
	}
}

// meant is the pod that an endpoint is about, if a pod was found by the name. The slice
// can still be about an earlier pod of that name.
func (w *World) meant(e *discoveryv1.Endpoint, found *corev1.Pod, id aws.TargetID) *corev1.Pod {
	if p := w.byUID[e.TargetRef.UID]; p != nil {
		return p.obj
	}
	if slices.Contains(w.byObject[found].ips, id.IP) {
		return found
	}
	if p := w.receiver(id); p != nil {
		return p.obj
	}
	return nil
}
