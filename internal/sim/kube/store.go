// Package kube is a simulated Kubernetes API: the objects of a cluster, reads,
// watches and writes of them over HTTP, and what can go wrong with those. It runs
// no controllers and no pods.
package kube

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"

	"drainwait/internal/sim/kube/request"
	"drainwait/internal/sim/timeline"
)

// Cluster is a cluster's state: what etcd and the API server hold. Its methods are
// for the goroutine that owns the timeline.
type Cluster struct {
	// Assumptions are looked up each time, and may change meanwhile.
	Assumptions *Assumptions

	line     *timeline.Timeline
	kubelets Kubelets
	revision uint64 // of the last change in the cluster
	tables   []*table
	byType   map[reflect.Type][]*table
	off      map[string]bool              // groups that are not served
	versions map[schema.GroupVersion]bool // what ServeVersion has decided
	skew     time.Duration                // of the API server's clock
	heard    []func(eventType string, obj metav1.Object)

	fail       func(*http.Request) bool
	failStatus int
	expiring   bool // see AlwaysExpire
	requests   map[string]int
}

// Kubelets run the pods. They decide what an API server cannot decide alone.
type Kubelets struct {
	// Delete begins the deletion of a pod, with a grace period in seconds of real
	// time, or with the pod's own if that is nil. It says whether a kubelet has
	// the pod. If not, the pod goes like any other object.
	Delete func(namespace, name string, grace *int64) bool
	// Updated is told of a pod that somebody has written to.
	Updated func(*corev1.Pod)
}

// table holds the objects of one resource and what a watch of it needs.
type table struct {
	schema.GroupVersionResource
	kind       string
	goType     reflect.Type // a pointer
	namespaced bool
	hasStatus  bool   // with a subresource of that name
	rows       []*row // sorted by namespace and name

	// A change waits in pending until its lag is over, then it goes to the
	// watchers, into seen and into history. A watch can resume from compacted or
	// later.
	pending   []change
	due       time.Duration // when the last of pending is delivered
	lag       time.Duration // in addition to the usual lag
	seen      []*row        // rows as the watchers know them
	history   []change
	compacted uint64
	watchers  []*watcher
}

// row is one object. Its JSON and its labels are those of the last Apply: the
// world may have gone on to change obj.
type row struct {
	namespace, name string
	obj             metav1.Object
	labels          labels.Set
	fields          fields.Set
	json            []byte
	revision        uint64

	spec       string // the specification, whose changes generation counts
	generation int64
}

// change is one step of an object's history. before is what it was.
type change struct {
	revision    uint64
	eventType   watch.EventType
	row, before row
}

// historySize is how many changes of one resource a watch can be behind.
const historySize = 4096

// New makes an empty cluster.
func New(line *timeline.Timeline, as *Assumptions, kubelets Kubelets) *Cluster {
	s := &Cluster{
		Assumptions: as,
		line:        line,
		kubelets:    kubelets,
		revision:    1, // 0 has a meaning of its own on the wire
		byType:      make(map[reflect.Type][]*table),
		requests:    make(map[string]int),
		off:         map[string]bool{GroupEKS: true},
		versions:    make(map[schema.GroupVersion]bool),
	}
	core := schema.GroupVersion{Version: "v1"}
	s.add(new(corev1.Namespace), core, "Namespace", "namespaces", false)
	s.add(new(corev1.Node), core, "Node", "nodes", false)
	s.add(new(corev1.Pod), core, "Pod", "pods", true)
	s.add(new(corev1.Service), core, "Service", "services", true)
	s.add(new(discoveryv1.EndpointSlice), discoveryv1.SchemeGroupVersion, "EndpointSlice", "endpointslices", true)
	s.add(new(networkingv1.Ingress), networkingv1.SchemeGroupVersion, "Ingress", "ingresses", true)
	for _, gv := range []schema.GroupVersion{{Group: GroupELBv2, Version: "v1beta1"}, {Group: GroupEKS, Version: "v1"}} {
		s.add(new(TargetGroupBinding), gv, "TargetGroupBinding", "targetgroupbindings", true)
	}
	return s
}

func (s *Cluster) add(obj metav1.Object, gv schema.GroupVersion, kind, plural string, namespaced bool) {
	t := &table{
		GroupVersionResource: gv.WithResource(plural), kind: kind, goType: reflect.TypeOf(obj),
		namespaced: namespaced, hasStatus: kind != "EndpointSlice",
	}
	s.tables = append(s.tables, t)
	s.byType[reflect.TypeOf(obj)] = append(s.byType[reflect.TypeOf(obj)], t)
}

// tableOf is the table of an object. Its Go type decides, or its APIVersion if two groups
// share the type; an empty APIVersion means the first of them.
func (s *Cluster) tableOf(obj metav1.Object) *table {
	tables := s.byType[reflect.TypeOf(obj)]
	if len(tables) == 0 {
		panic(fmt.Sprintf("sim: no table for %T", obj))
	}
	gv := typeOf(obj).GroupVersionKind().GroupVersion()
	for _, t := range tables {
		if t.GroupVersion() == gv {
			return t
		}
	}
	return tables[0]
}

// typeOf gives access to an object's kind and apiVersion.
func typeOf(obj metav1.Object) schema.ObjectKind {
	return obj.(interface{ GetObjectKind() schema.ObjectKind }).GetObjectKind()
}

// find is the place of an object in rows, or the place where it would be.
func (t *table) find(namespace, name string) (int, bool) { return find(t.rows, namespace, name) }

func find(rows []*row, namespace, name string) (int, bool) {
	return slices.BinarySearchFunc(rows, row{namespace: namespace, name: name}, func(a *row, b row) int {
		if c := strings.Compare(a.namespace, b.namespace); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
}

// in lists those of rows in a namespace, or all if it is empty.
func in(rows []*row, namespace string) []*row {
	if namespace == "" {
		return rows
	}
	from, _ := find(rows, namespace, "")
	to, _ := find(rows, namespace+"\x00", "")
	return rows[from:to]
}

// Get finds an object of the Go type T. It returns the world's own object: nobody sees
// a change to it until it is applied.
func Get[T any](s *Cluster, namespace, name string) (*T, bool) {
	for _, t := range s.byType[reflect.TypeFor[*T]()] {
		if i, ok := t.find(namespace, name); ok {
			return any(t.rows[i].obj).(*T), true
		}
	}
	return nil, false
}

// List returns the objects of the Go type T in a namespace, or all if it is
// empty, sorted by namespace and name.
func List[T any](s *Cluster, namespace string) []*T {
	var out []*T
	for _, t := range s.byType[reflect.TypeFor[*T]()] {
		for _, r := range in(t.rows, namespace) {
			out = append(out, any(r.obj).(*T))
		}
	}
	return out
}

// Revision is that of the last change in the cluster.
func (s *Cluster) Revision() uint64 { return s.revision }

// Time is world time t as the API server writes it down: its clock may be
// wrong, see [Cluster.SkewClock].
func (s *Cluster) Time(t time.Duration) metav1.Time {
	return metav1.NewTime(s.line.Wall(t).Add(s.skew))
}

// Apply creates or updates an object. It sets what the API server sets and tells the
// watchers. The cluster keeps the object itself, not a copy: after the first Apply it
// can be changed and applied again, and it shows what others have written since. An
// object that is being deleted goes when its last finalizer goes.
func (s *Cluster) Apply(obj metav1.Object) {
	if b, ok := obj.(*TargetGroupBinding); ok {
		b.forgetLabelsOfLBC()
	}
	t := s.tableOf(obj)
	i, found := t.find(obj.GetNamespace(), obj.GetName())
	eventType := watch.Modified
	if found {
		old := t.rows[i].obj
		obj.SetUID(old.GetUID())
		obj.SetCreationTimestamp(old.GetCreationTimestamp())
		if at := old.GetDeletionTimestamp(); at != nil && obj != old {
			obj.SetDeletionTimestamp(at)
			obj.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
		}
		obj.SetResourceVersion(strconv.FormatUint(t.rows[i].revision, 10))
		typeOf(obj).SetGroupVersionKind(t.GroupVersion().WithKind(t.kind))
		t.rows[i].countGeneration(obj)
		if _, isPod := obj.(*corev1.Pod); !isPod && obj.GetDeletionTimestamp() != nil && len(obj.GetFinalizers()) == 0 {
			t.rows[i].obj = obj
			s.Remove(obj)
			return
		}
		if bytes.Equal(encode(obj), t.rows[i].json) {
			t.rows[i].obj = obj
			return // a write that changes nothing is no change, as with a real API server
		}
	} else {
		eventType = watch.Added
		obj.SetUID(types.UID(fmt.Sprintf("%08x-0000-4000-8000-%012x", uint32(s.line.Seed()), s.revision)))
		obj.SetCreationTimestamp(s.Time(s.line.Present()))
		t.rows = slices.Insert(t.rows, i, &row{namespace: obj.GetNamespace(), name: obj.GetName()})
		t.rows[i].countGeneration(obj)
	}
	r := t.rows[i]
	before := *r
	r.obj, r.labels, r.fields = obj, maps.Clone(obj.GetLabels()), fieldsOf(obj)
	s.record(t, eventType, r, before)
}

// countGeneration gives a custom resource its generation, which counts the
// changes of its specification and its deletion.
func (r *row) countGeneration(obj metav1.Object) {
	b, ok := obj.(*TargetGroupBinding)
	if !ok {
		return
	}
	spec := fmt.Sprint(string(encode(b.Spec)), b.DeletionTimestamp != nil)
	if spec != r.spec {
		r.spec = spec
		r.generation++
	}
	b.Generation = r.generation
}

// Remove removes an object at once, as if its finalizers had been stripped first, and
// tells the watchers; see [Cluster.Delete]. To delete a pod that a kubelet runs, use the
// world's DeletePod.
func (s *Cluster) Remove(obj metav1.Object) {
	t := s.tableOf(obj)
	i, found := t.find(obj.GetNamespace(), obj.GetName())
	if !found {
		return
	}
	r := t.rows[i]
	t.rows = slices.Delete(t.rows, i, i+1)
	s.record(t, watch.Deleted, r, *r)
}

// OnChange calls f for every change of an object, at once. It also calls f for an object
// that is about to get other labels, while it still has the old ones. f should plan what
// it wants to change, not change it: others do not know of the change yet.
func (s *Cluster) OnChange(f func(eventType string, obj metav1.Object)) {
	s.heard = append(s.heard, f)
}

func (s *Cluster) tell(eventType watch.EventType, obj metav1.Object) {
	for _, f := range s.heard {
		f(string(eventType), obj)
	}
}

// record gives a change its revision and plans its delivery, so that no change
// overtakes another.
func (s *Cluster) record(t *table, eventType watch.EventType, r *row, before row) {
	s.revision++
	r.obj.SetResourceVersion(strconv.FormatUint(s.revision, 10))
	typeOf(r.obj).SetGroupVersionKind(t.GroupVersion().WithKind(t.kind))
	r.json, r.revision = encode(r.obj), s.revision
	revision := r.revision
	t.pending = append(t.pending, change{revision, eventType, *r, before})
	lag := s.line.Draw(s.Assumptions.WatchLag, "watch", t.GroupResource().String()+"/"+r.namespace+"/"+r.name)
	t.due = max(t.due, s.line.Present()+lag+t.lag)
	s.line.At(t.due, func() { t.deliver(revision) })
	s.tell(eventType, r.obj)
}

// deliver gives the watchers the pending changes up to a revision.
func (t *table) deliver(revision uint64) {
	for len(t.pending) > 0 && t.pending[0].revision <= revision {
		c := t.pending[0]
		t.pending = t.pending[1:]
		t.show(c)
		t.history = append(t.history, c)
		if len(t.history) > historySize {
			t.compacted = max(t.compacted, t.history[0].revision)
			t.history = t.history[1:]
		}
		t.watchers = slices.DeleteFunc(t.watchers, func(x *watcher) bool { return !x.deliver(c) })
	}
}

// show brings a change into seen.
func (t *table) show(c change) {
	i, found := find(t.seen, c.row.namespace, c.row.name)
	switch {
	case c.eventType == watch.Deleted && found:
		t.seen = slices.Delete(t.seen, i, i+1)
	case c.eventType == watch.Deleted:
	case found:
		t.seen[i] = &c.row
	default:
		t.seen = slices.Insert(t.seen, i, &c.row)
	}
}

// view is what a request sees, and its revision. As with a real API server, it is the
// present if the request names no resourceVersion. Otherwise it is what the watchers
// know, if that is not older than the version that the request names.
func (s *Cluster) view(t *table, q *request.Request) ([]*row, uint64) {
	if upTo := s.delivered(t); q.List.ResourceVersion != "" && upTo >= q.From {
		return t.seen, upTo
	}
	return t.rows, s.revision
}

// delivered is the revision up to which the watchers of a table know everything.
func (s *Cluster) delivered(t *table) uint64 {
	if len(t.pending) > 0 {
		return t.pending[0].revision - 1
	}
	return s.revision
}

// fieldsOf are the fields by which an object can be selected.
func fieldsOf(obj metav1.Object) fields.Set {
	set := fields.Set{"metadata.namespace": obj.GetNamespace(), "metadata.name": obj.GetName()}
	if p, ok := obj.(*corev1.Pod); ok {
		set["spec.nodeName"] = p.Spec.NodeName
		set["status.phase"] = string(p.Status.Phase)
		set["status.podIP"] = p.Status.PodIP
	}
	return set
}

// selectable says whether the objects of the table can be selected by a field.
func (t *table) selectable(field string) bool { return fieldsOf(t.blank()).Has(field) }

// encode is for types that always have a JSON form.
func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("sim: encode %T: %v", v, err))
	}
	return b
}

func matches(s request.Selection, r *row) bool { return s.Matches(r.namespace, r.labels, r.fields) }

// watcher is one open watch: a buffer without bounds between the world, which
// must not wait, and the goroutine that writes to the client.
type watcher struct {
	request.Selection
	from uint64        // the client knows the state up to this revision; owned by the world
	wake chan struct{} // lines or ended have changed

	mu    sync.Mutex // guards the rest; held for a moment only
	lines [][]byte
	ended bool
}

// watch fills in what has happened since the client's revision and registers
// the watcher for what follows. If the client wants that, the whole state comes
// first.
func (s *Cluster) watch(t *table, x *watcher, q *request.Request) {
	x.from = q.From
	switch {
	case s.expiring:
		x.expire(q.From, s.revision)
		return
	case q.WantsInitial():
		var rows []*row
		rows, x.from = s.view(t, q)
		for _, r := range rows {
			if matches(x.Selection, r) {
				x.send(watch.Added, r.json)
			}
		}
		if q.List.AllowWatchBookmarks {
			// It tells the client that it has seen the whole state.
			x.bookmark(t, x.from, map[string]string{metav1.InitialEventsAnnotationKey: "true"})
		}
	case q.From < t.compacted:
		x.expire(q.From, t.compacted)
		return
	default:
		for _, c := range t.history {
			x.deliver(c)
		}
	}
	t.watchers = append(t.watchers, x)
	if q.List.AllowWatchBookmarks {
		s.bookmarkLater(t, x)
	}
}

// bookmarkLater sends a watch a bookmark about once a minute.
func (s *Cluster) bookmarkLater(t *table, x *watcher) {
	s.line.After(s.line.Draw(s.Assumptions.BookmarkEvery, "bookmark", t.GroupResource().String()), func() {
		if x.over() {
			return
		}
		x.bookmark(t, s.delivered(t), nil)
		s.bookmarkLater(t, x)
	})
}

// bookmark tells the client that it knows everything up to a revision.
func (x *watcher) bookmark(t *table, revision uint64, annotations map[string]string) {
	x.send(watch.Bookmark, encode(metav1.PartialObjectMetadata{
		TypeMeta:   metav1.TypeMeta{APIVersion: t.GroupVersion().String(), Kind: t.kind},
		ObjectMeta: metav1.ObjectMeta{ResourceVersion: strconv.FormatUint(revision, 10), Annotations: annotations},
	}))
}

// deliver passes a change on if the client asked for it and does not know it yet.
// It returns false if the watch has ended.
func (x *watcher) deliver(c change) bool {
	eventType, ok := x.sees(c)
	if !ok || c.revision <= x.from {
		return !x.over()
	}
	return x.send(eventType, c.row.json)
}

// sees is what a change means to the client. If the client selects by labels or fields,
// an object appears and vanishes as these change.
func (x *watcher) sees(c change) (watch.EventType, bool) {
	now := matches(x.Selection, &c.row)
	if c.eventType != watch.Modified {
		return c.eventType, now
	}
	switch before := matches(x.Selection, &c.before); {
	case now && !before:
		return watch.Added, true
	case before && !now:
		return watch.Deleted, true
	default:
		return watch.Modified, now
	}
}

func (x *watcher) send(eventType watch.EventType, object []byte) bool {
	line := fmt.Appendf(nil, "{\"type\":%q,\"object\":%s}\n", eventType, object)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.ended {
		x.lines = append(x.lines, line)
		x.signal()
	}
	return !x.ended
}

// expire ends the watch with the error that its revision is too old.
func (x *watcher) expire(from, compacted uint64) {
	err := apierrors.NewResourceExpired(fmt.Sprintf("too old resource version: %d (%d)", from, compacted))
	x.send(watch.Error, encode(statusOf(err)))
	x.end()
}

// end closes the watch after the changes that have been sent.
func (x *watcher) end() {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.ended = true
	x.signal()
}

func (x *watcher) over() bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.ended
}

func (x *watcher) signal() {
	select {
	case x.wake <- struct{}{}:
	default:
	}
}

// take empties the buffer. After ended nothing more will come.
func (x *watcher) take() (lines [][]byte, ended bool) {
	x.mu.Lock()
	defer x.mu.Unlock()
	lines, x.lines = x.lines, nil
	return lines, x.ended
}

func key(namespace, name string) string { return namespace + "/" + name }
