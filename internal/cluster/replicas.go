package cluster

import (
	"cmp"
	"fmt"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// followReplicas adds the informer that reads how many of our own replicas are
// ready. It has a factory of its own: the others may not see our namespace.
func (x *Index) followReplicas() error {
	if x.cfg.OwnService == "" || x.cfg.OnReplicas == nil {
		return nil
	}
	namespace, name, ok := strings.Cut(x.cfg.OwnService, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("own Service %q is not of the form namespace/name", x.cfg.OwnService)
	}
	f := informers.NewSharedInformerFactoryWithOptions(x.kube, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelServiceName + "=" + name }))
	x.factories = append(x.factories, f)
	own := resource{name: "own endpointslices", informers: []cache.SharedIndexInformer{f.Discovery().V1().EndpointSlices().Informer()}}
	last := -1
	return own.setUp(nil, nil, handler(func(_, _ *discoveryv1.EndpointSlice) {
		if n := readyReplicas(by[*discoveryv1.EndpointSlice](own.stores(), byNamespace, namespace)); n != last {
			last = n
			x.cfg.OnReplicas(n)
		}
	}))
}

// readyReplicas counts what is ready in all slices. A replica of a dual-stack
// Service is in two of them.
func readyReplicas(ss []*discoveryv1.EndpointSlice) int {
	ready := make(map[string]bool)
	for _, s := range ss {
		for _, e := range s.Endpoints {
			if e.Conditions.Ready != nil && !*e.Conditions.Ready {
				continue
			}
			var name string
			if e.TargetRef != nil {
				name = e.TargetRef.Name
			}
			ready[cmp.Or(name, e.Addresses[0])] = true
		}
	}
	return len(ready)
}
