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
	if x.watchers[p.Namespace] == nil {
		x.watchers[p.Namespace] = make(map[string][]*watcher)
	}
	x.watchers[p.Namespace][p.Name] = append(x.watchers[p.Namespace][p.Name], w)
	return func() { x.unwatch(w) } // may be called more than once
}

func (x *Index) unwatch(w *watcher) {
	x.mu.Lock()
	defer x.mu.Unlock()
	ns, name := w.pod.Namespace, w.pod.Name
	others := slices.DeleteFunc(x.watchers[ns][name], func(other *watcher) bool { return other == w })
	if len(others) > 0 {
		x.watchers[ns][name] = others
	} else {
		delete(x.watchers[ns], name)
	}
	x.forget(w.pod.id())
	if len(x.watchers[ns]) == 0 {
		delete(x.watchers, ns)
		x.dropLists(ns)
	}
}

// wake tells those who watch one pod. Called with the lock.
func (x *Index) wake(namespace, name string) {
	for _, w := range x.watchers[namespace][name] {
		signal(w.wake)
	}
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
	for _, byName := range x.watchers {
		for _, watchers := range byName {
			for _, w := range watchers {
				if such(w) {
					signal(w.wake)
				}
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
