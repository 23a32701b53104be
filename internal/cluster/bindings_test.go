package cluster

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
	simkube "drainwait/internal/sim/kube"
)

const eksBinding = `
apiVersion: eks.amazonaws.com/v1
kind: TargetGroupBinding
metadata: {name: tgb-auto}
spec: {targetGroupARN: "arn:auto", targetType: ip, serviceRef: {name: web, port: 80}}
`

// bindingsOf are the bindings of a namespace that the informers have, in order of
// name.
func (w *world) bindingsOf(namespace string) []ties.Binding {
	var out []ties.Binding
	for _, watch := range w.bindings {
		for _, b := range kube.InNamespace[ties.Binding](watch.Stores(), namespace) {
			out = append(out, *b)
		}
	}
	slices.SortFunc(out, func(a, b ties.Binding) int { return strings.Compare(a.Name, b.Name) })
	return out
}

func bindingNames(bs []ties.Binding) []string {
	var out []string
	for _, b := range bs {
		out = append(out, b.Name)
	}
	return out
}

func TestBinding(t *testing.T) {
	const text = `
apiVersion: elbv2.k8s.aws/v1beta1
kind: TargetGroupBinding
metadata:
  name: whole
  labels: {a: b, ingress.k8s.aws/stack-name: web, ingress.k8s.aws/stack-namespace: default, ingress.k8s.aws/stack: g, service.k8s.aws/stack-name: web, service.k8s.aws/stack-namespace: default}
  annotations: {elbv2.k8s.aws/checkpoint: "one/two", other: x}
spec:
  targetGroupARN: arn:whole
  targetGroupProtocol: HTTPS
  targetType: ip
  serviceRef: {name: web, port: https}
  iamRoleArnToAssume: arn:role
  assumeRoleExternalId: secret
  ipAddressType: ipv4
  vpcID: vpc-1
---
apiVersion: elbv2.k8s.aws/v1beta1
kind: TargetGroupBinding
metadata: {name: by-name}
spec: {targetGroupName: web, serviceRef: {name: web, port: 80}}
`
	inIndexed(t, Config{}, text, func(t *testing.T, w *world) {
		whole := ties.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "whole", Labels: map[string]string{"ingress.k8s.aws/stack": "g", "ingress.k8s.aws/stack-name": "web", "ingress.k8s.aws/stack-namespace": "default", "service.k8s.aws/stack-name": "web", "service.k8s.aws/stack-namespace": "default"}, Annotations: map[string]string{"elbv2.k8s.aws/checkpoint": "one/two"}},
			BindingSpec: ties.BindingSpec{
				TargetGroupARN: "arn:whole", TargetType: ties.TypeIP, Protocol: "HTTPS", RoleARN: "arn:role", ExternalID: "secret",
			},
			API: "elbv2.k8s.aws",
		}
		whole.ServiceRef.Name = "web"
		byName := ties.Binding{
			ObjectMeta:  metav1.ObjectMeta{Namespace: "default", Name: "by-name"},
			BindingSpec: ties.BindingSpec{TargetGroupName: "web"},
			API:         "elbv2.k8s.aws",
		}
		byName.ServiceRef.Name = "web"

		got := w.bindingsOf("default")
		for i := range got {
			got[i].UID, got[i].ResourceVersion = "", ""
		}
		if d := cmp.Diff([]ties.Binding{byName, whole}, got); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	})
}

func TestBindingGroups(t *testing.T) {
	lists := func(r *http.Request) bool { return strings.HasSuffix(r.URL.Path, "/targetgroupbindings") }
	for _, tt := range []struct {
		name    string
		steps   func(w *world)
		want    []string
		unready bool
	}{
		{"one is served", func(*world) {}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"the other appears", func(w *world) {
			w.Kube.ServeGroup(simkube.GroupEKS, true)
			w.pass(absentRetry + time.Second)
		}, []string{"tgb-auto", "tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"one disappears", func(w *world) {
			w.Kube.ServeGroup(simkube.GroupELBv2, false)
			w.pass(time.Minute)
		}, nil, false},
		{"one disappears and comes back", func(w *world) {
			w.Kube.ServeGroup(simkube.GroupELBv2, false)
			w.pass(time.Minute)
			w.Kube.ServeGroup(simkube.GroupELBv2, true)
			w.pass(absentRetry + time.Second)
		}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"one is refused later on", func(w *world) {
			w.Kube.Fail(lists, http.StatusForbidden)
			w.Kube.CutWatches()
			w.pass(time.Minute)
		}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"the API server goes away", func(w *world) {
			w.do("fail")
			w.pass(time.Minute)
		}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"changes while the API server was away", func(w *world) {
			w.do("refuse", "remove {kind: TargetGroupBinding, metadata: {name: tgb-web}}", "expire",
				"{kind: TargetGroupBinding, metadata: {name: tgb-late}}", "recover")
		}, []string{"tgb-blue", "tgb-late", "tgb-nodes"}, false},
		{"a version is no longer served", func(w *world) {
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1", true)
			w.pass(time.Minute)
		}, nil, true},
		{"no version is served any longer", func(w *world) {
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
			w.pass(time.Minute)
		}, nil, true},
		{"a version is served again", func(w *world) {
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", false)
			w.pass(time.Minute)
			w.Kube.ServeVersion(simkube.GroupELBv2, "v1beta1", true)
			w.pass(absentRetry + time.Second)
		}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
		{"discovery is refused when one disappears", func(w *world) {
			w.Kube.Fail(func(r *http.Request) bool { return strings.HasPrefix(r.URL.Path, "/apis/elbv2.k8s.aws") && !lists(r) }, http.StatusForbidden)
			w.Kube.ServeGroup(simkube.GroupELBv2, false)
			w.pass(time.Minute)
		}, []string{"tgb-blue", "tgb-nodes", "tgb-web"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, bindings+sep+eksBinding, func(t *testing.T, w *world) {
				tt.steps(w)
				if d := cmp.Diff(tt.want, bindingNames(w.bindingsOf("default"))); d != "" {
					t.Errorf("bindings (-want +got):\n%s", d)
				}
				if err := w.Ready(); err != nil && !tt.unready {
					t.Errorf("not ready any more: %v", err)
				}
			})
		})
	}
}

// A cluster that serves both groups, or none, from the start.
func TestBindingGroupsAtStart(t *testing.T) {
	for _, tt := range []struct {
		name       string
		elbv2, eks bool
		want       []string
	}{
		{"both", true, true, []string{"tgb-auto", "tgb-blue", "tgb-nodes", "tgb-web"}},
		{"EKS alone", false, true, []string{"tgb-auto"}},
		{"none", false, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inWorld(t, Config{}, func(t *testing.T, w *world) {
				w.apply(bindings + sep + eksBinding)
				w.Kube.ServeGroup(simkube.GroupELBv2, tt.elbv2)
				w.Kube.ServeGroup(simkube.GroupEKS, tt.eks)
				defer w.begin()()
				w.pass(time.Second)
				if err := w.Ready(); err != nil {
					t.Errorf("not ready after a second: %v", err)
				}
				if d := cmp.Diff(tt.want, bindingNames(w.bindingsOf("default"))); d != "" {
					t.Errorf("bindings (-want +got):\n%s", d)
				}
			})
		})
	}
}

// checkpoints records what OnCheckpoint hears.
type checkpoints struct {
	mu    sync.Mutex
	heard []string
}

func (c *checkpoints) hear(arn, value string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard = append(c.heard, fmt.Sprintf("%s %q %t", arn, value, ok))
}

// news returns what was heard since the last time.
func (c *checkpoints) news() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	heard := c.heard
	c.heard = nil
	return heard
}

func TestOnCheckpoint(t *testing.T) {
	binding := func(arn, annotations string) string {
		return "{kind: TargetGroupBinding, metadata: {name: web, annotations: {" + annotations + "}}, spec: {targetGroupARN: '" + arn + "', targetGroupName: web}}"
	}
	var c checkpoints
	inIndexed(t, Config{OnCheckpoint: c.hear}, binding("arn:web", "other: x"), func(t *testing.T, w *world) {
		for _, tt := range []struct {
			step string
			want []string
		}{
			{"", []string{`arn:web "" false`}},
			{binding("arn:web", `elbv2.k8s.aws/checkpoint: ""`), []string{`arn:web "" true`}},
			{binding("arn:web", `elbv2.k8s.aws/checkpoint: "one"`), []string{`arn:web "one" true`}},
			{binding("arn:web", ""), []string{`arn:web "" false`}},
			{"remove " + binding("arn:web", ""), []string{`arn:web "" false`}},
			{binding("", `elbv2.k8s.aws/checkpoint: "one"`), nil},
			{"remove " + binding("", ""), nil},
			{binding("arn:web", `elbv2.k8s.aws/checkpoint: "two"`), []string{`arn:web "two" true`}},
		} {
			w.do(tt.step)
			if d := cmp.Diff(tt.want, c.news()); d != "" {
				t.Errorf("after %q, heard (-want +got):\n%s", tt.step, d)
			}
		}
		w.Kube.ServeGroup(simkube.GroupELBv2, false)
		w.pass(time.Minute)
		if d := cmp.Diff([]string{`arn:web "" false`}, c.news()); d != "" {
			t.Errorf("when the group is gone, heard (-want +got):\n%s", d)
		}
	})
}
