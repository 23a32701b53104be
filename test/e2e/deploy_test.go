package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/restmapper"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

// serviceName is the name of the service's namespace, service account and Service.
const serviceName = "drain-wait"

// rendered are the objects of a kustomization, with the namespaces first.
func rendered(t *testing.T, dir string) []*unstructured.Unstructured {
	t.Helper()
	resources, err := krusty.MakeKustomizer(krusty.MakeDefaultOptions()).Run(filesys.MakeFsOnDisk(), dir)
	if err != nil {
		t.Fatal(err)
	}
	var objects []*unstructured.Unstructured
	for _, r := range resources.Resources() {
		object, err := r.Map()
		if err != nil {
			t.Fatal(err)
		}
		objects = append(objects, &unstructured.Unstructured{Object: object})
	}
	slices.SortStableFunc(objects, func(a, b *unstructured.Unstructured) int {
		order := func(o *unstructured.Unstructured) int {
			if o.GetKind() == "Namespace" {
				return 0
			}
			return 1
		}
		return order(a) - order(b)
	})
	return objects
}

// apply does what `kubectl apply --server-side` does. The API server refuses
// fields that it does not know.
func (tb *testbed) apply(t *testing.T, objects ...*unstructured.Unstructured) {
	t.Helper()
	groups, err := restmapper.GetAPIGroupResources(tb.kube.Discovery())
	if err != nil {
		t.Fatal(err)
	}
	mapper := restmapper.NewDiscoveryRESTMapper(groups)
	for _, o := range objects {
		kind := o.GroupVersionKind()
		mapping, err := mapper.RESTMapping(kind.GroupKind(), kind.Version)
		if err != nil {
			t.Fatal(err)
		}
		var resource dynamic.ResourceInterface = tb.dynamic.Resource(mapping.Resource)
		if mapping.Scope.Name() == meta.RESTScopeNameNamespace {
			resource = tb.dynamic.Resource(mapping.Resource).Namespace(o.GetNamespace())
		}
		if _, err := resource.Apply(t.Context(), o.GetName(), o, metav1.ApplyOptions{FieldManager: "e2e", Force: true}); err != nil {
			t.Fatalf("apply %s %s: %v", o.GetKind(), o.GetName(), err)
		}
	}
}

// serviceKubeconfig is the kubeconfig of the account with which the service is deployed.
func (tb *testbed) serviceKubeconfig(t *testing.T) string {
	t.Helper()
	_, err := tb.kube.CoreV1().ServiceAccounts(serviceName).Get(t.Context(), serviceName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		tb.apply(t, rendered(t, "../../deploy")...)
	}
	return tb.accountKubeconfig(t, serviceName)
}

// accountKubeconfig is the kubeconfig of a service account in the service's namespace.
func (tb *testbed) accountKubeconfig(t *testing.T, name string) string {
	t.Helper()
	token, err := tb.kube.CoreV1().ServiceAccounts(serviceName).CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return tb.kubeconfig(t, name, token.Status.Token)
}

// An API server that enforces the pod security standard of the namespace accepts
// everything in deploy, and the pods of the Deployment.
func TestDeploy(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	tb.apply(t, rendered(t, "../../deploy")...)
	until(t, "pods of the Deployment", func() error {
		d, err := tb.kube.AppsV1().Deployments(serviceName).Get(t.Context(), serviceName, metav1.GetOptions{})
		if err != nil {
			return err
		}
		if d.Status.Replicas != *d.Spec.Replicas || d.Status.UpdatedReplicas != *d.Spec.Replicas {
			return fmt.Errorf("%d of %d: %v", d.Status.Replicas, *d.Spec.Replicas, d.Status.Conditions)
		}
		return nil
	})
	// Shows that the API server does enforce it.
	_, err := tb.kube.CoreV1().Pods(serviceName).Create(t.Context(), &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "unrestricted"},
		Spec:       corev1.PodSpec{Containers: []corev1.Container{{Name: "app", Image: "e2e.example/never-run"}}},
	}, metav1.CreateOptions{})
	if !apierrors.IsForbidden(err) || !strings.Contains(err.Error(), `violates PodSecurity "restricted`) {
		t.Errorf("a pod that is not restricted: got %v; want it refused", err)
	}

	tb.createNamespace(t, "examples")
	paths, err := filepath.Glob("../../deploy/examples/*.yaml")
	if err != nil || len(paths) == 0 {
		t.Fatalf("examples: %v, %v", paths, err)
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		o := new(unstructured.Unstructured)
		if err := yaml.Unmarshal(text, &o.Object); err != nil {
			t.Fatal(err)
		}
		o.SetNamespace("examples")
		tb.apply(t, o)
	}
}
