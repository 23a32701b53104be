package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/kube"
)

// Bounds of live searches. Each is a list of pods, for which the API server has to
// read through etcd.
const (
	searchRate = 5               // per second
	searchFor  = 5 * time.Second // how long one may take
	keepFound  = time.Second     // how long an answer serves others
)

// searches are the live searches for pods by address. Callers are served in turn.
type searches struct {
	turns *turns
	mu    sync.Mutex // guards the rest; not held across a call
	byIP  map[netip.Addr]*search
}

// search is one question, shared by all who ask it.
type search struct {
	waiting int           // callers; guarded by the lock of searches
	begun   chan struct{} // closed with the first turn of any of them
	begin   sync.Once
	done    chan struct{} // closed when there is an answer
	pods    []*corev1.Pod // not completed ones; read only after done
	err     error
}

// search asks the API server itself which pods have an address as their primary one. It
// joins a search that is wanted, under way or just over, and where that has not begun, it
// begins with whichever turn comes first.
func (x *Index) search(ctx context.Context, caller, ip netip.Addr) ([]*corev1.Pod, error) {
	s := x.searches.join(ip)
	defer x.searches.leave(ip, s)
	select {
	case <-s.begun:
	default:
		t := x.searches.turns.queue(caller)
		select {
		case <-t.come:
			s.begin.Do(func() {
				close(s.begun)
				x.work.start(func(ctx context.Context) { x.searchOne(ctx, ip, s) })
			})
		case <-s.begun:
			x.searches.turns.giveUp(t)
		case <-ctx.Done():
			x.searches.turns.giveUp(t)
		}
	}
	select {
	case <-s.done:
		return s.pods, s.err
	case <-ctx.Done():
		return nil, fmt.Errorf("search for the pod of %s: %w", ip, ctx.Err())
	}
}

func (q *searches) join(ip netip.Addr) *search {
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.byIP[ip]
	if s == nil {
		s = &search{begun: make(chan struct{}), done: make(chan struct{})}
		q.byIP[ip] = s
	}
	s.waiting++
	return s
}

// leave forgets a search that nobody waits for and that has not begun.
func (q *searches) leave(ip netip.Addr, s *search) {
	q.mu.Lock()
	defer q.mu.Unlock()
	s.waiting--
	select {
	case <-s.begun:
	default:
		if s.waiting == 0 {
			delete(q.byIP, ip)
		}
	}
}

// searchOne makes a search and keeps an answer for a while.
func (x *Index) searchOne(ctx context.Context, ip netip.Addr, s *search) {
	s.pods, s.err = x.podsWith(ctx, ip)
	close(s.done)
	if s.err == nil {
		kube.Pause(ctx, keepFound)
	}
	x.searches.mu.Lock()
	defer x.searches.mu.Unlock()
	delete(x.searches.byIP, ip)
}

// podsWith lists the pods that have an address, and remembers what they show.
func (x *Index) podsWith(ctx context.Context, ip netip.Addr) ([]*corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, searchFor)
	defer cancel()
	var found []*corev1.Pod
	for _, ns := range x.kube.Namespaces {
		l, err := x.kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{FieldSelector: "status.podIP=" + ip.String()})
		if err != nil {
			return nil, fmt.Errorf("search for the pod of %s: %w", ip, err)
		}
		for i := range l.Items {
			if p := x.rememberPod(&l.Items[i]); !completed(p) {
				found = append(found, p)
			}
		}
	}
	return found, nil
}
