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
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Bounds of the live lists of a namespace.
const (
	listFor   = 10 * time.Second       // how long they may take
	listAgain = 500 * time.Millisecond // how long after a failure they are asked for again
	keepList  = time.Minute            // how long they are kept that nobody watches
)

// liveList is one whole list of a namespace, from the API server itself.
type liveList struct {
	began     time.Time // zero for none
	services  []*corev1.Service
	slices    []*discoveryv1.EndpointSlice
	bindings  map[bindingID]*Binding // kept up to date by later events
	versions  map[string]string      // resource versions of the lists of bindings, by API group
	ingresses []*networkingv1.Ingress
	all       bool // ingresses were listed
}

// lists are the live lists of a namespace. The Index's lock guards them.
type lists struct {
	newest         liveList
	ingresses      []*networkingv1.Ingress // of the newest list that has them
	ingressesBegan time.Time
	running        bool
	wantIngresses  bool      // by the next
	again          time.Time // not before
	err            error     // of the tries since the newest
	wakes          map[chan<- struct{}]bool
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
	if !l.running && !time.Now().Before(l.again) {
		l.running = true
		x.work.start(func(ctx context.Context) { x.fetchLists(ctx, namespace, l) })
	}
	return false, l.err
}

// covers is called with the lock.
func (l *lists) covers(since time.Time, ingresses bool) bool {
	has := func(began time.Time) bool { return !began.IsZero() && !began.Before(since) }
	return has(l.newest.began) && (!ingresses || has(l.ingressesBegan))
}

// fetchLists makes one whole list, remembers what it shows and wakes those who
// wait for it.
func (x *Index) fetchLists(ctx context.Context, namespace string, l *lists) {
	x.mu.Lock()
	all := l.wantIngresses
	l.wantIngresses = false
	x.mu.Unlock()
	list, err := x.readLists(ctx, namespace, all)
	if err == nil {
		x.learnLists(namespace, l, list)
	}
	x.mu.Lock()
	l.running, l.err = false, err
	if err != nil {
		l.again = time.Now().Add(listAgain)
	}
	x.mu.Unlock()
	if err != nil {
		pause(ctx, listAgain)
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	for wake := range l.wakes {
		signal(wake)
	}
	clear(l.wakes)
}

// readLists reads a namespace without a resource version: what the API server
// answers then is what etcd has, and not what a cache had.
func (x *Index) readLists(ctx context.Context, namespace string, all bool) (liveList, error) {
	ctx, cancel := context.WithTimeout(ctx, listFor)
	defer cancel()
	list := liveList{began: time.Now(), bindings: make(map[bindingID]*Binding), versions: make(map[string]string), all: all}
	reads := []func() error{
		func() (err error) { list.services, err = x.listServices(ctx, namespace); return err },
		func() (err error) { list.slices, err = x.listSlices(ctx, namespace); return err },
	}
	if all {
		reads = append(reads, func() (err error) { list.ingresses, err = x.listIngresses(ctx, namespace); return err })
	}
	found := make([][]*Binding, len(x.bindings))
	versions := make([]string, len(x.bindings))
	for i, s := range x.bindings {
		reads = append(reads, func() (err error) { found[i], versions[i], err = s.list(ctx, namespace); return err })
	}
	errs := make([]error, len(reads))
	var running sync.WaitGroup
	for i, read := range reads {
		running.Go(func() { errs[i] = read() })
	}
	running.Wait()
	for i, s := range x.bindings {
		list.versions[s.gvr.Group] = versions[i]
		for _, b := range found[i] {
			list.bindings[b.id()] = b
		}
	}
	return list, errors.Join(errs...)
}

func (x *Index) listServices(ctx context.Context, namespace string) ([]*corev1.Service, error) {
	l, err := x.kube.CoreV1().Services(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Services of namespace %s: %w", namespace, err)
	}
	return trimAll[corev1.Service](l.Items, trimService), nil
}

func (x *Index) listSlices(ctx context.Context, namespace string) ([]*discoveryv1.EndpointSlice, error) {
	l, err := x.kube.DiscoveryV1().EndpointSlices(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list EndpointSlices of namespace %s: %w", namespace, err)
	}
	return trimAll[discoveryv1.EndpointSlice](l.Items, trimSlice), nil
}

func (x *Index) listIngresses(ctx context.Context, namespace string) ([]*networkingv1.Ingress, error) {
	l, err := x.kube.NetworkingV1().Ingresses(namespace).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("list Ingresses of namespace %s: %w", namespace, err)
	}
	return trimAll[networkingv1.Ingress](l.Items, trimIngress), nil
}

func trimAll[T any](items []T, trim func(any) (any, error)) []*T {
	out := make([]*T, 0, len(items))
	for i := range items {
		trimmed, _ := trim(&items[i]) // no error: these are of the type that it knows
		out = append(out, trimmed.(*T))
	}
	return out
}

// list reads the bindings of a namespace. A 404 means that there are none only
// where discovery says so.
func (s *source) list(ctx context.Context, namespace string) (bs []*Binding, version string, err error) {
	about := fmt.Sprintf("list %s of namespace %s", s.gvr.GroupResource(), namespace)
	l, err := s.x.dynamic.Resource(s.gvr).Namespace(namespace).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		if state, askErr := s.ask(ctx); askErr == nil && state == absent {
			return nil, "", nil
		}
	}
	if err != nil {
		return nil, "", fmt.Errorf("%s: %w", about, err)
	}
	for i := range l.Items {
		b, err := trimBinding(&l.Items[i])
		if err != nil {
			return nil, "", fmt.Errorf("%s: %w", about, err)
		}
		bs = append(bs, b.(*Binding))
	}
	return bs, l.GetResourceVersion(), nil
}

// learnLists remembers what a list shows, and then makes it the newest.
func (x *Index) learnLists(namespace string, l *lists, list liveList) {
	news := false
	for _, s := range list.services {
		x.tieSelected(s)
		news = x.learnHost(serviceHost(s)) || news
	}
	for _, s := range list.slices {
		x.tieNamed(s)
	}
	for _, b := range list.bindings {
		news = x.learnBinding(b) || news
	}
	for _, i := range list.ingresses {
		news = x.learnHost(ingressHost(i)) || news
	}
	x.mu.Lock()
	l.newest = list
	if list.all {
		l.ingresses, l.ingressesBegan = list.ingresses, list.began
	}
	x.mu.Unlock()
	x.settleNamespace(namespace)
	if news {
		x.wakeNamespace(namespace)
	}
}

// settleNamespace settles all that is remembered of a namespace, after the live
// lists have changed.
func (x *Index) settleNamespace(namespace string) {
	x.mu.Lock()
	var ids []bindingID
	for id := range x.records[namespace] {
		ids = append(ids, id)
	}
	var hosts []string
	for from := range x.hosts[namespace] {
		hosts = append(hosts, from)
	}
	x.mu.Unlock()
	for _, id := range ids {
		x.settle(id)
	}
	for _, from := range hosts {
		x.settleHost(namespace, from)
	}
}

// outdate takes in what a watch tells of a binding after the newest live list.
func (x *Index) outdate(id bindingID, version string, now *Binding) {
	x.mu.Lock()
	defer x.mu.Unlock()
	l := x.lists[id.namespace]
	if l == nil || l.newest.began.IsZero() || !laterVersion(version, l.newest.versions[id.api]) {
		return
	}
	if now == nil {
		delete(l.newest.bindings, id)
	} else {
		l.newest.bindings[id] = now
	}
}

// liveList is the newest live list of a namespace, its Ingresses included; an
// empty one where there is none. The bindings of it are guarded by the lock.
func (x *Index) liveList(namespace string) liveList {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.liveListLocked(namespace)
}

func (x *Index) liveListLocked(namespace string) liveList {
	l := x.lists[namespace]
	if l == nil {
		return liveList{}
	}
	list := l.newest
	list.ingresses, list.all = l.ingresses, !l.ingressesBegan.IsZero()
	return list
}

// dropLists forgets the lists of a namespace.
func (x *Index) dropLists(namespace string) {
	x.mu.Lock()
	l := x.lists[namespace]
	if l == nil || l.running {
		x.mu.Unlock()
		return
	}
	delete(x.lists, namespace)
	x.mu.Unlock()
	x.settleNamespace(namespace)
}

// tidyLists drops the lists of namespaces that nobody watches.
func (x *Index) tidyLists() {
	x.mu.Lock()
	var old []string
	for ns, l := range x.lists {
		if len(x.watches[ns]) == 0 && time.Since(l.newest.began) > keepList {
			old = append(old, ns)
		}
	}
	x.mu.Unlock()
	slices.Sort(old)
	for _, ns := range old {
		x.dropLists(ns)
	}
}
