package sim

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
)

// PodSpec describes a pod for [World.AddPod].
type PodSpec struct {
	Namespace, Name string
	Labels          map[string]string
	// Port is the application's port, under the name "http". ExtraPorts are more
	// of its ports, by name.
	Port       int
	ExtraPorts map[string]int
	// Sidecars are the other containers.
	Sidecars []Sidecar
	// Grace is the termination grace period. The API shows it in whole seconds of
	// real time, rounded up.
	Grace time.Duration
	// Gates are the readiness gates: condition types that must be true before
	// the pod is ready.
	Gates []string
	Hook  Hook
	// Node is where the pod runs; empty for the first node that is ready.
	Node string
	// HostNetwork gives the pod its node's address instead of its own.
	HostNetwork bool
	// IPFamilies are the families of the pod's addresses; none means IPv4.
	IPFamilies []corev1.IPFamily
	// Addresses, if not empty, are the pod's addresses, whatever the other fields
	// say.
	Addresses []netip.Addr
}

// Sidecar is a container other than the application's.
type Sidecar struct {
	Name  string
	Ports map[string]int
	Hook  Hook
}

// pod is one pod as its kubelet sees it.
type pod struct {
	obj        *corev1.Pod
	serial     int // tells it apart from others of the same name
	ips        []netip.Addr
	spec       PodSpec
	containers []*container // the first is the application
	shutdown   bool         // its node shuts down
	unready    bool         // its node is not ready, so neither is the pod
	ending     bool         // its containers are not started again
	over       bool         // all of them are dead for good
	finished   bool         // nothing but a finalizer keeps its object
	safe       bool         // the service has said that nothing more will come to what runs now
	staying    int          // how often it has said that LBC will not deregister the pod
	report     *PodReport
}

// container is one container of a pod. It can be started again.
type container struct {
	pod     *pod
	name    string
	ports   map[string]int
	hook    Hook
	ready   bool // its readiness probe succeeds
	serving bool // it accepts new requests
	hooked  bool // its hook has begun, or will
	stopped bool // SIGTERM was sent
	gone    bool // the process is dead
	killAt  time.Duration
	starts  int                // events planned for an earlier start are void
	cancel  context.CancelFunc // ends the hook; nil while none runs
}

// PodReport is what really happened to one pod. Times are world times; a zero time
// means that it did not happen.
type PodReport struct {
	Namespace, Name string
	// UID is the UID of its object: another pod can have the same name later.
	UID types.UID
	// IP is the first of its addresses.
	IP  netip.Addr
	IPs []netip.Addr
	// Deleted is when its deletion was accepted.
	Deleted time.Duration
	// Deregistered is when the last DeregisterTargets for it returned.
	// DeregisteredByController is the same for the calls that LBC made.
	Deregistered, DeregisteredByController time.Duration
	// HookCall is the last call that one of its hooks made or got an answer to.
	HookCall
	// Calls are all its hooks' calls, in the order in which they were made.
	Calls []*HookCall
	// Stopped is when its application was last told to stop (SIGTERM).
	Stopped time.Duration
	// Gone is when its object was removed.
	Gone time.Duration
	// LastArrival is when a load balancer sent it the last new request (ALB) or
	// connection (NLB). LastArrivals is the same by kind of load balancer.
	LastArrival  time.Duration
	LastArrivals map[aws.Kind]time.Duration
	// Drained and NotRegistered count these answers to its hooks. Premature counts
	// those of them that came while a node of a load balancer could still choose the
	// pod, or would again; see [HookCall].
	Drained, NotRegistered, Premature int
	// Late counts the new requests that arrived after such an answer: each is a
	// broken promise.
	Late int
	// WrongNotTerminating counts the answers "not_terminating" that came when the
	// pod's deletion had been accepted, or when it or its node was not ready.
	WrongNotTerminating int
	// WrongWillNotLeave counts the answers "will_not_leave" after which LBC
	// deregistered the pod before its processes had ended. A pod that has ended is
	// deregistered in any case.
	WrongWillNotLeave int
	// Failed counts the failed requests to it.
	Failed int
}

// Held is how long the pod's stop was held back after its deletion.
func (r *PodReport) Held() time.Duration { return r.Stopped - r.Deleted }

// Pods reports every pod that ever was, in order of creation.
func (w *World) Pods() []*PodReport { return w.reports }

// Late counts the new requests that arrived at a pod after the service had called
// the pod "drained" or "not_registered".
func (w *World) Late() int {
	n := 0
	for _, r := range w.reports {
		n += r.Late
	}
	return n
}

// arrival notes a new request at the pod.
func (p *pod) arrival(now time.Duration, by aws.Kind) {
	p.report.LastArrival, p.report.LastArrivals[by] = now, now
	if p.safe {
		p.report.Late++
	}
}

// listening says whether an application answers at an address.
func (w *World) listening(id aws.TargetID) bool {
	c := w.listeners[id]
	return c != nil && c.serving || w.outside[id]
}

// receiver is the pod to which packets for an address and a port go, nil if the world
// knows none.
func (w *World) receiver(id aws.TargetID) *pod {
	if l := w.listeners[id]; l != nil {
		return l.pod
	}
	return w.addresses[id.IP]
}

// choosable says whether a node of any load balancer may still send something
// new to a pod, or will again: because AWS knows it, or a registration is on its way.
func (w *World) choosable(p *pod) bool {
	is := func(id aws.TargetID) bool { return slices.Contains(p.ips, id.IP) && w.receiver(id) == p }
	return w.AWS.Choosable(is) || w.LBC.Coming(is)
}

// targets are where load balancers would send to the container.
func (c *container) targets() []aws.TargetID {
	var ids []aws.TargetID
	for _, ip := range c.pod.ips {
		for _, name := range slices.Sorted(maps.Keys(c.ports)) {
			ids = append(ids, aws.TargetID{IP: ip, Port: c.ports[name]})
		}
	}
	return ids
}

func key(namespace, name string) string { return namespace + "/" + name }

// AddPod creates a pod, and its kubelet starts it. If there is no node of the pod's
// node name, it makes one. The pod can have the name of a pod whose object is gone, and
// an address that another pod had: from now on packets for that address go to the new
// pod.
func (w *World) AddPod(spec PodSpec) *PodReport {
	if w.pods[key(spec.Namespace, spec.Name)] != nil {
		panic(fmt.Sprintf("sim: there is a pod %s/%s", spec.Namespace, spec.Name))
	}
	node := w.scheduled(spec.Node)
	p := &pod{spec: spec, ips: w.addressesFor(spec, node), serial: len(w.reports)}
	p.report = &PodReport{
		Namespace: spec.Namespace, Name: spec.Name, IP: p.ips[0], IPs: p.ips, LastArrivals: make(map[aws.Kind]time.Duration),
	}
	w.reports = append(w.reports, p.report)
	p.specify(node, w.seconds(spec.Grace))
	w.pods[key(spec.Namespace, spec.Name)] = p
	w.giveAddresses(p)
	w.Kube.Apply(p.obj)
	p.report.UID = p.obj.UID
	w.byUID[p.obj.UID], w.byObject[p.obj] = p, p
	w.run(p, node)
	return p.report
}

// specify makes the pod's object and its containers.
func (p *pod) specify(node *corev1.Node, grace int64) {
	spec := p.spec
	p.obj = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: spec.Namespace, Name: spec.Name, Labels: spec.Labels},
		Spec: corev1.PodSpec{
			NodeName:                      node.Name,
			HostNetwork:                   spec.HostNetwork,
			TerminationGracePeriodSeconds: &grace,
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	ports := map[string]int{"http": spec.Port}
	maps.Copy(ports, spec.ExtraPorts)
	p.add(Sidecar{"app", ports, spec.Hook})
	for _, s := range spec.Sidecars {
		p.add(s)
	}
	for _, g := range spec.Gates {
		p.obj.Spec.ReadinessGates = append(p.obj.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(g)})
	}
}

// run has the kubelet start a pod.
func (w *World) run(p *pod, node *corev1.Node) {
	as, k := &w.cfg.Assumptions, key(p.spec.Namespace, p.spec.Name)
	w.After(w.Draw(as.KubeletLag, "kubelet", k), func() {
		if p.over {
			return
		}
		p.obj.Status.Phase = corev1.PodRunning
		p.obj.Status.HostIP = node.Status.Addresses[0].Address
		p.obj.Status.PodIP = p.ips[0].String()
		for _, ip := range p.ips {
			p.obj.Status.PodIPs = append(p.obj.Status.PodIPs, corev1.PodIP{IP: ip.String()})
		}
		w.setConditions(p)
		w.After(w.Draw(as.StartTime, "start", k), func() {
			for _, c := range p.containers {
				w.started(c)
			}
		})
	})
}

// add gives the pod one more container.
func (p *pod) add(s Sidecar) {
	p.containers = append(p.containers, &container{pod: p, name: s.Name, ports: s.Ports, hook: s.Hook})
	c := corev1.Container{Name: s.Name, Image: "example/" + s.Name, Lifecycle: s.Hook.lifecycle()}
	for _, name := range slices.Sorted(maps.Keys(s.Ports)) {
		c.Ports = append(c.Ports, corev1.ContainerPort{Name: name, ContainerPort: int32(s.Ports[name]), Protocol: corev1.ProtocolTCP})
	}
	p.obj.Spec.Containers = append(p.obj.Spec.Containers, c)
}

// giveAddresses sends packets for the pod's addresses to it from now on, whoever had
// them before. A port at which another pod listens, and which this pod does not have,
// still belongs to the other pod: two pods can have one address only if one of them
// is over.
func (w *World) giveAddresses(p *pod) {
	if p.spec.HostNetwork {
		return
	}
	for _, ip := range p.ips {
		w.addresses[ip] = p
	}
	for _, c := range p.containers {
		for _, id := range c.targets() {
			if w.listeners[id] != nil {
				w.listeners[id] = c
				w.AWS.HealthChanged(c.targets())
			}
		}
	}
}

// addressesFor are the addresses of a new pod.
func (w *World) addressesFor(spec PodSpec, node *corev1.Node) []netip.Addr {
	switch n := len(w.reports) + 1; {
	case len(spec.Addresses) > 0:
		return spec.Addresses
	case spec.HostNetwork:
		return []netip.Addr{netip.MustParseAddr(node.Status.Addresses[0].Address)}
	case len(spec.IPFamilies) == 0:
		return []netip.Addr{address(corev1.IPv4Protocol, n)}
	default:
		var ips []netip.Addr
		for _, f := range spec.IPFamilies {
			ips = append(ips, address(f, n))
		}
		return ips
	}
}

// address is the nth address of pods.
func address(family corev1.IPFamily, n int) netip.Addr {
	if family == corev1.IPv6Protocol {
		return netip.AddrFrom16([16]byte{0: 0x20, 1: 0x01, 2: 0x0d, 3: 0xb8, 14: byte(n >> 8), 15: byte(n)})
	}
	return netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
}

// seconds are whole seconds of real time, as the API shows them.
func (w *World) seconds(d time.Duration) int64 { return int64(math.Ceil(w.Real(d).Seconds())) }

// started goes on with a container whose readiness probe has succeeded.
func (w *World) started(c *container) {
	if c.stopped || c.gone {
		return
	}
	c.ready, c.serving = true, true
	for _, id := range c.targets() {
		w.listeners[id] = c
	}
	w.AWS.HealthChanged(c.targets())
	w.setConditions(c.pod)
}

// setConditions writes the pod's status: whether its containers are ready, and whether
// the pod is, given its containers and its readiness gates.
func (w *World) setConditions(p *pod) {
	if !w.exists(p) {
		return
	}
	containers := !slices.ContainsFunc(p.containers, func(c *container) bool { return !c.ready })
	ready := containers && !p.unready
	for _, g := range p.obj.Spec.ReadinessGates {
		ready = ready && kube.ConditionTrue(p.obj, g.ConditionType)
	}
	w.setCondition(p.obj, corev1.ContainersReady, containers)
	w.setCondition(p.obj, corev1.PodReady, ready)
	w.Kube.Apply(p.obj)
}

func (w *World) setCondition(obj *corev1.Pod, kind corev1.PodConditionType, on bool) {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: w.Kube.Time(w.Present())}
	if on {
		c.Status = corev1.ConditionTrue
	}
	i := slices.IndexFunc(obj.Status.Conditions, func(c corev1.PodCondition) bool { return c.Type == kind })
	switch {
	case i < 0:
		obj.Status.Conditions = append(obj.Status.Conditions, c)
	case obj.Status.Conditions[i].Status != c.Status:
		obj.Status.Conditions[i] = c
	}
}

// DeletePod deletes a pod with its own grace period.
func (w *World) DeletePod(namespace, name string) error { return w.deletePod(namespace, name, nil) }

// DeletePodIn deletes a pod with another grace period. The API shows it in whole
// seconds of real time, rounded up. A period of zero removes the pod from the API at once. For a pod that is
// being deleted already it can only shorten the time that is left.
func (w *World) DeletePodIn(namespace, name string, grace time.Duration) error {
	return w.deletePod(namespace, name, new(w.seconds(grace)))
}

// ForceDelete removes a pod from the API at once, as a forced deletion does, while its
// containers go on running. Their hooks are called, and they end with the pod's own
// grace period, as on a node that nobody can reach. Another pod can get the name.
func (w *World) ForceDelete(namespace, name string) error {
	p := w.pods[key(namespace, name)]
	if p == nil {
		return fmt.Errorf("delete pod %s/%s by force: %w", namespace, name, errNoPod)
	}
	if p.report.Deleted == 0 {
		p.report.Deleted = w.Present()
	}
	at := w.Kube.Time(w.Present())
	p.obj.DeletionTimestamp, p.obj.DeletionGracePeriodSeconds = &at, new(int64)
	p.ending, p.obj.Finalizers = true, nil
	w.forget(p)
	w.terminate(p.containers, w.Present()+p.spec.Grace)
	return nil
}

var errNoPod = errors.New("no such pod")

// deletePod accepts the deletion of a pod. grace is in seconds of real time, as in the
// API.
func (w *World) deletePod(namespace, name string, grace *int64) error {
	p := w.pods[key(namespace, name)]
	if p == nil {
		return fmt.Errorf("delete pod %s/%s: %w", namespace, name, errNoPod)
	}
	if grace == nil {
		grace = p.obj.Spec.TerminationGracePeriodSeconds
	}
	if p.obj.DeletionTimestamp == nil {
		p.report.Deleted = w.Present()
	} else if *grace >= *p.obj.DeletionGracePeriodSeconds {
		return nil
	}
	// A shorter grace period also counts from the first deletion: BeforeDelete in
	// k8s.io/apiserver/pkg/registry/rest/delete.go.
	end := p.report.Deleted + time.Duration(float64(*grace)*w.cfg.Speed*float64(time.Second))
	killAt := max(w.Present(), end)
	p.ending = true
	at := w.Kube.Time(end)
	p.obj.DeletionTimestamp, p.obj.DeletionGracePeriodSeconds = &at, grace
	if *grace == 0 {
		w.forget(p)
	} else {
		w.Kube.Apply(p.obj)
	}
	w.terminate(p.containers, killAt)
	w.ended(p) // it may have been over before
	return nil
}

// deleteIfRun is a deletion through the API; see [kube.Kubelets].
func (w *World) deleteIfRun(namespace, name string, grace *int64) bool {
	return w.deletePod(namespace, name, grace) == nil
}

// updated removes a pod that has waited for its last finalizer.
func (w *World) updated(obj *corev1.Pod) {
	if p := w.pods[key(obj.Namespace, obj.Name)]; p != nil && p.obj == obj && p.finished {
		w.forget(p)
	}
}

// CompletePod ends all processes of a pod, as the pod of a Job ends: its phase is
// Succeeded, and its object keeps the address.
func (w *World) CompletePod(namespace, name string) {
	p := w.pods[key(namespace, name)]
	p.ending, p.obj.Status.Phase = true, corev1.PodSucceeded
	for _, c := range p.containers {
		w.exit(c)
	}
}

// RestartContainer has the kubelet restart a pod's application, as after a failed
// liveness probe: the hook runs while the pod is ready and is not being deleted.
func (w *World) RestartContainer(namespace, name string) {
	c := w.pods[key(namespace, name)].containers[0]
	w.terminate([]*container{c}, w.Present()+c.pod.spec.Grace)
}

// terminate has the kubelet end containers of one pod. For each it runs the hook, then
// sends SIGTERM, and SIGKILL at killAt at the latest. A second call can only shorten
// the time of the first.
func (w *World) terminate(cs []*container, killAt time.Duration) {
	var begin []*container
	for _, c := range cs {
		if c.gone || c.hooked && c.killAt <= killAt {
			continue
		}
		c.killAt = killAt
		w.At(killAt, func() { w.graceOver(c, killAt) })
		if !c.hooked {
			c.hooked = true
			begin = append(begin, c)
		}
	}
	if len(begin) == 0 {
		return
	}
	p := begin[0].pod
	w.After(w.Draw(w.cfg.Assumptions.KubeletLag, "kubelet", key(p.spec.Namespace, p.spec.Name)), func() {
		for _, c := range begin {
			w.startHook(c)
		}
	})
}

// minTermination is the time that the kubelet leaves a container between SIGTERM and
// SIGKILL, even if the hook used up the grace period: the "one-off grace period
// extension of 2 seconds" of the Kubernetes documentation.
const minTermination = 2 * time.Second

// graceOver is the end of the grace period: the hook is abandoned, and what
// still runs is killed.
func (w *World) graceOver(c *container, killAt time.Duration) {
	if c.killAt != killAt || c.gone {
		return // the grace was shortened since, or the container is gone
	}
	if c.stopped {
		w.exit(c)
		return
	}
	w.stop(c)
	w.later(c, minTermination, w.exit)
}

// stop ends the hook and sends SIGTERM.
func (w *World) stop(c *container) {
	if c.stopped {
		return
	}
	c.stopped, c.serving = true, false
	if c == c.pod.containers[0] {
		c.pod.report.Stopped = w.Present()
	}
	if c.cancel != nil {
		c.cancel()
	}
	w.AWS.HealthChanged(c.targets())
	w.later(c, w.Draw(w.cfg.Assumptions.ShutdownTime, "shutdown", c.pod.report.Name), w.exit)
}

// later plans f for a container unless it is started again before.
func (w *World) later(c *container, d time.Duration, f func(*container)) {
	starts := c.starts
	w.After(d, func() {
		if c.starts == starts {
			f(c)
		}
	})
}

// exit is the end of the process. The kubelet starts the container again, unless the
// pod is ending.
func (w *World) exit(c *container) {
	if c.gone {
		return
	}
	p := c.pod
	if !c.stopped {
		w.AWS.HealthChanged(c.targets())
	}
	c.stopped, c.gone, c.serving, c.ready = true, true, false, false
	if c.cancel != nil {
		c.cancel()
	}
	if w.ended(p); p.over {
		return
	}
	w.setConditions(p)
	if p.ending {
		return
	}
	w.After(w.Draw(w.cfg.Assumptions.StartTime, "start", key(p.spec.Namespace, p.spec.Name)), func() {
		if p.ending {
			return
		}
		c.starts++
		c.stopped, c.gone, c.hooked, c.killAt, c.cancel = false, false, false, 0, nil
		p.safe, p.staying = false, 0
		w.started(c)
	})
}

// ended notes that all containers of a pod are dead for good. If the pod is being
// deleted, its object is then removed.
func (w *World) ended(p *pod) {
	if !p.ending || slices.ContainsFunc(p.containers, func(c *container) bool { return !c.gone }) {
		return
	}
	if !p.over {
		p.over = true
		if p.shutdown {
			p.obj.Status.Phase, p.obj.Status.Reason = corev1.PodFailed, "Terminated"
		}
		w.setConditions(p)
	}
	if p.obj.DeletionTimestamp != nil && w.exists(p) {
		k := key(p.spec.Namespace, p.spec.Name)
		w.After(w.Draw(w.cfg.Assumptions.KubeletLag, "kubelet", k), func() { w.forget(p) })
	}
}

// exists says whether the pod's object is there.
func (w *World) exists(p *pod) bool { return w.pods[key(p.spec.Namespace, p.spec.Name)] == p }

// forget removes the pod's object, or lets it wait for its last finalizer.
func (w *World) forget(p *pod) {
	if !w.exists(p) {
		return
	}
	p.finished = true
	if len(p.obj.Finalizers) > 0 {
		p.obj.DeletionGracePeriodSeconds = new(int64)
		w.Kube.Apply(p.obj)
		return
	}
	p.report.Gone = w.Present()
	delete(w.pods, key(p.spec.Namespace, p.spec.Name))
	w.Kube.Remove(p.obj)
}

// AddNode makes a ready node. [World.AddPod] makes the nodes that it needs.
func (w *World) AddNode(name string) *corev1.Node {
	w.nodes++
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{
			Type: corev1.NodeInternalIP, Address: netip.AddrFrom4([4]byte{10, 255, byte(w.nodes >> 8), byte(w.nodes)}).String(),
		}}},
	}
	w.setNodeReady(n, corev1.ConditionTrue, "KubeletReady")
	return n
}

func (w *World) setNodeReady(n *corev1.Node, status corev1.ConditionStatus, reason string) {
	n.Status.Conditions = []corev1.NodeCondition{{
		Type: corev1.NodeReady, Status: status, Reason: reason, LastTransitionTime: w.Kube.Time(w.Present()),
	}}
	w.Kube.Apply(n)
}

// scheduled is the node of that name, or the first that is ready.
func (w *World) scheduled(name string) *corev1.Node {
	for i := 1; ; i++ {
		candidate := name
		if name == "" {
			candidate = fmt.Sprint("node-", i)
		}
		n, ok := kube.Get[corev1.Node](w.Kube, "", candidate)
		if !ok {
			n = w.AddNode(candidate)
		}
		if name != "" || w.Kube.NodeReady(candidate) {
			return n
		}
	}
}

// ShutdownNode shuts a node down gracefully. The node is no longer ready, and its pods'
// hooks run although nobody deletes the pods. A little later the node controller sees
// the node and marks its pods as not ready. In the end their phase is Failed. The
// pods' own grace periods stand in for the node's.
// kubernetes.io/docs/concepts/cluster-administration/node-shutdown.
func (w *World) ShutdownNode(name string) {
	n, ok := kube.Get[corev1.Node](w.Kube, "", name)
	if !ok {
		panic(fmt.Sprintf("sim: no node %s", name))
	}
	w.setNodeReady(n, corev1.ConditionFalse, "KubeletNotReady")
	var pods []*pod
	for _, obj := range kube.List[corev1.Pod](w.Kube, "") {
		if p := w.pods[key(obj.Namespace, obj.Name)]; p != nil && obj.Spec.NodeName == name && !p.over {
			pods = append(pods, p)
			p.shutdown, p.ending = true, true
			w.terminate(p.containers, w.Present()+p.spec.Grace)
		}
	}
	w.After(w.Draw(w.cfg.Assumptions.NodeMonitor, "node monitor", name), func() {
		for _, p := range pods {
			p.unready = true
			w.setConditions(p)
		}
	})
}
