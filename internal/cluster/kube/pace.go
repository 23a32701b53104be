package kube

import (
	"context"
	"net/http"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/wait"
)

// Pauses between watches of one kind that end soon after they began: the first, and the
// longest, to which they double. A watch that lasts for steadyAfter was a good one, even
// if a proxy ends it: the next one begins at once. client-go pauses by itself where a
// request fails, but a watch that ends with 410 Gone it begins anew at once, with the
// whole state: hundreds of times a second.
const (
	firstPause   = 100 * time.Millisecond
	longestPause = 10 * time.Second
	steadyAfter  = 5 * time.Second
)

// pacer keeps watches apart.
type pacer struct {
	mu     sync.Mutex       // guards pauses; held for a moment only
	pauses map[string]pause // by what is watched
}

// pause is how long to wait from when on.
type pause struct {
	length time.Duration
	from   time.Time
}

// watched is what a request watches; "" for none.
func watched(req *http.Request) string {
	q := req.URL.Query()
	if q.Get("watch") == "" {
		return ""
	}
	return req.URL.Path + "?" + q.Get("labelSelector")
}

// await returns when the next watch may begin, or ctx ends.
func (p *pacer) await(ctx context.Context, watched string) {
	p.mu.Lock()
	next := p.pauses[watched]
	p.mu.Unlock()
	Pause(ctx, time.Until(next.from.Add(wait.Jitter(next.length, 0.5))))
}

// ended notes that a watch is over.
func (p *pacer) ended(watched string, began time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(began) >= steadyAfter {
		delete(p.pauses, watched)
		return
	}
	length := min(max(2*p.pauses[watched].length, firstPause), longestPause)
	p.pauses[watched] = pause{length, time.Now()}
}

// steady says whether a watch that began then can be relied on.
func (p *pacer) steady(watched string, began time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, pauses := p.pauses[watched]
	return !pauses || time.Since(began) >= steadyAfter
}
