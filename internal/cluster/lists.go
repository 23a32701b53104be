package cluster

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// Bounds of the live lists of a namespace.
const (
	listFor   = 20 * time.Second       // how long they may take
	listAgain = 500 * time.Millisecond // how long after a failure they are asked for again
	// listEvery is how far apart they begin, of one namespace: else they would follow
	// each other without a pause while waits begin all the time.
	listEvery = 200 * time.Millisecond
)

// liveList is a namespace as the API server itself showed it.
type liveList struct {
	ties.Objects   // the bindings are kept up to date by later events, with the lock
	began          time.Time
	ingressesBegan time.Time // zero for no Ingresses; those of an earlier list still count
	versions       []string  // resource versions of the lists of bindings, one for each API group
}

// lists are the live lists of a namespace. The Index's lock guards them.
type lists struct {
	newest        *liveList // nil for none
	running       bool      // or pausing after that
	wantIngresses bool      // by the next
	err           error     // of the tries since the newest
	wakes         map[chan<- struct{}]bool
}

// Lists says whether a namespace was listed live at or after since: its Services,
// EndpointSlices and TargetGroupBindings, and where ingresses is true its Ingresses.
// What a list shows is remembered, as if the watches had told it, before it counts as
// known. Lists returns at once. Where known is false it starts a list, which is shared
// by all who asked before it began; wake gets a token, without blocking, when it makes
// sense to ask again; and err is the newest trouble, which passes.
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

// fetchLists lists a namespace once, remembers what that shows and wakes those who
// wait for it.
func (x *Index) fetchLists(ctx context.Context, namespace string, l *lists) {
	x.mu.Lock()
	ingresses := l.wantIngresses
	l.wantIngresses = false
	x.mu.Unlock()
	began := time.Now()
	list, err := x.readLists(ctx, namespace, ingresses)
	if err == nil {
		x.rememberLists(namespace, l, list)
		x.wakeListed(l)
		kube.Pause(ctx, time.Until(began.Add(listEvery)))
	} else {
		x.mu.Lock()
		l.err = err
		x.mu.Unlock()
		kube.Pause(ctx, listAgain)
	}
	x.mu.Lock()
	l.running = false
	x.mu.Unlock()
	x.wakeListed(l)
}

// wakeListed wakes those who wait for a list.
func (x *Index) wakeListed(l *lists) {
	x.mu.Lock()
	defer x.mu.Unlock()
	for wake := range l.wakes {
		signal(wake)
	}
	clear(l.wakes)
}

// readLists reads a namespace, all kinds at once.
func (x *Index) readLists(ctx context.Context, namespace string, ingresses bool) (*liveList, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	l := &liveList{began: time.Now(), versions: make([]string, len(x.bindings))}
	bindings := make([]kube.Stores, len(x.bindings))
	services, endpoints, ings := x.kube.CoreV1().Services(namespace), x.kube.DiscoveryV1().EndpointSlices(namespace), x.kube.NetworkingV1().Ingresses(namespace)
	reads := []func() error{
		func() error { return kube.List(ctx, services.List, ties.Services, namespace, &l.Services) },
		func() error { return kube.List(ctx, endpoints.List, ties.Slices, namespace, &l.Slices) },
	}
	if ingresses {
		l.ingressesBegan = l.began
		reads = append(reads, func() error { return kube.List(ctx, ings.List, ties.Ingresses, namespace, &l.Ingresses) })
	}
	for i, w := range x.bindings {
		reads = append(reads, func() (err error) { l.versions[i], err = w.List(ctx, namespace, &bindings[i]); return err })
	}
	errs := make([]error, len(reads))
	var running sync.WaitGroup
	for i, read := range reads {
		running.Go(func() { errs[i] = read() })
	}
	running.Wait()
	l.Bindings = slices.Concat(bindings...)
	return l, errors.Join(errs...)
}

// rememberLists takes in what a list shows, and then makes it the newest.
func (x *Index) rememberLists(namespace string, l *lists, list *liveList) {
	for _, s := range kube.InNamespace[corev1.Service](list.Services, namespace) {
		x.tie(s.Namespace+"/"+s.Name, ties.Selected(x.seenPods, s))
	}
	for _, s := range kube.InNamespace[discoveryv1.EndpointSlice](list.Slices, namespace) {
		x.tie(ties.ServiceOf(s), ties.Named(x.seenPods, s))
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	if l.newest != nil && list.ingressesBegan.IsZero() {
		list.ingressesBegan = l.newest.ingressesBegan
	}
	l.newest, l.err = list, nil
	if x.records.Listed(namespace, list.Objects, x.lists[namespace] == l) {
		x.wakeNamespace(namespace)
	}
}

// updateList brings the newest live list up to date with what the watch of bindings
// tells later. Called with the lock.
func (x *Index) updateList(b *ties.Binding, gone bool) {
	l := x.lists[b.Namespace]
	i := slices.IndexFunc(x.bindings, func(w *kube.BindingWatch) bool { return w.Group() == b.API })
	switch {
	case l == nil || l.newest == nil || !laterVersion(b.ResourceVersion, l.newest.versions[i]):
	case gone:
		_ = l.newest.Bindings[i].Delete(b) // no error: it has a name
	default:
		_ = l.newest.Bindings[i].Update(b)
	}
}

// dropLists forgets the lists of a namespace. Called with the lock.
func (x *Index) dropLists(namespace string) {
	delete(x.lists, namespace)
	x.records.DropList(namespace)
}
