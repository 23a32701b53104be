package cluster

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// resource is the informers of one, one for each namespace that is read, or one
// for all.
type resource struct {
	name      string
	paths     []string // of the watches
	informers []cache.SharedIndexInformer
}

func (r *resource) add(version, namespace, name string, informer cache.SharedIndexInformer) {
	r.name, r.paths, r.informers = name, append(r.paths, watchPath(version, namespace, name)), append(r.informers, informer)
}

func watchPath(version, namespace, name string) string {
	if namespace == corev1.NamespaceAll {
		return version + "/" + name
	}
	return version + "/namespaces/" + namespace + "/" + name
}

func (r *resource) setUp(trim cache.TransformFunc, indexers cache.Indexers, h cache.ResourceEventHandler) error {
	for _, inf := range r.informers {
		_, err := inf.AddEventHandler(h)
		if err := errors.Join(inf.SetTransform(trim), inf.AddIndexers(indexers), err); err != nil {
			return fmt.Errorf("set up informer of %s: %w", r.name, err)
		}
	}
	return nil
}

func (r *resource) hasSynced() bool {
	for _, inf := range r.informers {
		if !inf.HasSynced() {
			return false
		}
	}
	return true
}

func (r *resource) stores() stores {
	var out stores
	for _, inf := range r.informers {
		out = append(out, inf.GetIndexer())
	}
	return out
}

// stores hold objects of one resource, trimmed: the caches of its informers, or
// what live reads showed.
type stores []cache.Indexer

const (
	byAddress   = "address"
	byNamespace = cache.NamespaceIndex
	byPod       = "pod"
	byService   = "service"
)

// newStore makes a store that is indexed by namespace, as those of informers are,
// and by more.
func newStore(more cache.Indexers) cache.Indexer {
	store := cache.NewIndexer(cache.MetaNamespaceKeyFunc, cache.Indexers{byNamespace: cache.MetaNamespaceIndexFunc})
	_ = store.AddIndexers(more) // fails only where an index is there already
	return store
}

// by lists what an index holds under a key.
func by[T any](ss stores, index, key string) []T {
	var out []T
	for _, s := range ss {
		objs, err := s.ByIndex(index, key)
		if err != nil {
			panic(fmt.Sprintf("cluster: %v", err)) // the index was never added: a mistake in this package
		}
		for _, o := range objs {
			out = append(out, o.(T))
		}
	}
	return out
}

// all finds the objects of a namespace/name; each store has one at most.
func all[T any](ss stores, key string) []*T {
	var out []*T
	for _, s := range ss {
		if obj, ok, _ := s.GetByKey(key); ok { // no error: the key is given
			out = append(out, obj.(*T))
		}
	}
	return out
}

// get finds the first object of a namespace/name; nil where there is none.
func get[T any](ss stores, key string) *T {
	for _, obj := range all[T](ss, key) {
		return obj
	}
	return nil
}

// picture is what there is of a namespace, as the informers or a live list have
// it.
type picture struct {
	services, slices, ingresses stores
	bindings                    stores // of a live list: one for each API group
}

// pictures are the informers' and, where there is one, the newest live list's.
// Called with the lock.
func (x *Index) pictures(namespace string) []picture {
	cached := picture{services: x.services, slices: x.slices, ingresses: x.ingresses}
	for _, s := range x.bindings {
		cached.bindings = append(cached.bindings, s.stores...)
	}
	if l := x.lists[namespace]; l != nil && l.newest != nil {
		return []picture{cached, l.newest.picture}
	}
	return []picture{cached}
}

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
			if before, ok := obj.(*T); ok {
				changed(before, nil)
			}
		},
	}
}

// trimmer makes a function for informers of one that keeps of each object what
// this package reads: a cluster has many pods. It may see an object twice.
func trimmer[T any](trim func(*T) *T) cache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(*T); ok {
			return trim(o), nil
		}
		return obj, nil
	}
}

// trimMeta keeps of an object what names it, and the labels and annotations of some
// keys.
func trimMeta(m metav1.ObjectMeta, keys ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
		Labels: pick(m.Labels, keys), Annotations: pick(m.Annotations, keys),
	}
}

// pick is nil where m has none of the keys.
func pick(m map[string]string, keys []string) map[string]string {
	var out map[string]string
	for _, key := range keys {
		if value, ok := m[key]; ok {
			if out == nil {
				out = make(map[string]string)
			}
			out[key] = value
		}
	}
	return out
}

// indexer makes an index function of one that lists the keys of an object.
func indexer[T any](keys func(*T) []string) cache.IndexFunc {
	return func(obj any) ([]string, error) {
		if o, ok := obj.(*T); ok {
			return keys(o), nil
		}
		return nil, nil
	}
}
