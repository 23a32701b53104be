package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	apitypes "k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic/dynamicinformer"
	"k8s.io/client-go/informers"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"

	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
)

var (
	bindings                  = schema.GroupVersionResource{Group: "elbv2.k8s.aws", Version: "v1beta1", Resource: "targetgroupbindings"}
	customResourceDefinitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

// What LBC leaves on bindings and pods: pkg/annotations/constants.go,
// controllers/elbv2/targetgroupbinding_controller.go, docs/deploy/pod_readiness_gate.md.
const (
	checkpointAnnotation = "elbv2.k8s.aws/checkpoint"
	timestampAnnotation  = "elbv2.k8s.aws/checkpoint-timestamp"
	bindingFinalizer     = "elbv2.k8s.aws/resources"
	gatePrefix           = "target-health.elbv2.k8s.aws/"
)

// controller plays the AWS Load Balancer Controller. Through the real SDK it makes the
// targets of each TargetGroupBinding's group follow the EndpointSlices of its Service. It
// handles finalizers, checkpoints and readiness gates in the same order as LBC. Its
// timing is in the simulator's Assumptions.
type controller struct {
	tb       *testbed
	elb      *elbv2.Client
	slices   discoverylisters.EndpointSliceLister
	pods     corelisters.PodLister
	bindings cache.GenericLister
	wake     chan struct{}
	paused   atomic.Bool
}

func startController(ctx context.Context, t *testing.T, tb *testbed) *controller {
	t.Helper()
	f := informers.NewSharedInformerFactory(tb.kube, 0)
	c := &controller{
		tb: tb,
		elb: elbv2.New(elbv2.Options{
			Region: simaws.Region, BaseEndpoint: &tb.aws,
			Credentials: credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
		}),
		slices: f.Discovery().V1().EndpointSlices().Lister(),
		pods:   f.Core().V1().Pods().Lister(),
		wake:   make(chan struct{}, 1),
	}
	d := dynamicinformer.NewDynamicSharedInformerFactory(tb.dynamic, 0)
	c.bindings = d.ForResource(bindings).Lister()
	changed := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(any) { c.nudge() },
		UpdateFunc: func(any, any) { c.nudge() },
		DeleteFunc: func(any) { c.nudge() },
	}
	for _, inf := range []cache.SharedIndexInformer{
		f.Discovery().V1().EndpointSlices().Informer(), f.Core().V1().Pods().Informer(), d.ForResource(bindings).Informer(),
	} {
		if _, err := inf.AddEventHandler(changed); err != nil {
			t.Fatal(err)
		}
	}
	f.Start(ctx.Done())
	d.Start(ctx.Done())
	t.Cleanup(f.Shutdown)
	t.Cleanup(d.Shutdown)
	tb.running.Go(func() { c.run(ctx) })
	return c
}

func (c *controller) nudge() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

// pause stops the controller until resume, as if there were no leader.
func (c *controller) pause() { c.paused.Store(true) }

func (c *controller) resume() {
	c.paused.Store(false)
	c.nudge()
}

func (c *controller) run(ctx context.Context) {
	as := sim.DefaultAssumptions()
	again := time.NewTimer(0)
	for {
		select {
		case <-c.wake:
		case <-again.C:
		case <-ctx.Done():
			return
		}
		lag := as.LBC.Lag
		time.Sleep(scaled(lag.Min + rand.N(lag.Max-lag.Min)))
		if c.paused.Load() {
			continue
		}
		switch pending, err := c.reconcileAll(ctx); {
		case err != nil && ctx.Err() == nil:
			c.tb.Logf("LBC: %v", err)
			again.Reset(scaled(as.LBC.Requeue) / 10)
		case pending:
			again.Reset(scaled(as.LBC.Requeue))
		}
	}
}

// reconcileAll reconciles every binding, even if others fail. pending says that a pod
// still waits for its readiness gate.
func (c *controller) reconcileAll(ctx context.Context) (pending bool, err error) {
	list, err := c.bindings.List(labels.Everything())
	for _, obj := range list {
		b := obj.(*unstructured.Unstructured).DeepCopy()
		p, failed := c.reconcile(ctx, b)
		if failed != nil {
			err = errors.Join(err, fmt.Errorf("binding %s/%s: %w", b.GetNamespace(), b.GetName(), failed))
		}
		pending = pending || p
	}
	return pending, err
}

// reconcile is one pass over one binding. LBC
// pkg/targetgroupbinding/resource_manager.go, reconcileWithIPTargetType.
func (c *controller) reconcile(ctx context.Context, b *unstructured.Unstructured) (pending bool, err error) {
	if b.GetDeletionTimestamp() != nil {
		return false, c.cleanUp(ctx, b)
	}
	if err := c.setFinalizers(ctx, b, bindingFinalizer); err != nil {
		return false, err
	}
	service, _, _ := unstructured.NestedString(b.Object, "spec", "serviceRef", "name")
	want, err := c.wanted(b.GetNamespace(), service)
	if err != nil {
		return false, err
	}
	done := checkpoint(want, b)
	if b.GetAnnotations()[checkpointAnnotation] == done {
		return false, nil
	}
	have, err := c.targets(ctx, b)
	if err != nil {
		return false, err
	}
	if err := c.change(ctx, b, have, want); err != nil {
		return false, err
	}
	if pending, err = c.openGates(ctx, b, have, want); pending || err != nil {
		return pending, err
	}
	return false, c.annotate(ctx, b, done)
}

// cleanUp is the end of a binding that is being deleted: it deregisters the targets, and
// then the binding may go.
func (c *controller) cleanUp(ctx context.Context, b *unstructured.Unstructured) error {
	if len(b.GetFinalizers()) == 0 {
		return nil
	}
	have, err := c.targets(ctx, b)
	if err != nil {
		return err
	}
	if err := c.change(ctx, b, have, nil); err != nil {
		return err
	}
	return c.setFinalizers(ctx, b)
}

// groupOf is the ARN of a binding's target group.
func groupOf(b *unstructured.Unstructured) string {
	arn, _, _ := unstructured.NestedString(b.Object, "spec", "targetGroupARN")
	return arn
}

// targets are the states of the targets of a binding's group, by address.
func (c *controller) targets(ctx context.Context, b *unstructured.Unstructured) (map[string]types.TargetHealthStateEnum, error) {
	health, err := c.elb.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: aws.String(groupOf(b))})
	if err != nil {
		return nil, err
	}
	have := make(map[string]types.TargetHealthStateEnum)
	for _, d := range health.TargetHealthDescriptions {
		have[*d.Target.Id] = d.TargetHealth.State
	}
	return have, nil
}

// change deregisters what is not wanted and registers what is missing. Before that it
// empties the checkpoint, unless the binding is going.
func (c *controller) change(ctx context.Context, b *unstructured.Unstructured, have map[string]types.TargetHealthStateEnum, want map[string]*corev1.Pod) error {
	var drop, add []types.TargetDescription
	target := func(ip string) types.TargetDescription {
		return types.TargetDescription{Id: &ip, Port: aws.Int32(appPort)}
	}
	for ip, state := range have {
		if want[ip] == nil && state != types.TargetHealthStateEnumDraining {
			drop = append(drop, target(ip))
		}
	}
	for ip := range want {
		if state, ok := have[ip]; !ok || state == types.TargetHealthStateEnumDraining {
			add = append(add, target(ip))
		}
	}
	arn := groupOf(b)
	if len(drop)+len(add) > 0 && b.GetDeletionTimestamp() == nil {
		if err := c.annotate(ctx, b, ""); err != nil {
			return err
		}
	}
	if len(drop) > 0 {
		if _, err := c.elb.DeregisterTargets(ctx, &elbv2.DeregisterTargetsInput{TargetGroupArn: &arn, Targets: drop}); err != nil {
			return err
		}
	}
	if len(add) > 0 {
		if _, err := c.elb.RegisterTargets(ctx, &elbv2.RegisterTargetsInput{TargetGroupArn: &arn, Targets: add}); err != nil {
			return err
		}
	}
	return nil
}

// openGates sets the readiness condition of each healthy pod. pending says that another
// pod is not healthy yet.
func (c *controller) openGates(ctx context.Context, b *unstructured.Unstructured, have map[string]types.TargetHealthStateEnum, want map[string]*corev1.Pod) (pending bool, err error) {
	gate := corev1.PodConditionType(gatePrefix + b.GetName())
	for ip, p := range want {
		if conditionTrue(p, gate) || !slices.Contains(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: gate}) {
			continue
		}
		if have[ip] != types.TargetHealthStateEnumHealthy {
			pending = true
			continue
		}
		status := corev1.PodStatus{Conditions: []corev1.PodCondition{condition(gate, true)}}
		if err := c.tb.patchStatus(ctx, p, status); err != nil {
			return pending, err
		}
	}
	return pending, nil
}

// wanted lists what should be registered, by address: endpoints that are ready,
// and those whose containers are ready while a readiness gate is not. A
// terminating endpoint is neither.
func (c *controller) wanted(namespace, service string) (map[string]*corev1.Pod, error) {
	ss, err := c.slices.EndpointSlices(namespace).List(labels.SelectorFromSet(labels.Set{discoveryv1.LabelServiceName: service}))
	if err != nil {
		return nil, err
	}
	want := make(map[string]*corev1.Pod)
	for _, s := range ss {
		for _, e := range s.Endpoints {
			if e.TargetRef == nil {
				continue
			}
			p, err := c.pods.Pods(namespace).Get(e.TargetRef.Name)
			if apierrors.IsNotFound(err) {
				continue
			} else if err != nil {
				return nil, err
			}
			gated := len(p.Spec.ReadinessGates) > 0 && !*e.Conditions.Terminating && conditionTrue(p, corev1.ContainersReady)
			if *e.Conditions.Ready || gated {
				want[e.Addresses[0]] = p
			}
		}
	}
	return want, nil
}

// checkpoint is what LBC writes when everything is done: a hash of the endpoints and a
// hash of the specification. LBC pkg/targetgroupbinding/utils.go.
func checkpoint(want map[string]*corev1.Pod, b *unstructured.Unstructured) string {
	endpoints, spec := sha256.New(), sha256.New()
	for _, ip := range slices.Sorted(maps.Keys(want)) {
		fmt.Fprintln(endpoints, ip, want[ip].CreationTimestamp.UnixMilli())
	}
	fmt.Fprint(spec, b.Object["spec"])
	return base64.RawURLEncoding.EncodeToString(endpoints.Sum(nil)) + "/" + base64.RawURLEncoding.EncodeToString(spec.Sum(nil))
}

// annotate writes the checkpoint unless it is there already.
func (c *controller) annotate(ctx context.Context, b *unstructured.Unstructured, value string) error {
	if old, ok := b.GetAnnotations()[checkpointAnnotation]; ok && old == value {
		return nil
	}
	return c.patchMeta(ctx, b, map[string]any{"annotations": map[string]string{
		checkpointAnnotation: value, timestampAnnotation: strconv.FormatInt(time.Now().Unix(), 10),
	}})
}

// setFinalizers replaces the finalizers of a binding.
func (c *controller) setFinalizers(ctx context.Context, b *unstructured.Unstructured, finalizers ...string) error {
	if slices.Equal(b.GetFinalizers(), finalizers) {
		return nil
	}
	return c.patchMeta(ctx, b, map[string]any{"finalizers": finalizers})
}

// patchMeta merges into the metadata of a binding. A binding that is gone is not an
// error.
func (c *controller) patchMeta(ctx context.Context, b *unstructured.Unstructured, meta map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	after, err := c.tb.dynamic.Resource(bindings).Namespace(b.GetNamespace()).Patch(ctx, b.GetName(), apitypes.MergePatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil
	case err == nil:
		b.Object["metadata"] = after.Object["metadata"]
	}
	return err
}

// deregister deregisters a pod's target, as the controller does.
func (c *controller) deregister(t *testing.T, a *application, r report) {
	t.Helper()
	_, err := c.elb.DeregisterTargets(t.Context(), &elbv2.DeregisterTargetsInput{
		TargetGroupArn: aws.String(a.ARN()),
		Targets:        []types.TargetDescription{{Id: aws.String(r.Pod.addr.Addr().String()), Port: aws.Int32(appPort)}},
	})
	if err != nil {
		t.Fatal(err)
	}
}

// state is the state of a pod's target, "" if it is not listed.
func (c *controller) state(ctx context.Context, a *application, r report) (types.TargetHealthStateEnum, error) {
	health, err := c.elb.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: aws.String(a.ARN())})
	if err != nil {
		return "", err
	}
	for _, d := range health.TargetHealthDescriptions {
		if *d.Target.Id == r.Pod.addr.Addr().String() {
			return d.TargetHealth.State, nil
		}
	}
	return "", nil
}

// listening tells the simulated health checks whether an application answers.
func (tb *testbed) listening(ctx context.Context, addr netip.AddrPort, on bool) error {
	return tb.world.Do(ctx, "listening "+addr.String(), func() { tb.world.SetListening(addr, on) })
}

// maySend says whether a load balancer node may still send a pod something new.
func (tb *testbed) maySend(ctx context.Context, addr netip.AddrPort) (may bool, err error) {
	err = tb.world.Do(ctx, "may send "+addr.String(), func() { may = tb.world.AWS.MaySend(addr) })
	return may, err
}
