package kube

import (
	"cmp"
	"strings"

	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
)

// WatchReplicas tells changed, from [Client.Run] on, how many replicas of a Service, a
// namespace/name, are running: when it is first known and when it changes. The informer
// has a factory of its own: the others may not see that namespace.
func (c *Client) WatchReplicas(service string, changed func(running int)) {
	namespace, name, _ := strings.Cut(service, "/")
	f := informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(namespace),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) { o.LabelSelector = discoveryv1.LabelServiceName + "=" + name }))
	c.factories = append(c.factories, f)
	own := f.Discovery().V1().EndpointSlices().Informer()
	last := -1
	_, _ = own.AddEventHandler(Handler(func(_, _ *discoveryv1.EndpointSlice) {
		if n := runningReplicas(own.GetStore().List()); n != last {
			last = n
			changed(n)
		}
	})) // no error: it has not begun
}

// runningReplicas counts what has an address in any of the slices, ready or not: a replica
// that is going away, or that does not trust its watches, still looks for the waits that it
// has, and a new one is about to. A replica of a dual-stack Service is in two slices.
func runningReplicas(slices []any) int {
	running := make(map[string]bool)
	for _, s := range slices {
		for _, e := range s.(*discoveryv1.EndpointSlice).Endpoints {
			var name string
			if e.TargetRef != nil {
				name = e.TargetRef.Name
			}
			running[cmp.Or(name, e.Addresses[0])] = true
		}
	}
	return len(running)
}
