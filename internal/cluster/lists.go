package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
)

// Bounds of the live lists of a namespace.
const (
	listFor   = 20 * time.Second       // how long they may take
	listAgain = 500 * time.Millisecond // how long after a failure they are asked for again
)

// liveList is one whole list of a namespace, from the API server itself.
type liveList struct {
	picture        // its bindings are kept up to date by later events, with the lock
	began          time.Time
	ingressesBegan time.Time // those are of an earlier list where they were not listed again; zero for none
	versions       []string  // resource versions of the lists of bindings, one for each API group
}

// lists are the live lists of a namespace. The Index's lock guards them.
type lists struct {
	newest        *liveList // nil for none
	running       bool      // or pausing after a failure
	wantIngresses bool      // by the next
	err           error     // of the tries since the newest
	wakes         map[chan<- struct{}]bool
}

// Lists asks for one live list each of the TargetGroupBindings of both API
// groups, the Services and the EndpointSlices of a namespace, and where ingresses
// is true also of its Ingresses: begun at or after since, and shared by all who
// asked before it began. What they show is remembered, as if the watches had told
// it, before they count as known. It returns at once; where known is false, wake
// gets a token, without blocking, when it makes sense to ask again, and err is
// the newest trouble, which passes.
func (x *Index) Lists(namespace string, since time.Time, ingresses bool, wake chan<- struct{}) (known bool, err error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.lists[namespace]
	if l == nil {
		l = &lists{wakes: make(map[chan<- struct{}]bool)}
		x.lists[namespace] = l
	}
	if l.covers(since, ingresses) {
		return true, nil
	}
	l.wakes[wake] = true
	l.wantIngresses = l.wantIngresses || ingresses
	if !l.running {
		l.running = true
		x.work.start(func(ctx context.Context) { x.fetchLists(ctx, namespace, l) })
	}
	return false, l.err
}

// covers is called with the lock.
func (l *lists) covers(since time.Time, ingresses bool) bool {
	has := func(began time.Time) bool { return !began.IsZero() && !began.Before(since) }
	return l.newest != nil && has(l.newest.began) && (!ingresses || has(l.newest.ingressesBegan))
}

// fetchLists makes one whole list, remembers what it shows and wakes those who
// wait for it.
func (x *Index) fetchLists(ctx context.Context, namespace string, l *lists) {
	x.mu.Lock()
	ingresses := l.wantIngresses
	l.wantIngresses = false
	x.mu.Unlock()
	list, err := x.readLists(ctx, namespace, ingresses)
	if err == nil {
		x.rememberLists(namespace, l, list)
	}
	x.mu.Lock()
	l.err = err
	x.mu.Unlock()
	if err != nil {
		pause(ctx, listAgain)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	l.running = false
	for wake := range l.wakes {
		signal(wake)
	}
	clear(l.wakes)
}

// readLists reads a namespace without a resource version: what the API server
// answers then is what etcd has, and not what a cache had.
func (x *Index) readLists(ctx context.Context, namespace string, ingresses bool) (*liveList, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	l := &liveList{began: time.Now(), versions: make([]string, len(x.bindings))}
	var reads []func() error
	read := func(resource string, store cache.Indexer, list lister, trim cache.TransformFunc) stores {
		reads = append(reads, func() error {
			_, err := readInto(ctx, store, namespace, resource, list, trim)
			return err
		})
		return stores{store}
	}
	l.services = read("Services", newStore(nil), listerOf(x.kube.CoreV1().Services(namespace).List), trimService)
	l.slices = read("EndpointSlices", newStore(sliceIndexers), listerOf(x.kube.DiscoveryV1().EndpointSlices(namespace).List), trimSlice)
	if ingresses {
		l.ingressesBegan = l.began
		l.ingresses = read("Ingresses", newStore(nil), listerOf(x.kube.NetworkingV1().Ingresses(namespace).List), trimIngress)
	}
	for i, s := range x.bindings {
		store := newStore(nil)
		l.bindings = append(l.bindings, store)
		reads = append(reads, func() (err error) { l.versions[i], err = s.list(ctx, namespace, store); return err })
	}
	errs := make([]error, len(reads))
	var running sync.WaitGroup
	for i, read := range reads {
		running.Go(func() { errs[i] = read() })
	}
	running.Wait()
	return l, errors.Join(errs...)
}

// lister lists a resource of a namespace.
type lister func(context.Context, metav1.ListOptions) (runtime.Object, error)

func listerOf[L runtime.Object](list func(context.Context, metav1.ListOptions) (L, error)) lister {
	return func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return list(ctx, o) }
}

// readInto puts what a list shows into a store, trimmed, and returns the resource
// version.
func readInto(ctx context.Context, store cache.Indexer, namespace, resource string, list lister, trim cache.TransformFunc) (version string, err error) {
	l, err := list(ctx, metav1.ListOptions{})
	if err == nil {
		err = meta.EachListItem(l, func(o runtime.Object) error {
			trimmed, err := trim(o)
			if err != nil {
				return err
			}
			return store.Add(trimmed)
		})
	}
	if err != nil {
		return "", fmt.Errorf("list %s of namespace %s: %w", resource, namespace, err)
	}
	return l.(metav1.ListInterface).GetResourceVersion(), nil
}

// list reads the bindings of a namespace. A 404 means that there are none only
// where discovery says so.
func (w *bindingWatch) list(ctx context.Context, namespace string, into cache.Indexer) (version string, err error) {
	version, err = readInto(ctx, into, namespace, w.gvr.GroupResource().String(), listerOf(w.x.dynamic.Resource(w.gvr).Namespace(namespace).List), trimBinding)
	if apierrors.IsNotFound(err) {
		if state, discoverErr := w.discover(ctx); discoverErr == nil && state == absent {
			return "", nil
		}
	}
	return version, err
}

// rememberLists remembers what a list shows, and then makes it the newest.
func (x *Index) rememberLists(namespace string, l *lists, list *liveList) {
	for _, s := range by[*corev1.Service](list.services, byNamespace, namespace) {
		x.tieSelected(s)
	}
	for _, s := range by[*discoveryv1.EndpointSlice](list.slices, byNamespace, namespace) {
		x.tieNamed(s)
	}
	x.mu.Lock()
	news := x.remember(list.records(origin{namespace: namespace})...)
	if l.newest != nil && list.ingressesBegan.IsZero() {
		list.ingresses, list.ingressesBegan = l.newest.ingresses, l.newest.ingressesBegan
	}
	l.newest = list
	x.reconcile(origin{namespace: namespace})
	x.mu.Unlock()
	if news {
		x.wakeNamespace(namespace)
	}
}

// outdate takes in what a watch tells of a binding after the newest live list.
// Called with the lock.
func (x *Index) outdate(b *Binding, gone bool) {
	l := x.lists[b.Namespace]
	i := slices.IndexFunc(x.bindings, func(w *bindingWatch) bool { return w.gvr.Group == b.API })
	switch {
	case l == nil || l.newest == nil || !laterVersion(b.ResourceVersion, l.newest.versions[i]):
	case gone:
		_ = l.newest.bindings[i].Delete(b) // no error: it has a name
	default:
		_ = l.newest.bindings[i].Update(b)
	}
}

// dropLists forgets the lists of a namespace. Called with the lock.
func (x *Index) dropLists(namespace string) {
	delete(x.lists, namespace)
	x.reconcile(origin{namespace: namespace})
}

// tidyLists drops the lists of namespaces that nobody watches.
func (x *Index) tidyLists() {
	x.mu.Lock()
	defer x.mu.Unlock()
	for ns := range x.lists {
		if len(x.watches[ns]) == 0 {
			x.dropLists(ns)
		}
	}
}
