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
)

// end is what is known of a pod's deletion. It is never taken back, and it only
// comes nearer: deletionGracePeriodSeconds "may only be shortened" (ObjectMeta).
type end struct {
	seen  time.Time     // when it was first seen, by our clock; zero for no deletion
	kill  time.Time     // the earliest deletionTimestamp, by the API server's clock
	grace time.Duration // the shortest
}

// see takes in what a pod shows of it.
func (e *end) see(p *corev1.Pod) {
	if p.DeletionTimestamp == nil {
		return
	}
	kill, grace := p.DeletionTimestamp.Time, gracePeriod(p)
	if e.seen.IsZero() {
		*e = end{time.Now(), kill, grace}
	}
	if kill.Before(e.kill) {
		e.kill = kill
	}
	e.grace = min(e.grace, grace)
}

// addEnd adds to a pod what is remembered of its deletion. Where the skew is of
// no use, the kill time is reckoned as the API server does it: from the deletion
// on, with the grace period of now (k8s.io/apiserver, BeforeDelete).
func (x *Index) addEnd(p *Pod, e end) {
	if e.seen.IsZero() {
		return
	}
	p.DeletionSeen, p.Grace, p.KillAt = e.seen, e.grace, e.seen.Add(e.grace)
	if skew, ok := x.clock.skew(); ok {
		p.KillAt = e.kill.Add(-skew)
	}
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

// Stays says whether a pod is there to stay: it is not being deleted, it is
// ready, and so is its node. Where one of these fails, or one of the two is
// gone, it is leaving, and the answer is false without an error. Pod and node
// are read from the API server itself: the caches may lag behind. An error means
// that it cannot be told.
func (x *Index) Stays(ctx context.Context, p *Pod) (bool, error) {
	pod, err := x.readPod(ctx, p.Namespace, p.Name)
	switch {
	case errors.Is(err, ErrNoPod):
		return false, nil
	case err != nil:
		return false, err
	}
	x.learnPod(pod)
	if pod.UID != p.UID || pod.DeletionTimestamp != nil || !conditionTrue(pod.Status.Conditions, corev1.PodReady) {
		return false, nil
	}
	node, err := x.kube.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get node %s of pod %s: %w", pod.Spec.NodeName, p.Key(), err)
	}
	isReady := func(c corev1.NodeCondition) bool {
		return c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue
	}
	return slices.ContainsFunc(node.Status.Conditions, isReady), nil
}
