package kube

import (
	"fmt"
	"maps"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Stores hold trimmed objects of one kind: the copies that informers keep, or what
// was read anew.
type Stores []cache.Indexer

var byNamespace = cache.Indexers{cache.NamespaceIndex: cache.MetaNamespaceIndexFunc}

// NewStore makes a store that is indexed by namespace, as those of informers are,
// and by more.
func NewStore(more cache.Indexers) cache.Indexer {
	indexers := maps.Clone(byNamespace)
	maps.Copy(indexers, more)
	return cache.NewIndexer(cache.MetaNamespaceKeyFunc, indexers)
}

// ByIndex lists the objects that an index holds under a key.
func ByIndex[T any](ss Stores, index, key string) []*T {
	var out []*T
	for _, s := range ss {
		objs, err := s.ByIndex(index, key)
		if err != nil {
			panic(fmt.Sprintf("kube: %v", err)) // the index was never added: a mistake in this program
		}
		for _, o := range objs {
			out = append(out, o.(*T))
		}
	}
	return out
}

// InNamespace lists the objects of a namespace.
func InNamespace[T any](ss Stores, namespace string) []*T {
	return ByIndex[T](ss, cache.NamespaceIndex, namespace)
}

// ByKey finds the objects of a namespace/name; each store has one at most.
func ByKey[T any](ss Stores, key string) []*T {
	var out []*T
	for _, s := range ss {
		if obj, ok, _ := s.GetByKey(key); ok { // no error: the key is given
			out = append(out, obj.(*T))
		}
	}
	return out
}

// Get finds the first object of a namespace/name; nil where there is none.
func Get[T any](ss Stores, key string) *T {
	for _, obj := range ByKey[T](ss, key) {
		return obj
	}
	return nil
}

// Handler calls changed with the old and the new state of an object. One of them is
// nil when the object appears or is gone.
func Handler[T any](changed func(before, after *T)) cache.ResourceEventHandler {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { changed(nil, obj.(*T)) },
		UpdateFunc: func(before, after any) { changed(before.(*T), after.(*T)) },
		DeleteFunc: func(obj any) {
			// The watch missed the deletion: this is the last known state.
			if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {
				obj = unknown.Obj
			}
			if before, ok := obj.(*T); ok {
				changed(before, nil)
			}
		},
	}
}

// Trimmer makes a [Kind]'s Trim of a function for its type. It may see an object
// twice.
func Trimmer[T any](trim func(*T) *T) cache.TransformFunc {
	return func(obj any) (any, error) {
		if o, ok := obj.(*T); ok {
			return trim(o), nil
		}
		return obj, nil
	}
}

// TrimMeta keeps what names an object, and the labels and annotations of some keys.
func TrimMeta(m metav1.ObjectMeta, keys ...string) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, DeletionTimestamp: m.DeletionTimestamp,
		Labels: pick(m.Labels, keys), Annotations: pick(m.Annotations, keys),
	}
}

// pick is nil where m has none of the keys.
func pick(m map[string]string, keys []string) map[string]string {
	out := maps.Clone(m)
	maps.DeleteFunc(out, func(key, _ string) bool { return !slices.Contains(keys, key) })
	if len(out) == 0 {
		return nil
	}
	return out
}
