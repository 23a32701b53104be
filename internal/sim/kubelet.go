package sim

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// PodSpec describes a pod for [World.AddPod].
type PodSpec struct {
	Namespace, Name string
	Labels          map[string]string
	Port            int
	// Grace is the termination grace period; the wire carries whole seconds of
	// real time, rounded up.
	Grace time.Duration
	// Gates are the readiness gates: condition types that must be true before
	// the pod is ready.
	Gates []string
	Hook  Hook
}

// pod is one pod as its kubelet sees it.
type pod struct {
	obj     *corev1.Pod
	ip      netip.Addr
	spec    PodSpec
	serving bool // the application accepts new requests
	gone    bool // the process is dead
	stopped bool // SIGTERM was sent
	killAt  time.Duration
	cancel  context.CancelFunc // ends the hook; nil while none runs
	report  *PodReport
}

// PodReport is what really happened to one pod. Times are world times; zero
// where it did not happen.
type PodReport struct {
	Namespace, Name string
	IP              netip.Addr
	// Deleted is when its deletion was accepted.
	Deleted time.Duration
	// Deregistered is when the last DeregisterTargets for it returned.
	Deregistered time.Duration
	// Asked and Answered frame the hook's call to the service; Status and
	// Outcome are the answer.
	Asked, Answered time.Duration
	Status          int
	Outcome         string
	// Stopped is when its containers were told to stop (SIGTERM).
	Stopped time.Duration
	// Gone is when its object was removed.
	Gone time.Duration
	// LastArrival is when a load balancer sent it the last new request.
	LastArrival time.Duration
	// Late counts the new requests that arrived after the service had said
	// "drained": each is a broken promise.
	Late int
	// Failed counts the requests to it that failed.
	Failed int
}

// Held is how long the pod's stop was held back after its deletion.
func (r *PodReport) Held() time.Duration { return r.Stopped - r.Deleted }

// Pods reports every pod that ever was, in order of creation.
func (w *World) Pods() []*PodReport { return w.reports }

// arrival notes a new request at the pod.
func (p *pod) arrival(now time.Duration) {
	p.report.LastArrival = now
	if p.report.Outcome == "drained" {
		p.report.Late++
	}
}

// podAt is the pod that last had an address, or nil.
func (w *World) podAt(ip netip.Addr) *pod { return w.addresses[ip] }

// listening says whether an application answers at a target's address.
func (w *World) listening(id targetID) bool {
	p := w.podAt(id.ip)
	return p != nil && p.serving
}

func key(namespace, name string) string { return namespace + "/" + name }

// AddPod creates a pod; its kubelet starts it.
func (w *World) AddPod(spec PodSpec) *PodReport {
	n := len(w.reports) + 1
	ip := netip.AddrFrom4([4]byte{10, 0, byte(n >> 8), byte(n)})
	p := &pod{ip: ip, spec: spec, report: &PodReport{Namespace: spec.Namespace, Name: spec.Name, IP: ip}}
	w.reports = append(w.reports, p.report)
	grace := int64(math.Ceil(w.real(spec.Grace).Seconds()))
	p.obj = &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: spec.Namespace, Name: spec.Name, Labels: spec.Labels},
		Spec: corev1.PodSpec{
			NodeName:                      "node-1",
			TerminationGracePeriodSeconds: &grace,
			Containers: []corev1.Container{{
				Name:      "app",
				Image:     "example/app",
				Ports:     []corev1.ContainerPort{{Name: "http", ContainerPort: int32(spec.Port)}},
				Lifecycle: spec.Hook.lifecycle(),
			}},
		},
		Status: corev1.PodStatus{Phase: corev1.PodPending},
	}
	for _, g := range spec.Gates {
		p.obj.Spec.ReadinessGates = append(p.obj.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: corev1.PodConditionType(g)})
	}
	k := key(spec.Namespace, spec.Name)
	w.pods[k] = p
	w.put(p.obj)

	as := &w.cfg.Assumptions
	w.after(w.draw(as.KubeletLag, "kubelet", k), func() {
		w.addresses[ip] = p
		p.obj.Status.Phase = corev1.PodRunning
		p.obj.Status.PodIP = ip.String()
		p.obj.Status.PodIPs = []corev1.PodIP{{IP: ip.String()}}
		w.setConditions(p, false)
		w.after(w.draw(as.StartTime, "start", k), func() {
			if p.stopped || p.gone {
				return
			}
			p.serving = true
			w.setConditions(p, true)
		})
	})
	return p.report
}

// setConditions writes the pod's status: whether its containers are ready, and
// with them and its readiness gates the pod.
func (w *World) setConditions(p *pod, containers bool) {
	ready := containers
	for _, g := range p.obj.Spec.ReadinessGates {
		ready = ready && conditionTrue(p.obj, g.ConditionType)
	}
	w.setCondition(p.obj, corev1.ContainersReady, containers)
	w.setCondition(p.obj, corev1.PodReady, ready)
	w.put(p.obj)
}

func (w *World) setCondition(obj *corev1.Pod, kind corev1.PodConditionType, on bool) {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: w.apiTime(w.now)}
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

func conditionTrue(obj *corev1.Pod, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(obj.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// DeletePod deletes a pod with its own grace period.
func (w *World) DeletePod(namespace, name string) error { return w.deletePod(namespace, name, nil) }

var errNoPod = errors.New("no such pod")

// deletePod accepts the deletion of a pod. grace is in seconds of real time,
// as on the wire. A second deletion can only shorten the first.
func (w *World) deletePod(namespace, name string, grace *int64) error {
	p := w.pods[key(namespace, name)]
	if p == nil {
		return fmt.Errorf("delete pod %s/%s: %w", namespace, name, errNoPod)
	}
	if grace == nil {
		grace = p.obj.Spec.TerminationGracePeriodSeconds
	}
	killAt := w.now + time.Duration(float64(*grace)*w.cfg.Speed*float64(time.Second))
	first := p.obj.DeletionTimestamp == nil
	if !first && killAt >= p.killAt {
		return nil
	}
	p.killAt = killAt
	at := w.apiTime(killAt)
	p.obj.DeletionTimestamp, p.obj.DeletionGracePeriodSeconds = &at, grace
	w.put(p.obj)
	w.at(killAt, func() { w.graceOver(p, killAt) })
	if first {
		p.report.Deleted = w.now
		w.after(w.draw(w.cfg.Assumptions.KubeletLag, "kubelet", key(namespace, name)), func() { w.startHook(p) })
	}
	return nil
}

// minTermination is what the kubelet leaves a container between SIGTERM and
// SIGKILL even where the hook used up the grace period: the "one-off grace
// period extension of 2 seconds" of the Kubernetes documentation.
const minTermination = 2 * time.Second

// graceOver is the end of the grace period: the hook is abandoned, and what
// still runs is killed.
func (w *World) graceOver(p *pod, killAt time.Duration) {
	if p.killAt != killAt || p.gone {
		return // the deletion was shortened since, or the pod is gone
	}
	if p.stopped {
		w.exit(p)
		return
	}
	w.stop(p)
	w.after(minTermination, func() { w.exit(p) })
}

// stop ends the hook and sends SIGTERM.
func (w *World) stop(p *pod) {
	if p.stopped {
		return
	}
	p.stopped, p.serving = true, false
	p.report.Stopped = w.now
	if p.cancel != nil {
		p.cancel()
	}
	w.healthChange(p.ip)
	w.after(w.draw(w.cfg.Assumptions.ShutdownTime, "shutdown", p.report.Name), func() { w.exit(p) })
}

// exit is the end of the process; the kubelet then removes the pod.
func (w *World) exit(p *pod) {
	if p.gone {
		return
	}
	p.gone = true
	w.setConditions(p, false)
	k := key(p.spec.Namespace, p.spec.Name)
	w.after(w.draw(w.cfg.Assumptions.KubeletLag, "kubelet", k), func() {
		p.report.Gone = w.now
		delete(w.pods, k)
		w.remove(p.obj)
	})
}

// Now follows what a cluster's user or its controllers make of pods.

// AddService creates a Service that selects pods by labels and sends to port.
func (w *World) AddService(namespace, name string, selector map[string]string, port int) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			Selector:   selector,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt(port)}},
		},
	}
	w.put(s)
	return s
}
