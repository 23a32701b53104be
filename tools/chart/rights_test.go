package main

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// right is one verb on one resource.
type right struct{ Verb, Group, Resource string }

// TestRights checks that each form grants what the program needs in it: in the whole
// cluster, or in the namespaces that it serves. There it has no rights on nodes, and in
// its own namespace only what tells how many replicas there are.
func TestRights(t *testing.T) {
	needed := neededRights(t)
	nodes := right{"get", "", "nodes"}
	if !slices.Contains(needed, nodes) {
		t.Fatalf("the rights that are needed are %v", needed)
	}
	namespaced := slices.DeleteFunc(slices.Clone(needed), func(r right) bool { return r == nodes })
	replicas := []right{{"list", "discovery.k8s.io", "endpointslices"}, {"watch", "discovery.k8s.io", "endpointslices"}}
	for name, c := range map[string]struct {
		values map[string]any
		want   map[string][]right // by namespace; empty for the whole cluster
	}{
		"default":       {nil, map[string][]right{"": needed}},
		"fullest":       {readValues(t, "ci/full-values.yaml"), map[string][]right{"shop": namespaced, "web": namespaced, release: replicas}},
		"own namespace": {map[string]any{"namespaces": []any{release, "web"}}, map[string][]right{release: namespaced, "web": namespaced}},
		"none":          {map[string]any{"rbac": map[string]any{"create": false}}, map[string][]right{}},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := gocmp.Diff(c.want, granted(t, newForm(t, c.values))); diff != "" {
				t.Errorf("rights (-needed +granted):\n%s", diff)
			}
		})
	}
}

// neededRights are those of which test/e2e shows what the program loses without them.
func neededRights(t *testing.T) (out []right) {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "test/e2e/rbac_test.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	losses, ok := file.Scope.Lookup("losses").Decl.(*ast.ValueSpec)
	if !ok {
		t.Fatal("test/e2e/rbac_test.go has no losses")
	}
	for _, e := range losses.Values[0].(*ast.CompositeLit).Elts {
		var words []string
		for _, w := range e.(*ast.KeyValueExpr).Key.(*ast.CompositeLit).Elts {
			word, err := strconv.Unquote(w.(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			words = append(words, word)
		}
		out = append(out, right{words[0], words[1], words[2]})
	}
	return sorted(out)
}

// granted are the rights that the pods of a form have, by namespace.
func granted(t *testing.T, f *form) map[string][]right {
	t.Helper()
	rules := make(map[[3]string][]rbacv1.PolicyRule) // by kind, namespace and name of the role
	for _, r := range all[*rbacv1.ClusterRole](f) {
		rules[[3]string{"ClusterRole", "", r.Name}] = r.Rules
	}
	for _, r := range all[*rbacv1.Role](f) {
		rules[[3]string{"Role", r.Namespace, r.Name}] = r.Rules
	}
	out := make(map[string][]right)
	grant := func(namespace string, ref rbacv1.RoleRef, subjects []rbacv1.Subject) {
		account := the[*appsv1.Deployment](t, f).Spec.Template.Spec.ServiceAccountName
		if want := []rbacv1.Subject{{Kind: "ServiceAccount", Name: account, Namespace: release}}; !gocmp.Equal(subjects, want) {
			t.Errorf("the role %s is bound to %v", ref.Name, subjects)
		}
		out[namespace] = sorted(append(out[namespace], rights(rules[[3]string{ref.Kind, namespace, ref.Name}])...))
	}
	for _, b := range all[*rbacv1.ClusterRoleBinding](f) {
		grant("", b.RoleRef, b.Subjects)
	}
	for _, b := range all[*rbacv1.RoleBinding](f) {
		grant(b.Namespace, b.RoleRef, b.Subjects)
	}
	return out
}

func rights(rules []rbacv1.PolicyRule) (out []right) {
	for _, rule := range rules {
		for _, g := range rule.APIGroups {
			for _, res := range rule.Resources {
				for _, verb := range rule.Verbs {
					out = append(out, right{verb, g, res})
				}
			}
		}
	}
	return out
}

func sorted(rights []right) []right {
	slices.SortFunc(rights, func(a, b right) int {
		return cmp.Or(cmp.Compare(a.Group, b.Group), cmp.Compare(a.Resource, b.Resource), cmp.Compare(a.Verb, b.Verb))
	})
	return rights
}

// TestTestPod checks that the service may see the pod of `helm test`.
func TestTestPod(t *testing.T) {
	for namespace, values := range map[string]map[string]any{
		release: nil,
		"shop":  readValues(t, "ci/full-values.yaml"),
	} {
		if pod := the[*corev1.Pod](t, newForm(t, values)); pod.Namespace != namespace || pod.Annotations["helm.sh/hook"] != "test" {
			t.Errorf("the pod is in %s with %v", pod.Namespace, pod.Annotations)
		}
	}
}
