package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/kube"
)

// deletion is what is known of a pod's deletion. It is never taken back, and it only
// comes nearer: deletionGracePeriodSeconds "may only be shortened" (ObjectMeta).
type deletion struct {
	seen  time.Time     // when it was first seen, by our clock; zero for no deletion
	stamp time.Time     // the earliest deletionTimestamp, by the API server's clock
	kill  time.Time     // the same by our clock, as it was when the deletion was first seen
	grace time.Duration // the shortest
}

// note takes in what a pod shows of it. The kill time is brought to our clock once: a
// clock that is set later moves nothing. Where the skew is of no use, the kill time is
// the deletion and the grace period, as the API server reckons (k8s.io/apiserver,
// BeforeDelete).
func (d *deletion) note(p *corev1.Pod, c *kube.Clock) {
	if p.DeletionTimestamp == nil {
		return
	}
	stamp, grace := p.DeletionTimestamp.Time, gracePeriod(p)
	if d.seen.IsZero() {
		now := time.Now()
		*d = deletion{now, stamp, now.Add(grace), grace}
		if skew, ok := c.Skew(); ok {
			d.kill = stamp.Add(-skew)
		}
	}
	if stamp.Before(d.stamp) {
		d.kill, d.stamp = d.kill.Add(stamp.Sub(d.stamp)), stamp
	}
	d.grace = min(d.grace, grace)
}

// gracePeriod is that of a pod's deletion, or else that of its specification.
func gracePeriod(p *corev1.Pod) time.Duration {
	for _, s := range []*int64{p.DeletionGracePeriodSeconds, p.Spec.TerminationGracePeriodSeconds} {
		if s != nil {
			return time.Duration(*s) * time.Second
		}
	}
	return 30 * time.Second // the API server's default
}

// NotTerminating says that a pod is not being stopped: it is not deleted, it is
// ready, and so is its node. Where one of these fails, or one of the two is gone,
// the answer is false without an error. Pod and node are read from the API server
// itself, since the caches may lag behind. The pod is read again at the end: it can
// have been deleted while the node was read. An error means that it is not known.
func (x *Index) NotTerminating(ctx context.Context, p *Pod) (bool, error) {
	node, ready, err := x.isReady(ctx, p)
	if ready {
		ready, err = x.nodeReady(ctx, p, node)
	}
	if ready {
		_, ready, err = x.isReady(ctx, p)
	}
	return ready, err
}

// isReady says whether a pod is undeleted and ready, and on which node.
func (x *Index) isReady(ctx context.Context, p *Pod) (node string, ready bool, err error) {
	pod, err := x.readPod(ctx, p.Namespace, p.Name)
	switch {
	case errors.Is(err, ErrNoPod):
		return "", false, nil
	case err != nil:
		return "", false, err
	}
	x.rememberPod(pod)
	ready = pod.UID == p.UID && pod.DeletionTimestamp == nil && conditionTrue(pod.Status.Conditions, corev1.PodReady)
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
