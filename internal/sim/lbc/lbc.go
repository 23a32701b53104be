// Package lbc is a simulated AWS Load Balancer Controller: it follows LBC 3.5 in
// everything that gets a pod into its target groups and out of them.
package lbc

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
// TargetGroupBinding: empty before it changes the group's targets, and a hash of the
// endpoints and of the specification when everything is done. The other annotation is
// the time of that. LBC pkg/annotations/constants.go.
const (
	checkpointAnnotation = "elbv2.k8s.aws/checkpoint"
	timestampAnnotation  = "elbv2.k8s.aws/checkpoint-timestamp"
)

// bindingFinalizer keeps a binding until LBC has deregistered its targets. LBC
// controllers/elbv2/targetgroupbinding_controller.go.
const bindingFinalizer = "elbv2.k8s.aws/resources"

// GatePrefix and a TargetGroupBinding's name are the name of the readiness gate that LBC
// serves. LBC docs/deploy/pod_readiness_gate.md.
const GatePrefix = "target-health.elbv2.k8s.aws/"

// Controller is the AWS Load Balancer Controller: it registers what is ready behind each
// TargetGroupBinding and deregisters the rest. A reconcile is a chain of events; a few
// reconciles run at a time. The methods are for the goroutine that owns the timeline.
type Controller struct {
	// Assumptions are read each time, so they may change in between.
	Assumptions *Assumptions
	// NoCheckpoint makes it write no checkpoint annotation, as before 2.10.
	NoCheckpoint bool

	line    *timeline.Timeline
	cluster *kube.Cluster
	account *aws.Account
	pods    Pods

	waiting     []bindingKey                 // in order of arrival
	queued      map[bindingKey]bool          // the same as a set
	busy        map[bindingKey]bool          // reconciled now
	delayed     map[bindingKey]time.Duration // when a pass asked to be repeated
	failures    map[bindingKey]int
	caches      map[string]*targetsCache // by the group's ARN
	stacks      map[string]bool          // Ingresses whose load balancer is being deleted
	backlog     []func()                 // work other than bindings that waits for a leader
	generations map[bindingKey]int64     // of the bindings, as last seen
	owned       map[bindingKey]*owned
	coming      []*registration // RegisterTargets calls that have not landed yet
	written     map[bindingKey][]written
	limit       aws.Bucket    // LBC's own limit for Register and Deregister calls
	idleTill    time.Duration // no leader before this
	term        int           // counts leaders; work of an earlier one is void

	fault func(operation, resource string) *aws.Fault
	hang  time.Duration // how late RegisterTargets takes effect
	stale time.Duration // how far behind its view of its own checkpoints is
}

// Pods are the pods as LBC finds them, and what the world notes of them.
type Pods struct {
	// Find is the pod of that name, nil if no kubelet has one.
	Find func(namespace, name string) *corev1.Pod
	// Over says whether all processes of a pod have ended for good.
	Over func(*corev1.Pod) bool
	// SetGate sets a readiness condition of a pod.
	SetGate func(pod *corev1.Pod, gate corev1.PodConditionType, on bool)
	// Meant is the pod that an endpoint is about, if LBC has found a pod by the name.
	// It is nil if nobody has the address any more.
	Meant func(e *discoveryv1.Endpoint, found *corev1.Pod, id aws.TargetID) *corev1.Pod
	// Registered is told for which pod LBC registers an address.
	Registered func(g *aws.TargetGroup, id aws.TargetID, meant *corev1.Pod)
	// Leaving is told what AWS deregisters for LBC. The function that it returns is
	// called when LBC knows that it is done.
	Leaving func(g *aws.TargetGroup, ids []aws.TargetID) (done func())
}

// owned is what LBC has registered for a binding.
type owned struct {
	arn     string
	targets map[aws.TargetID]bool
}

// registration is a call of RegisterTargets on its way.
type registration struct {
	endpoints []endpointPod
	sent      bool // AWS has it: it will land, whatever happens to LBC
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

// binding is the binding as it is now, nil if there is none.
func (l *Controller) binding(k bindingKey) *kube.TargetGroupBinding {
	for _, b := range kube.List[kube.TargetGroupBinding](l.cluster, k.namespace) {
		if keyOf(b) == k {
			return b
		}
	}
	return nil
}

// New makes a controller that leads. The caller has to tell it what changes in the
// cluster.
func New(line *timeline.Timeline, as *Assumptions, cluster *kube.Cluster, account *aws.Account, pods Pods) *Controller {
	l := &Controller{
		Assumptions: as,
		line:        line,
		cluster:     cluster,
		account:     account,
		pods:        pods,
		generations: make(map[bindingKey]int64),
		owned:       make(map[bindingKey]*owned),
		written:     make(map[bindingKey][]written),
		limit:       aws.NewBucket(account.Assumptions.MutateBurst, account.Assumptions.MutateRate),
	}
	l.reset()
	return l
}

// reset forgets what a process forgets when it dies. A registration that AWS already
// has will land.
func (l *Controller) reset() {
	l.term++
	l.waiting, l.queued, l.busy = nil, make(map[bindingKey]bool), make(map[bindingKey]bool)
	l.delayed = make(map[bindingKey]time.Duration)
	l.failures, l.caches, l.stacks = make(map[bindingKey]int), make(map[string]*targetsCache), make(map[string]bool)
	l.coming = slices.DeleteFunc(l.coming, func(r *registration) bool { return !r.sent })
}

// Stop stops LBC in the middle of its work, until [Controller.ChangeLeader] or
// [Controller.Restart].
func (l *Controller) Stop() {
	l.reset()
	l.idleTill = math.MaxInt64
}

// ChangeLeader kills LBC's leader while there is another replica. Nothing is reconciled
// until the gap is over, and work in progress starts again. It returns the length of
// the gap.
func (l *Controller) ChangeLeader() time.Duration { return l.leaderless(l.Assumptions.LeaderGap) }

// Restart kills the only replica of LBC and starts it again. It is like
// [Controller.ChangeLeader], except that the new process may wait longer.
func (l *Controller) Restart() time.Duration {
	return l.leaderless(l.Assumptions.RestartGap)
}

// Fail sets what happens to LBC's own calls to ELBv2, as
// [aws.Account.Fail] does for the calls of others. LBC's SDK retries after a throttling
// code or a status of 5xx. With Hang, LBC never hears of the call again. Anything else
// fails the reconcile. Garble has no meaning here.
func (l *Controller) Fail(fault func(operation, resource string) *aws.Fault) {
	l.fault = fault
}

// HangRegistration delays the effect of each RegisterTargets call that LBC makes from
// now on by that much, whatever has happened to the pods by then. Zero ends that for
// later calls.
func (l *Controller) HangRegistration(late time.Duration) { l.hang = late }

// StaleCheckpoints makes LBC see its own checkpoints later by that much from now on, as
// it reads them from a cache. LBC may then fail to empty a checkpoint before it acts, or
// believe that work is done when it is not.
func (l *Controller) StaleCheckpoints(behind time.Duration) { l.stale = behind }

func (l *Controller) leaderless(gap timeline.Range) time.Duration {
	d := l.line.Draw(gap, "leader", "gap")
	l.reset()
	l.idleTill = l.line.Present() + d
	term := l.term
	l.line.At(l.idleTill, func() {
		if l.term == term {
			l.lead()
		}
	})
	return d
}

// led says whether LBC has a leader.
func (l *Controller) led() bool { return l.line.Present() >= l.idleTill }

// lead is what a new leader begins with.
func (l *Controller) lead() {
	for _, b := range kube.List[kube.TargetGroupBinding](l.cluster, "") {
		l.enqueue(b, 0)
	}
	l.resumeStacks()
	backlog := l.backlog
	l.backlog = nil
	for _, f := range backlog {
		f()
	}
}

// BindingChanged makes LBC reconcile a binding that is new, has another specification,
// is being deleted, or is gone.
func (l *Controller) BindingChanged(event string, b *kube.TargetGroupBinding) {
	k := keyOf(b)
	lag := func() time.Duration { return l.line.Draw(l.Assumptions.Lag, "controller", b.Name) }
	switch {
	case event == "DELETED":
		delete(l.generations, k)
		delete(l.written, k)
		if l.owned[k] != nil && l.led() {
			l.enqueueKey(k, lag())
		} else {
			delete(l.owned, k)
		}
	case l.generations[k] != b.Generation:
		l.generations[k] = b.Generation
		l.enqueue(b, lag())
	}
}

// ServiceChanged makes LBC reconcile, after its lag, what refers to a Service: the
// Service, its pods or its slices have changed.
func (l *Controller) ServiceChanged(namespace, service string) {
	for _, b := range kube.List[kube.TargetGroupBinding](l.cluster, namespace) {
		if b.Spec.ServiceRef.Name == service {
			l.enqueue(b, l.line.Draw(l.Assumptions.Lag, "controller", b.Name))
		}
	}
}

// Coming says whether a RegisterTargets call for such a target is on its way.
func (l *Controller) Coming(is func(aws.TargetID) bool) bool {
	return slices.ContainsFunc(l.coming, func(r *registration) bool {
		return slices.ContainsFunc(r.endpoints, func(e endpointPod) bool { return is(e.id) })
	})
}

// enqueue asks for a reconcile of a binding after a lag.
func (l *Controller) enqueue(b *kube.TargetGroupBinding, lag time.Duration) {
	l.enqueueKey(keyOf(b), lag)
}

func (l *Controller) enqueueKey(k bindingKey, lag time.Duration) {
	l.line.After(lag, func() {
		if !l.queued[k] {
			l.queued[k] = true
			l.waiting = append(l.waiting, k)
		}
		l.work()
	})
}

// work starts reconciles while there are free workers.
func (l *Controller) work() {
	for l.led() && len(l.busy) < l.Assumptions.Workers {
		i := slices.IndexFunc(l.waiting, func(b bindingKey) bool { return !l.busy[b] })
		if i < 0 {
			return
		}
		b := l.waiting[i]
		l.waiting = slices.Delete(l.waiting, i, i+1)
		delete(l.queued, b)
		l.busy[b] = true
		r := &reconcile{l: l, term: l.term, binding: b}
		r.start()
	}
}

// reconcile is one pass over one binding. Its steps are in order: add the
// finalizer, list the targets, empty the checkpoint, deregister, register, see to
// the readiness gates, write the checkpoint and the status. LBC
// pkg/targetgroupbinding/resource_manager.go, reconcileWithIPTargetType.
type reconcile struct {
	l       *Controller
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

// endpointPod is a target that should be registered, and its pod as LBC finds it, by
// name. The slice can still be about an earlier pod of that name, and then it means the
// earlier one.
type endpointPod struct {
	id         aws.TargetID
	pod, meant *corev1.Pod // meant is nil if the address is nobody's any more
}

// step runs f after d, unless the leader was lost in between.
func (r *reconcile) step(d time.Duration, f func()) {
	r.l.line.After(d, func() {
		if r.term == r.l.term {
			f()
		}
	})
}

func (r *reconcile) kubeLatency(what string) time.Duration {
	return r.l.line.Draw(r.l.cluster.Assumptions.Latency, what, r.binding.name)
}

// done ends the pass. A positive again asks for another one after that time.
func (r *reconcile) done(again time.Duration) {
	l, k := r.l, r.binding
	delete(l.busy, k)
	at := l.line.Present() + again
	if planned, ok := l.delayed[k]; again > 0 && (!ok || at < planned) { // the sooner one counts
		l.delayed[k] = at
		r.step(again, func() {
			if l.delayed[k] == at {
				delete(l.delayed, k)
				l.enqueueKey(k, 0)
			}
		})
	}
	l.work()
}

// failed ends the pass and asks for another one, after a longer time each time.
func (r *reconcile) failed() {
	backoff := r.l.Assumptions.Backoff
	n := r.l.failures[r.binding]
	r.l.failures[r.binding] = n + 1
	r.done(min(backoff.Min<<min(n, 30), backoff.Max))
}

func (r *reconcile) start() {
	l := r.l
	r.tgb = l.binding(r.binding)
	if r.tgb == nil {
		r.orphaned()
		return
	}
	r.ends = r.tgb.DeletionTimestamp != nil
	var err error
	if r.group, err = l.groupOf(r.tgb); err != nil {
		r.refused(query.AsError(err))
		return
	}
	switch {
	case r.ends && !slices.Contains(r.tgb.Finalizers, bindingFinalizer):
		r.done(0) // somebody else's finalizer keeps it
	case r.ends:
		r.list(func() { r.deregister(r.all(), func() { r.release() }) })
	case r.group.TargetType() != "ip":
		r.addFinalizer(func() { r.done(0) }) // nobody registers the world's nodes
	default:
		r.addFinalizer(r.resolve)
	}
}

// groupOf is the target group of a binding.
func (l *Controller) groupOf(b *kube.TargetGroupBinding) (*aws.TargetGroup, error) {
	if arn := b.Spec.TargetGroupARN; arn != "" {
		return l.account.Group(arn)
	}
	return l.account.GroupNamed(b.Spec.TargetGroupName)
}

// write changes the binding, by a call to the API server, and goes on unless the
// binding is gone.
func (r *reconcile) write(what string, change func(b *kube.TargetGroupBinding), then func()) {
	r.step(r.kubeLatency(what), func() {
		if r.tgb = r.l.binding(r.binding); r.tgb == nil {
			r.done(0)
			return
		}
		change(r.tgb)
		r.l.cluster.Apply(r.tgb)
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

// resolve finds out what should be registered. If the checkpoint says that this
// has been done, LBC does not look further.
func (r *reconcile) resolve() {
	l := r.l
	r.want = l.wanted(r.tgb, r.group)
	r.hash, r.seen = checkpoint(r.want, r.tgb), l.checkpointSeen(r.tgb)
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
func (l *Controller) wanted(b *kube.TargetGroupBinding, g *aws.TargetGroup) []endpointPod {
	var want []endpointPod
	family := discoveryv1.AddressTypeIPv4
	if g.IPv6() {
		family = discoveryv1.AddressTypeIPv6
	}
	portName, ok := l.portName(b)
	for _, s := range l.cluster.SlicesOf(b.Namespace, b.Spec.ServiceRef.Name) {
		i := slices.IndexFunc(s.Ports, func(p discoveryv1.EndpointPort) bool { return value(p.Name) == portName && p.Port != nil })
		if !ok || s.AddressType != family || i < 0 {
			continue
		}
		for _, e := range s.Endpoints {
			if p, ip, belongs := l.endpointOf(b.Namespace, &e); belongs {
				id := aws.TargetID{IP: ip, Port: int(*s.Ports[i].Port)}
				want = append(want, endpointPod{id, p, l.pods.Meant(&e, p, id)})
			}
		}
	}
	slices.SortFunc(want, func(a, b endpointPod) int { return aws.CompareIDs(a.id, b.id) })
	return want
}

// endpointOf is the pod and the address of an endpoint, and whether the endpoint
// should be registered. LBC looks for the pod by its name in the namespace of the
// Service, whatever else the endpoint says about it.
func (l *Controller) endpointOf(namespace string, e *discoveryv1.Endpoint) (*corev1.Pod, netip.Addr, bool) {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" || len(e.Addresses) == 0 {
		return nil, netip.Addr{}, false
	}
	p := l.pods.Find(namespace, e.TargetRef.Name)
	ip, err := netip.ParseAddr(e.Addresses[0])
	if p == nil || err != nil {
		return nil, netip.Addr{}, false
	}
	ready, terminating := e.Conditions.Ready == nil || *e.Conditions.Ready, value(e.Conditions.Terminating)
	gated := len(p.Spec.ReadinessGates) > 0 && !terminating &&
		kube.ConditionTrue(p, corev1.ContainersReady) && l.cluster.NodeReady(p.Spec.NodeName)
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
func (l *Controller) portName(b *kube.TargetGroupBinding) (string, bool) {
	s, ok := kube.Get[corev1.Service](l.cluster, b.Namespace, b.Spec.ServiceRef.Name)
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
		ids = append(ids, fmt.Sprintf("%s:%d", e.id, e.pod.CreationTimestamp.UnixMilli()))
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
// [Controller.StaleCheckpoints].
func (l *Controller) checkpointSeen(b *kube.TargetGroupBinding) string {
	seen := b.Annotations[checkpointAnnotation]
	if log := l.written[keyOf(b)]; l.stale > 0 && len(log) > 0 {
		seen = ""
		for _, x := range log {
			if x.at <= l.line.Present()-l.stale {
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
			r.l.pods.Registered(r.group, e.id, e.meant) // another pod may have the address by now
			r.l.own(r.binding, r.group).targets[e.id] = true
		}
	}
	for _, t := range r.targets {
		if listed[t.ID] && !wanted[t.ID] {
			drop = append(drop, t.ID)
		}
	}
	return drop, add
}

// checkpoints says whether LBC writes checkpoints. Nothing says that EKS Auto Mode
// does.
func (r *reconcile) checkpoints() bool {
	return !r.l.NoCheckpoint && r.binding.group != kube.GroupEKS
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
		b.Annotations[timestampAnnotation] = strconv.FormatInt(r.l.cluster.Time(r.l.line.Present()).Unix(), 10)
		log := append(r.l.written[r.binding], written{r.l.line.Present(), value})
		r.l.written[r.binding] = log[max(0, len(log)-10):]
	}, then)
}

// deregister makes the DeregisterTargets calls, a batch each.
func (r *reconcile) deregister(drop []aws.TargetID, then func()) {
	if len(drop) == 0 {
		then()
		return
	}
	l := r.l
	batch := drop[:min(len(drop), l.Assumptions.Batch)]
	var done func()
	act := func() {
		done = l.pods.Leaving(r.group, l.account.DeregisterTargets(r.group, batch))
		if o := l.owned[r.binding]; o != nil {
			for _, id := range batch {
				delete(o.targets, id)
			}
		}
	}
	r.call("DeregisterTargets", act, func() {
		done()
		l.remember(r.group, batch)
		r.deregister(drop[len(batch):], then)
	})
}

// register makes the RegisterTargets calls, a batch each.
func (r *reconcile) register(add []endpointPod) { r.registerFrom(add, 0) }

func (r *reconcile) registerFrom(add []endpointPod, from int) {
	if from == len(add) {
		r.gates(add)
		return
	}
	l := r.l
	to := min(len(add), from+l.Assumptions.Batch)
	x := &registration{endpoints: add[from:to]}
	var ids []aws.TargetID
	for _, e := range x.endpoints {
		ids = append(ids, e.id)
	}
	l.coming = append(l.coming, x)
	r.send(&controllerCall{
		operation: "RegisterTargets", late: l.hang, sent: &x.sent,
		act: func() {
			l.landed(x)
			l.account.RegisterTargets(r.group, ids)
			o := l.own(r.binding, r.group)
			for _, e := range x.endpoints {
				l.pods.Registered(r.group, e.id, e.meant)
				o.targets[e.id] = true
			}
		},
		then: func() {
			l.remember(r.group, ids)
			r.registerFrom(add, to)
		},
		refused: func() { l.landed(x) },
	})
}

// landed is the end of a registration, good or bad.
func (l *Controller) landed(x *registration) {
	l.coming = slices.DeleteFunc(l.coming, func(y *registration) bool { return x == y })
}

// own is what LBC has registered for a binding. If the binding's group was switched, LBC
// forgets what is in the old group, and it stays there: the real LBC's webhook does not
// allow that a group is switched.
func (l *Controller) own(k bindingKey, g *aws.TargetGroup) *owned {
	o := l.owned[k]
	if o == nil || o.arn != g.ARN() {
		o = &owned{g.ARN(), make(map[aws.TargetID]bool)}
		l.owned[k] = o
	}
	return o
}

// orphaned is a pass over a binding that is gone: it deregisters what LBC had registered
// for it, and nothing else.
func (r *reconcile) orphaned() {
	o := r.l.owned[r.binding]
	delete(r.l.owned, r.binding)
	if o == nil {
		r.done(0)
		return
	}
	var err error
	if r.group, err = r.l.account.Group(o.arn); err != nil {
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

// release is the end of a binding that is being deleted: nobody waits for the pods'
// gates any more, and the finalizer goes. LBC, updatePodAsHealthyForDeletedTGB.
func (r *reconcile) release() {
	delete(r.l.owned, r.binding)
	gate := corev1.PodConditionType(GatePrefix + r.binding.name)
	for _, obj := range kube.List[corev1.Pod](r.l.cluster, r.binding.namespace) {
		if p := r.l.pods.Find(obj.Namespace, obj.Name); p != nil && r.l.waits(p, gate) {
			r.l.pods.SetGate(p, gate, true)
		}
	}
	r.write("finalizer", func(b *kube.TargetGroupBinding) {
		b.Finalizers = slices.DeleteFunc(b.Finalizers, func(f string) bool { return f == bindingFinalizer })
	}, func() {
		delete(r.l.failures, r.binding)
		r.done(0)
	})
}

// waits says whether a pod lives and has a readiness gate that is not true.
func (l *Controller) waits(p *corev1.Pod, gate corev1.PodConditionType) bool {
	return slices.Contains(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: gate}) &&
		!kube.ConditionTrue(p, gate) && !l.pods.Over(p)
}

// gates sets the readiness condition of each pod that waits for it. The targets of the
// added ones have just been registered. While one of them is not healthy, the checkpoint
// stays empty, and LBC comes back later.
func (r *reconcile) gates(added []endpointPod) {
	gate := corev1.PodConditionType(GatePrefix + r.tgb.Name)
	pending := false
	for _, e := range r.want {
		if !r.l.waits(e.pod, gate) {
			continue
		}
		healthy := !slices.Contains(added, e) && slices.ContainsFunc(r.targets, func(t aws.TargetHealth) bool {
			return t.ID == e.id && t.State == "healthy"
		})
		pending = pending || !healthy
		r.l.pods.SetGate(e.pod, gate, healthy)
	}
	if pending {
		r.done(r.l.Assumptions.Requeue)
		return
	}
	r.annotate(r.hash, r.observe)
}

// observe writes the status and ends a pass that has succeeded.
func (r *reconcile) observe() {
	delete(r.l.failures, r.binding)
	if seen := r.tgb.Status.ObservedGeneration; seen != nil && *seen == r.tgb.Generation {
		r.done(0)
		return
	}
	generation := r.tgb.Generation
	r.write("status", func(b *kube.TargetGroupBinding) { b.Status.ObservedGeneration = &generation }, func() { r.done(0) })
}
