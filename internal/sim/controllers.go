package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/timeline"
)

// notice tells all simulated controllers about changes in the Kubernetes API.
func (w *World) notice(event string, obj metav1.Object) {
	switch o := obj.(type) {
	case *corev1.Pod:
		w.podChanged(o)
	case *corev1.Service:
		w.syncSlicesSoon(o.Namespace, o.Name)
		w.LBC.ServiceChanged(o.Namespace, o.Name)
	case *networkingv1.Ingress:
		w.LBC.IngressChanged(o)
	case *kube.TargetGroupBinding:
		w.LBC.BindingChanged(event, o)
	case *discoveryv1.EndpointSlice:
		w.LBC.ServiceChanged(o.Namespace, o.Labels[discoveryv1.LabelServiceName])
	}
}

func (w *World) podChanged(p *corev1.Pod) {
	for _, s := range kube.List[corev1.Service](w.Kube, p.Namespace) {
		if selects(s, p) {
			w.syncSlicesSoon(s.Namespace, s.Name)
			w.LBC.ServiceChanged(s.Namespace, s.Name) // LBC 3.4 and later watches pods, too
		}
	}
	for _, d := range w.deployments {
		if d.owns(p) {
			w.syncDeploymentSoon(d)
		}
	}
}

func selects(s *corev1.Service, p *corev1.Pod) bool {
	for k, v := range s.Spec.Selector {
		if l, ok := p.Labels[k]; !ok || l != v {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}

// soon plans f after a lag, unless work of this name is planned already.
func (w *World) soon(name string, lag timeline.Range, f func()) {
	if w.planned[name] {
		return
	}
	w.planned[name] = true
	w.After(w.Draw(lag, "soon", name), func() {
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

// sliceController is the manager that the slices of a Service with a selector name.
// Other slices are left alone.
const sliceController = "endpointslice-controller.k8s.io"

// syncSlices is the EndpointSlice controller for one Service. The slices go with
// their Service.
func (w *World) syncSlices(namespace, name string) {
	keep := make(map[string]bool)
	if s, ok := kube.Get[corev1.Service](w.Kube, namespace, name); ok {
		if len(s.Spec.Selector) == 0 {
			return // somebody else makes its slices
		}
		for _, slice := range w.slicesOf(s) {
			keep[slice.Name] = true
			w.Kube.Apply(slice)
		}
	}
	for _, slice := range w.Kube.SlicesOf(namespace, name) {
		if !keep[slice.Name] && slice.Labels[discoveryv1.LabelManagedBy] == sliceController {
			w.Kube.Remove(slice)
		}
	}
}

// slicesOf are the slices that a Service should have: at least one for each of its
// address families, and one for each set of port numbers that its ports have in the
// pods.
func (w *World) slicesOf(s *corev1.Service) []*discoveryv1.EndpointSlice {
	families := s.Spec.IPFamilies
	if len(families) == 0 {
		families = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	pods := slices.DeleteFunc(kube.List[corev1.Pod](w.Kube, s.Namespace), func(obj *corev1.Pod) bool {
		p := w.pods[key(obj.Namespace, obj.Name)]
		return !selects(s, obj) || p == nil || p.over
	})
	var out []*discoveryv1.EndpointSlice
	for _, f := range families {
		n := 0
		add := func(ports []discoveryv1.EndpointPort, endpoints []discoveryv1.Endpoint) {
			out = append(out, &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{
					Namespace: s.Namespace,
					Name:      fmt.Sprintf("%s-%s-%d", s.Name, strings.ToLower(string(f)), n),
					Labels:    map[string]string{discoveryv1.LabelServiceName: s.Name, discoveryv1.LabelManagedBy: sliceController},
				},
				AddressType: discoveryv1.AddressType(f),
				Ports:       ports,
				Endpoints:   endpoints,
			})
			n++
		}
		endpoints, ports := make(map[string][]discoveryv1.Endpoint), make(map[string][]discoveryv1.EndpointPort)
		for _, p := range pods {
			if ip := addressOf(p, f); ip != "" {
				k, ps := endpointPorts(s, p)
				ports[k], endpoints[k] = ps, append(endpoints[k], endpoint(s, p, ip))
			}
		}
		for _, k := range slices.Sorted(maps.Keys(endpoints)) {
			for chunk := range slices.Chunk(endpoints[k], maxEndpoints) {
				add(ports[k], chunk)
			}
		}
		if n == 0 {
			add(nil, nil)
		}
	}
	return out
}

// addressOf is the pod's first address of a family, "" if it has none.
func addressOf(p *corev1.Pod, f corev1.IPFamily) string {
	for _, ip := range p.Status.PodIPs {
		if strings.Contains(ip.IP, ":") == (f == corev1.IPv6Protocol) {
			return ip.IP
		}
	}
	return ""
}

// endpointPorts are a Service's ports with their numbers in a pod, and a key that is
// the same for the same numbers. It leaves out a target port that the pod does not
// name.
func endpointPorts(s *corev1.Service, p *corev1.Pod) (key string, ports []discoveryv1.EndpointPort) {
	for _, sp := range s.Spec.Ports {
		if n, ok := targetPort(sp, p); ok {
			ports = append(ports, discoveryv1.EndpointPort{Name: &sp.Name, Port: &n, Protocol: &sp.Protocol})
			key += fmt.Sprint(sp.Name, "=", n, " ")
		}
	}
	return key, ports
}

// targetPort is the number of a Service's port in a pod.
func targetPort(sp corev1.ServicePort, p *corev1.Pod) (int32, bool) {
	if sp.TargetPort.Type == intstr.Int {
		return cmp.Or(sp.TargetPort.IntVal, sp.Port), true
	}
	for _, c := range p.Spec.Containers {
		for _, cp := range c.Ports {
			if cp.Name == sp.TargetPort.StrVal {
				return cp.ContainerPort, true
			}
		}
	}
	return 0, false
}

// endpoint is a pod as an endpoint. A pod that is being deleted is terminating, and
// is never ready unless the Service publishes not-ready addresses.
func endpoint(s *corev1.Service, p *corev1.Pod, ip string) discoveryv1.Endpoint {
	serving := kube.ConditionTrue(p, corev1.PodReady)
	terminating := p.DeletionTimestamp != nil
	ready := serving && !terminating || s.Spec.PublishNotReadyAddresses
	return discoveryv1.Endpoint{
		Addresses:  []string{ip},
		Conditions: discoveryv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating},
		NodeName:   &p.Spec.NodeName,
		TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: p.Namespace, Name: p.Name, UID: p.UID},
	}
}

func completed(p *corev1.Pod) bool {
	return p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
}

// Deployment is a set of equal pods that can be rolled. It surges by one pod and
// allows none to be unavailable.
type Deployment struct {
	spec       PodSpec
	replicas   int
	generation int
	onDelete   func(nth int) // called when the rollout deletes its nth old pod, from 1
	deleted    int
	done       func() // called when the last old pod is gone
}

// AddDeployment creates as many pods as replicas says, from the template, whose name
// they extend. It keeps that number of pods.
func (w *World) AddDeployment(template PodSpec, replicas int) *Deployment {
	template.Labels = maps.Clone(template.Labels)
	d := &Deployment{spec: template, replicas: replicas, generation: 1}
	w.deployments = append(w.deployments, d)
	for range replicas {
		w.addReplica(d)
	}
	return d
}

// Rollout replaces all pods of d with new ones. It calls onDelete at each deletion of
// an old pod, with 1 for the first, and done when the last old pod is gone. Both may
// be nil.
func (w *World) Rollout(d *Deployment, onDelete func(nth int), done func()) {
	d.generation++
	d.deleted, d.onDelete, d.done = 0, onDelete, done
	w.syncDeploymentSoon(d)
}

// WhenUp calls f when all pods of d are ready, the load balancer's nodes have learned
// of them, and also returns true. also may be nil.
func (w *World) WhenUp(d *Deployment, also func() bool, f func()) {
	const again = time.Second
	ready := 0
	for _, p := range kube.List[corev1.Pod](w.Kube, d.spec.Namespace) {
		if d.owns(p) && kube.ConditionTrue(p, corev1.PodReady) {
			ready++
		}
	}
	if ready < d.replicas || also != nil && !also() {
		w.After(again, func() { w.WhenUp(d, also, f) })
		return
	}
	w.After(w.cfg.Assumptions.AWS.NodeLearnsNew.Max, f)
}

const generationLabel = "pod-template-generation"

func (d *Deployment) owns(p *corev1.Pod) bool {
	return p.Namespace == d.spec.Namespace && p.Labels["deployment"] == d.spec.Name
}

func (w *World) addReplica(d *Deployment) {
	spec := d.spec
	for taken := true; taken; taken = w.pods[key(spec.Namespace, spec.Name)] != nil {
		spec.Name = fmt.Sprintf("%s-%d-%05x", d.spec.Name, d.generation, w.Random("pod name", d.spec.Name).Uint32N(1<<20))
	}
	spec.Labels = maps.Clone(spec.Labels)
	spec.Labels["deployment"] = d.spec.Name
	spec.Labels[generationLabel] = fmt.Sprint(d.generation)
	w.AddPod(spec)
}

func (w *World) syncDeploymentSoon(d *Deployment) {
	w.soon("deployment "+key(d.spec.Namespace, d.spec.Name), w.cfg.Assumptions.EndpointLag, func() { w.syncDeployment(d) })
}

// syncDeployment is one step of the Deployment controller's rolling update. There are
// never more than replicas+1 pods that are not being deleted, and never fewer ready
// pods than replicas.
func (w *World) syncDeployment(d *Deployment) {
	var old, current []*corev1.Pod
	alive, ready, leaving := 0, 0, 0
	for _, p := range kube.List[corev1.Pod](w.Kube, d.spec.Namespace) {
		switch {
		case !d.owns(p), completed(p) && p.DeletionTimestamp == nil:
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
		if kube.ConditionTrue(p, corev1.PodReady) {
			ready++
		}
	}
	switch {
	case len(current) < d.replicas && alive <= d.replicas:
		w.addReplica(d)
	case len(old) > 0 && ready > d.replicas:
		// The oldest is deleted first; names are random.
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
