package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Stays says whether a pod is there to stay: it is not being deleted, it is
// ready, and so is its node. Where one of these fails, or one of the two is
// gone, it is leaving, and the answer is false without an error. Pod and node
// are read from the API server itself: the caches may lag behind. An error means
// that it cannot be told.
func (x *Index) Stays(ctx context.Context, p *Pod) (bool, error) {
	pod, err := x.kube.CoreV1().Pods(p.Namespace).Get(ctx, p.Name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get pod %s: %w", p.Key(), err)
	case pod.UID != p.UID, pod.DeletionTimestamp != nil, !conditionTrue(pod.Status.Conditions, corev1.PodReady):
		return false, nil
	}
	node, err := x.kube.CoreV1().Nodes().Get(ctx, pod.Spec.NodeName, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("get node %s of pod %s: %w", pod.Spec.NodeName, p.Key(), err)
	}
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue, nil
		}
	}
	return false, nil
}
