package sim

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/aws/query"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/timeline"
)

// checkpointAnnotation is what LBC (2.10 and later) writes on a
// TargetGroupBinding: empty before it changes the group's targets, and a hash
// of the endpoints and of the specification when all is done; the other one is
// when it did. LBC pkg/annotations/constants.go.
const (
	checkpointAnnotation = "elbv2.k8s.aws/checkpoint"
	timestampAnnotation  = "elbv2.k8s.aws/checkpoint-timestamp"
)

// bindingFinalizer keeps a binding until LBC has deregistered its targets. LBC
// controllers/elbv2/targetgroupbinding_controller.go.
const bindingFinalizer = "elbv2.k8s.aws/resources"

// GatePrefix and a TargetGroupBinding's name make the readiness gate that LBC
// serves. LBC docs/deploy/pod_readiness_gate.md.
const GatePrefix = "target-health.elbv2.k8s.aws/"

// controller is the AWS Load Balancer Controller: it registers what is ready
// behind each TargetGroupBinding and deregisters the rest. A reconcile is a
// chain of events, of which a few run at a time.
type controller struct {
	waiting     []bindingKey                 // in order of arrival
	queued      map[bindingKey]bool          // the same as a set
	busy        map[bindingKey]bool          // reconciled now
	delayed     map[bindingKey]time.Duration // when a pass asked to be repeated
	failures    map[bindingKey]int
	caches      map[string]*targetsCache // by the group's ARN
	stacks      map[string]bool          // Ingresses whose load balancer is being deleted
	backlog     []func()                 // what waits for a leader besides bindings
	generations map[bindingKey]int64     // of the bindings, as last heard of
	owned       map[bindingKey]*owned
	coming      []*registration // RegisterTargets calls that have not landed yet
	written     map[bindingKey][]written
	limit       aws.Bucket    // its own limit of Register and Deregister calls
	idleTill    time.Duration // no leader before this
	term        int           // counts leaders; work of an earlier one is void

	fault func(operation, resource string) *aws.Fault
	hang  time.Duration // how late RegisterTargets takes effect
	stale time.Duration // how far behind its view of its own checkpoints is
}

// owned is what LBC has registered for a binding.
type owned struct {
	arn     string
	targets map[aws.TargetID]bool
}

// registration is a call of RegisterTargets on its way.
type registration struct {
	endpoints []endpointPod
	sent      bool // AWS has it: it will land whatever becomes of LBC
}

// written is a checkpoint, and when LBC wrote it.
type written struct {
	at    time.Duration
	value string
}

// bindingKey names a binding. Two of different groups may share the rest.
type bindingKey struct{ group, namespace, name string }

func keyOf(b *kube.TargetGroupBinding) bindingKey {
	return bindingKey{b.GroupVersionKind().Group, b.Namespace, b.Name}
}

// binding is the binding as it is now, nil where there is none.
func (w *World) binding(k bindingKey) *kube.TargetGroupBinding {
	for _, b := range kube.List[kube.TargetGroupBinding](w.Kube, k.namespace) {
		if keyOf(b) == k {
			return b
		}
	}
	return nil
}

func (c *controller) init(as Assumptions) {
	c.reset()
	c.generations, c.owned, c.written = make(map[bindingKey]int64), make(map[bindingKey]*owned), make(map[bindingKey][]written)
	c.limit = aws.NewBucket(as.AWS.MutateBurst, as.AWS.MutateRate)
}

// reset forgets what a process forgets when it dies. A registration that AWS has
// already will land.
func (c *controller) reset() {
	c.term++
	c.waiting, c.queued, c.busy = nil, make(map[bindingKey]bool), make(map[bindingKey]bool)
	c.delayed = make(map[bindingKey]time.Duration)
	c.failures, c.caches, c.stacks = make(map[bindingKey]int), make(map[string]*targetsCache), make(map[string]bool)
	c.coming = slices.DeleteFunc(c.coming, func(r *registration) bool { return !r.sent })
}

// StopController has LBC do nothing more, in the middle of its work, until
// [World.ChangeLeader] or [World.RestartController].
func (w *World) StopController() {
	w.lbc.reset()
	w.lbc.idleTill = math.MaxInt64
}

// ChangeLeader kills LBC's leader beside another replica: nothing is reconciled
// until the gap is over, and what was in work is begun again. It returns the
// length of the gap.
func (w *World) ChangeLeader() time.Duration { return w.leaderless(w.cfg.Assumptions.LeaderGap) }

// RestartController kills the only replica of LBC and starts it again: as with
// [World.ChangeLeader], but that the new process may wait longer.
func (w *World) RestartController() time.Duration {
	return w.leaderless(w.cfg.Assumptions.RestartGap)
}

// FailController sets what happens to LBC's own calls to ELBv2, as
// [World.FailAWS] does for those of others: a fault with a code of throttling or
// a status of 5xx is tried again by its SDK, with Hang it never hears of the call
// again, and anything else fails the reconcile. Garble has no meaning here.
func (w *World) FailController(fault func(operation, resource string) *aws.Fault) {
	w.lbc.fault = fault
}

// HangRegistration has each call of RegisterTargets that LBC makes from now on
// take effect that much later, whatever has become of its pods by then. Zero ends
// that for the calls to come.
func (w *World) HangRegistration(late time.Duration) { w.lbc.hang = late }

// StaleCheckpoints has LBC see the checkpoints that it wrote that much later from
// now on: it reads them from a cache. It may then leave out to empty one before it
// acts, or take work for done that is not.
func (w *World) StaleCheckpoints(behind time.Duration) { w.lbc.stale = behind }

func (w *World) leaderless(gap timeline.Range) time.Duration {
	c := &w.lbc
	d := w.Draw(gap, "leader", "gap")
	c.reset()
	c.idleTill = w.Present() + d
	term := c.term
	w.At(c.idleTill, func() {
		if c.term == term {
			w.lead()
		}
	})
	return d
}

// led says whether LBC has a leader.
func (w *World) led() bool { return w.Present() >= w.lbc.idleTill }

// lead is what a new leader begins with.
func (w *World) lead() {
	for _, b := range kube.List[kube.TargetGroupBinding](w.Kube, "") {
		w.enqueue(b, 0)
	}
	w.resumeStacks()
	backlog := w.lbc.backlog
	w.lbc.backlog = nil
	for _, f := range backlog {
		f()
	}
}

// bindingChanged has LBC reconcile a binding that is new, has another
// specification, is being deleted, or is gone.
func (w *World) bindingChanged(event string, b *kube.TargetGroupBinding) {
	c, k := &w.lbc, keyOf(b)
	lag := func() time.Duration { return w.Draw(w.cfg.Assumptions.ControllerLag, "controller", b.Name) }
	switch {
	case event == "DELETED":
		delete(c.generations, k)
		delete(c.written, k)
		if c.owned[k] != nil && w.led() {
			w.enqueueKey(k, lag())
		} else {
			delete(c.owned, k)
		}
	case c.generations[k] != b.Generation:
		c.generations[k] = b.Generation
		w.enqueue(b, lag())
	}
}

// enqueue asks for a reconcile of a binding after a lag.
func (w *World) enqueue(b *kube.TargetGroupBinding, lag time.Duration) { w.enqueueKey(keyOf(b), lag) }

func (w *World) enqueueKey(k bindingKey, lag time.Duration) {
	w.After(lag, func() {
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
	for w.led() && len(c.busy) < w.cfg.Assumptions.ControllerWorkers {
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

// reconcile is one pass over one binding. Its steps are in order: add the
// finalizer, list the targets, empty the checkpoint, deregister, register, see to
// the readiness gates, write the checkpoint and the status. LBC
// pkg/targetgroupbinding/resource_manager.go, reconcileWithIPTargetType.
type reconcile struct {
	w       *World
	term    int
	binding bindingKey
	tgb     *kube.TargetGroupBinding
	group   *aws.TargetGroup
	targets []aws.TargetHealth
	want    []endpointPod
	seen    string // the checkpoint as LBC saw it at the start
	hash    string
	ends    bool // the binding is being deleted
}

// endpointPod is a target that should be registered, and its pod as LBC finds it:
// by name. Its slice can still be that of an earlier pod of the name, which is then
// the one that is meant.
type endpointPod struct {
	id         aws.TargetID
	pod, meant *pod // meant is nil where the address is nobody's any more
}

// step runs f after d unless the leader was lost meanwhile.
func (r *reconcile) step(d time.Duration, f func()) {
	r.w.After(d, func() {
		if r.term == r.w.lbc.term {
			f()
		}
	})
}

func (r *reconcile) kubeLatency(what string) time.Duration {
	return r.w.Draw(r.w.cfg.Assumptions.Kube.KubeLatency, what, r.binding.name)
}

// done ends the pass. A positive again asks for another one after that time.
func (r *reconcile) done(again time.Duration) {
	c, k := &r.w.lbc, r.binding
	delete(c.busy, k)
	at := r.w.Present() + again
	if planned, ok := c.delayed[k]; again > 0 && (!ok || at < planned) { // of two, the sooner counts
		c.delayed[k] = at
		r.step(again, func() {
			if c.delayed[k] == at {
				delete(c.delayed, k)
				r.w.enqueueKey(k, 0)
			}
		})
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
		r.orphaned()
		return
	}
	r.ends = r.tgb.DeletionTimestamp != nil
	var err error
	if r.group, err = w.groupOf(r.tgb); err != nil {
		r.refused(query.AsError(err))
		return
	}
	switch {
	case r.ends && !slices.Contains(r.tgb.Finalizers, bindingFinalizer):
		r.done(0) // somebody else's finalizer keeps it
	case r.ends:
		r.list(func() { r.deregister(r.all(), func() { r.release() }) })
	case r.group.TargetType() != "ip":
		r.addFinalizer(func() { r.done(0) }) // the world's nodes are registered by nobody
	default:
		r.addFinalizer(r.resolve)
	}
}

// groupOf is the target group of a binding.
func (w *World) groupOf(b *kube.TargetGroupBinding) (*aws.TargetGroup, error) {
	if arn := b.Spec.TargetGroupARN; arn != "" {
		return w.AWS.Group(arn)
	}
	return w.AWS.GroupNamed(b.Spec.TargetGroupName)
}

// write changes the binding, by a call to the API server, and goes on unless the
// binding is gone.
func (r *reconcile) write(what string, change func(b *kube.TargetGroupBinding), then func()) {
	r.step(r.kubeLatency(what), func() {
		if r.tgb = r.w.binding(r.binding); r.tgb == nil {
			r.done(0)
			return
		}
		change(r.tgb)
		r.w.Kube.Apply(r.tgb)
		then()
	})
}

func (r *reconcile) addFinalizer(then func()) {
	if slices.Contains(r.tgb.Finalizers, bindingFinalizer) {
		then()
		return
	}
	r.write("finalizer", func(b *kube.TargetGroupBinding) {
		if b.DeletionTimestamp == nil {
			b.Finalizers = append(b.Finalizers, bindingFinalizer)
		}
	}, then)
}

// resolve finds out what should be registered. Where the checkpoint says that this
// has been done, LBC does not look further.
func (r *reconcile) resolve() {
	w := r.w
	r.want = w.wanted(r.tgb, r.group)
	r.hash, r.seen = checkpoint(r.want, r.tgb), w.checkpointSeen(r.tgb)
	if r.checkpoints() && r.seen == r.hash {
		r.observe()
		return
	}
	r.list(func() {
		drop, add := r.difference()
		change := func() { r.deregister(drop, func() { r.register(add) }) }
		if len(drop) == 0 && len(add) == 0 {
			r.gates(nil)
			return
		}
		r.annotate("", change)
	})
}

// wanted lists what should be registered: endpoints that are ready, and those
// whose containers are ready while a readiness gate is not, on a node that is
// ready. A terminating endpoint is neither. LBC pkg/backend/endpoint_resolver.go.
func (w *World) wanted(b *kube.TargetGroupBinding, g *aws.TargetGroup) []endpointPod {
	var want []endpointPod
	family := discoveryv1.AddressTypeIPv4
	if g.IPv6() {
		family = discoveryv1.AddressTypeIPv6
	}
	portName, ok := w.portName(b)
	for _, s := range w.Kube.SlicesOf(b.Namespace, b.Spec.ServiceRef.Name) {
		i := slices.IndexFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return value(p.Name) == portName && p.Port != nil })
		if !ok || s.AddressType != family || i < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if p, ip, belongs := w.endpointOf(b.Namespace, &e); belongs {
				id := aws.TargetID{IP: ip, Port: int(*s.Ports[i].Port)}
				want = append(want, endpointPod{id, p, w.meant(&e, p, id)})
			}
		}
	}
	slices.SortFunc(want, func(a, b endpointPod) int { return aws.CompareIDs(a.id, b.id) })
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
		kube.ConditionTrue(p.obj, corev1.ContainersReady) && w.Kube.NodeReady(p.obj.Spec.NodeName)
	return p, ip, ready || gated
}

// meant is the pod that an endpoint is about, where LBC found p by the name.
func (w *World) meant(e *discoveryv1.Endpoint, p *pod, id aws.TargetID) *pod {
	if q := w.byUID[e.TargetRef.UID]; q != nil {
		return q
	}
	if slices.Contains(p.ips, id.IP) {
		return p
	}
	return w.receiver(id)
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
func (w *World) portName(b *kube.TargetGroupBinding) (string, bool) {
	s, ok := kube.Get[corev1.Service](w.Kube, b.Namespace, b.Spec.ServiceRef.Name)
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

// checkpoint is the hash that LBC writes: the sorted endpoints with the times at
// which their pods were made, and the specification. LBC
// pkg/targetgroupbinding/utils.go, calculateTGBReconcileCheckpoint.
func checkpoint(want []endpointPod, b *kube.TargetGroupBinding) string {
	var ids []string
	for _, e := range want {
		ids = append(ids, fmt.Sprintf("%s:%d", e.id, e.pod.obj.CreationTimestamp.UnixMilli()))
	}
	slices.Sort(ids)
	written, err := json.Marshal(b.Spec)
	if err != nil {
		panic(err) // it came as JSON
	}
	endpoints, spec := sha256.Sum256([]byte(strings.Join(ids, ","))), sha256.Sum256(written)
	return base64.RawURLEncoding.EncodeToString(endpoints[:]) + "/" + base64.RawURLEncoding.EncodeToString(spec[:])
}

// checkpointSeen is a binding's checkpoint as LBC's cache has it; see
// [World.StaleCheckpoints].
func (w *World) checkpointSeen(b *kube.TargetGroupBinding) string {
	seen := b.Annotations[checkpointAnnotation]
	if log := w.lbc.written[keyOf(b)]; w.lbc.stale > 0 && len(log) > 0 {
		seen = ""
		for _, x := range log {
			if x.at <= w.Present()-w.lbc.stale {
				seen = x.value
			}
		}
	}
	return seen
}

// difference is what to deregister and what to register.
func (r *reconcile) difference() (drop []aws.TargetID, add []endpointPod) {
	listed, wanted := make(map[aws.TargetID]bool), make(map[aws.TargetID]bool)
	for _, t := range r.targets {
		listed[t.ID] = !leaving(t)
	}
	for _, e := range r.want {
		wanted[e.id] = true
		if !listed[e.id] {
			add = append(add, e)
		} else if r.group.IsRegistered(e.id) {
			r.w.owners[place{r.group, e.id}] = e.meant // the address may have been given to another one meanwhile
			r.w.lbc.own(r.binding, r.group).targets[e.id] = true
		}
	}
	for _, t := range r.targets {
		if listed[t.ID] && !wanted[t.ID] {
			drop = append(drop, t.ID)
		}
	}
	return drop, add
}

// checkpoints says whether LBC writes them. Nothing says that EKS Auto Mode does.
func (r *reconcile) checkpoints() bool {
	return !r.w.cfg.NoCheckpoint && r.binding.group != kube.GroupEKS
}

// annotate writes the checkpoint unless LBC believes that it is there.
func (r *reconcile) annotate(value string, then func()) {
	if !r.checkpoints() || value == r.seen {
		then()
		return
	}
	r.write("controller", func(b *kube.TargetGroupBinding) {
		if b.Annotations == nil {
			b.Annotations = make(map[string]string)
		}
		b.Annotations[checkpointAnnotation] = value
		b.Annotations[timestampAnnotation] = strconv.FormatInt(r.w.Kube.Time(r.w.Present()).Unix(), 10)
		log := append(r.w.lbc.written[r.binding], written{r.w.Present(), value})
		r.w.lbc.written[r.binding] = log[max(0, len(log)-10):]
	}, then)
}

// deregister makes the DeregisterTargets calls, a batch each.
func (r *reconcile) deregister(drop []aws.TargetID, then func()) {
	if len(drop) == 0 {
		then()
		return
	}
	w, c := r.w, &r.w.lbc
	batch := drop[:min(len(drop), w.cfg.Assumptions.ControllerBatch)]
	var left []*pod
	act := func() {
		left = w.deregister(r.group, batch)
		if o := c.owned[r.binding]; o != nil {
			for _, id := range batch {
				delete(o.targets, id)
			}
		}
	}
	r.call("DeregisterTargets", act, func() {
		for _, p := range left {
			p.deregistered(w.Present(), true)
		}
		c.remember(r.group, batch)
		r.deregister(drop[len(batch):], then)
	})
}

// deregister is LBC's DeregisterTargets. It returns the pods that leave.
func (w *World) deregister(g *aws.TargetGroup, ids []aws.TargetID) (left []*pod) {
	for _, id := range w.AWS.DeregisterTargets(g, ids) {
		if p := w.owners[place{g, id}]; p != nil {
			left = append(left, p)
		}
	}
	return left
}

// register makes the RegisterTargets calls, a batch each.
func (r *reconcile) register(add []endpointPod) { r.registerFrom(add, 0) }

func (r *reconcile) registerFrom(add []endpointPod, from int) {
	if from == len(add) {
		r.gates(add)
		return
	}
	w, c := r.w, &r.w.lbc
	to := min(len(add), from+w.cfg.Assumptions.ControllerBatch)
	x := &registration{endpoints: add[from:to]}
	var ids []aws.TargetID
	for _, e := range x.endpoints {
		ids = append(ids, e.id)
	}
	c.coming = append(c.coming, x)
	r.send(&controllerCall{
		operation: "RegisterTargets", late: c.hang, sent: &x.sent,
		act: func() {
			c.landed(x)
			w.AWS.RegisterTargets(r.group, ids)
			o := c.own(r.binding, r.group)
			for _, e := range x.endpoints {
				w.owners[place{r.group, e.id}], o.targets[e.id] = e.meant, true
			}
		},
		then: func() {
			c.remember(r.group, ids)
			r.registerFrom(add, to)
		},
		refused: func() { c.landed(x) },
	})
}

// landed is the end of a registration's way, good or bad.
func (c *controller) landed(x *registration) {
	c.coming = slices.DeleteFunc(c.coming, func(y *registration) bool { return x == y })
}

// own is what LBC has registered for a binding. Of a binding whose group was
// switched it forgets what is in the old one, which stays there: LBC's webhook
// does not let a group be switched.
func (c *controller) own(k bindingKey, g *aws.TargetGroup) *owned {
	o := c.owned[k]
	if o == nil || o.arn != g.ARN() {
		o = &owned{g.ARN(), make(map[aws.TargetID]bool)}
		c.owned[k] = o
	}
	return o
}

// orphaned is a pass over a binding that is gone: what LBC had registered for it
// is deregistered, and nothing else.
func (r *reconcile) orphaned() {
	o := r.w.lbc.owned[r.binding]
	delete(r.w.lbc.owned, r.binding)
	if o == nil {
		r.done(0)
		return
	}
	var err error
	if r.group, err = r.w.AWS.Group(o.arn); err != nil {
		r.done(0)
		return
	}
	var drop []aws.TargetID
	for _, id := range r.group.Registered() {
		if o.targets[id] {
			drop = append(drop, id)
		}
	}
	r.ends = true
	r.deregister(drop, func() { r.done(0) })
}

// release is the end of a binding that is being deleted: the pods' gates are no
// longer waited for, and the finalizer goes. LBC, updatePodAsHealthyForDeletedTGB.
func (r *reconcile) release() {
	delete(r.w.lbc.owned, r.binding)
	gate := corev1.PodConditionType(GatePrefix + r.binding.name)
	for _, obj := range kube.List[corev1.Pod](r.w.Kube, r.binding.namespace) {
		if p := r.w.pods[key(obj.Namespace, obj.Name)]; p != nil && p.gated(gate) && !kube.ConditionTrue(obj, gate) && !p.over {
			r.w.setCondition(obj, gate, true)
			r.w.setConditions(p)
		}
	}
	r.write("finalizer", func(b *kube.TargetGroupBinding) {
		b.Finalizers = slices.DeleteFunc(b.Finalizers, func(f string) bool { return f == bindingFinalizer })
	}, func() {
		delete(r.w.lbc.failures, r.binding)
		r.done(0)
	})
}

func (p *pod) gated(gate corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.obj.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return g.ConditionType == gate })
}

// gates sets the readiness condition of each pod that waits for it; the targets of
// added ones were registered just now. While one is not healthy the checkpoint stays
// empty, and LBC comes back later.
func (r *reconcile) gates(added []endpointPod) {
	gate := corev1.PodConditionType(GatePrefix + r.tgb.Name)
	pending := false
	for _, e := range r.want {
		if !e.pod.gated(gate) || kube.ConditionTrue(e.pod.obj, gate) || e.pod.over {
			continue
		}
		healthy := !slices.Contains(added, e) && slices.ContainsFunc(r.targets, func(t aws.TargetHealth) bool {
			return t.ID == e.id && t.State == "healthy"
		})
		pending = pending || !healthy
		r.w.setCondition(e.pod.obj, gate, healthy)
		r.w.setConditions(e.pod)
	}
	if pending {
		r.done(r.w.cfg.Assumptions.ControllerRequeue)
		return
	}
	r.annotate(r.hash, r.observe)
}

// observe writes the status and ends a pass that has succeeded.
func (r *reconcile) observe() {
	delete(r.w.lbc.failures, r.binding)
	if seen := r.tgb.Status.ObservedGeneration; seen != nil && *seen == r.tgb.Generation {
		r.done(0)
		return
	}
	generation := r.tgb.Generation
	r.write("status", func(b *kube.TargetGroupBinding) { b.Status.ObservedGeneration = &generation }, func() { r.done(0) })
}
