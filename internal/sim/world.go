package sim

import (
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

// World is one simulated AWS account and one simulated Kubernetes cluster on a
// single time line.
//
// All state belongs to the goroutine that is inside Run: controllers, kubelets,
// load balancer nodes and clients are events, not goroutines. Code outside reaches
// the state through the HTTP faces or through Do. See [timeline.Timeline].
type World struct {
	*timeline.Timeline
	cfg     Config
	planned map[string]bool // work that a controller will come to; see soon

	AWS  *aws.Account
	Kube *kube.Cluster
	LBC  *lbc.Controller

	pods        map[string]*pod             // by namespace/name; those whose object exists
	byUID       map[types.UID]*pod          // all that ever were
	listeners   map[aws.TargetID]*container // who last listened there
	outside     map[aws.TargetID]bool       // who listens there that is no pod of the world's
	owners      map[place]*pod              // whose address it was when it was registered there
	addresses   map[netip.Addr]*pod         // who was last given it, those of nodes apart
	nodes       int                         // how many were ever made
	deployments []*Deployment
	clients     []*clients
	reports     []*PodReport
}

// place is where a target can be registered.
type place struct {
	group *aws.TargetGroup
	id    aws.TargetID
}

// podsForLBC are the pods as LBC finds them, and the accounts that the world keeps
// of who is registered.
func (w *World) podsForLBC() lbc.Pods {
	return lbc.Pods{
		Find: func(namespace, name string) *corev1.Pod {
			if p := w.pods[key(namespace, name)]; p != nil {
				return p.obj
			}
			return nil
		},
		Over: func(obj *corev1.Pod) bool { return w.byUID[obj.UID].over },
		SetGate: func(obj *corev1.Pod, gate corev1.PodConditionType, on bool) {
			w.setCondition(obj, gate, on)
			w.setConditions(w.byUID[obj.UID])
		},
		Meant: w.meant,
		Registered: func(g *aws.TargetGroup, id aws.TargetID, pod types.UID) {
			w.owners[place{g, id}] = w.byUID[pod]
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

// meant is the pod that an endpoint is about, where one was found by the name: its
// slice can still be that of an earlier pod of the name.
func (w *World) meant(e *discoveryv1.Endpoint, found *corev1.Pod, id aws.TargetID) types.UID {
	if p := w.byUID[e.TargetRef.UID]; p != nil {
		return p.obj.UID
	}
	if slices.Contains(w.byUID[found.UID].ips, id.IP) {
		return found.UID
	}
	if p := w.receiver(id); p != nil {
		return p.obj.UID
	}
	return ""
}
