package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/tools/cache"
)

// appImage is the image of the application. The kubelet runs its pods, and those of our
// own image. Others stay pending.
const appImage = "e2e.example/app"

// node is where all pods run.
const node = "node-1"

// kubelet plays scheduler and kubelet for the pods of the tests. It runs their
// application and their preStop hook in separate namespaces. When a pod is deleted, it
// does what the real kubelet does.
type kubelet struct {
	tb *testbed

	mu      sync.Mutex // guards the rest
	workers map[types.UID]*worker
	reports []*report
}

// report is what happened to a pod.
type report struct {
	Namespace, Name string
	UID             types.UID
	Pod             *process // nil before it runs
	Deleted         time.Time
	// HookEnded is when its preStop hook was over. It is zero before that, and if
	// there is no hook.
	HookEnded time.Time
	HookErr   error
	// Output is what the hook wrote.
	Output []byte
	// MaySend says that a load balancer node might still have sent the pod a
	// request when its hook was over: then it stopped too early.
	MaySend bool
	// Gone is when its object was removed.
	Gone time.Time
}

// worker looks after one pod.
type worker struct {
	k       *kubelet
	updates chan *corev1.Pod // the newest state not yet seen
	process *process
	report  *report
}

func startKubelet(ctx context.Context, t *testing.T, tb *testbed) *kubelet {
	t.Helper()
	k := &kubelet{tb: tb, workers: make(map[types.UID]*worker)}
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: node},
		Status:     corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, Reason: "KubeletReady"}}},
	}
	if _, err := tb.kube.CoreV1().Nodes().Create(ctx, n, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	f := informers.NewSharedInformerFactory(tb.kube, 0)
	_, err := f.Core().V1().Pods().Informer().AddEventHandler(cache.ResourceEventHandlerFuncs{
		AddFunc:    func(obj any) { k.see(ctx, obj.(*corev1.Pod)) },
		UpdateFunc: func(_, obj any) { k.see(ctx, obj.(*corev1.Pod)) },
		DeleteFunc: func(obj any) {
			if p, ok := obj.(*corev1.Pod); ok {
				k.see(ctx, removed(p))
			}
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	f.Start(ctx.Done())
	t.Cleanup(f.Shutdown)
	return k
}

// removed is a pod whose object is gone while the pod may still run, as when it was
// deleted with a grace period of 0.
func removed(p *corev1.Pod) *corev1.Pod {
	p = p.DeepCopy()
	p.DeletionTimestamp, p.DeletionGracePeriodSeconds = new(metav1.Now()), new(int64)
	return p
}

// see gives the newest state of a pod to its worker.
func (k *kubelet) see(ctx context.Context, p *corev1.Pod) {
	if image := p.Spec.Containers[0].Image; image != appImage && !isOurs(image) {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	w := k.workers[p.UID]
	if w == nil {
		w = &worker{k: k, updates: make(chan *corev1.Pod, 1), report: &report{Namespace: p.Namespace, Name: p.Name, UID: p.UID}}
		k.workers[p.UID] = w
		k.reports = append(k.reports, w.report)
		k.tb.running.Go(func() {
			if err := w.run(ctx, p); err != nil && ctx.Err() == nil {
				k.tb.Errorf("kubelet: pod %s/%s: %v", p.Namespace, p.Name, err)
			}
		})
	}
	select {
	case <-w.updates:
	default:
	}
	w.updates <- p
}

// pods reports the pods of a namespace in order of creation.
func (k *kubelet) pods(namespace string) []report {
	k.mu.Lock()
	defer k.mu.Unlock()
	var out []report
	for _, r := range k.reports {
		if r.Namespace == namespace {
			out = append(out, *r)
		}
	}
	return out
}

// note changes the worker's report.
func (w *worker) note(f func(*report)) {
	w.k.mu.Lock()
	defer w.k.mu.Unlock()
	f(w.report)
}

// run is the life of a pod.
func (w *worker) run(ctx context.Context, p *corev1.Pod) error {
	tb := w.k.tb
	err := tb.insist(ctx, func() error {
		return tb.kube.CoreV1().Pods(p.Namespace).Bind(ctx, &corev1.Binding{
			ObjectMeta: metav1.ObjectMeta{Namespace: p.Namespace, Name: p.Name},
			Target:     corev1.ObjectReference{Kind: "Node", Name: node},
		}, metav1.CreateOptions{})
	})
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	addr := nextAddress()
	e, err := w.prepare(ctx, p, addr.Addr())
	if err != nil {
		return err
	}
	if w.process, err = startProcess(addr, tb.dir, fmt.Sprintf("%s-%s-%.8s", p.Namespace, p.Name, p.UID), e); err != nil {
		return err
	}
	defer w.process.kill()
	w.note(func(r *report) { r.Pod = w.process })
	if err := w.patch(ctx, p, false, false); err != nil {
		return err
	}
	probe, err := probe(p, addr)
	if err != nil {
		return err
	}
	if probe != "" {
		if err := tb.insist(ctx, func() error { return get(ctx, http.DefaultClient, probe) }); err != nil {
			return fmt.Errorf("readiness probe: %w", err)
		}
	}
	if err := tb.listening(ctx, addr, true); err != nil {
		return err
	}
	exited := w.process.exited
	for patched, wasReady := false, false; ; {
		select {
		case p = <-w.updates:
		case <-exited:
			exited = nil
			if err := w.complete(ctx, p); err != nil {
				return err
			}
			continue
		case <-ctx.Done():
			return nil
		}
		if p.DeletionTimestamp != nil {
			return w.terminate(ctx, p)
		}
		if exited == nil {
			continue
		}
		if ready := gatesOpen(p); !patched || ready != wasReady {
			patched, wasReady = true, ready
			if err := w.patch(ctx, p, true, ready); err != nil {
				return err
			}
		}
	}
}

// probe is the URL that tells whether the pod's container is ready. A container without
// a probe is ready at once, the application apart.
func probe(p *corev1.Pod, addr netip.AddrPort) (string, error) {
	c := p.Spec.Containers[0]
	switch {
	case c.Image == appImage:
		return "http://" + addr.String() + "/", nil
	case c.ReadinessProbe == nil:
		return "", nil
	}
	for _, port := range c.Ports {
		if get := c.ReadinessProbe.HTTPGet; port.Name == get.Port.StrVal {
			return fmt.Sprintf("http://%s:%d%s", addr.Addr(), port.ContainerPort, get.Path), nil
		}
	}
	return "", fmt.Errorf("readiness probe: container %s has no port of its name", c.Name)
}

// complete says how a container ended that is not to be started again.
func (w *worker) complete(ctx context.Context, p *corev1.Pod) error {
	state := w.process.cmd.ProcessState
	if p.Spec.RestartPolicy != corev1.RestartPolicyNever {
		return fmt.Errorf("its container has ended: %v", state)
	}
	phase := corev1.PodSucceeded
	if !state.Success() {
		phase = corev1.PodFailed
	}
	return w.k.tb.patchStatus(ctx, p, corev1.PodStatus{Phase: phase})
}

// prepare makes the pod's volumes, lets its init containers fill them, and says what its
// program finds.
func (w *worker) prepare(ctx context.Context, p *corev1.Pod, addr netip.Addr) (e environment, err error) {
	volumes := make(map[string]string)
	for _, v := range p.Spec.Volumes {
		if volumes[v.Name], err = os.MkdirTemp(w.k.tb.dir, "volume-"); err != nil {
			return e, err
		}
		if v.EmptyDir != nil { // anybody may write there
			if err := os.Chmod(volumes[v.Name], 0o777); err != nil {
				return e, err
			}
		}
		if v.Projected != nil {
			if err := w.k.tb.project(ctx, p, v.Projected, volumes[v.Name]); err != nil {
				return e, fmt.Errorf("volume %s: %w", v.Name, err)
			}
		}
	}
	if err := w.initialize(ctx, p, volumes); err != nil {
		return e, err
	}
	if image := p.Spec.Containers[0].Image; image != appImage {
		if e, err = w.k.tb.contained(p, addr); err != nil {
			return e, fmt.Errorf("image %s: %w", image, err)
		}
		e.Mounts = make(map[string]string)
	} else {
		e.Image = "/"
		e.Mounts = map[string]string{"/prestop": program("prestop")}
	}
	e.Mounts["/etc/hosts"] = w.k.tb.hosts
	for _, m := range p.Spec.Containers[0].VolumeMounts {
		e.Mounts[m.MountPath] = volumes[m.Name]
	}
	return e, nil
}

// initialize runs the init containers. They run nothing but the hook client, from what our
// image has.
func (w *worker) initialize(ctx context.Context, p *corev1.Pod, volumes map[string]string) error {
	for _, c := range p.Spec.InitContainers {
		e := environment{Image: program("image"), Args: c.Command, UID: 65532, ReadOnly: true, Mounts: make(map[string]string)}
		for _, m := range c.VolumeMounts {
			e.Mounts[m.MountPath] = volumes[m.Name]
		}
		init, err := startProcess(nextAddress(), w.k.tb.dir, fmt.Sprintf("%s-%s-%.8s-%s", p.Namespace, p.Name, p.UID, c.Name), e)
		if err != nil {
			return err
		}
		select {
		case <-init.exited:
		case <-ctx.Done():
			init.kill()
			return ctx.Err()
		}
		if state := init.cmd.ProcessState; !state.Success() {
			log, err := os.ReadFile(init.log)
			return errors.Join(fmt.Errorf("init container %s: %v: %s", c.Name, state, log), err)
		}
	}
	return nil
}

// variables are the environment variables that the specification of the pod's container
// gives it.
func variables(p *corev1.Pod, addr netip.Addr) (vars []string) {
	for _, v := range p.Spec.Containers[0].Env {
		value := v.Value
		if v.ValueFrom != nil {
			value = map[string]string{
				"metadata.name": p.Name, "metadata.namespace": p.Namespace, "status.podIP": addr.String(),
			}[v.ValueFrom.FieldRef.FieldPath]
		}
		vars = append(vars, v.Name+"="+value)
	}
	return vars
}

// gatesOpen says whether all readiness gates of a pod are open.
func gatesOpen(p *corev1.Pod) bool {
	return !slices.ContainsFunc(p.Spec.ReadinessGates, func(g corev1.PodReadinessGate) bool { return !conditionTrue(p, g.ConditionType) })
}

func conditionTrue(p *corev1.Pod, kind corev1.PodConditionType) bool {
	return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == kind && c.Status == corev1.ConditionTrue
	})
}

// patch writes the pod's status.
func (w *worker) patch(ctx context.Context, p *corev1.Pod, containersReady, ready bool) error {
	address := w.process.addr.Addr().String()
	return w.k.tb.patchStatus(ctx, p, corev1.PodStatus{
		Phase:      corev1.PodRunning,
		HostIP:     hostAddress.String(),
		PodIP:      address,
		PodIPs:     []corev1.PodIP{{IP: address}},
		Conditions: []corev1.PodCondition{condition(corev1.ContainersReady, containersReady), condition(corev1.PodReady, ready)},
	})
}

func condition(kind corev1.PodConditionType, on bool) corev1.PodCondition {
	c := corev1.PodCondition{Type: kind, Status: corev1.ConditionFalse, LastTransitionTime: metav1.Now()}
	if on {
		c.Status = corev1.ConditionTrue
	}
	return c
}

// patchStatus merges into a pod's status. A pod that is gone is not an error.
func (tb *testbed) patchStatus(ctx context.Context, p *corev1.Pod, status corev1.PodStatus) error {
	body, err := json.Marshal(map[string]any{"metadata": map[string]any{"uid": p.UID}, "status": status})
	if err != nil {
		return err
	}
	err = tb.insist(ctx, func() error {
		_, err := tb.kube.CoreV1().Pods(p.Namespace).Patch(ctx, p.Name, types.StrategicMergePatchType, body, metav1.PatchOptions{}, "status")
		return err
	})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// minTermination is the time that the kubelet leaves between SIGTERM and SIGKILL, even if
// the hook used up the grace period.
const minTermination = 2 * time.Second

// killTime is when a pod that is being deleted is killed. A grace period of 0 means that
// the object goes at once. The pod then has the grace period of its specification.
// kubernetes pkg/kubelet/pod_workers.go, calculateEffectiveGracePeriod.
func killTime(p *corev1.Pod) time.Time {
	if *p.DeletionGracePeriodSeconds > 0 {
		return p.DeletionTimestamp.Time
	}
	return time.Now().Add(time.Duration(*p.Spec.TerminationGracePeriodSeconds) * time.Second)
}

// terminate is what the kubelet does with a pod that is being deleted: it runs the hook,
// sends SIGTERM, sends SIGKILL when the grace period is over, and removes the object.
func (w *worker) terminate(ctx context.Context, p *corev1.Pod) error {
	tb, killAt := w.k.tb, killTime(p)
	w.note(func(r *report) { r.Deleted = time.Now() })
	if err := w.hook(ctx, p, killAt); err != nil {
		return err
	}
	w.process.terminate()
	if err := tb.listening(ctx, w.process.addr, false); err != nil {
		return err
	}
	select {
	case <-w.process.exited:
	case <-time.After(max(minTermination, time.Until(killAt))):
		w.process.kill()
	}
	err := tb.insist(ctx, func() error {
		return tb.kube.CoreV1().Pods(p.Namespace).Delete(ctx, p.Name, metav1.DeleteOptions{
			GracePeriodSeconds: new(int64), Preconditions: &metav1.Preconditions{UID: &p.UID},
		})
	})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsConflict(err) {
		return fmt.Errorf("remove: %w", err)
	}
	w.note(func(r *report) { r.Gone = time.Now() })
	return nil
}

// hook runs the pod's preStop hook in the pod, until killAt at the latest. As
// with the real kubelet, it does not matter whether it succeeds.
func (w *worker) hook(ctx context.Context, p *corev1.Pod, killAt time.Time) error {
	l := p.Spec.Containers[0].Lifecycle
	if l == nil || l.PreStop == nil || l.PreStop.Exec == nil {
		return nil
	}
	hookCtx, cancel := context.WithDeadline(ctx, killAt)
	defer cancel()
	var out bytes.Buffer
	cmd := w.process.exec(hookCtx, l.PreStop.Exec.Command...)
	cmd.Env = append(os.Environ(), variables(p, w.process.addr.Addr())...)
	cmd.Stdout, cmd.Stderr = &out, &out
	hookErr := cmd.Run()
	ended := time.Now()
	maySend, err := w.k.tb.maySend(ctx, w.process.addr)
	if err != nil {
		return err
	}
	w.note(func(r *report) { r.HookEnded, r.HookErr, r.Output, r.MaySend = ended, hookErr, out.Bytes(), maySend })
	return nil
}
