package ties

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/cluster/kube"
)

// History is what was seen of a pod, or of an address that no pod has, and can no
// longer be read from the cluster.
type History struct {
	Namespace, Name string   // no name of an address
	Services        []string // namespace/name of those that ever selected it or named it in an EndpointSlice

	created time.Time // by the API server's clock
	seen    time.Time // first
	// late: it had an address by then, or no watch had told of it. So it can have
	// been tied to something before.
	late      bool
	ips       []netip.Addr // all that it ever had
	addressed time.Time    // when the last of them was first seen
	gates     []string     // names of bindings whose readiness condition it carries
	listed    []groupKey   // groups that a look showed it in
}

// NewHistory begins that of a pod. live says that no watch has told of the pod.
func NewHistory(p *corev1.Pod, live bool) History {
	return History{
		Namespace: p.Namespace, Name: p.Name, created: p.CreationTimestamp.Time,
		seen: time.Now(), late: live || len(Addresses(p)) > 0,
	}
}

// NewAddress begins that of addresses that no pod has.
func NewAddress(namespace string, ips []netip.Addr) History {
	return History{Namespace: namespace, ips: ips, seen: time.Now(), late: true}
}

// Note takes in what the pod shows of itself.
func (h *History) Note(p *corev1.Pod) {
	for _, ip := range Addresses(p) {
		if !slices.Contains(h.ips, ip) {
			h.ips, h.addressed = append(h.ips, ip), time.Now()
		}
	}
	for _, c := range p.Status.Conditions {
		if name, ok := BindingOfGate(c.Type); ok {
			h.gates = addNew(h.gates, name)
		}
	}
}

// Tie notes that Services, as namespace/name, select the pod or name it in an
// EndpointSlice, and says whether that is new.
func (h *History) Tie(services ...string) bool {
	before := len(h.Services)
	for _, s := range services {
		h.Services = addNew(h.Services, s)
	}
	return len(h.Services) > before
}

func addNew[T comparable](list []T, v T) []T {
	if slices.Contains(list, v) {
		return list
	}
	return append(list, v)
}

// namespaces are that of the pod and those of its Services.
func (h *History) namespaces() iter.Seq[string] {
	all := map[string]bool{h.Namespace: true}
	for _, s := range h.Services {
		ns, _, _ := strings.Cut(s, "/")
		all[ns] = true
	}
	return maps.Keys(all)
}

// Since is until when something can have tied the pod that escaped us, given a
// [kube.Client.Gap]: only a look that began later shows it. Zero means that nothing
// can: the pod was watched well all its life.
func (h *History) Since(gap time.Time) time.Time {
	var since time.Time
	if h.late {
		since = h.seen
	}
	if !h.seen.After(gap) && since.Before(gap) {
		since = gap
	}
	// A look says nothing of an address that we did not know to be the pod's.
	if !since.IsZero() && since.Before(h.addressed) {
		since = h.addressed
	}
	return since
}

// born is when the pod was created at the earliest, by our clock. It is never after
// the pod was first seen, however the clocks were set since.
func (h *History) born(clock *kube.Clock) time.Time {
	if h.created.IsZero() {
		return h.created
	}
	skew, ok := clock.Skew()
	if !ok {
		skew = max(skew, 0)
	}
	born := h.created.Add(-skew)
	if h.seen.Before(born) {
		return h.seen
	}
	return born
}

// Addresses are those of a pod.
func Addresses(p *corev1.Pod) []netip.Addr {
	var ips []netip.Addr
	for _, s := range p.Status.PodIPs {
		if ip, err := netip.ParseAddr(s.IP); err == nil {
			ips = append(ips, ip.Unmap())
		}
	}
	return ips
}

// gatePrefixes and the name of a TargetGroupBinding make the readiness
// conditions that LBC (docs/deploy/pod_readiness_gate.md) and EKS Auto Mode
// (seen in use; not documented) keep on a pod.
var gatePrefixes = []string{"target-health.elbv2.k8s.aws/", "target-health.eks.amazonaws.com/"}

// BindingOfGate is the name of the binding that a readiness condition is about; ok
// is false where it is about none.
func BindingOfGate(t corev1.PodConditionType) (name string, ok bool) {
	for _, prefix := range gatePrefixes {
		if name, ok := strings.CutPrefix(string(t), prefix); ok {
			return name, true
		}
	}
	return "", false
}
