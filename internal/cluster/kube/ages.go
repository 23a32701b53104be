package kube

import (
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// maxAge is how long a watch may be silent. The API server sends a bookmark about
// once a minute (k8s.io/apiserver, bookmarkFrequency of the watch cache), so two
// were lost by then; and where an attempt fails, client-go tries again within half
// a minute.
const maxAge = 3 * time.Minute

// ages know when each watch last brought something.
type ages struct {
	mu sync.Mutex // guards the rest
	// last is, by the end of a watch's path, when the watch last brought something,
	// opened or ended; before that, since when it is expected. For bindings that are
	// not served, it is when the API server last said so.
	last map[string]time.Time
	gap  time.Time // see [Client.Gap]
}

// heard notes that something came on these paths. From then on they count.
func (a *ages) heard(paths ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range paths {
		a.last[p] = time.Now()
	}
}

// oldest is the path that has been silent for longest, and for how long.
func (a *ages) oldest() (path string, age time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for p, at := range a.last {
		if d := time.Since(at); path == "" || d > age || d == age && p < path {
			path, age = p, d
		}
	}
	return path, age
}

// expected is the path of a watch; "" for one that does not count. The API server
// can be behind a path of its own. The watch of our own replicas, which has a
// selector, does not count.
func (a *ages) expected(req *http.Request) string {
	if req.URL.Query().Get("labelSelector") != "" {
		return ""
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for p := range a.last {
		if strings.HasSuffix(req.URL.Path, p) {
			return p
		}
	}
	return ""
}

// listen follows an open watch, of a path that has an age unless it is "". While watches
// of its kind end soon, it counts from when it has lasted.
func (c *Client) listen(body io.ReadCloser, what, path string, began time.Time) io.ReadCloser {
	heard := func() {
		if path != "" && c.pacer.steady(what, began) {
			c.ages.heard(path)
		}
	}
	lasts := time.AfterFunc(steadyAfter, heard)
	if c.pacer.steady(what, began) {
		lasts.Stop()
		heard()
	}
	return &watchBody{body, heard, sync.OnceFunc(func() {
		lasts.Stop()
		c.pacer.ended(what, began)
	})}
}

// watchBody tells when something comes in on a watch, and when the watch is over.
type watchBody struct {
	io.ReadCloser
	heard, ended func()
}

// Read implements [io.Reader].
func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.heard()
	return n, err
}

// Close implements [io.Closer].
func (b *watchBody) Close() error {
	b.ended()
	return b.ReadCloser.Close()
}

// WatchAge is how long the quietest watch has brought nothing; see maxAge.
func (c *Client) WatchAge() time.Duration {
	_, age := c.ages.oldest()
	return age
}

// noteGap sees the options of each list and watch that an informer is about to
// ask for. One that begins with the whole state says nothing of what came and went
// before; any other goes on where the last one ended.
func (a *ages) noteGap(o *metav1.ListOptions) {
	if o.AllowWatchBookmarks && o.SendInitialEvents == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.gap = time.Now()
}

// Gap is when an informer last began anew in place of going on where its watch had
// ended: changes before it can have been missed.
func (c *Client) Gap() time.Time {
	c.ages.mu.Lock()
	defer c.ages.mu.Unlock()
	return c.ages.gap
}
