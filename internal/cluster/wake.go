package cluster

import (
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/types"
)

// watch is someone who wants to hear of a pod.
type watch struct {
	id          types.UID // what is remembered is under it
	hostNetwork bool
	wake        chan<- struct{}
}

// Watch puts a token into wake, without blocking, whenever something about a pod
// changes: itself, what ties it to a target group, or the bindings, Services and
// Ingresses of its namespace. Checkpoints are not among that. For an address
// that no pod has, it tells of the namespace. Until stop, which ends it, what is
// remembered of the pod is kept, even when the pod is gone.
func (x *Index) Watch(p *Pod, wake chan<- struct{}) (stop func()) {
	w := &watch{p.id(), p.HostNetwork, wake}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.raw != nil {
		x.historyOf(p.raw, false)
	} else if x.histories[w.id] == nil {
		x.histories[w.id] = &history{namespace: p.Namespace, ips: p.IPs, seen: time.Now(), late: true}
	}
	pods := x.watches[p.Namespace]
	if pods == nil {
		pods = make(map[string][]*watch)
		x.watches[p.Namespace] = pods
	}
	pods[p.Name] = append(pods[p.Name], w)
	return func() { x.stop(p, w) }
}

// stop may be called more than once.
func (x *Index) stop(p *Pod, w *watch) {
	x.mu.Lock()
	defer x.mu.Unlock()
	pods := x.watches[p.Namespace]
	i := slices.Index(pods[p.Name], w)
	if i < 0 {
		return
	}
	if pods[p.Name] = slices.Delete(pods[p.Name], i, i+1); len(pods[p.Name]) == 0 {
		delete(pods, p.Name)
	}
	x.forget(w.id)
	if len(pods) == 0 {
		delete(x.watches, p.Namespace)
		x.dropLists(p.Namespace)
	}
}

// wake tells those who watch one pod.
func (x *Index) wake(namespace, name string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, w := range x.watches[namespace][name] {
		signal(w.wake)
	}
}

// wakeNamespace tells those who watch a namespace, any pod of it, or a pod that
// an EndpointSlice of the namespace named from elsewhere.
func (x *Index) wakeNamespace(namespace string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for ns, pods := range x.watches {
		for _, ws := range pods {
			for _, w := range ws {
				if ns == namespace || x.histories[w.id].hasServiceIn(namespace) {
					signal(w.wake)
				}
			}
		}
	}
}

// wakeHosts tells those who watch a pod of a namespace that shares its address
// with others.
func (x *Index) wakeHosts(namespace string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for _, ws := range x.watches[namespace] {
		for _, w := range ws {
			if w.hostNetwork {
				signal(w.wake)
			}
		}
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
