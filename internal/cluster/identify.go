package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/ties"
)

// PodRef says which pod a wait is for.
type PodRef struct {
	// Namespace and Pod name it, where Pod is not empty. Beside an address alone,
	// Namespace decides between several pods.
	Namespace, Pod string
	IP             netip.Addr // an address of it
	Inferred       bool       // IP is the caller's address, not one that it named
	Caller         netip.Addr // who asks: live reads serve callers in turn
}

// Identify reads a pod from the API server itself. [ErrNoPod], [ErrAmbiguous] and
// [ErrDisagree] are answers; any other error may pass.
func (x *Index) Identify(ctx context.Context, ref PodRef) (*Pod, error) {
	if ref.Pod == "" {
		return x.identifyAddress(ctx, ref)
	}
	p, err := x.readPod(ctx, ref.Caller, ref.Namespace, ref.Pod)
	if err != nil {
		return nil, err
	}
	pod := x.newPod(x.rememberPod(p))
	if ref.IP.IsValid() && !ref.Inferred && !slices.Contains(pod.IPs, ref.IP.Unmap()) {
		return nil, fmt.Errorf("%w: pod %s, address %s; the pod has %v", ErrDisagree, pod.Key(), ref.IP, pod.IPs)
	}
	return pod, nil
}

// Bounds of the reads of single objects. A wait makes one. Of the 7,000 waits that a
// replica holds some 350 begin each second where each takes the 20 s of an ALB, which
// leaves room for those that ask again; and all waits of a large crowd, 10,000 at once,
// are read within the two seconds in which they may be refused.
const (
	readRate  = 500 // per second
	readBurst = 9500
)

// readPod reads a pod by name from the API server itself, when it is the caller's turn.
func (x *Index) readPod(ctx context.Context, caller netip.Addr, namespace, name string) (*corev1.Pod, error) {
	if err := x.reading.wait(ctx, caller); err != nil {
		return nil, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	p, err := x.kube.CoreV1().Pods(namespace).Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return nil, fmt.Errorf("%w: %s/%s", ErrNoPod, namespace, name)
	case err != nil:
		return nil, fmt.Errorf("get pod %s/%s: %w", namespace, name, err)
	}
	return p, nil
}

// identifyAddress confirms the pod that the cache has at an address, or searches. It
// always searches where that pod is in the host network: another one may be at the
// address that the cache does not know yet.
func (x *Index) identifyAddress(ctx context.Context, ref PodRef) (*Pod, error) {
	cached, err := x.PodAt(ref.IP, ref.Namespace)
	if err == nil && !cached.HostNetwork {
		p, err := x.readPod(ctx, ref.Caller, cached.Namespace, cached.Name)
		if err != nil && !errors.Is(err, ErrNoPod) {
			return nil, err
		}
		if err == nil {
			p := x.rememberPod(p)
			if p.UID == cached.UID && !completed(p) && slices.Contains(ties.Addresses(p), ref.IP.Unmap()) {
				return x.newPod(p), nil
			}
		}
	}
	found, err := x.search(ctx, ref.Caller, ref.IP.Unmap())
	if err != nil {
		return nil, err
	}
	p, err := choose(found, ref.IP, ref.Namespace)
	if err != nil {
		return nil, err
	}
	return x.newPod(p), nil
}

// NotTerminating says that a pod is not being stopped: it is not deleted, it is
// ready, and so is its node. Where one of these fails, or one of the two is gone,
// the answer is false without an error. Pod and node are read from the API server
// itself, since the caches may lag behind. The pod is read again at the end: it can
// have been deleted while the node was read. An error means that it is not known. Reads
// go by caller in turn.
func (x *Index) NotTerminating(ctx context.Context, caller netip.Addr, p *Pod) (bool, error) {
	node, ready, err := x.isReady(ctx, caller, p)
	if ready {
		ready, err = x.nodeReady(ctx, p, node)
	}
	if ready {
		_, ready, err = x.isReady(ctx, caller, p)
	}
	return ready, err
}

// isReady says whether a pod is undeleted and ready, and on which node.
func (x *Index) isReady(ctx context.Context, caller netip.Addr, p *Pod) (node string, ready bool, err error) {
	pod, err := x.readPod(ctx, caller, p.Namespace, p.Name)
	switch {
	case errors.Is(err, ErrNoPod):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	x.rememberPod(pod)
	isReady := func(c corev1.PodCondition) bool { return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue }
	ready = pod.UID == p.UID && pod.DeletionTimestamp == nil && slices.ContainsFunc(pod.Status.Conditions, isReady)
	return pod.Spec.NodeName, ready, nil
}

func (x *Index) nodeReady(ctx context.Context, p *Pod, name string) (bool, error) {
	node, err := x.kube.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("pod %s: get node %s: %w", p.Key(), name, err)
	}
	isReady := func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	return slices.ContainsFunc(node.Status.Conditions, isReady), nil
}
