package sim

import (
	"net/netip"

	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
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

	lbc         controller
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
