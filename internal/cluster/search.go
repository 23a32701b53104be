package cluster

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/cluster/kube"
)

// Bounds of live searches. Each is a list of pods, for which the API server has to
// read through etcd.
const (
	searchEvery = 200 * time.Millisecond
	searchFor   = 5 * time.Second // how long one may take
	keepFound   = time.Second     // how long an answer serves others
)

// searches are the live searches for pods by address. Callers are served in turn, so
// that none who asks a lot keeps the others waiting.
type searches struct {
	mu      sync.Mutex // guards the rest; not held across a call
	queues  map[netip.Addr][]*search
	turn    []netip.Addr // callers that have something in their queue, the next one first
	byIP    map[netip.Addr]*search
	running bool
}

// search is one question, shared by all who ask it.
type search struct {
	ip      netip.Addr
	waiting int // callers
	begun   bool
	done    chan struct{} // closed when there is an answer
	pods    []*corev1.Pod // not completed ones; read only after done
	err     error
}

// search asks the API server itself which pods have an address as their primary one.
func (x *Index) search(ctx context.Context, caller, ip netip.Addr) ([]*corev1.Pod, error) {
	s := x.enqueue(caller, ip)
	defer func() {
		x.searches.mu.Lock()
		defer x.searches.mu.Unlock()
		s.waiting--
	}()
	select {
	case <-s.done:
		return s.pods, s.err
	case <-ctx.Done():
		return nil, fmt.Errorf("search for the pod of %s: %w", ip, ctx.Err())
	}
}

// enqueue joins a search that is wanted, under way or just over. One that has not
// begun also goes into the queue of this caller, whose turn may come sooner.
func (x *Index) enqueue(caller, ip netip.Addr) *search {
	q := &x.searches
	q.mu.Lock()
	defer q.mu.Unlock()
	s := q.byIP[ip]
	if s == nil {
		s = &search{ip: ip, done: make(chan struct{})}
		q.byIP[ip] = s
	}
	s.waiting++
	if s.begun || slices.Contains(q.queues[caller], s) {
		return s
	}
	if len(q.queues[caller]) == 0 {
		q.turn = append(q.turn, caller)
	}
	q.queues[caller] = append(q.queues[caller], s)
	if !q.running {
		q.running = true
		x.work.start(x.searchAll)
	}
	return s
}

// searchAll makes searches, one each searchEvery, until none is left.
func (x *Index) searchAll(ctx context.Context) {
	for s := x.searches.pop(); s != nil; s = x.searches.pop() {
		x.work.start(func(ctx context.Context) { x.searchOne(ctx, s) })
		kube.Pause(ctx, searchEvery)
	}
}

// pop takes the next search that somebody waits for, from the callers in turn;
// nil where there is none.
func (q *searches) pop() *search {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.turn) > 0 {
		caller := q.turn[0]
		q.turn = q.turn[1:]
		s := q.queues[caller][0]
		if q.queues[caller] = q.queues[caller][1:]; len(q.queues[caller]) > 0 {
			q.turn = append(q.turn, caller)
		} else {
			delete(q.queues, caller)
		}
		if !s.begun && s.waiting > 0 {
			s.begun = true
			return s
		}
		if !s.begun && q.byIP[s.ip] == s {
			delete(q.byIP, s.ip) // nobody waits for it any more
		}
	}
	q.running = false
	return nil
}

// searchOne makes a search and keeps an answer for a while.
func (x *Index) searchOne(ctx context.Context, s *search) {
	s.pods, s.err = x.podsWith(ctx, s.ip)
	close(s.done)
	if s.err == nil {
		kube.Pause(ctx, keepFound)
	}
	x.searches.mu.Lock()
	defer x.searches.mu.Unlock()
	delete(x.searches.byIP, s.ip)
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
