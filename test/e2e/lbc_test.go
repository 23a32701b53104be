package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
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
)

var (
	bindings                  = schema.GroupVersionResource{Group: "elbv2.k8s.aws", Version: "v1beta1", Resource: "targetgroupbindings"}
	customResourceDefinitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
)

const (
	checkpointAnnotation = "elbv2.k8s.aws/checkpoint"
	gatePrefix           = "target-health.elbv2.k8s.aws/"
)

// controller plays the AWS Load Balancer Controller: it keeps the targets of
// each TargetGroupBinding's group what the EndpointSlices say, by way of the
// real SDK, and sees to checkpoints and readiness gates in the order in which
// LBC does. What it takes is in the simulator's Assumptions.
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
			Region: sim.Region, BaseEndpoint: &tb.aws,
			Credentials: credentials.NewStaticCredentialsProvider(sim.AccessKeyID, sim.SecretAccessKey, ""),
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

// pause has the controller do nothing more, as without a leader, until resume.
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
		lag := as.ControllerLag
		time.Sleep(scaled(lag.Min + rand.N(lag.Max-lag.Min)))
		if c.paused.Load() {
			continue
		}
		switch pending, err := c.reconcileAll(ctx); {
		case err != nil && ctx.Err() == nil:
			c.tb.Logf("LBC: %v", err)
			again.Reset(scaled(as.ControllerRequeue) / 10)
		case pending:
			again.Reset(scaled(as.ControllerRequeue))
		}
	}
}

// reconcileAll sees to every binding. pending says that a pod still waits for
// its readiness gate.
func (c *controller) reconcileAll(ctx context.Context) (pending bool, err error) {
	list, err := c.bindings.List(labels.Everything())
	if err != nil {
		return false, err
	}
	for _, obj := range list {
		b := obj.(*unstructured.Unstructured).DeepCopy()
		p, err := c.reconcile(ctx, b)
		if err != nil {
			return false, fmt.Errorf("binding %s: %w", b.GetName(), err)
		}
		pending = pending || p
	}
	return pending, nil
}

func (c *controller) reconcile(ctx context.Context, b *unstructured.Unstructured) (pending bool, err error) {
	arn, _, _ := unstructured.NestedString(b.Object, "spec", "targetGroupARN")
	service, _, _ := unstructured.NestedString(b.Object, "spec", "serviceRef", "name")
	want, err := c.wanted(b.GetNamespace(), service)
	if err != nil {
		return false, err
	}
	health, err := c.elb.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &arn})
	if err != nil {
		return false, err
	}
	have := make(map[string]types.TargetHealthStateEnum)
	for _, d := range health.TargetHealthDescriptions {
		have[*d.Target.Id] = d.TargetHealth.State
	}
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
	if len(drop)+len(add) > 0 {
		if err := c.checkpoint(ctx, b, ""); err != nil {
			return false, err
		}
	}
	if len(drop) > 0 {
		if _, err := c.elb.DeregisterTargets(ctx, &elbv2.DeregisterTargetsInput{TargetGroupArn: &arn, Targets: drop}); err != nil {
			return false, err
		}
	}
	if len(add) > 0 {
		if _, err := c.elb.RegisterTargets(ctx, &elbv2.RegisterTargetsInput{TargetGroupArn: &arn, Targets: add}); err != nil {
			return false, err
		}
	}
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
			return false, err
		}
	}
	if pending {
		return true, nil
	}
	return false, c.checkpoint(ctx, b, hash(want))
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

func hash(want map[string]*corev1.Pod) string {
	h := sha256.New()
	for _, ip := range slices.Sorted(maps.Keys(want)) {
		fmt.Fprintln(h, ip)
	}
	return fmt.Sprintf("%x/%x", h.Sum(nil), sha256.Sum256(nil))
}

// checkpoint writes the checkpoint annotation unless it is there.
func (c *controller) checkpoint(ctx context.Context, b *unstructured.Unstructured, value string) error {
	if old, ok := b.GetAnnotations()[checkpointAnnotation]; ok && old == value {
		return nil
	}
	patch := fmt.Sprintf(`{"metadata":{"annotations":{%q:%q}}}`, checkpointAnnotation, value)
	after, err := c.tb.dynamic.Resource(bindings).Namespace(b.GetNamespace()).Patch(ctx, b.GetName(), apitypes.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if err == nil {
		b.SetAnnotations(after.GetAnnotations())
	}
	return err
}

// deregister takes a pod's target out, as the controller does.
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

// state is the state of a pod's target, "" where it is not listed.
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
