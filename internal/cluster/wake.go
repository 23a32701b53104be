package cluster

import (
	"slices"
	"strings"

	"drainwait/internal/cluster/ties"
)

// watcher is someone who wants to hear of a pod, or of an address that no pod has.
type watcher struct {
	pod  *Pod
	wake chan<- struct{}
}

// Watch puts a token into wake, without blocking, whenever something about a pod
// changes: itself, what ties it to a target group, or the bindings, Services and
// Ingresses of its namespace; but not for checkpoints. For an address that no pod
// has, it tells of the namespace. Until stop is called, what is remembered of the
// pod is kept, even when the pod is gone.
func (x *Index) Watch(p *Pod, wake chan<- struct{}) (stop func()) {
	w := &watcher{p, wake}
	x.mu.Lock()
	defer x.mu.Unlock()
	if p.raw != nil {
		x.historyOf(p.raw, false)
	} else if x.histories[p.id()] == nil {
		x.histories[p.id()] = &history{History: ties.NewAddress(p.Namespace, p.IPs)}
	}
	x.watchers[w] = true
	return func() { // may be called more than once
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watchers, w)
		x.forget(p.id())
		if !x.watched(func(other *watcher) bool { return other.pod.Namespace == p.Namespace }) {
			x.dropLists(p.Namespace)
		}
	}
}

// watched says whether there is such a watcher. Called with the lock.
func (x *Index) watched(such func(*watcher) bool) bool {
	for w := range x.watchers {
		if such(w) {
			return true
		}
	}
	return false
}

// wake tells those who watch one pod. Called with the lock.
func (x *Index) wake(namespace, name string) {
	x.wakeAll(func(w *watcher) bool { return w.pod.Namespace == namespace && w.pod.Name == name })
}

// wakeNamespace tells those who watch a namespace, any pod of it, or a pod that
// an EndpointSlice of the namespace named from elsewhere. Called with the lock.
func (x *Index) wakeNamespace(namespace string) {
	ofNamespace := func(service string) bool { return strings.HasPrefix(service, namespace+"/") }
	x.wakeAll(func(w *watcher) bool {
		h := x.histories[w.pod.id()]
		return w.pod.Namespace == namespace || h != nil && slices.ContainsFunc(h.Services, ofNamespace)
	})
}

// wakeAll is called with the lock.
func (x *Index) wakeAll(such func(*watcher) bool) {
	for w := range x.watchers {
		if such(w) {
			signal(w.wake)
		}
	}
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
