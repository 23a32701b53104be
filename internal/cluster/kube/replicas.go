package kube

import (
	"cmp"
	"fmt"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
)

// WatchReplicas tells changed, from [Client.Run] on, how many replicas behind a
// Service, a namespace/name, are ready: when it is first known and when it changes.
// The informer has a factory of its own: the others may not see that namespace.
func (c *Client) WatchReplicas(service string, changed func(ready int)) error {
	namespace, name, ok := strings.Cut(service, "/")
	if !ok || namespace == "" || name == "" {
		return fmt.Errorf("own Service %q is not of the form namespace/name", service)
	}
	f := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelServiceName + "=" + name }))
	c.factories = append(c.factories, f)
	own := f.Discovery().V1().EndpointSlices().Informer()
	last := -1
	_, err := own.AddEventHandler(Handler(func(_, _ *discoveryv1.EndpointSlice) {
		if n := readyReplicas(own.GetStore().List()); n != last {
			last = n
			changed(n)
		}
	}))
	return err
}

// readyReplicas counts what is ready in all slices. A replica of a dual-stack
// Service is in two of them.
func readyReplicas(slices []any) int {
	ready := make(map[string]bool)
	for _, s := range slices {
		for _, e := range s.(*discoveryv1.EndpointSlice).Endpoints {
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
