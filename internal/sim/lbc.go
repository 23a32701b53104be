package sim

import (
	"crypto/sha256"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// checkpointAnnotation is what LBC (2.10 and later) writes on a
// TargetGroupBinding: empty before it changes the group's targets, and a hash
// of the endpoints when all is done. LBC pkg/annotations/constants.go.
const checkpointAnnotation = "elbv2.k8s.aws/checkpoint"

// GatePrefix and a TargetGroupBinding's name make the readiness gate that LBC
// serves. LBC docs/deploy/pod_readiness_gate.md.
const GatePrefix = "target-health.elbv2.k8s.aws/"

// controller is the AWS Load Balancer Controller: it registers what is ready
// behind each TargetGroupBinding and deregisters the rest. A reconcile is a
// chain of events, of which a few run at a time.
type controller struct {
	waiting  []bindingKey        // in order of arrival
	queued   map[bindingKey]bool // the same as a set
	busy     map[bindingKey]bool // reconciled now
	failures map[bindingKey]int
	specs    map[bindingKey]string // of the bindings, as JSON
	limit    bucket                // its own limit of Register and Deregister calls
	idleTill time.Duration         // no leader before this
	term     int                   // counts leaders; work of an earlier one is void
}

// bindingKey names a binding. Two of different groups may share the rest.
type bindingKey struct{ group, namespace, name string }

func keyOf(b *TargetGroupBinding) bindingKey {
	return bindingKey{b.GroupVersionKind().Group, b.Namespace, b.Name}
}

// binding is the binding as it is now, nil where there is none.
func (w *World) binding(k bindingKey) *TargetGroupBinding {
	for _, b := range list[TargetGroupBinding](w, k.namespace) {
		if keyOf(b) == k {
			return b
		}
	}
	return nil
}

func (c *controller) init(as Assumptions) {
	c.reset()
	c.failures, c.specs = make(map[bindingKey]int), make(map[bindingKey]string)
	c.limit = newBucket(as.MutateBurst, as.MutateRate)
}

// reset forgets all work.
func (c *controller) reset() {
	c.term++
	c.waiting, c.queued, c.busy = nil, make(map[bindingKey]bool), make(map[bindingKey]bool)
}

// StopController has LBC do nothing more, in the middle of its work, until
// [World.ChangeLeader].
func (w *World) StopController() {
	w.lbc.reset()
	w.lbc.idleTill = math.MaxInt64
}

// bindingChanged has LBC reconcile a binding that is new or whose specification
// has changed.
func (w *World) bindingChanged(event string, b *TargetGroupBinding) {
	k := keyOf(b)
	if event == "DELETED" {
		delete(w.lbc.specs, k)
		return
	}
	if spec := string(encode(b.Spec)); w.lbc.specs[k] != spec {
		w.lbc.specs[k] = spec
		w.enqueue(b, w.draw(w.cfg.Assumptions.ControllerLag, "controller", b.Name))
	}
}

// ChangeLeader takes LBC's leader away: nothing is reconciled until the gap is
// over, and what was in work is begun again. It returns the length of the gap.
func (w *World) ChangeLeader() time.Duration {
	c := &w.lbc
	gap := w.draw(w.cfg.Assumptions.LeaderGap, "leader", "gap")
	c.reset()
	c.idleTill = w.now + gap
	w.at(c.idleTill, func() {
		for _, b := range list[TargetGroupBinding](w, "") {
			w.enqueue(b, 0)
		}
	})
	return gap
}

// enqueue asks for a reconcile of a binding after a lag.
func (w *World) enqueue(b *TargetGroupBinding, lag time.Duration) { w.enqueueKey(keyOf(b), lag) }

func (w *World) enqueueKey(k bindingKey, lag time.Duration) {
	w.after(lag, func() {
		if c := &w.lbc; !c.queued[k] {
			c.queued[k] = true
			c.waiting = append(c.waiting, k)
		}
		w.work()
	})
}

// work starts reconciles while there are workers to spare.
func (w *World) work() {
	c := &w.lbc
	for w.now >= c.idleTill && len(c.busy) < w.cfg.Assumptions.ControllerWorkers {
		i := slices.IndexFunc(c.waiting, func(b bindingKey) bool { return !c.busy[b] })
		if i < 0 {
			return
		}
		b := c.waiting[i]
		c.waiting = slices.Delete(c.waiting, i, i+1)
		delete(c.queued, b)
		c.busy[b] = true
		r := &reconcile{w: w, term: c.term, binding: b}
		r.start()
	}
}

// reconcile is one pass over one binding. Its steps are in order: empty the
// checkpoint, deregister, register, see to the readiness gates, write the
// checkpoint. LBC pkg/targetgroupbinding/resource_manager.go,
// reconcileWithIPTargetType.
type reconcile struct {
	w       *World
	term    int
	binding bindingKey
	tgb     *TargetGroupBinding
	group   *TargetGroup
	want    []endpointPod
	hash    string
}

// endpointPod is a target that should be registered, and its pod.
type endpointPod struct {
	id  targetID
	pod *pod
}

// step runs f after d unless the leader was lost meanwhile.
func (r *reconcile) step(d time.Duration, f func()) {
	r.w.after(d, func() {
		if r.term == r.w.lbc.term {
			f()
		}
	})
}

func (r *reconcile) kubeLatency() time.Duration {
	return r.w.draw(r.w.cfg.Assumptions.KubeLatency, "controller", r.binding.name)
}

// done ends the pass. A positive again asks for another one after that time.
func (r *reconcile) done(again time.Duration) {
	delete(r.w.lbc.busy, r.binding)
	if again > 0 {
		r.w.enqueueKey(r.binding, again)
	}
	r.w.work()
}

// failed ends the pass and asks for another one, later each time.
func (r *reconcile) failed() {
	backoff := r.w.cfg.Assumptions.ControllerBackoff
	n := r.w.lbc.failures[r.binding]
	r.w.lbc.failures[r.binding] = n + 1
	r.done(min(backoff.Min<<min(n, 30), backoff.Max))
}

func (r *reconcile) start() {
	w := r.w
	r.tgb = w.binding(r.binding)
	if r.tgb == nil {
		r.done(0)
		return
	}
	var err error
	if arn := r.tgb.Spec.TargetGroupARN; arn != "" {
		r.group, err = w.aws.group(arn)
	} else {
		r.group, err = w.aws.groupNamed(r.tgb.Spec.TargetGroupName)
	}
	if err != nil {
		r.failed()
		return
	}
	if r.group.targetType != "ip" {
		r.done(0) // the world's nodes are registered by nobody
		return
	}
	r.want = w.wanted(r.tgb, r.group)
	r.hash = checkpoint(r.want)
	drop, add := r.difference()
	if len(drop) == 0 && len(add) == 0 {
		r.gates()
		return
	}
	r.annotate("", func() { r.deregister(drop, add) })
}

// wanted lists what should be registered: endpoints that are ready, and those
// whose containers are ready while a readiness gate is not, on a node that is
// ready. A terminating endpoint is neither. LBC pkg/backend/endpoint_resolver.go.
func (w *World) wanted(b *TargetGroupBinding, g *TargetGroup) []endpointPod {
	var want []endpointPod
	family := discoveryv1.AddressTypeIPv4
	if g.ipv6 {
		family = discoveryv1.AddressTypeIPv6
	}
	portName, ok := w.portName(b)
	for _, s := range w.slicesNamed(b.Namespace, b.Spec.ServiceRef.Name) {
		i := slices.IndexFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return value(p.Name) == portName && p.Port != nil })
		if !ok || s.AddressType != family || i < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if p, ip, belongs := w.endpointOf(b.Namespace, &e); belongs {
				want = append(want, endpointPod{targetID{ip: ip, port: int(*s.Ports[i].Port)}, p})
			}
		}
	}
	slices.SortFunc(want, func(a, b endpointPod) int { return compareIDs(a.id, b.id) })
	return want
}

// endpointOf is the pod and the address of an endpoint, and whether the endpoint
// should be registered. The pod is looked for by its name in the namespace of the
// Service, whatever else the endpoint says of it.
func (w *World) endpointOf(namespace string, e *discoveryv1.Endpoint) (*pod, netip.Addr, bool) {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || len(e.Addresses) == 0 {
		return nil, netip.Addr{}, false
	}
	p := w.pods[key(namespace, e.TargetRef.Name)]
	ip, err := netip.ParseAddr(e.Addresses[0])
	if p == nil || err != nil {
		return nil, netip.Addr{}, false
	}
	ready, terminating := e.Conditions.Ready == nil || *e.Conditions.Ready, value(e.Conditions.Terminating)
	gated := len(p.obj.Spec.ReadinessGates) > 0 && !terminating &&
		conditionTrue(p.obj, corev1.ContainersReady) && w.nodeReady(p.obj.Spec.NodeName)
	return p, ip, ready || gated
}

// value is what p points to, or nothing.
func value[T any](p *T) (v T) {
	if p != nil {
		v = *p
	}
	return v
}

// portName is the name of the Service's port that a binding refers to by name
// or number.
func (w *World) portName(b *TargetGroupBinding) (string, bool) {
	s, ok := get[corev1.Service](w, b.Namespace, b.Spec.ServiceRef.Name)
	if !ok {
		return "", false
	}
	ref := b.Spec.ServiceRef.Port
	for _, p := range s.Spec.Ports {
		if ref.Type == intstr.String && p.Name == ref.StrVal || ref.Type == intstr.Int && p.Port == ref.IntVal {
			return p.Name, true
		}
	}
	return "", false
}

func checkpoint(want []endpointPod) string {
	h := sha256.New()
	for _, e := range want {
		fmt.Fprintln(h, e.id)
	}
	return fmt.Sprintf("%x/%x", h.Sum(nil), sha256.Sum256(nil))
}

// difference is what to deregister and what to register.
func (r *reconcile) difference() (drop, add []targetID) {
	wanted := make(map[targetID]bool, len(r.want))
	for _, e := range r.want {
		wanted[e.id] = true
		if t := r.group.targets[e.id]; t == nil || t.leaving() {
			add = append(add, e.id)
		}
	}
	for _, t := range r.group.sorted() {
		if !t.leaving() && !wanted[t.id] {
			drop = append(drop, t.id)
		}
	}
	return drop, add
}

// leaving says whether LBC takes a target for one that need not be deregistered.
// LBC pkg/targetgroupbinding/targets_manager_types.go, IsDraining.
func (t *target) leaving() bool {
	state, _ := t.state()
	return state == "draining" || state == "unhealthy.draining"
}

// annotate writes the checkpoint. Nothing says that EKS Auto Mode writes one.
func (r *reconcile) annotate(value string, then func()) {
	if r.w.cfg.NoCheckpoint || r.binding.group == GroupEKS {
		then()
		return
	}
	r.step(r.kubeLatency(), func() {
		if r.tgb = r.w.binding(r.binding); r.tgb == nil {
			r.done(0)
			return
		}
		if old, ok := r.tgb.Annotations[checkpointAnnotation]; !ok || old != value {
			if r.tgb.Annotations == nil {
				r.tgb.Annotations = make(map[string]string)
			}
			r.tgb.Annotations[checkpointAnnotation] = value
			r.w.put(r.tgb)
		}
		then()
	})
}

// deregister makes the DeregisterTargets calls, a batch each, and goes on to
// the RegisterTargets calls.
func (r *reconcile) deregister(drop, add []targetID) {
	if len(drop) == 0 {
		r.register(add)
		return
	}
	batch := drop[:min(len(drop), r.w.cfg.Assumptions.ControllerBatch)]
	r.call(func() { r.w.deregister(r.group, batch) }, func() {
		r.w.deregistered(batch)
		r.deregister(drop[len(batch):], add)
	})
}

func (r *reconcile) register(add []targetID) {
	if len(add) == 0 {
		r.gates()
		return
	}
	batch := add[:min(len(add), r.w.cfg.Assumptions.ControllerBatch)]
	r.call(func() { r.w.register(r.group, batch) }, func() { r.register(add[len(batch):]) })
}

// call is one call to ELBv2 that changes something: it waits for LBC's own
// limit, travels, is throttled or acts, and travels back. The SDK in LBC
// retries what was throttled.
func (r *reconcile) call(act, then func()) {
	w := r.w
	if !w.lbc.limit.take(w.now) {
		r.step(100*time.Millisecond, func() { r.call(act, then) })
		return
	}
	d := w.draw(w.cfg.Assumptions.APILatency, "controller", r.binding.name)
	r.step(d/2, func() {
		if !w.aws.mutate.take(w.now) {
			r.step(d/2+time.Second, func() { r.call(act, then) })
			return
		}
		act()
		r.step(d-d/2, then)
	})
}

// gates sets the readiness condition of each pod that waits for it. While one
// is not healthy the checkpoint stays empty, and LBC comes back later.
func (r *reconcile) gates() {
	gate := corev1.PodConditionType(GatePrefix + r.tgb.Name)
	pending := false
	for _, e := range r.want {
		gated := slices.ContainsFunc(e.pod.obj.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == gate })
		if !gated || conditionTrue(e.pod.obj, gate) || e.pod.over {
			continue
		}
		t := r.group.targets[e.id]
		if t == nil {
			pending = true
			continue
		}
		state, _ := t.state()
		pending = pending || state != "healthy"
		r.w.setCondition(e.pod.obj, gate, state == "healthy")
		r.w.setConditions(e.pod)
	}
	if pending {
		r.done(r.w.cfg.Assumptions.ControllerRequeue)
		return
	}
	r.annotate(r.hash, func() {
		delete(r.w.lbc.failures, r.binding)
		r.done(0)
	})
}
