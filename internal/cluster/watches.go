package cluster

import "strings"

// Watch puts a token into wake, without blocking, whenever something about a
// pod changes: itself, or the bindings, Services and Ingresses of its namespace.
// Checkpoints are not among that. stop ends it.
func (x *Index) Watch(p *Pod, wake chan<- struct{}) (stop func()) {
	return x.watch(p.Key(), wake)
}

// WatchNamespace is [Index.Watch] for a wait on an address that no pod has: it
// tells of bindings, Services and Ingresses.
func (x *Index) WatchNamespace(namespace string, wake chan<- struct{}) (stop func()) {
	return x.watch(namespace+"/", wake)
}

func (x *Index) watch(key string, wake chan<- struct{}) (stop func()) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.watches[key] == nil {
		x.watches[key] = make(map[chan<- struct{}]bool)
	}
	x.watches[key][wake] = true
	return func() {
		x.mu.Lock()
		defer x.mu.Unlock()
		delete(x.watches[key], wake)
		if len(x.watches[key]) == 0 {
			delete(x.watches, key)
		}
	}
}

// wake tells those who watch one pod.
func (x *Index) wake(key string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for c := range x.watches[key] {
		signal(c)
	}
}

// wakeNamespace tells those who watch a namespace or any pod of it.
func (x *Index) wakeNamespace(namespace string) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for key, cs := range x.watches {
		if strings.HasPrefix(key, namespace+"/") {
			for c := range cs {
				signal(c)
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
