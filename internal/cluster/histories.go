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
	if !slices.ContainsFunc(kube.ByKey[corev1.Pod](x.seenPods, key(p)), isOlder) {
		_ = x.reads.Update(p) // no error: it has a name
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
	if h == nil || x.watched(func(w *watcher) bool { return w.pod.id() == id }) {
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
