package sim

import (
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
)

// notice is the ear of all simulated controllers on the Kubernetes API.
func (w *World) notice(event string, obj metav1.Object) {
	switch o := obj.(type) {
	case *corev1.Pod:
		for _, s := range list[corev1.Service](w, o.Namespace) {
			if selects(s, o) {
				w.syncSlicesSoon(s.Namespace, s.Name)
				w.enqueueBindingsOf(s.Namespace, s.Name) // LBC 3.4 and later watches pods, too
			}
		}
		for _, d := range w.deployments {
			if d.owns(o) {
				w.syncDeploymentSoon(d)
			}
		}
	case *corev1.Service:
		w.syncSlicesSoon(o.Namespace, o.Name)
	case *TargetGroupBinding:
		if event == "ADDED" {
			w.enqueueBindingsOf(o.Namespace, o.Spec.ServiceRef.Name)
		}
	case *discoveryv1.EndpointSlice:
		w.enqueueBindingsOf(o.Namespace, o.Labels[discoveryv1.LabelServiceName])
	}
}

// enqueueBindingsOf has LBC reconcile what refers to a Service, after its lag.
func (w *World) enqueueBindingsOf(namespace, service string) {
	for _, b := range list[TargetGroupBinding](w, namespace) {
		if b.Spec.ServiceRef.Name == service {
			w.enqueue(key(b.Namespace, b.Name), w.draw(w.cfg.Assumptions.ControllerLag, "controller", b.Name))
		}
	}
}

func selects(s *corev1.Service, p *corev1.Pod) bool {
	return len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels))
}

// soon plans f after a lag unless it is planned already under this name.
func (w *World) soon(name string, lag Range, f func()) {
	if w.planned[name] {
		return
	}
	w.planned[name] = true
	w.after(w.draw(lag, "soon", name), func() {
		delete(w.planned, name)
		f()
	})
}

func (w *World) syncSlicesSoon(namespace, name string) {
	w.soon("endpoints "+key(namespace, name), w.cfg.Assumptions.EndpointLag, func() { w.syncSlices(namespace, name) })
}

// maxEndpoints is how many endpoints the EndpointSlice controller puts into one
// slice: the default of kube-controller-manager's --max-endpoints-per-slice.
const maxEndpoints = 100

// syncSlices is the EndpointSlice controller for one Service.
func (w *World) syncSlices(namespace, name string) {
	s, ok := get[corev1.Service](w, namespace, name)
	if !ok {
		return
	}
	var endpoints []discoveryv1.Endpoint
	for _, p := range list[corev1.Pod](w, namespace) {
		if selects(s, p) && p.Status.PodIP != "" && w.pods[key(p.Namespace, p.Name)] != nil && !w.pods[key(p.Namespace, p.Name)].gone {
			endpoints = append(endpoints, endpoint(s, p))
		}
	}
	for i := 0; i == 0 || i*maxEndpoints < len(endpoints); i++ {
		w.putSlice(s, i, endpoints[i*maxEndpoints:min(len(endpoints), (i+1)*maxEndpoints)])
	}
	for i := (len(endpoints) + maxEndpoints - 1) / maxEndpoints; ; i++ {
		old, ok := get[discoveryv1.EndpointSlice](w, namespace, sliceName(s, max(i, 1)))
		if !ok {
			return
		}
		w.remove(old)
	}
}

// endpoint is a pod as an endpoint: a pod that is being deleted is terminating
// and never ready, unless the Service publishes addresses that are not ready.
func endpoint(s *corev1.Service, p *corev1.Pod) discoveryv1.Endpoint {
	serving := conditionTrue(p, corev1.PodReady)
	terminating := p.DeletionTimestamp != nil
	ready := serving && !terminating || s.Spec.PublishNotReadyAddresses
	return discoveryv1.Endpoint{
		Addresses:  []string{p.Status.PodIP},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		NodeName:   &p.Spec.NodeName,
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
}

func sliceName(s *corev1.Service, i int) string { return fmt.Sprintf("%s-%d", s.Name, i) }

func (w *World) putSlice(s *corev1.Service, i int, endpoints []discoveryv1.Endpoint) {
	slice, ok := get[discoveryv1.EndpointSlice](w, s.Namespace, sliceName(s, i))
	if !ok {
		slice = &discoveryv1.EndpointSlice{
			ObjectMeta: metav1.ObjectMeta{
				Namespace: s.Namespace,
				Name:      sliceName(s, i),
				Labels:    map[string]string{discoveryv1.LabelServiceName: s.Name},
			},
			AddressType: discoveryv1.AddressTypeIPv4,
		}
	}
	slice.Ports = nil
	for _, p := range s.Spec.Ports {
		port := p.TargetPort.IntVal
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &port, Protocol: &p.Protocol})
	}
	slice.Endpoints = endpoints
	w.put(slice)
}

// Deployment is a set of equal pods that can be rolled. It surges by one pod
// and lets none be unavailable.
type Deployment struct {
	spec       PodSpec
	replicas   int
	generation int
	onDelete   func(nth int) // called when the rollout deletes its nth old pod, from 1
	deleted    int
	done       func() // called when the last old pod is gone
}

// AddDeployment creates replicas pods after the template, whose name they
// extend, and keeps up their number.
func (w *World) AddDeployment(template PodSpec, replicas int) *Deployment {
	template.Labels = maps.Clone(template.Labels)
	d := &Deployment{spec: template, replicas: replicas, generation: 1}
	w.deployments = append(w.deployments, d)
	for range replicas {
		w.addReplica(d)
	}
	return d
}

// Rollout replaces all pods of d by new ones. onDelete, which may be nil, is
// called at each deletion of an old pod, with 1 for the first; done, which may
// be nil, when the last of them is gone.
func (w *World) Rollout(d *Deployment, onDelete func(nth int), done func()) {
	d.generation++
	d.deleted, d.onDelete, d.done = 0, onDelete, done
	w.syncDeploymentSoon(d)
}

// WhenUp calls f once all pods of d are ready, the load balancer's nodes have
// learned of them, and also, which may be nil, returns true.
func (w *World) WhenUp(d *Deployment, also func() bool, f func()) {
	const again = time.Second
	ready := 0
	for _, p := range list[corev1.Pod](w, d.spec.Namespace) {
		if d.owns(p) && conditionTrue(p, corev1.PodReady) {
			ready++
		}
	}
	if ready < d.replicas || also != nil && !also() {
		w.after(again, func() { w.WhenUp(d, also, f) })
		return
	}
	w.after(w.cfg.Assumptions.NodeLearnsNew.Max, f)
}

const generationLabel = "pod-template-generation"

func (d *Deployment) owns(p *corev1.Pod) bool {
	return p.Namespace == d.spec.Namespace && p.Labels["deployment"] == d.spec.Name
}

func (w *World) addReplica(d *Deployment) {
	spec := d.spec
	spec.Name = fmt.Sprintf("%s-%d-%05x", d.spec.Name, d.generation, w.random("pod name", d.spec.Name).Uint32N(1<<20))
	spec.Labels = maps.Clone(spec.Labels)
	spec.Labels["deployment"] = d.spec.Name
	spec.Labels[generationLabel] = fmt.Sprint(d.generation)
	w.AddPod(spec)
}

func (w *World) syncDeploymentSoon(d *Deployment) {
	w.soon("deployment "+key(d.spec.Namespace, d.spec.Name), w.cfg.Assumptions.EndpointLag, func() { w.syncDeployment(d) })
}

// syncDeployment is one step of the Deployment controller's rolling update:
// never more than replicas+1 pods that are not being deleted, never fewer than
// replicas that are ready.
func (w *World) syncDeployment(d *Deployment) {
	var old, current []*corev1.Pod
	alive, ready, leaving := 0, 0, 0
	for _, p := range list[corev1.Pod](w, d.spec.Namespace) {
		switch {
		case !d.owns(p):
			continue
		case p.DeletionTimestamp != nil:
			leaving++
			continue
		case p.Labels[generationLabel] == fmt.Sprint(d.generation):
			current = append(current, p)
		default:
			old = append(old, p)
		}
		alive++
		if conditionTrue(p, corev1.PodReady) {
			ready++
		}
	}
	switch {
	case len(current) < d.replicas && alive <= d.replicas:
		w.addReplica(d)
	case len(old) > 0 && ready > d.replicas:
		// The order of deletion is that of age; names are random.
		slices.SortFunc(old, func(a, b *corev1.Pod) int { return a.CreationTimestamp.Compare(b.CreationTimestamp.Time) })
		d.deleted++
		if d.onDelete != nil {
			d.onDelete(d.deleted)
		}
		_ = w.DeletePod(old[0].Namespace, old[0].Name) // it was just listed
	case len(old) == 0 && leaving == 0 && d.done != nil:
		done := d.done
		d.done = nil
		done()
	}
}
