package cluster

import (
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/cluster/ties"
)

// history is what is remembered of a pod, or of an address that no pod has and that
// is watched.
type history struct {
	ties.History
	deletion deletion
	read     time.Time // when it was last read or asked for
}

// eachHistory is what ties pods, for who holds the lock.
func (x *Index) eachHistory(yield func(*ties.History) bool) {
	for _, h := range x.histories {
		if !yield(&h.History) {
			return
		}
	}
}

// historyOf is what is remembered of a pod, and takes in what it shows of itself now.
// live says that the API server itself showed it. Called with the lock.
func (x *Index) historyOf(p *corev1.Pod, live bool) *history {
	h := x.histories[p.UID]
	if h == nil {
		h = &history{History: ties.NewHistory(p, live)}
		x.histories[p.UID] = h
	}
	h.Note(p)
	h.deletion.note(p, &x.kube.Clock)
	h.read = time.Now()
	return h
}

// rememberPod takes in what a live read shows, as if the watch had told it.
func (x *Index) rememberPod(p *corev1.Pod) *corev1.Pod {
	trimmed, _ := trimPod(p) // no error: it is a pod
	p = trimmed.(*corev1.Pod)
	x.mu.Lock()
	defer x.mu.Unlock()
	h := x.historyOf(p, true)
	isOlder := func(known *corev1.Pod) bool { return !laterVersion(p.ResourceVersion, known.ResourceVersion) }
	known := kube.ByKey[corev1.Pod](x.seenPods, key(p))
	switch i := slices.IndexFunc(known, isOlder); {
	case i < 0:
		_ = x.reads.Update(p) // no error: it has a name
	case known[i].UID == p.UID && known[i].ResourceVersion == p.ResourceVersion:
		p = known[i] // thousands of waits should not hold a copy each
	}
	h.Tie(x.records.ServicesOf(p)...)
	x.wake(p.Namespace, p.Name)
	return p
}

// dropRead drops what a live read showed of a pod, where the watch has caught up.
// Called with the lock.
func (x *Index) dropRead(p *corev1.Pod) {
	read := kube.Get[corev1.Pod](kube.Stores{x.reads}, key(p))
	if read != nil && !laterVersion(read.ResourceVersion, p.ResourceVersion) {
		_ = x.reads.Delete(read) // no error: it has a name
	}
}

func key(p *corev1.Pod) string { return p.Namespace + "/" + p.Name }

// keepRead is how long a pod that only a live read showed is remembered without
// a watch.
const keepRead = time.Minute

// forget drops what is remembered of a pod, unless someone watches it, it exists, or
// a live read has just shown it. Called with the lock.
func (x *Index) forget(id types.UID) {
	h := x.histories[id]
	if h == nil || slices.ContainsFunc(x.watchers[h.Namespace][h.Name], func(w *watcher) bool { return w.pod.id() == id }) {
		return
	}
	key := h.Namespace + "/" + h.Name
	cached, read := kube.Get[corev1.Pod](x.pods, key), kube.Get[corev1.Pod](kube.Stores{x.reads}, key)
	isRead := read != nil && read.UID == id
	if cached != nil && cached.UID == id || isRead && time.Since(h.read) <= keepRead {
		return
	}
	delete(x.histories, id)
	if isRead {
		_ = x.reads.Delete(read) // no error: it has a name
	}
}

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

// longestGrace, in seconds, is some thirty years. People set the largest number of an
// int64, which a [time.Duration] of seconds cannot hold.
const longestGrace = 1e9

// gracePeriod is that of a pod's deletion, or else that of its specification.
func gracePeriod(p *corev1.Pod) time.Duration {
	for _, s := range []*int64{p.DeletionGracePeriodSeconds, p.Spec.TerminationGracePeriodSeconds} {
		if s != nil {
			return time.Duration(min(max(*s, 0), longestGrace)) * time.Second
		}
	}
	return 30 * time.Second // the API server's default
}
