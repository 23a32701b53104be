package cluster

import (
	"maps"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/cache"
)

// handler calls changed with the old and the new state of an object; one of
// them is nil when it appears or is gone.
func handler[T any](changed func(before, after *T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(nil, obj.(*T)) },
		UpdateFunc: func(before, after any) { changed(before.(*T), after.(*T)) },
		DeleteFunc: func(obj any) {
			// The watch missed the deletion; what is here is the last known state.
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			changed(obj.(*T), nil)
		},
	}
}

func (x *Index) podChanged(before, after *corev1.Pod) {
	switch {
	case after == nil:
		x.mu.Lock()
		delete(x.former, before.UID)
		x.mu.Unlock()
		x.wake(before.Namespace + "/" + before.Name)
		return
	case before != nil && before.UID == after.UID && !maps.Equal(before.Labels, after.Labels):
		for _, s := range by[*corev1.Service](x.services, byNamespace, after.Namespace) {
			if selects(s, before.Labels) && !selects(s, after.Labels) {
				x.remember(after.Namespace+"/"+after.Name, after.UID, s.Name)
			}
		}
	}
	x.wake(after.Namespace + "/" + after.Name)
}

func (x *Index) serviceChanged(before, after *corev1.Service) {
	if before != nil && (after == nil || !maps.Equal(before.Spec.Selector, after.Spec.Selector)) {
		for _, p := range by[*corev1.Pod](x.pods, byNamespace, before.Namespace) {
			if selects(before, labels.Set(p.Labels)) {
				x.remember(p.Namespace+"/"+p.Name, p.UID, before.Name)
			}
		}
	}
	if after != nil {
		x.wakeNamespace(after.Namespace)
	}
}

func (x *Index) sliceChanged(before, after *discoveryv1.EndpointSlice) {
	was, is := endpointPods(before), endpointPods(after)
	for key, uid := range was {
		if _, still := is[key]; !still {
			x.remember(key, uid, before.Labels[discoveryv1.LabelServiceName])
		}
	}
	for key := range is {
		if _, already := was[key]; !already {
			x.wake(key)
		}
	}
}

// endpointPods maps namespace/name to UID for the pods that a slice names.
func endpointPods(s *discoveryv1.EndpointSlice) map[string]types.UID {
	pods := make(map[string]types.UID)
	if s == nil {
		return pods
	}
	for _, e := range s.Endpoints {
		if e.TargetRef != nil && e.TargetRef.Kind == "Pod" {
			pods[s.Namespace+"/"+e.TargetRef.Name] = e.TargetRef.UID
		}
	}
	return pods
}

// remember notes that a Service has let go of a pod: its load balancer may not
// have yet. Nothing is noted of a pod that is gone, which a slice may outlive:
// a pod leaves the cache before podChanged forgets it under the same lock.
func (x *Index) remember(key string, uid types.UID, service string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if p := x.pod(key); p == nil || p.UID != uid {
		return
	}
	if x.former[uid] == nil {
		x.former[uid] = make(map[string]bool)
	}
	x.former[uid][service] = true
}

// The functions below keep of each object what this package reads: a cluster
// has many pods. They may see an object twice.

func trimMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion,
		Labels: m.Labels, CreationTimestamp: m.CreationTimestamp,
		DeletionTimestamp: m.DeletionTimestamp, DeletionGracePeriodSeconds: m.DeletionGracePeriodSeconds,
	}
}

func trimPod(obj any) (any, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok {
		return obj, nil
	}
	return &corev1.Pod{
		ObjectMeta: trimMeta(p.ObjectMeta),
		Spec:       corev1.PodSpec{TerminationGracePeriodSeconds: p.Spec.TerminationGracePeriodSeconds},
		Status: corev1.PodStatus{
			Phase: p.Status.Phase, PodIP: p.Status.PodIP, PodIPs: p.Status.PodIPs, Conditions: p.Status.Conditions,
		},
	}, nil
}

func trimService(obj any) (any, error) {
	s, ok := obj.(*corev1.Service)
	if !ok {
		return obj, nil
	}
	return &corev1.Service{ObjectMeta: trimMeta(s.ObjectMeta), Spec: corev1.ServiceSpec{Selector: s.Spec.Selector}}, nil
}

func trimSlice(obj any) (any, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return obj, nil
	}
	out := &discoveryv1.EndpointSlice{ObjectMeta: trimMeta(s.ObjectMeta), AddressType: s.AddressType}
	for _, e := range s.Endpoints {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{TargetRef: e.TargetRef})
	}
	return out, nil
}

// podAddresses indexes pods by all of their addresses. A completed pod keeps
// its address while another may have it already.
func podAddresses(obj any) ([]string, error) {
	p, ok := obj.(*corev1.Pod)
	if !ok || p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed {
		return nil, nil
	}
	var keys []string
	for _, ip := range addresses(p) {
		keys = append(keys, ip.String())
	}
	return keys, nil
}

// slicePods indexes EndpointSlices by the pods that they name.
func slicePods(obj any) ([]string, error) {
	s, ok := obj.(*discoveryv1.EndpointSlice)
	if !ok {
		return nil, nil
	}
	var keys []string
	for key := range endpointPods(s) {
		keys = append(keys, key)
	}
	return keys, nil
}
