package kube_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
)

var bindings = schema.GroupVersionResource{Group: kube.GroupELBv2, Version: "v1beta1", Resource: "targetgroupbindings"}

func (c cluster) bindings() dynamic.ResourceInterface {
	return dynamic.NewForConfigOrDie(c.config).Resource(bindings).Namespace("shop")
}

// try runs a call that must succeed.
func (c cluster) try(f func(context.Context) error) {
	c.t.Helper()
	c.ask(func() {
		c.t.Helper()
		if err := f(c.t.Context()); err != nil {
			c.t.Error(err)
		}
	})
}

// refused runs a call that must fail in a certain way.
func (c cluster) refused(what string, is func(error) bool, f func(context.Context) error) {
	c.t.Helper()
	c.ask(func() {
		c.t.Helper()
		if err := f(c.t.Context()); !is(err) {
			c.t.Errorf("%s: %v", what, err)
		}
	})
}

// TestTypedWrites makes, changes and deletes a Service by client-go's typed client,
// which speaks protobuf.
func TestTypedWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		services := c.clientset().CoreV1().Services("shop")
		var s *corev1.Service
		c.try(func(ctx context.Context) (err error) {
			made := kube.NewService("", "web", map[string]string{"app": "web"}, 8080)
			made.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "dropped"}}
			s, err = services.Create(ctx, made, metav1.CreateOptions{})
			return err
		})
		if s.Namespace != "shop" || s.UID == "" || s.ResourceVersion == "" || len(s.Status.LoadBalancer.Ingress) != 0 {
			t.Errorf("created %+v %+v", s.ObjectMeta, s.Status)
		}
		c.refused("a second one", apierrors.IsAlreadyExists, func(ctx context.Context) error {
			_, err := services.Create(ctx, kube.NewService("shop", "web", nil, 8080), metav1.CreateOptions{})
			return err
		})
		stale := s.DeepCopy()
		c.try(func(ctx context.Context) (err error) {
			s.Spec.Selector["app"] = "green"
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "ignored"}}
			s, err = services.Update(ctx, s, metav1.UpdateOptions{})
			return err
		})
		c.refused("an update of what has changed", apierrors.IsConflict, func(ctx context.Context) error {
			_, err := services.Update(ctx, stale, metav1.UpdateOptions{})
			return err
		})
		c.try(func(ctx context.Context) (err error) {
			s.Spec.Selector["app"] = "ignored"
			s.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{Hostname: "host"}}
			s, err = services.UpdateStatus(ctx, s, metav1.UpdateOptions{})
			return err
		})
		if got := fmt.Sprint(s.Spec.Selector, " ", s.Status.LoadBalancer.Ingress[0].Hostname, " ", s.UID == stale.UID); got != "map[app:green] host true" {
			t.Errorf("after two updates: %s", got)
		}
		c.refused("the deletion of another of that name", apierrors.IsConflict, func(ctx context.Context) error {
			return services.Delete(ctx, "web", metav1.DeleteOptions{Preconditions: metav1.NewUIDPreconditions("another")})
		})
		c.try(func(ctx context.Context) error { return services.Delete(ctx, "web", metav1.DeleteOptions{}) })
		c.refused("a get after the deletion", apierrors.IsNotFound, func(ctx context.Context) error {
			_, err := services.Get(ctx, "web", metav1.GetOptions{})
			return err
		})
		c.refused("an update after the deletion", apierrors.IsNotFound, func(ctx context.Context) error {
			_, err := services.Update(ctx, s, metav1.UpdateOptions{})
			return err
		})
	})
}

// TestEveryResourceCanBeWritten makes and deletes one of each.
func TestEveryResourceCanBeWritten(t *testing.T) {
	inBubble(t, func(_ *testing.T, c cluster) {
		k := c.clientset()
		meta := metav1.ObjectMeta{GenerateName: "made-"}
		c.try(func(ctx context.Context) error {
			n, err := k.CoreV1().Nodes().Create(ctx, &corev1.Node{ObjectMeta: meta}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return k.CoreV1().Nodes().Delete(ctx, n.Name, metav1.DeleteOptions{})
		})
		c.try(func(ctx context.Context) error {
			i, err := k.NetworkingV1().Ingresses("shop").Create(ctx, &networkingv1.Ingress{ObjectMeta: meta}, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return k.NetworkingV1().Ingresses("shop").Delete(ctx, i.Name, metav1.DeleteOptions{})
		})
		c.try(func(ctx context.Context) error {
			s := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
			s, err := k.DiscoveryV1().EndpointSlices("shop").Create(ctx, s, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			return k.DiscoveryV1().EndpointSlices("shop").Delete(ctx, s.Name, metav1.DeleteOptions{})
		})
		c.refused("a pod", apierrors.IsMethodNotSupported, func(ctx context.Context) error {
			_, err := k.CoreV1().Pods("shop").Create(ctx, newPod("a", nil), metav1.CreateOptions{})
			return err
		})
		c.refused("one without a name", apierrors.IsInvalid, func(ctx context.Context) error {
			_, err := k.CoreV1().Nodes().Create(ctx, new(corev1.Node), metav1.CreateOptions{})
			return err
		})
		c.refused("one of another kind", apierrors.IsBadRequest, func(ctx context.Context) error {
			_, err := c.bindings().Create(ctx, &unstructured.Unstructured{Object: map[string]any{
				"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "a"},
			}}, metav1.CreateOptions{})
			return err
		})
	})
}

func TestPatches(t *testing.T) {
	const app, port = "shop", 8080
	for _, tt := range []struct {
		name  string
		kind  types.PatchType
		patch string
		want  string // the Service's selector and ports, or the reason of the refusal
	}{
		{"merge", types.MergePatchType, `{"spec":{"selector":{"app":null,"tier":"web"}}}`, "map[tier:web] [http]"},
		{"JSON", types.JSONPatchType, `[{"op":"replace","path":"/spec/selector/app","value":"green"}]`, "map[app:green] [http]"},
		{"strategic", types.StrategicMergePatchType, `{"spec":{"ports":[{"port":81,"name":"admin"}]}}`, "map[app:shop] [admin http]"},
		{"of a version that is gone", types.MergePatchType, `{"metadata":{"resourceVersion":"1"}}`, "Conflict"},
		{"of another object", types.MergePatchType, `{"metadata":{"uid":"1"}}`, "Conflict"},
		{"of the name", types.MergePatchType, `{"metadata":{"name":"other"}}`, "BadRequest"},
		{"of the status, which is a subresource", types.MergePatchType, `{"status":{"loadBalancer":{"ingress":[{"hostname":"x"}]}}}`, "map[app:shop] [http]"},
		{"of no use", types.JSONPatchType, `[{"op":"test","path":"/spec/type","value":"none"}]`, "BadRequest"},
		{"server-side apply", types.ApplyPatchType, `{}`, "UnsupportedMediaType"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, c cluster) {
				mine := c.Kube.AddService(app, "web", map[string]string{"app": app}, port)
				c.ask(func() {
					s, err := c.clientset().CoreV1().Services(app).Patch(t.Context(), "web", tt.kind, []byte(tt.patch), metav1.PatchOptions{FieldManager: "test"})
					got := string(apierrors.ReasonForError(err))
					if err == nil {
						var ports []string
						for _, p := range s.Spec.Ports {
							ports = append(ports, p.Name)
						}
						got = fmt.Sprint(s.Spec.Selector, " ", ports)
						if len(s.Status.LoadBalancer.Ingress) > 0 {
							got += " with a status"
						}
					}
					if got != tt.want {
						t.Errorf("got %s, %v, want %s", got, err, tt.want)
					}
				})
				if s, _ := kube.Get[corev1.Service](c.World.Kube, app, "web"); s != mine {
					t.Error("the object to which the world's user holds a pointer is no longer the world's")
				}
			})
		})
	}
}

// TestPatchedPod changes a pod's labels and tries to change more.
func TestPatchedPod(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		labels := map[string]string{"app": "web"}
		c.Kube.AddService("shop", "web", labels, 8080)
		c.AddPod(sim.PodSpec{Namespace: "shop", Name: "a", Labels: labels, Port: 8080})
		c.run(10 * time.Second)
		pods := c.clientset().CoreV1().Pods("shop")
		endpoints := func() int {
			n := 0
			for _, s := range c.Kube.SlicesOf("shop", "web") {
				n += len(s.Endpoints)
			}
			return n
		}
		before := endpoints()
		c.try(func(ctx context.Context) error {
			_, err := pods.Patch(ctx, "a", types.StrategicMergePatchType, []byte(`{"metadata":{"labels":{"app":"quarantine"}}}`), metav1.PatchOptions{})
			return err
		})
		if before != 1 || endpoints() != 0 {
			t.Errorf("%d endpoints, then %d, want 1 and none", before, endpoints())
		}
		c.refused("another port", apierrors.IsInvalid, func(ctx context.Context) error {
			_, err := pods.Patch(ctx, "a", types.JSONPatchType, []byte(`[{"op":"replace","path":"/spec/nodeName","value":"other"}]`), metav1.PatchOptions{})
			return err
		})
		if err := c.DeletePod("shop", "a"); err != nil {
			t.Fatal(err)
		}
		c.run(time.Minute)
		if c.Pods()[0].Gone == 0 {
			t.Error("the pod that was patched cannot be deleted")
		}
	})
}

// TestDynamicWrites makes, patches and deletes a binding by the dynamic client.
func TestDynamicWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.LBC.Stop()
		g := c.AWS.AddTargetGroup("web", 80, c.AWS.AddLoadBalancer("web", aws.ALB))
		b := c.LBC.AddBinding("shop", "web", "blue", g)
		b.Finalizers = []string{"test/one", "test/two"}
		c.Kube.Apply(b)
		c.try(func(ctx context.Context) error {
			u, err := c.bindings().Patch(ctx, "web", types.MergePatchType, []byte(`{"spec":{"serviceRef":{"name":"green"},"unknown":1}}`), metav1.PatchOptions{})
			if err == nil && (b.Spec.ServiceRef.Name != "green" || b.Spec.ServiceRef.Port != intstr.FromInt32(80) || u.GetGeneration() != 2) {
				t.Errorf("patched to %+v, generation %d", b.Spec.ServiceRef, u.GetGeneration())
			}
			return err
		})
		c.refused("a strategic patch", apierrors.IsUnsupportedMediaType, func(ctx context.Context) error {
			_, err := c.bindings().Patch(ctx, "web", types.StrategicMergePatchType, []byte(`{}`), metav1.PatchOptions{})
			return err
		})
		var u *unstructured.Unstructured
		c.try(func(ctx context.Context) (err error) {
			if err = c.bindings().Delete(ctx, "web", metav1.DeleteOptions{}); err != nil {
				return err
			}
			u, err = c.bindings().Get(ctx, "web", metav1.GetOptions{})
			return err
		})
		if u.GetDeletionTimestamp() == nil || u.GetGeneration() != 3 {
			t.Errorf("with finalizers the object is %v after its deletion", u.Object["metadata"])
		}
		u.SetFinalizers([]string{"test/two"})
		u.SetResourceVersion("")
		c.refused("an update without a version", apierrors.IsInvalid, func(ctx context.Context) error {
			_, err := c.bindings().Update(ctx, u, metav1.UpdateOptions{})
			return err
		})
		for range 2 {
			c.try(func(ctx context.Context) error {
				_, err := c.bindings().Patch(ctx, "web", types.JSONPatchType, []byte(`[{"op":"remove","path":"/metadata/finalizers/0"}]`), metav1.PatchOptions{})
				return err
			})
		}
		c.refused("a get without finalizers", apierrors.IsNotFound, func(ctx context.Context) error {
			_, err := c.bindings().Get(ctx, "web", metav1.GetOptions{})
			return err
		})
	})
}

// TestWatchTellsOfWrites follows a deletion with a finalizer.
func TestWatchTellsOfWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		c.LBC.Stop()
		g := c.AWS.AddTargetGroup("web", 80, c.AWS.AddLoadBalancer("web", aws.ALB))
		b := c.LBC.AddBinding("shop", "web", "web", g)
		b.Finalizers, b.Annotations = []string{"test/one"}, map[string]string{"v": "1"}
		c.Kube.Apply(b)
		var events func() []string
		c.try(func(ctx context.Context) error {
			wi, err := c.bindings().Watch(ctx, metav1.ListOptions{ResourceVersion: b.ResourceVersion})
			if err == nil {
				events = collectWatch(wi)
			}
			return err
		})
		c.Kube.Delete(b)
		at := b.DeletionTimestamp.Time
		c.run(5 * time.Second)
		c.Kube.Delete(b) // changes nothing
		again := lbc.NewBinding("shop", "web", "web", g)
		again.Finalizers = b.Finalizers
		c.Kube.Apply(again)
		if again.DeletionTimestamp == nil || !again.DeletionTimestamp.Equal(&metav1.Time{Time: at}) {
			t.Errorf("deleted at %v, and after another deletion and an apply at %v", at, again.DeletionTimestamp)
		}
		if err := kube.Edit(c.World.Kube, "shop", "web", func(b *kube.TargetGroupBinding) { b.Finalizers = nil }); err != nil {
			t.Error(err)
		}
		c.Kube.Apply(lbc.NewBinding("shop", "web", "web", g))
		c.run(time.Second)
		var got []string
		for _, e := range events() {
			got = append(got, strings.Fields(e)[0])
		}
		if d := cmp.Diff([]string{"MODIFIED", "MODIFIED", "DELETED", "ADDED"}, got); d != "" { // the apply takes an annotation off
			t.Errorf("watch (-want +got):\n%s", d)
		}
		if err := kube.Edit(c.World.Kube, "shop", "gone", func(*corev1.Service) {}); err == nil {
			t.Error("an edit of nothing succeeded")
		}
	})
}

// TestPodWithFinalizer stays after its containers are gone.
func TestPodWithFinalizer(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		p := c.AddPod(sim.PodSpec{Namespace: "shop", Name: "a", Grace: 5 * time.Second})
		finalize := func(finalizers ...string) {
			t.Helper()
			if err := kube.Edit(c.World.Kube, "shop", "a", func(p *corev1.Pod) { p.Finalizers = finalizers }); err != nil {
				t.Fatal(err)
			}
		}
		finalize("test/one")
		c.run(10 * time.Second)
		c.Kube.Delete(newPod("a", nil))
		c.run(time.Minute)
		if p.Deleted == 0 || p.Gone != 0 {
			t.Errorf("deleted at %v and gone at %v, want it to stay", p.Deleted, p.Gone)
		}
		finalize()
		if p.Gone != c.Now() {
			t.Errorf("gone at %v, want %v", p.Gone, c.Now())
		}
	})
}

func TestNoDryRun(t *testing.T) {
	inBubble(t, func(t *testing.T, c cluster) {
		s := c.Kube.AddService("shop", "web", nil, 80)
		c.refused("a dry run", apierrors.IsBadRequest, func(ctx context.Context) error {
			return c.clientset().CoreV1().Services("shop").Delete(ctx, "web", metav1.DeleteOptions{DryRun: []string{metav1.DryRunAll}})
		})
		if _, ok := kube.Get[corev1.Service](c.World.Kube, "shop", s.Name); !ok {
			t.Error("a dry run was carried out")
		}
	})
}
