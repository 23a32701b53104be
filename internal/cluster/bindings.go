package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
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
	// Service is spec.serviceRef.name, in the binding's namespace.
	Service string `json:"-"`
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
	labels, annotations := b.Labels, b.Annotations
	b.ObjectMeta = trimMeta(b.ObjectMeta)
	for _, key := range stackLabels {
		if value, ok := labels[key]; ok {
			if b.Labels == nil {
				b.Labels = make(map[string]string)
			}
			b.Labels[key] = value
		}
	}
	if value, ok := annotations[checkpointAnnotation]; ok {
		b.Annotations = map[string]string{checkpointAnnotation: value}
	}
	b.API, b.Service = u.GroupVersionKind().Group, b.ServiceRef.Name
	return b, nil
}

// source reads the bindings of one API group for as long as the cluster serves
// it. A cluster may serve none, one or both, and that can change.
type source struct {
	x     *Index
	gvr   schema.GroupVersionResource
	known chan struct{} // closed when it was found out once what there is
	// versionGone says that the group is served, but not in the version that is
	// known here.
	versionGone atomic.Bool
	wasServed   atomic.Bool // and was not missing since

	mu        sync.Mutex // guards informers; not held across calls
	informers caches     // nil while the group is not served
}

func newSource(x *Index, gvr schema.GroupVersionResource) *source {
	return &source{x: x, gvr: gvr, known: make(chan struct{})}
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
func (s *source) run(ctx context.Context) {
	var once sync.Once
	known := func() { once.Do(func() { close(s.known) }) }
	path := "discovery of " + s.gvr.Group
	s.x.ages.expect(path)
	for ctx.Err() == nil {
		state, err := s.ask(ctx)
		if err != nil {
			if ctx.Err() == nil {
				s.x.cfg.Log.Warn("cannot tell whether the cluster serves TargetGroupBindings", "group", s.gvr.Group, "error", err)
			}
			pause(ctx, errorRetry)
			continue
		}
		s.tell(state)
		if state == served {
			s.x.ages.forget(path)
			s.follow(ctx, known)
			s.x.ages.expect(path)
			pause(ctx, errorRetry) // what discovery promised was not there
			continue
		}
		s.x.ages.heard(path)
		known()
		pause(ctx, absentRetry)
	}
}

// tell logs what changes, once.
func (s *source) tell(state serving) {
	gone := state == versionGone
	switch was := s.versionGone.Swap(gone); {
	case gone && !was:
		s.x.cfg.Log.Warn("the API server no longer serves the version of TargetGroupBindings that is known here: not ready until it does, or until a newer version of this program is installed",
			"group", s.gvr.Group, "version", s.gvr.Version)
	case was && !gone:
		s.x.cfg.Log.Info("the version of TargetGroupBindings is in order again", "group", s.gvr.Group, "served", state == served)
	case state == absent && s.wasServed.Load():
		s.x.cfg.Log.Warn("the cluster no longer serves TargetGroupBindings of this API group", "group", s.gvr.Group)
	}
	switch state {
	case served:
		s.wasServed.Store(true)
	case absent:
		s.wasServed.Store(false)
	}
}

// ask has the API server say whether it serves bindings. Only its word that
// there is no such group, or no such resource in the group, counts as no; a
// refusal or a time-out is an error.
func (s *source) ask(ctx context.Context) (serving, error) {
	has, err := s.has(ctx, s.gvr.GroupVersion())
	switch {
	case err == nil && has:
		return served, nil
	case err == nil:
		return absent, nil
	case !apierrors.IsNotFound(err):
		return absent, err
	}
	var group metav1.APIGroup
	err = s.get(ctx, "/apis/"+s.gvr.Group, &group)
	switch {
	case apierrors.IsNotFound(err):
		return absent, nil
	case err != nil:
		return absent, err
	case s.wasServed.Load(), s.gvr.Group != sharedGroup, len(group.Versions) == 0:
		return versionGone, nil
	}
	for _, v := range group.Versions {
		has, err := s.has(ctx, schema.GroupVersion{Group: s.gvr.Group, Version: v.Version})
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
func (s *source) has(ctx context.Context, gv schema.GroupVersion) (bool, error) {
	var found metav1.APIResourceList
	err := s.get(ctx, groupPath(gv), &found)
	return slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == s.gvr.Resource }), err
}

func (s *source) get(ctx context.Context, path string, into runtime.Object) error {
	return s.x.kube.Discovery().RESTClient().Get().AbsPath(path).Do(ctx).Into(into)
}

// follow keeps informers on the group until it is no longer served or ctx ends.
func (s *source) follow(outer context.Context, known func()) {
	ctx, cancel := context.WithCancel(outer)
	suspect := make(chan struct{}, 1)
	var factories []dynamicinformer.DynamicSharedInformerFactory
	var informers caches
	for _, ns := range s.x.namespaces {
		f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(s.x.dynamic, 0, ns, s.x.countGaps)
		factories, informers = append(factories, f), append(informers, s.informer(f, suspect))
	}
	for _, path := range s.watchPaths() {
		s.x.ages.expect(path)
	}
	s.set(informers)
	for _, f := range factories {
		f.Start(ctx.Done())
	}
	s.stay(ctx, informers, suspect, known)
	cancel()
	for _, f := range factories {
		f.Shutdown()
	}
	for _, path := range s.watchPaths() {
		s.x.ages.forget(path)
	}
	if outer.Err() == nil {
		s.set(nil)
		s.x.dropBindings(informers)
	}
}

// informer makes one that puts a token into suspect when the API server answers
// that there is no such thing.
func (s *source) informer(f dynamicinformer.DynamicSharedInformerFactory, suspect chan<- struct{}) cache.SharedIndexInformer {
	inf := f.ForResource(s.gvr).Informer()
	_ = inf.SetTransform(trimBinding) // fails only on a started informer, as the next
	_ = inf.SetWatchErrorHandlerWithContext(func(ctx context.Context, r *cache.Reflector, err error) {
		if apierrors.IsNotFound(err) {
			signal(suspect)
			return
		}
		cache.DefaultWatchErrorHandler(ctx, r, err)
	})
	_, _ = inf.AddEventHandler(handler(s.x.bindingChanged))
	return inf
}

// stay returns when discovery says that the group is gone, or when ctx ends.
func (s *source) stay(ctx context.Context, informers caches, suspect <-chan struct{}, known func()) {
	synced := make(chan struct{})
	var waiting sync.WaitGroup
	waiting.Go(func() {
		for _, inf := range informers {
			if !cache.WaitFor(ctx, "", inf.HasSyncedChecker()) {
				return
			}
		}
		close(synced)
	})
	for ctx.Err() == nil {
		select {
		case <-synced:
			known()
			synced = nil
		case <-suspect:
			if state, err := s.ask(ctx); err == nil && state != served {
				return
			}
			pause(ctx, errorRetry)
		case <-ctx.Done():
		}
	}
}

func (s *source) set(informers caches) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.informers = informers
}

func (s *source) current() caches {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.informers
}

// Bindings lists the bindings of a namespace that the cache has, in order of
// name.
func (x *Index) Bindings(namespace string) []Binding {
	var out []Binding
	for _, s := range x.bindings {
		for _, b := range by[*Binding](s.current(), byNamespace, namespace) {
			out = append(out, *b)
		}
	}
	slices.SortStableFunc(out, func(a, b Binding) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// cachedBinding is nil where the cache has none.
func (x *Index) cachedBinding(id bindingID) *Binding {
	for _, s := range x.bindings {
		if s.gvr.Group == id.api {
			return get[Binding](s.current(), id.namespace+"/"+id.name)
		}
	}
	return nil
}

// dropBindings tells of bindings that went with their group.
func (x *Index) dropBindings(cs caches) {
	for _, c := range cs {
		for _, b := range c.GetIndexer().List() {
			x.bindingChanged(b.(*Binding), nil)
		}
	}
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
	if after != nil { // before was learned when it came
		x.learnBinding(after)
	}
	newest := cmp.Or(after, before)
	x.outdate(newest.id(), newest.ResourceVersion, after)
	x.settle(newest.id())
	if before == nil || after == nil || before.BindingSpec != after.BindingSpec || !maps.Equal(before.Labels, after.Labels) {
		x.wakeNamespace(newest.Namespace)
	}
}
