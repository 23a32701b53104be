package ties

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"

	"drainwait/internal/cluster/kube"
)

// Labels that LBC puts on its bindings to say what they were made for. LBC
// pkg/deploy/tracking/provider.go (StackLabels).
const (
	ingressStack          = "ingress.k8s.aws/stack" // an explicit IngressGroup
	ingressStackNamespace = "ingress.k8s.aws/stack-namespace"
	ingressStackName      = "ingress.k8s.aws/stack-name"
	serviceStackNamespace = "service.k8s.aws/stack-namespace"
	serviceStackName      = "service.k8s.aws/stack-name"
)

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

// Checkpoint is the binding's checkpoint annotation; ok is false where it has none.
func (b *Binding) Checkpoint() (value string, ok bool) {
	value, ok = b.Annotations[checkpointAnnotation]
	return value, ok
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

// TrimBinding turns what the dynamic client reads into a Binding.
func TrimBinding(obj any) (any, error) {
	u, ok := obj.(*unstructured.Unstructured)
	if !ok {
		return obj, nil
	}
	b := new(Binding)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructured(u.Object, b); err != nil {
		return nil, err
	}
	b.ObjectMeta = kube.TrimMeta(b.ObjectMeta, bindingKeys...)
	b.API = u.GroupVersionKind().Group
	return b, nil
}

// groupKey is a target group as bindings name it, and who may read it.
type groupKey struct{ arn, name, roleARN, externalID string }

func (s *BindingSpec) group() groupKey {
	return groupKey{s.TargetGroupARN, s.TargetGroupName, s.RoleARN, s.ExternalID}
}

// registers says whether pods may be targets of the binding's group.
func (s *BindingSpec) registers() bool { return s.TargetType == "" || s.TargetType == TypeIP }
