package sim

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
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
	waiting  []string        // binding keys in order of arrival
	queued   map[string]bool // the same as a set
	busy     map[string]bool // reconciled now
	failures map[string]int
	limit    bucket        // its own limit of Register and Deregister calls
	idleTill time.Duration // no leader before this
	term     int           // counts leaders; work of an earlier one is void
}

func (c *controller) init(as Assumptions) {
	c.queued, c.busy, c.failures = make(map[string]bool), make(map[string]bool), make(map[string]int)
	c.limit = newBucket(as.MutateBurst, as.MutateRate)
}

// ChangeLeader takes LBC's leader away: nothing is reconciled until the gap is
// over, and what was in work is begun again. It returns the length of the gap.
func (w *World) ChangeLeader() time.Duration {
	c := &w.lbc
	gap := w.draw(w.cfg.Assumptions.LeaderGap, "leader", "gap")
	c.term++
	c.idleTill = w.now + gap
	c.waiting, c.queued, c.busy = nil, make(map[string]bool), make(map[string]bool)
	w.at(c.idleTill, func() {
		for _, b := range list[TargetGroupBinding](w, "") {
			w.enqueue(key(b.Namespace, b.Name), 0)
		}
	})
	return gap
}

// enqueue asks for a reconcile of a binding after a lag.
func (w *World) enqueue(binding string, lag time.Duration) {
	w.after(lag, func() {
		if c := &w.lbc; !c.queued[binding] {
			c.queued[binding] = true
			c.waiting = append(c.waiting, binding)
		}
		w.work()
	})
}

// work starts reconciles while there are workers to spare.
func (w *World) work() {
	c := &w.lbc
	for w.now >= c.idleTill && len(c.busy) < w.cfg.Assumptions.ControllerWorkers {
		i := slices.IndexFunc(c.waiting, func(b string) bool { return !c.busy[b] })
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
	binding string
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
	return r.w.draw(r.w.cfg.Assumptions.KubeLatency, "controller", r.binding)
}

// done ends the pass. A positive again asks for another one after that time.
func (r *reconcile) done(again time.Duration) {
	delete(r.w.lbc.busy, r.binding)
	if again > 0 {
		r.w.enqueue(r.binding, again)
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
	namespace, name, _ := strings.Cut(r.binding, "/")
	tgb, ok := get[TargetGroupBinding](w, namespace, name)
	if !ok {
		r.done(0)
		return
	}
	r.tgb = tgb
	group, err := w.aws.group(r.tgb.Spec.TargetGroupARN)
	if err != nil {
		r.failed()
		return
	}
	r.group = group
	r.want = w.wanted(r.tgb)
	r.hash = checkpoint(r.want)
	drop, add := r.difference()
	if len(drop) == 0 && len(add) == 0 {
		r.gates()
		return
	}
	r.annotate("", func() { r.deregister(drop, add) })
}

// wanted lists what should be registered: endpoints that are ready, and those
// whose containers are ready while a readiness gate is not. A terminating
// endpoint is neither. LBC pkg/backend/endpoint_resolver.go.
func (w *World) wanted(b *TargetGroupBinding) []endpointPod {
	var want []endpointPod
	for _, s := range list[discoveryv1.EndpointSlice](w, b.Namespace) {
		if s.Labels[discoveryv1.LabelServiceName] != b.Spec.ServiceRef.Name {
			continue
		}
		for _, e := range s.Endpoints {
			p := w.pods[key(b.Namespace, e.TargetRef.Name)]
			if p == nil {
				continue
			}
			gated := len(p.obj.Spec.ReadinessGates) > 0 && !*e.Conditions.Terminating &&
				conditionTrue(p.obj, corev1.ContainersReady)
			if *e.Conditions.Ready || gated {
				want = append(want, endpointPod{targetID{p.ip, int(*s.Ports[0].Port)}, p})
			}
		}
	}
	slices.SortFunc(want, func(a, b endpointPod) int { return compareIDs(a.id, b.id) })
	return want
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
		if t := r.group.targets[e.id]; t == nil || t.draining {
			add = append(add, e.id)
		}
	}
	for _, t := range r.group.sorted() {
		if !t.draining && !wanted[t.id] {
			drop = append(drop, t.id)
		}
	}
	return drop, add
}

// annotate writes the checkpoint.
func (r *reconcile) annotate(value string, then func()) {
	if r.w.cfg.NoCheckpoint {
		then()
		return
	}
	r.step(r.kubeLatency(), func() {
		if _, exists := get[TargetGroupBinding](r.w, r.tgb.Namespace, r.tgb.Name); !exists {
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
		for _, id := range batch {
			if p := r.w.podAt(id.ip); p != nil {
				p.report.Deregistered = r.w.now
			}
		}
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
	d := w.draw(w.cfg.Assumptions.APILatency, "controller", r.binding)
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
		if !gated || conditionTrue(e.pod.obj, gate) || e.pod.gone {
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
		r.w.setConditions(e.pod, conditionTrue(e.pod.obj, corev1.ContainersReady))
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
