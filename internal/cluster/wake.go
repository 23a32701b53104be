package cluster

import (
	"slices"

	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/cluster/ties"
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
		x.histories[w.id] = &history{History: ties.NewAddress(p.Namespace, p.IPs)}
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

// wake tells those who watch one pod. Called with the lock.
func (x *Index) wake(namespace, name string) {
	for _, w := range x.watches[namespace][name] {
		signal(w.wake)
	}
}

// wakeNamespace tells those who watch a namespace, any pod of it, or a pod that
// an EndpointSlice of the namespace named from elsewhere. Called with the lock.
func (x *Index) wakeNamespace(namespace string) {
	for ns, pods := range x.watches {
		for _, ws := range pods {
			for _, w := range ws {
				if h := x.histories[w.id]; ns == namespace || h != nil && h.HasServiceIn(namespace) {
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
