package cluster

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
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
	{Group: "eks.amazonaws.com", Version: "v1", Resource: "targetgroupbindings"},
}

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
	annotations := b.Annotations
	b.ObjectMeta = trimMeta(b.ObjectMeta)
	if value, ok := annotations[checkpointAnnotation]; ok {
		b.Annotations = map[string]string{checkpointAnnotation: value}
	}
	b.Service = b.ServiceRef.Name
	return b, nil
}

// source reads the bindings of one API group for as long as the cluster serves
// it. A cluster may serve none, one or both, and that can change.
type source struct {
	x          *Index
	gvr        schema.GroupVersionResource
	namespaces []string
	known      chan struct{} // closed when it was found out once what there is

	mu        sync.Mutex // guards informers; not held across calls
	informers caches     // nil while the group is not served
}

// How long the source waits before it asks again whether its group is served,
// when it was not, and when there was no answer.
const (
	absentRetry = 30 * time.Second
	errorRetry  = 2 * time.Second
)

// run follows the group until ctx ends.
func (s *source) run(ctx context.Context) {
	var once sync.Once
	known := func() { once.Do(func() { close(s.known) }) }
	for ctx.Err() == nil {
		served, err := s.served(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			s.x.cfg.Log.Warn("cannot tell whether the cluster serves TargetGroupBindings", "group", s.gvr.Group, "error", err)
			pause(ctx, errorRetry)
		case served:
			s.follow(ctx, known)
			pause(ctx, errorRetry) // what discovery promised was not there
		default:
			known()
			pause(ctx, absentRetry)
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

// served asks the API server. Only its word that there is no such group counts
// as no; a refusal or a time-out is an error.
func (s *source) served(ctx context.Context) (bool, error) {
	var found metav1.APIResourceList
	err := s.x.kube.Discovery().RESTClient().Get().
		AbsPath("/apis", s.gvr.Group, s.gvr.Version).Do(ctx).Into(&found)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return slices.ContainsFunc(found.APIResources, func(r metav1.APIResource) bool { return r.Name == s.gvr.Resource }), err
}

// follow keeps informers on the group until it is no longer served or ctx ends.
func (s *source) follow(outer context.Context, known func()) {
	ctx, cancel := context.WithCancel(outer)
	defer cancel()
	var informers caches
	defer func() {
		if outer.Err() == nil {
			s.x.dropBindings(informers)
		}
	}()
	for _, ns := range s.namespaces {
		f := dynamicinformer.NewFilteredDynamicSharedInformerFactory(s.x.dynamic, 0, ns, nil)
		inf := f.ForResource(s.gvr).Informer()
		_ = inf.SetTransform(trimBinding) // fails only on a started informer, as the next
		_ = inf.SetWatchErrorHandlerWithContext(func(hctx context.Context, r *cache.Reflector, err error) {
			if apierrors.IsNotFound(err) {
				cancel() // the group is gone
				return
			}
			cache.DefaultWatchErrorHandler(hctx, r, err)
		})
		_, _ = inf.AddEventHandler(handler(s.x.bindingChanged))
		f.Start(ctx.Done())
		defer f.Shutdown()
		defer cancel() // Shutdown waits for the informer, which waits for this
		informers = append(informers, inf)
	}
	for _, inf := range informers {
		if !cache.WaitFor(ctx, "", inf.HasSyncedChecker()) {
			return
		}
	}
	s.set(informers)
	known()
	<-ctx.Done()
	s.set(nil)
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

// Bindings lists the bindings of a namespace in order of name.
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

// dropBindings tells of bindings that went with their group.
func (x *Index) dropBindings(cs caches) {
	for _, c := range cs {
		for _, b := range c.GetIndexer().List() {
			x.bindingChanged(b.(*Binding), nil)
		}
	}
}

// bindingChanged passes checkpoints on and wakes the waits that a new or a
// changed binding may concern.
func (x *Index) bindingChanged(before, after *Binding) {
	if x.cfg.OnCheckpoint != nil {
		if b := after; b != nil && b.TargetGroupARN != "" {
			value, ok := b.Annotations[checkpointAnnotation]
			x.cfg.OnCheckpoint(b.TargetGroupARN, value, ok)
		} else if before != nil && before.TargetGroupARN != "" {
			x.cfg.OnCheckpoint(before.TargetGroupARN, "", false)
		}
	}
	if before == nil || after == nil || before.BindingSpec != after.BindingSpec {
		x.wakeNamespace(cmp.Or(after, before).Namespace)
	}
}
