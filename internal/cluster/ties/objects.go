package ties

import (
	"cmp"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/cluster/kube"
)

// Objects are those that tie pods: as the watches show them, or a live list of a
// namespace.
type Objects struct {
	Services, Slices, Ingresses kube.Stores
	Bindings                    kube.Stores // of a live list: a store for each API group
}

// What is read of objects that tie pods.
var (
	Services  = kube.Kind{Resource: corev1.SchemeGroupVersion.WithResource("services"), Trim: trimService}
	Slices    = kube.Kind{Resource: discoveryv1.SchemeGroupVersion.WithResource("endpointslices"), Trim: trimSlice, Indexers: sliceIndexers}
	Ingresses = kube.Kind{Resource: networkingv1.SchemeGroupVersion.WithResource("ingresses"), Trim: trimIngress}
)

// Selected are the pods of a store that a Service selects.
func Selected(pods kube.Stores, s *corev1.Service) []*corev1.Pod {
	unselected := func(p *corev1.Pod) bool { return !selects(s, p.Labels) }
	return slices.DeleteFunc(kube.InNamespace[corev1.Pod](pods, s.Namespace), unselected)
}

// Named are the pods of a store that the EndpointSlice of a Service names.
func Named(pods kube.Stores, s *discoveryv1.EndpointSlice) []*corev1.Pod {
	if ServiceOf(s) == "" {
		return nil
	}
	var out []*corev1.Pod
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		for _, p := range kube.ByKey[corev1.Pod](pods, refKey(s, e)) {
			if isOf(s, e, p) {
				out = append(out, p)
			}
		}
	}
	return out
}

// selects is what a Service's selector means: nothing, where it is empty.
func selects(s *corev1.Service, podLabels map[string]string) bool {
	for k, v := range s.Spec.Selector {
		if have, ok := podLabels[k]; !ok || have != v {
			return false
		}
	}
	return len(s.Spec.Selector) > 0
}

var trimService = kube.Trimmer(func(s *corev1.Service) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: kube.TrimMeta(s.ObjectMeta),
		Spec: corev1.ServiceSpec{
			Type:                     s.Spec.Type,
			Selector:                 s.Spec.Selector,
			PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,
		},
		Status: corev1.ServiceStatus{LoadBalancer: s.Status.LoadBalancer},
	}
})

// ServiceOf is the namespace/name of an EndpointSlice's Service; "" for none.
func ServiceOf(s *discoveryv1.EndpointSlice) string {
	if name := s.Labels[discoveryv1.LabelServiceName]; name != "" {
		return s.Namespace + "/" + name
	}
	return ""
}

// refKey is the namespace/name of the pod that an endpoint names, which can be in
// another namespace than its slice; "" for none.
func refKey(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint) string {
	if e.TargetRef == nil || e.TargetRef.Kind != "Pod" {
		return ""
	}
	return cmp.Or(e.TargetRef.Namespace, s.Namespace) + "/" + e.TargetRef.Name
}

// isOf says whether an endpoint names a pod. Its UID can be missing where
// something else than Kubernetes wrote the slice.
func isOf(s *discoveryv1.EndpointSlice, e *discoveryv1.Endpoint, p *corev1.Pod) bool {
	return refKey(s, e) == p.Namespace+"/"+p.Name && (e.TargetRef.UID == "" || e.TargetRef.UID == p.UID)
}

func namesPod(s *discoveryv1.EndpointSlice, p *corev1.Pod) bool {
	return slices.ContainsFunc(s.Endpoints, func(e discoveryv1.Endpoint) bool { return isOf(s, &e, p) })
}

const (
	byPod     = "pod"
	byService = "service"
)

var sliceIndexers = cache.Indexers{
	byPod:     func(obj any) ([]string, error) { return slicePods(obj.(*discoveryv1.EndpointSlice)), nil },
	byService: func(obj any) ([]string, error) { return []string{ServiceOf(obj.(*discoveryv1.EndpointSlice))}, nil },
}

func slicePods(s *discoveryv1.EndpointSlice) []string {
	var keys []string
	for i := range s.Endpoints {
		if key := refKey(s, &s.Endpoints[i]); key != "" {
			keys = append(keys, key)
		}
	}
	return keys
}

// trimSlice keeps the first address of each endpoint alone: LBC registers no
// other (pkg/backend/endpoint_resolver.go).
var trimSlice = kube.Trimmer(func(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: kube.TrimMeta(s.ObjectMeta, discoveryv1.LabelServiceName)}
	for _, p := range s.Ports {
		out.Ports = append(out.Ports, discoveryv1.EndpointPort{Port: p.Port})
	}
	for _, e := range s.Endpoints {
		if r := e.TargetRef; r != nil {
			out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
				Addresses:  e.Addresses[:min(len(e.Addresses), 1)],
				Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},
				TargetRef:  &corev1.ObjectReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, UID: r.UID},
			})
		}
	}
	return out
})

// groupAnnotation puts an Ingress into an explicit IngressGroup. LBC
// docs/guide/ingress/annotations.md.
const groupAnnotation = "alb.ingress.kubernetes.io/group.name"

// backends names the Services that an Ingress sends to.
func backends(i *networkingv1.Ingress) []string {
	var names []string
	addBackend := func(b *networkingv1.IngressBackend) {
		if b != nil && b.Service != nil {
			names = addNew(names, b.Service.Name)
		}
	}
	addBackend(i.Spec.DefaultBackend)
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			addBackend(&p.Backend)
		}
	}
	return names
}

var trimIngress = kube.Trimmer(func(i *networkingv1.Ingress) *networkingv1.Ingress {
	return &networkingv1.Ingress{
		ObjectMeta: kube.TrimMeta(i.ObjectMeta, groupAnnotation),
		Spec:       networkingv1.IngressSpec{DefaultBackend: i.Spec.DefaultBackend, Rules: i.Spec.Rules},
		Status:     networkingv1.IngressStatus{LoadBalancer: i.Status.LoadBalancer},
	}
})

// Labels that LBC puts on its bindings to say what they were made for. LBC
// pkg/deploy/tracking/provider.go (StackLabels).
const (
	ingressStack          = "ingress.k8s.aws/stack" // an explicit IngressGroup
	ingressStackNamespace = "ingress.k8s.aws/stack-namespace"
	ingressStackName      = "ingress.k8s.aws/stack-name"
	serviceStackNamespace = "service.k8s.aws/stack-namespace"
	serviceStackName      = "service.k8s.aws/stack-name"
)

// CheckpointAnnotation is written by LBC 2.10 and later around each change of a
// group's targets. LBC pkg/annotations/constants.go.
const CheckpointAnnotation = "elbv2.k8s.aws/checkpoint"

// bindingKeys are the labels and annotations of bindings that are read.
var bindingKeys = []string{CheckpointAnnotation, ingressStack, ingressStackNamespace, ingressStackName, serviceStackNamespace, serviceStackName}

// TypeIP is the target type of groups whose targets are pods; "instance" is the
// other one.
const TypeIP = "ip"

// Binding is what is read of a TargetGroupBinding: the link between a Service
// and a target group. LBC apis/elbv2/v1beta1/targetgroupbinding_types.go.
type Binding struct {
	metav1.ObjectMeta
	BindingSpec
	API string // the API group that serves it
}

// BindingSpec is the part of the specification that matters here.
type BindingSpec struct {
	// TargetGroupARN and TargetGroupName are two ways to name the group; either
	// can be empty.
	TargetGroupARN  string
	TargetGroupName string
	TargetType      string
	Protocol        string // targetGroupProtocol, of LBC 2.14 and later
	RoleARN         string // iamRoleArnToAssume
	ExternalID      string // assumeRoleExternalId
	ServiceRef      struct{ Name string }
}

// TrimBinding turns what the dynamic client reads into a Binding. It never fails: for
// one object that cannot be trimmed, client-go would not take in any. What is not of
// the type that it should be counts as missing.
func TrimBinding(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	spec := func(names ...string) string {
		v, _, _ := unstructured.NestedString(u.Object, append([]string{"spec"}, names...)...)
		return v
	}
	b := &Binding{
		ObjectMeta: kube.TrimMeta(metav1.ObjectMeta{
			Namespace: u.GetNamespace(), Name: u.GetName(), UID: u.GetUID(), ResourceVersion: u.GetResourceVersion(),
			DeletionTimestamp: u.GetDeletionTimestamp(), Labels: u.GetLabels(), Annotations: u.GetAnnotations(),
		}, bindingKeys...),
		BindingSpec: BindingSpec{
			TargetGroupARN: spec("targetGroupARN"), TargetGroupName: spec("targetGroupName"), TargetType: spec("targetType"),
			Protocol: spec("targetGroupProtocol"), RoleARN: spec("iamRoleArnToAssume"), ExternalID: spec("assumeRoleExternalId"),
		},
		API: u.GroupVersionKind().Group,
	}
	b.ServiceRef.Name = spec("serviceRef", "name")
	return b, nil
}

// groupKey is a target group as bindings name it, and who may read it.
type groupKey struct{ arn, name, roleARN, externalID string }

func (s *BindingSpec) group() groupKey {
	return groupKey{s.TargetGroupARN, s.TargetGroupName, s.RoleARN, s.ExternalID}
}

// registers says whether pods may be targets of the binding's group.
func (s *BindingSpec) registers() bool { return s.TargetType == "" || s.TargetType == TypeIP }
