package e2e

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
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
	"k8s.io/client-go/util/workqueue"

	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
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
)

// gateOf is the readiness gate for a binding of an API group. docs.aws.amazon.com does not
// say what EKS Auto Mode's is: it is assumed to be named likewise.
func gateOf(group, binding string) corev1.PodConditionType {
	return corev1.PodConditionType("target-health." + group + "/" + binding)
}

// controller plays the AWS Load Balancer Controller. Through the real SDK it makes the
// targets of each TargetGroupBinding's group follow the EndpointSlices of its Service. It
// handles finalizers, checkpoints and readiness gates in the same order as LBC, in client-go's
// work queue. Its times are in the simulator's Assumptions. With bindings of another API
// group it writes no checkpoints.
type controller struct {
	tb       *testbed
	resource schema.GroupVersionResource
	ctx      context.Context // of the test
	as       lbc.Assumptions
	elb      *elbv2.Client
	slices   discoverylisters.EndpointSliceLister
	pods     corelisters.PodLister
	bindings cache.GenericLister

	mu     sync.Mutex // guards the rest
	leader *leader    // nil if there is none
	log    []event
}

// event is something that the controller did for a binding.
type event struct {
	at      time.Time
	binding bindingKey
	what    string        // a call to AWS, or one of the events below
	targets []string      // of a call to AWS: addresses; nil for all
	wait    time.Duration // of eventFails
}

type bindingKey = apitypes.NamespacedName

const (
	eventEmpty      = "empty"      // the checkpoint is empty
	eventCheckpoint = "checkpoint" // it has a value
	eventReleased   = "released"   // the finalizer is gone
	eventFails      = "fails"      // a pass has failed, and the next one is planned
	eventLeads      = "leads"      // a leader begins with nothing
)

// leader is what one leader knows and has planned. It is lost with the leader.
type leader struct {
	*controller
	ctx     context.Context
	end     context.CancelFunc
	queue   workqueue.TypedRateLimitingInterface[bindingKey]
	limiter workqueue.TypedRateLimiter[bindingKey]
	workers sync.WaitGroup

	known sync.Mutex // guards the rest
	lists map[string]*targetList
}

// startController starts a controller for the bindings of an API group.
func startController(ctx context.Context, t *testing.T, tb *testbed, group string) *controller {
	t.Helper()
	f := informers.NewSharedInformerFactory(tb.kube, 0)
	c := &controller{
		tb: tb, resource: bindingsOf(group), ctx: ctx, as: sim.DefaultAssumptions().LBC,
		slices: f.Discovery().V1().EndpointSlices().Lister(),
		pods:   f.Core().V1().Pods().Lister(),
	}
	c.elb = elbv2.New(elbv2.Options{
		Region: simaws.Region, BaseEndpoint: &tb.aws, Retryer: newRetryer(c.as),
		Credentials: credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
	})
	d := dynamicinformer.NewDynamicSharedInformerFactory(tb.dynamic, 0)
	c.bindings = d.ForResource(c.resource).Lister()
	for _, inf := range []cache.SharedIndexInformer{
		f.Discovery().V1().EndpointSlices().Informer(), f.Core().V1().Pods().Informer(), d.ForResource(c.resource).Informer(),
	} {
		if _, err := inf.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc: c.changed,
			UpdateFunc: func(old, obj any) {
				if !onlyNotes(old, obj) {
					c.changed(obj)
				}
			},
			DeleteFunc: c.changed,
		}); err != nil {
			t.Fatal(err)
		}
	}
	f.Start(ctx.Done())
	d.Start(ctx.Done())
	t.Cleanup(f.Shutdown)
	t.Cleanup(d.Shutdown)
	c.lead()
	tb.running.Go(func() {
		<-ctx.Done()
		c.pause()
	})
	return c
}

// newRetryer is the retryer of LBC's SDK (pkg/aws/aws_config.go), in the test's time.
func newRetryer(as lbc.Assumptions) *retry.Standard {
	backoff := retry.NewExponentialJitterBackoff(as.Retry.Max)
	return retry.NewStandard(func(o *retry.StandardOptions) {
		o.MaxAttempts, o.RateLimiter = as.Tries, ratelimit.None
		o.Backoff = retry.BackoffDelayerFunc(func(tries int, err error) (time.Duration, error) {
			d, err := backoff.BackoffDelay(tries, err)
			return scaled(d), err
		})
	})
}

// newLimiter decides how long LBC waits after a pass that failed, in the test's time.
func newLimiter(as lbc.Assumptions) workqueue.TypedRateLimiter[bindingKey] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[bindingKey](scaled(as.Backoff.Min), scaled(as.Backoff.Max))
}

// draw draws from a range, in the test's time.
func draw(r timeline.Range) time.Duration { return scaled(r.Min + rand.N(r.Max-r.Min)) }

// lead makes the controller work. It begins with all bindings.
func (c *controller) lead() {
	c.mu.Lock()
	if c.leader != nil || c.ctx.Err() != nil {
		c.mu.Unlock()
		return
	}
	l := &leader{controller: c, limiter: newLimiter(c.as), lists: make(map[string]*targetList)}
	l.ctx, l.end = context.WithCancel(c.ctx)
	l.queue = workqueue.NewTypedRateLimitingQueue(l.limiter)
	for range c.as.Workers {
		l.workers.Go(l.work)
	}
	c.leader = l
	c.mu.Unlock()
	c.note(event{what: eventLeads})
	for _, key := range c.keys("") {
		l.queue.Add(key)
	}
}

// pause kills the leader, in the middle of what it does. Nobody leads until resume.
func (c *controller) pause() {
	c.mu.Lock()
	l := c.leader
	c.leader = nil
	c.mu.Unlock()
	if l != nil {
		l.end()
		l.queue.ShutDown()
		l.workers.Wait()
	}
}

func (c *controller) resume() { c.lead() }

// changeLeader kills the leader while there is another replica, which leads after the gap
// that is returned.
func (c *controller) changeLeader() (gap time.Duration) {
	c.pause()
	gap = draw(c.as.LeaderGap)
	c.tb.running.Go(func() {
		select {
		case <-time.After(gap):
			c.lead()
		case <-c.ctx.Done():
		}
	})
	return gap
}

func (c *controller) note(e event) {
	e.at = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.log = append(c.log, e)
}

// events are what the controller did for a binding since a moment, and its changes of
// leaders.
func (c *controller) events(key bindingKey, since time.Time) (found []event) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, e := range c.log {
		if (e.binding == key || e.what == eventLeads) && e.at.After(since) {
			found = append(found, e)
		}
	}
	return found
}

// keys are the bindings of a namespace, and of all for "". If service is given, they are
// those that refer to it.
func (c *controller) keys(namespace string, service ...string) (keys []bindingKey) {
	list, _ := c.bindings.ByNamespace(namespace).List(labels.Everything()) // it reads a cache
	for _, obj := range list {
		b := obj.(*unstructured.Unstructured)
		if len(service) == 0 || slices.Contains(service, serviceOf(b)) {
			keys = append(keys, bindingKey{Namespace: b.GetNamespace(), Name: b.GetName()})
		}
	}
	return keys
}

// onlyNotes says whether nothing but annotations, labels and finalizers of a binding has
// changed, which LBC itself writes.
func onlyNotes(old, obj any) bool {
	a, ok1 := old.(*unstructured.Unstructured)
	b, ok2 := obj.(*unstructured.Unstructured)
	return ok1 && ok2 && a.GetUID() == b.GetUID() && a.GetGeneration() == b.GetGeneration() &&
		(a.GetDeletionTimestamp() == nil) == (b.GetDeletionTimestamp() == nil)
}

// changed plans a pass over the bindings that an object concerns.
func (c *controller) changed(obj any) {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	var keys []bindingKey
	switch o := obj.(type) {
	case *discoveryv1.EndpointSlice:
		keys = c.keys(o.Namespace, o.Labels[discoveryv1.LabelServiceName])
	case *corev1.Pod:
		keys = c.keys(o.Namespace)
	case *unstructured.Unstructured:
		keys = []bindingKey{{Namespace: o.GetNamespace(), Name: o.GetName()}}
	}
	c.mu.Lock()
	l := c.leader
	c.mu.Unlock()
	if l == nil {
		return
	}
	for _, key := range keys {
		l.queue.AddAfter(key, draw(c.as.Lag))
	}
}

func (l *leader) work() {
	for {
		key, over := l.queue.Get()
		if over {
			return
		}
		l.pass(key)
		l.queue.Done(key)
	}
}

// pass is a pass over a binding, and the plan for the next one.
func (l *leader) pass(key bindingKey) {
	obj, err := l.bindings.ByNamespace(key.Namespace).Get(key.Name)
	if err != nil {
		return // it is gone
	}
	switch pending, err := l.reconcile(l.ctx, obj.(*unstructured.Unstructured).DeepCopy()); {
	case l.ctx.Err() != nil:
	case err != nil:
		wait := l.limiter.When(key)
		l.tb.Logf("LBC: binding %s, again after %v: %v", key, wait, err)
		l.note(event{binding: key, what: eventFails, wait: wait})
		l.queue.AddAfter(key, wait)
	case pending:
		l.limiter.Forget(key)
		l.queue.AddAfter(key, scaled(l.as.Requeue))
	default:
		l.limiter.Forget(key)
	}
}

// reconcile is one pass over one binding. pending says that a pod still waits for its
// readiness gate. LBC pkg/targetgroupbinding/resource_manager.go,
// reconcileWithIPTargetType.
func (l *leader) reconcile(ctx context.Context, b *unstructured.Unstructured) (pending bool, err error) {
	if b.GetDeletionTimestamp() != nil {
		return false, l.cleanUp(ctx, b)
	}
	if err := l.setFinalizers(ctx, b, bindingFinalizer); err != nil {
		return false, err
	}
	want, err := l.wanted(b.GetNamespace(), serviceOf(b))
	if err != nil {
		return false, err
	}
	done := checkpoint(want, b)
	if b.GetAnnotations()[checkpointAnnotation] == done {
		return false, nil
	}
	have, err := l.targets(ctx, b)
	if err != nil {
		return false, err
	}
	if err := l.change(ctx, b, have, want); err != nil {
		return false, err
	}
	if pending, err = l.openGates(ctx, b, have, want); pending || err != nil {
		return pending, err
	}
	return false, l.annotate(ctx, b, done)
}

// cleanUp is the end of a binding that is being deleted: it deregisters the targets, and
// then the binding may go.
func (l *leader) cleanUp(ctx context.Context, b *unstructured.Unstructured) error {
	if len(b.GetFinalizers()) == 0 {
		return nil
	}
	have, err := l.targets(ctx, b)
	if err != nil {
		return err
	}
	if err := l.change(ctx, b, have, nil); err != nil {
		return err
	}
	if err := l.setFinalizers(ctx, b); err != nil {
		return err
	}
	l.note(event{binding: keyOf(b), what: eventReleased})
	return nil
}

func keyOf(b *unstructured.Unstructured) bindingKey {
	return bindingKey{Namespace: b.GetNamespace(), Name: b.GetName()}
}

// groupOf is the ARN of a binding's target group.
func groupOf(b *unstructured.Unstructured) string {
	arn, _, _ := unstructured.NestedString(b.Object, "spec", "targetGroupARN")
	return arn
}

// serviceOf is the name of a binding's Service.
func serviceOf(b *unstructured.Unstructured) string {
	name, _, _ := unstructured.NestedString(b.Object, "spec", "serviceRef", "name")
	return name
}

// targetList is what a leader knows of a group's targets, by address. A state that is
// empty is one that the leader has changed. LBC pkg/targetgroupbinding/targets_manager.go.
type targetList struct {
	until  time.Time
	states map[string]types.TargetHealthStateEnum
}

// forget notes that targets have changed.
func (l *leader) forget(arn string, targets []types.TargetDescription) {
	l.known.Lock()
	defer l.known.Unlock()
	for _, t := range targets {
		l.lists[arn].states[*t.Id] = ""
	}
}

// targets are the states of the targets of a binding's group, by address. While its list
// is not too old, LBC asks only for those that were not healthy.
func (l *leader) targets(ctx context.Context, b *unstructured.Unstructured) (map[string]types.TargetHealthStateEnum, error) {
	arn := groupOf(b)
	l.known.Lock()
	list := l.lists[arn]
	if list == nil || time.Now().After(list.until) {
		list = &targetList{states: make(map[string]types.TargetHealthStateEnum)}
		delete(l.lists, arn)
	}
	_, known := l.lists[arn]
	var ask []types.TargetDescription
	for ip, state := range list.states {
		if state != types.TargetHealthStateEnumHealthy {
			ask = append(ask, target(ip))
		}
	}
	states := maps.Clone(list.states)
	l.known.Unlock()
	if known && len(ask) == 0 {
		return states, nil
	}
	health, err := l.elb.DescribeTargetHealth(ctx, &elbv2.DescribeTargetHealthInput{TargetGroupArn: &arn, Targets: ask})
	if err != nil {
		return nil, err
	}
	l.note(event{binding: keyOf(b), what: "DescribeTargetHealth", targets: addresses(ask)})
	l.known.Lock()
	defer l.known.Unlock()
	for _, d := range health.TargetHealthDescriptions {
		if list.states[*d.Target.Id] = d.TargetHealth.State; d.TargetHealth.Reason == types.TargetHealthReasonEnumNotRegistered {
			delete(list.states, *d.Target.Id)
		}
	}
	if !known {
		list.until = time.Now().Add(scaled(l.as.Cache))
	}
	l.lists[arn] = list
	return maps.Clone(list.states), nil
}

func target(ip string) types.TargetDescription {
	return types.TargetDescription{Id: &ip, Port: aws.Int32(appPort)}
}

func addresses(targets []types.TargetDescription) (ips []string) {
	for _, t := range targets {
		ips = append(ips, *t.Id)
	}
	return ips
}

// change deregisters what is not wanted and registers what is missing. Before that it
// empties the checkpoint, unless the binding is going.
func (l *leader) change(ctx context.Context, b *unstructured.Unstructured, have map[string]types.TargetHealthStateEnum, want map[string]*corev1.Pod) error {
	var drop, add []types.TargetDescription
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
		if err := l.annotate(ctx, b, ""); err != nil {
			return err
		}
	}
	if len(drop) > 0 {
		if _, err := l.elb.DeregisterTargets(ctx, &elbv2.DeregisterTargetsInput{TargetGroupArn: &arn, Targets: drop}); err != nil {
			return err
		}
		l.note(event{binding: keyOf(b), what: "DeregisterTargets", targets: addresses(drop)})
		l.forget(arn, drop)
	}
	if len(add) > 0 {
		if _, err := l.elb.RegisterTargets(ctx, &elbv2.RegisterTargetsInput{TargetGroupArn: &arn, Targets: add}); err != nil {
			return err
		}
		l.note(event{binding: keyOf(b), what: "RegisterTargets", targets: addresses(add)})
		l.forget(arn, add)
	}
	return nil
}

// openGates sets the readiness condition of each healthy pod. pending says that another
// pod is not healthy yet.
func (l *leader) openGates(ctx context.Context, b *unstructured.Unstructured, have map[string]types.TargetHealthStateEnum, want map[string]*corev1.Pod) (pending bool, err error) {
	gate := gateOf(l.resource.Group, b.GetName())
	for ip, p := range want {
		if conditionTrue(p, gate) || !slices.Contains(p.Spec.ReadinessGates, corev1.PodReadinessGate{ConditionType: gate}) {
			continue
		}
		if have[ip] != types.TargetHealthStateEnumHealthy {
			pending = true
			continue
		}
		status := corev1.PodStatus{Conditions: []corev1.PodCondition{condition(gate, true)}}
		if err := l.tb.patchStatus(ctx, p, status); err != nil {
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
func (l *leader) annotate(ctx context.Context, b *unstructured.Unstructured, value string) error {
	if old, ok := b.GetAnnotations()[checkpointAnnotation]; ok && old == value || l.resource != bindings {
		return nil
	}
	if err := l.patchMeta(ctx, b, map[string]any{"annotations": map[string]string{
		checkpointAnnotation: value, timestampAnnotation: strconv.FormatInt(time.Now().Unix(), 10),
	}}); err != nil {
		return err
	}
	what := eventCheckpoint
	if value == "" {
		what = eventEmpty
	}
	l.note(event{binding: keyOf(b), what: what})
	return nil
}

// setFinalizers replaces the finalizers of a binding.
func (l *leader) setFinalizers(ctx context.Context, b *unstructured.Unstructured, finalizers ...string) error {
	if slices.Equal(b.GetFinalizers(), finalizers) {
		return nil
	}
	return l.patchMeta(ctx, b, map[string]any{"finalizers": finalizers})
}

// patchMeta merges into the metadata of a binding. A binding that is gone is not an
// error.
func (l *leader) patchMeta(ctx context.Context, b *unstructured.Unstructured, meta map[string]any) error {
	patch, err := json.Marshal(map[string]any{"metadata": meta})
	if err != nil {
		return err
	}
	after, err := l.tb.dynamic.Resource(l.resource).Namespace(b.GetNamespace()).Patch(ctx, b.GetName(), apitypes.MergePatchType, patch, metav1.PatchOptions{})
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
