package kube

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// bindingGroups are the APIs that know TargetGroupBindings: that of the AWS Load
// Balancer Controller, and that of EKS Auto Mode.
var bindingGroups = []schema.GroupVersionResource{
	{Group: "elbv2.k8s.aws", Version: "v1beta1", Resource: "targetgroupbindings"},
	{Group: sharedGroup, Version: "v1", Resource: "targetgroupbindings"},
}

// sharedGroup also has kinds that come without bindings (NodeDiagnostic, of the EKS
// node monitoring agent). So its mere presence means nothing where its bindings were
// never seen.
const sharedGroup = "eks.amazonaws.com"

// BindingWatch keeps copies of the bindings of one API group for as long as the
// cluster serves it. A cluster may serve none, one or both, and that can change.
type BindingWatch struct {
	c       *Client
	gvr     schema.GroupVersionResource
	kind    Kind
	handler cache.ResourceEventHandler
	known   atomic.Bool  // what there is was read once
	state   atomic.Int32 // the serving of the last answer
	// wasServed: it was served, and has not been absent since.
	wasServed atomic.Bool
	stores    atomic.Pointer[Stores] // nil while the group is not served
}

// WatchBindings keeps copies of the bindings of both API groups from [Client.Run]
// on, and tells h what changes. Where a group is no longer served, they are gone.
func (c *Client) WatchBindings(trim cache.TransformFunc, h cache.ResourceEventHandler) []*BindingWatch {
	for _, gvr := range bindingGroups {
		c.bindings = append(c.bindings, &BindingWatch{c: c, gvr: gvr, kind: Kind{Resource: gvr, Trim: trim}, handler: h})
	}
	return c.bindings
}

// Group is the API group.
func (w *BindingWatch) Group() string { return w.gvr.Group }

// Stores hold the copies; there are none while the group is not served.
func (w *BindingWatch) Stores() Stores {
	if s := w.stores.Load(); s != nil {
		return *s
	}
	return nil
}

// How long a watch waits before it asks again whether its group is served: where
// it was not, and where there was no answer.
const (
	absentRetry = 30 * time.Second
	errorRetry  = 2 * time.Second
)

// serving is what the API server says of an API group.
type serving int

const (
	absent      serving = iota // there are no bindings
	served                     // there are, in the version that is known here
	versionGone                // there are in other versions alone, or there may be
)

// run follows the group until ctx ends.
func (w *BindingWatch) run(ctx context.Context) {
	told := "" // each error once: there can be many
	for ctx.Err() == nil {
		state, err := w.discover(ctx)
		if err != nil {
			// Where there is no answer at all, the transport says so.
			if answer := apierrors.APIStatus(nil); errors.As(err, &answer) && err.Error() != told {
				told = err.Error()
				w.c.log.Warn("cannot tell whether the cluster serves TargetGroupBindings", "group", w.gvr.Group, "error", err)
			}
			Pause(ctx, errorRetry)
			continue
		}
		w.logChange(state)
		if state == served {
			w.follow(ctx)
			Pause(ctx, errorRetry) // what discovery promised was not there
			continue
		}
		w.c.ages.heard(w.c.paths(w.gvr)...)
		w.known.Store(true)
		Pause(ctx, absentRetry)
	}
}

// logChange logs a change, once.
func (w *BindingWatch) logChange(state serving) {
	was := serving(w.state.Swap(int32(state)))
	switch {
	case state == was:
	case state == versionGone:
		w.c.log.Warn("the API server no longer serves the version of TargetGroupBindings that this program knows: not ready until it does again, or until a newer version of this program is installed",
			"group", w.gvr.Group, "version", w.gvr.Version)
	case was == versionGone:
		w.c.log.Info("there are no TargetGroupBindings of an unknown version any more", "group", w.gvr.Group, "served", state == served)
	case state == absent:
		w.c.log.Warn("the cluster no longer serves TargetGroupBindings of this API group", "group", w.gvr.Group)
	}
	if state != versionGone {
		w.wasServed.Store(state == served)
	}
}

// discover asks the API server whether it serves bindings. No means that it says
// there is no such group, or no such resource in the group; a refusal or a time-out
// is an error.
func (w *BindingWatch) discover(ctx context.Context) (serving, error) {
	has, err := w.has(ctx, w.gvr.GroupVersion())
	switch {
	case err == nil && has:
		return served, nil
	case err == nil:
		return absent, nil
	case !apierrors.IsNotFound(err):
		return absent, err
	}
	var group metav1.APIGroup
	err = w.get(ctx, "/apis/"+w.gvr.Group, &group)
	switch {
	case apierrors.IsNotFound(err):
		return absent, nil
	case err != nil:
		return absent, err
	case w.wasServed.Load(), w.gvr.Group != sharedGroup, len(group.Versions) == 0:
		return versionGone, nil
	}
	for _, v := range group.Versions {
		has, err := w.has(ctx, schema.GroupVersion{Group: w.gvr.Group, Version: v.Version})
		if err != nil {
			return absent, fmt.Errorf("read version %s, which discovery lists: %w", v.GroupVersion, err)
		}
		if has {
			return versionGone, nil
		}
	}
	return absent, nil
}

// has says whether a version of the group has bindings.
func (w *BindingWatch) has(ctx context.Context, gv schema.GroupVersion) (bool, error) {
	var found metav1.APIResourceList
	err := w.get(ctx, groupPath(gv), &found)
	return slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == w.gvr.Resource }), err
}

func (w *BindingWatch) get(ctx context.Context, path string, into runtime.Object) error {
	return w.c.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Into(into)
}

// informers makes those of the group. They put a token into suspect when the API
// server answers 404.
func (w *BindingWatch) informers(suspect chan<- struct{}) *resource {
	r := &resource{name: w.gvr.Resource}
	for _, ns := range w.c.Namespaces {
		inf := dynamicinformer.NewFilteredDynamicInformer(w.c.dynamic, w.gvr, ns, 0, byNamespace, w.c.ages.noteGap).Informer()
		_ = inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) { // fails only on a started informer
			if !apierrors.IsNotFound(err) {
				cache.DefaultWatchErrorHandler(ctx, r, err)
				return
			}
			select {
			case suspect <- struct{}{}:
			default:
			}
		})
		r.add(inf, w.kind, w.handler)
	}
	return r
}

// follow keeps informers on the group until discovery says that it is gone, or
// ctx ends.
func (w *BindingWatch) follow(outer context.Context) {
	ctx, cancel := context.WithCancel(outer)
	suspect := make(chan struct{}, 1)
	r := w.informers(suspect)
	stores := r.stores()
	w.stores.Store(&stores)
	var running sync.WaitGroup
	for _, inf := range r.informers {
		running.Go(func() { inf.RunWithContext(ctx) })
	}
	running.Go(func() {
		if cache.WaitForCacheSync(ctx.Done(), r.hasSynced) {
			w.known.Store(true)
		}
	})
	w.untilGone(ctx, suspect)
	cancel()
	running.Wait()
	if outer.Err() != nil {
		return
	}
	w.stores.Store(nil)
	for _, store := range stores {
		for _, binding := range store.List() {
			w.handler.OnDelete(binding) // it went with its group
		}
	}
}

// untilGone returns when discovery says that the group is gone, or when ctx ends.
func (w *BindingWatch) untilGone(ctx context.Context, suspect <-chan struct{}) {
	for {
		select {
		case <-suspect:
			if state, err := w.discover(ctx); err == nil && state != served {
				return
			}
			Pause(ctx, errorRetry)
		case <-ctx.Done():
			return
		}
	}
}

// List lists the bindings of a namespace anew, as [List] does, and returns the
// resource version. A 404 means that there are none only where discovery says so.
func (w *BindingWatch) List(ctx context.Context, namespace string, into *Stores) (version string, err error) {
	list := func(ctx context.Context, o metav1.ListOptions) (*unstructured.UnstructuredList, error) {
		l, err := w.c.dynamic.Resource(w.gvr).Namespace(namespace).List(ctx, o)
		if err == nil {
			version = l.GetResourceVersion()
		}
		return l, err
	}
	err = List(ctx, list, w.kind, namespace, into)
	if apierrors.IsNotFound(err) {
		if state, discoverErr := w.discover(ctx); discoverErr == nil && state == absent {
			return "", nil
		}
	}
	return version, err
}

// Pause returns after d, or when ctx ends.
func Pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}
