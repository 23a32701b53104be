package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/tools/cache"
)

// bindingGroups are the APIs that know TargetGroupBindings: that of the AWS Load
// Balancer Controller, and that of EKS Auto Mode.
var bindingGroups = []schema.GroupVersionResource{
	{Group: "elbv2.k8s.aws", Version: "v1beta1", Resource: "targetgroupbindings"},
	{Group: sharedGroup, Version: "v1", Resource: "targetgroupbindings"},
}

// sharedGroup has kinds that come without bindings (NodeDiagnostic, of the node
// monitoring agent of EKS), so that its mere presence means nothing where its
// bindings were never seen.
const sharedGroup = "eks.amazonaws.com"

// checkpointAnnotation is written by LBC 2.10 and later around each change of a
// group's targets. LBC pkg/annotations/constants.go.
const checkpointAnnotation = "elbv2.k8s.aws/checkpoint"

// bindingKeys are the labels and annotations of bindings that are read.
var bindingKeys = []string{checkpointAnnotation, ingressStack, ingressStackNamespace, ingressStackName, serviceStackNamespace, serviceStackName}

// TypeIP is the target type of groups whose targets are pods; "instance" is the
// other one.
const TypeIP = "ip"

// Binding is what is read of a TargetGroupBinding: the link between a Service
// and a target group. LBC apis/elbv2/v1beta1/targetgroupbinding_types.go.
type Binding struct {
	metav1.ObjectMeta `json:"metadata"`
	BindingSpec       `json:"spec"`
	// API is the API group that serves it.
	API string `json:"-"`
}

// BindingSpec is the part of the specification that matters here.
type BindingSpec struct {
	// TargetGroupARN and TargetGroupName are two ways to name the group; either
	// can be empty.
	TargetGroupARN  string `json:"targetGroupARN"`
	TargetGroupName string `json:"targetGroupName"`
	TargetType      string `json:"targetType"`
	// Protocol is set by LBC 2.14 and later.
	Protocol   string `json:"targetGroupProtocol"`
	RoleARN    string `json:"iamRoleArnToAssume"`
	ExternalID string `json:"assumeRoleExternalId"`
	ServiceRef struct {
		Name string             `json:"name"`
		Port intstr.IntOrString `json:"port"`
	} `json:"serviceRef"`
}

// trimBinding turns what the dynamic client reads into a Binding.
func trimBinding(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	b := new(Binding)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, b); err != nil {
		return nil, err
	}
	b.ObjectMeta = trimMeta(b.ObjectMeta, bindingKeys...)
	b.API = u.GroupVersionKind().Group
	return b, nil
}

// bindingWatch reads the bindings of one API group for as long as the cluster serves
// it. A cluster may serve none, one or both, and that can change.
type bindingWatch struct {
	x     *Index
	gvr   schema.GroupVersionResource
	paths []string     // of the watches
	known atomic.Bool  // it was found out once what there is
	state atomic.Int32 // the serving of the last answer
	// wasServed says that it was served, and was not absent since.
	wasServed atomic.Bool
	stores    stores // none while the group is not served; guarded by the Index's lock
}

func newBindingWatch(x *Index, gvr schema.GroupVersionResource) *bindingWatch {
	w := &bindingWatch{x: x, gvr: gvr}
	for _, ns := range x.namespaces {
		w.paths = append(w.paths, watchPath(groupPath(gvr.GroupVersion()), ns, gvr.Resource))
	}
	return w
}

// How long the source waits before it asks again whether its group is served,
// when it was not, and when there was no answer.
const (
	absentRetry = 30 * time.Second
	errorRetry  = 2 * time.Second
)

// serving is what the API server says of an API group.
type serving int

const (
	absent      serving = iota // it has no bindings
	served                     // it has those that are known here
	versionGone                // it has bindings in other versions alone, or that cannot be excluded
)

// run follows the group until ctx ends.
func (w *bindingWatch) run(ctx context.Context) {
	for ctx.Err() == nil {
		state, err := w.discover(ctx)
		if err != nil {
			if ctx.Err() == nil {
				w.x.cfg.Log.Warn("cannot tell whether the cluster serves TargetGroupBindings", "group", w.gvr.Group, "error", err)
			}
			pause(ctx, errorRetry)
			continue
		}
		w.logChange(state)
		if state == served {
			w.follow(ctx)
			pause(ctx, errorRetry) // what discovery promised was not there
			continue
		}
		w.x.ages.heard(w.paths...)
		w.known.Store(true)
		pause(ctx, absentRetry)
	}
}

// logChange logs what changes, once.
func (w *bindingWatch) logChange(state serving) {
	was := serving(w.state.Swap(int32(state)))
	switch {
	case state == was:
	case state == versionGone:
		w.x.cfg.Log.Warn("the API server no longer serves the version of TargetGroupBindings that is known here: not ready until it does, or until a newer version of this program is installed",
			"group", w.gvr.Group, "version", w.gvr.Version)
	case was == versionGone:
		w.x.cfg.Log.Info("the version of TargetGroupBindings is in order again", "group", w.gvr.Group, "served", state == served)
	case state == absent:
		w.x.cfg.Log.Warn("the cluster no longer serves TargetGroupBindings of this API group", "group", w.gvr.Group)
	}
	if state != versionGone {
		w.wasServed.Store(state == served)
	}
}

// discover has the API server say whether it serves bindings. Only its word that
// there is no such group, or no such resource in the group, counts as no; a
// refusal or a time-out is an error.
func (w *bindingWatch) discover(ctx context.Context) (serving, error) {
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
			return absent, fmt.Errorf("discovery lists %s and then: %w", v.GroupVersion, err)
		}
		if has {
			return versionGone, nil
		}
	}
	return absent, nil
}

// has says whether a version of the group has bindings.
func (w *bindingWatch) has(ctx context.Context, gv schema.GroupVersion) (bool, error) {
	var found metav1.APIResourceList
	err := w.get(ctx, groupPath(gv), &found)
	return slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == w.gvr.Resource }), err
}

func groupPath(gv schema.GroupVersion) string { return "/apis/" + gv.Group + "/" + gv.Version }

func (w *bindingWatch) get(ctx context.Context, path string, into runtime.Object) error {
	return w.x.kube.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Into(into)
}

// informers makes those of the group, which put a token into suspect when the API
// server answers that there is no such thing.
func (w *bindingWatch) informers(suspect chan<- struct{}) *resource {
	r := new(resource)
	for _, ns := range w.x.namespaces {
		inf := dynamicinformer.NewFilteredDynamicInformer(w.x.dynamic, w.gvr, ns, 0, cache.Indexers{byNamespace: cache.MetaNamespaceIndexFunc}, w.x.countGaps).Informer()
		_ = inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) { // fails only on a started informer
			if apierrors.IsNotFound(err) {
				signal(suspect)
				return
			}
			cache.DefaultWatchErrorHandler(ctx, r, err)
		})
		r.add(groupPath(w.gvr.GroupVersion()), ns, w.gvr.Resource, inf)
	}
	return r
}

// follow keeps informers on the group until discovery says that it is gone, or
// ctx ends.
func (w *bindingWatch) follow(outer context.Context) {
	ctx, cancel := context.WithCancel(outer)
	suspect := make(chan struct{}, 1)
	r := w.informers(suspect)
	_ = r.setUp(trimBinding, nil, handler(w.x.bindingChanged)) // fails only on started informers
	w.set(r.stores())
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
	w.set(nil)
	for _, store := range r.stores() {
		for _, b := range store.List() {
			w.x.bindingChanged(b.(*Binding), nil) // it went with its group
		}
	}
}

// untilGone returns when discovery says that the group is gone, or when ctx ends.
func (w *bindingWatch) untilGone(ctx context.Context, suspect <-chan struct{}) {
	for {
		select {
		case <-suspect:
			if state, err := w.discover(ctx); err == nil && state != served {
				return
			}
			pause(ctx, errorRetry)
		case <-ctx.Done():
			return
		}
	}
}

func (w *bindingWatch) set(stores stores) {
	w.x.mu.Lock()
	defer w.x.mu.Unlock()
	w.stores = stores
}

// bindingChanged keeps what bindings said, passes checkpoints on and wakes the
// waits that a new or a changed binding may concern.
func (x *Index) bindingChanged(before, after *Binding) {
	if x.cfg.OnCheckpoint != nil {
		if b := after; b != nil && b.TargetGroupARN != "" {
			value, ok := b.Annotations[checkpointAnnotation]
			x.cfg.OnCheckpoint(b.TargetGroupARN, value, ok)
		} else if before != nil && before.TargetGroupARN != "" {
			x.cfg.OnCheckpoint(before.TargetGroupARN, "", false)
		}
	}
	newest := cmp.Or(after, before)
	x.mu.Lock()
	if after != nil { // before was remembered when it came
		x.remember(bindingRecord(after))
	}
	x.outdate(newest, after == nil)
	x.reconcile(bindingRecord(newest).from)
	x.mu.Unlock()
	if before == nil || after == nil || before.BindingSpec != after.BindingSpec || !maps.Equal(before.Labels, after.Labels) {
		x.wakeNamespace(newest.Namespace)
	}
}
