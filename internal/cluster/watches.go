package cluster

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// maxAge is how long a watch may tell nothing. The API server sends a bookmark
// about once a minute (k8s.io/apiserver, bookmarkFrequency of the watch cache),
// so that two were lost by then; and client-go tries again after half a minute
// at most, where an attempt fails.
const maxAge = 3 * time.Minute

// ages are, by resource, the times since a watch last told something.
type ages struct {
	mu sync.Mutex // guards last
	// last is, by the end of the path of a watch, when something last came in on
	// it, when it was opened or when it ended, whichever is latest; or since when
	// it is expected. For bindings that are not served, it is when the API server
	// last said so.
	last map[string]time.Time
}

// watchPaths are the paths of all watches that are expected.
func (x *Index) watchPaths() []string {
	var paths []string
	for _, r := range x.resources {
		paths = append(paths, r.paths...)
	}
	for _, s := range x.bindings {
		paths = append(paths, s.paths...)
	}
	return paths
}

// heard notes that there is news of paths. From then on they count.
func (a *ages) heard(paths ...string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.last == nil {
		a.last = make(map[string]time.Time)
	}
	for _, p := range paths {
		a.last[p] = time.Now()
	}
}

// oldest is the path of which nothing was heard for longest, and for how long.
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

// expected is the path that counts of a request to watch; the API server can be
// behind a path of its own. The watch of our own replicas, which has a selector,
// does not count.
func (a *ages) expected(req *http.Request) string {
	if q := req.URL.Query(); q.Get("watch") == "" || q.Get("labelSelector") != "" {
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

// opened sees each answer, and listens to those that are watches.
func (a *ages) opened(req *http.Request, resp *http.Response) {
	if resp.StatusCode != http.StatusOK {
		return
	}
	if path := a.expected(req); path != "" {
		a.heard(path)
		resp.Body = &watchBody{resp.Body, func() { a.heard(path) }}
	}
}

// watchBody tells of what comes in on a watch and of its end.
type watchBody struct {
	io.ReadCloser
	heard func()
}

// Read implements [io.Reader].
func (b *watchBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.heard()
	return n, err
}

// WatchAge is how long the watch that has been silent for longest has told
// nothing. The API server sends a bookmark about once a minute.
func (x *Index) WatchAge() time.Duration {
	_, age := x.ages.oldest()
	return age
}

// Synced says whether everything was read once. How many replicas there are does
// not count.
func (x *Index) Synced() bool { return x.unread() == nil }

// Ready says why the caches cannot be trusted now; nil where they can.
func (x *Index) Ready() error {
	if err := x.unread(); err != nil {
		return err
	}
	for _, s := range x.bindings {
		if serving(s.state.Load()) == versionGone {
			return fmt.Errorf("the API server serves %s, but not in version %s, the only one that is known here: TargetGroupBindings cannot be read; a newer version of this program may know it", s.gvr.Group, s.gvr.Version)
		}
	}
	if path, age := x.ages.oldest(); age > maxAge {
		return fmt.Errorf("nothing has come from the API server for %s on %s, which tells something each minute", age.Round(time.Second), path)
	}
	return nil
}

// unread names what was not read yet.
func (x *Index) unread() error {
	for _, r := range x.resources {
		if !r.hasSynced() {
			return fmt.Errorf("not read yet: %s (is list and watch of them allowed?)", r.name)
		}
	}
	for _, s := range x.bindings {
		if !s.known.Load() {
			return fmt.Errorf("not read yet: %s (is list and watch of them allowed?)", s.gvr.GroupResource())
		}
	}
	return nil
}
