package kube

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// TargetGroupBinding binds a Service to a target group. It is served by LBC
// (elbv2.k8s.aws/v1beta1, if APIVersion is empty) and, with
// [Cluster.ServeGroup], by EKS Auto Mode (eks.amazonaws.com/v1).
type TargetGroupBinding struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata"`

	Spec   TargetGroupBindingSpec   `json:"spec"`
	Status TargetGroupBindingStatus `json:"status,omitzero"`

	labelsOfLBC map[string]string // as LabelAsLBC made them
}

// LabelAsLBC gives a binding the labels that say what LBC made it for: an "ingress" or
// a "service" of that name. LBC pkg/deploy/tracking/provider.go. A binding of EKS Auto
// Mode loses them when it is applied: nobody has published its labels.
func (b *TargetGroupBinding) LabelAsLBC(resource, namespace, name string) {
	prefix := resource + ".k8s.aws/"
	b.Labels = map[string]string{prefix + "stack-namespace": namespace, prefix + "stack-name": name}
	b.labelsOfLBC = maps.Clone(b.Labels)
}

func (b *TargetGroupBinding) forgetLabelsOfLBC() {
	if b.GroupVersionKind().Group == GroupEKS && b.labelsOfLBC != nil && maps.Equal(b.Labels, b.labelsOfLBC) {
		b.Labels = nil
	}
	b.labelsOfLBC = nil
}

// TargetGroupBindingSpec has the fields of the custom resource that say which
// targets belong to which group.
type TargetGroupBindingSpec struct {
	TargetGroupARN          string           `json:"targetGroupARN,omitempty"`
	TargetGroupName         string           `json:"targetGroupName,omitempty"`
	TargetGroupProtocol     *string          `json:"targetGroupProtocol,omitempty"`
	TargetType              *string          `json:"targetType,omitempty"`
	ServiceRef              ServiceReference `json:"serviceRef"`
	IPAddressType           *string          `json:"ipAddressType,omitempty"`
	VPCID                   string           `json:"vpcID,omitempty"`
	IAMRoleARNToAssume      string           `json:"iamRoleArnToAssume,omitempty"`
	AssumeRoleExternalID    string           `json:"assumeRoleExternalId,omitempty"`
	MultiClusterTargetGroup bool             `json:"multiClusterTargetGroup,omitempty"`
	// Networking is kept as it is: the world has no security groups.
	Networking map[string]any `json:"networking,omitempty"`
}

// TargetGroupBindingStatus is what LBC says about a binding: the last generation that
// it has finished.
type TargetGroupBindingStatus struct {
	ObservedGeneration *int64 `json:"observedGeneration,omitempty"`
}

// ServiceReference names a port of a Service.
type ServiceReference struct {
	Name string             `json:"name"`
	Port intstr.IntOrString `json:"port"`
}

// Groups of TargetGroupBindings, for [Cluster.ServeGroup].
const (
	GroupELBv2 = "elbv2.k8s.aws"
	GroupEKS   = "eks.amazonaws.com"
)

// NewService is a Service that selects pods by labels and sends from its port
// 80, named http, to a port of theirs.
func NewService(namespace, name string, selector map[string]string, port int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
		Spec: corev1.ServiceSpec{
			Type:       corev1.ServiceTypeClusterIP,
			Selector:   selector,
			IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports:      []corev1.ServicePort{{Name: "http", Port: 80, TargetPort: intstr.FromInt(port), Protocol: corev1.ProtocolTCP}},
		},
	}
}

// AddService creates a Service; see [NewService].
func (s *Cluster) AddService(namespace, name string, selector map[string]string, port int) *corev1.Service {
	service := NewService(namespace, name, selector, port)
	s.Apply(service)
	return service
}

// SetSelector makes a Service select other pods.
func (s *Cluster) SetSelector(service *corev1.Service, selector map[string]string) {
	service.Spec.Selector = selector
	s.Apply(service)
}

// SetLabels replaces the labels of a pod.
func (s *Cluster) SetLabels(namespace, name string, labels map[string]string) {
	_ = Edit(s, namespace, name, func(p *corev1.Pod) { p.Labels = labels }) // a pod that is gone has none
}

// SlicesOf lists the EndpointSlices that there are for a Service.
func (s *Cluster) SlicesOf(namespace, service string) []*discoveryv1.EndpointSlice {
	return slices.DeleteFunc(List[discoveryv1.EndpointSlice](s, namespace), func(x *discoveryv1.EndpointSlice) bool {
		return x.Labels[discoveryv1.LabelServiceName] != service
	})
}

// ConditionTrue says whether a condition of a pod is true.
func ConditionTrue(pod *corev1.Pod, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// NodeReady says whether there is a node of that name that is ready.
func (s *Cluster) NodeReady(name string) bool {
	n, ok := Get[corev1.Node](s, "", name)
	return ok && slices.ContainsFunc(n.Status.Conditions, func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	})
}
