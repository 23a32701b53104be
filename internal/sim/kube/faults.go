package kube

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"time"

	"k8s.io/apimachinery/pkg/runtime/schema"
)

// The methods here make things go wrong with the Kubernetes API.

// ServeGroup makes the cluster serve an API group or stop serving it. A group that is
// not served is missing from discovery, and its paths answer 404.
func (s *Cluster) ServeGroup(group string, on bool) {
	s.off[group] = !on
	for _, t := range s.tables {
		if t.Group == group && !on {
			t.endWatches((*watcher).end)
		}
	}
}

// ServeVersion makes the cluster serve one version of an API group or stop serving it.
// The paths of a version that is not served answer 404, while the group is still served
// with the versions that are left. A version of which the world knows no resources is
// served without any.
func (s *Cluster) ServeVersion(group, version string, on bool) {
	gv := schema.GroupVersion{Group: group, Version: version}
	s.versions[gv] = on
	for _, t := range s.tables {
		if t.GroupVersion() == gv && !on {
			t.endWatches((*watcher).end)
		}
	}
}

// LagWatches makes changes of a resource (its plural name; empty for all) reach the
// watchers later by that much from now on, in order and in addition to the usual lag.
// Zero ends that, and delivers at once what is held back. A list or a get still sees
// the present, unless it names a resourceVersion: then it sees what the watchers know.
// So does a watch that begins with the whole state. The world's own controllers and
// kubelets do not lag.
func (s *Cluster) LagWatches(resource string, lag time.Duration) {
	for _, t := range s.named(resource) {
		t.lag = lag
		if lag == 0 {
			t.deliver(s.revision)
			t.due = s.line.Present()
		}
	}
}

// named are the tables of those resources, or all if no name or an empty one is
// given.
func (s *Cluster) named(resources ...string) []*table {
	if len(resources) == 0 || resources[0] == "" {
		return s.tables
	}
	named := slices.DeleteFunc(slices.Clone(s.tables), func(t *table) bool { return !slices.Contains(resources, t.Resource) })
	if len(named) == 0 {
		panic(fmt.Sprintf("sim: no resource %q", resources))
	}
	return named
}

// CutWatches closes the watches of some resources (their plural names), or all, as
// a restart of the API server does. With [Cluster.Fail] they do not come back.
func (s *Cluster) CutWatches(resources ...string) {
	for _, t := range s.named(resources...) {
		t.endWatches((*watcher).end)
	}
}

// ExpireWatches ends all watches with 410 Gone and forgets the history, so that
// clients have to list again.
func (s *Cluster) ExpireWatches() {
	for _, t := range s.tables {
		t.history, t.compacted = nil, s.revision
		t.endWatches(func(x *watcher) { x.expire(x.from, t.compacted) })
	}
}

// AlwaysExpire decides whether every watch ends with 410 Gone at once, those that begin
// with the whole state, too. Lists still work.
func (s *Cluster) AlwaysExpire(on bool) {
	s.expiring = on
	if on {
		s.ExpireWatches()
	}
}

func (t *table) endWatches(end func(*watcher)) {
	for _, x := range t.watchers {
		end(x)
	}
	t.watchers = nil
}

// SkewClock makes the API server's clock wrong by d, in real time.
func (s *Cluster) SkewClock(d time.Duration) { s.skew = d }

// Fail makes requests that match answer with an HTTP status, until it is
// called again; a nil match ends it.
func (s *Cluster) Fail(match func(*http.Request) bool, status int) {
	s.fail, s.failStatus = match, status
}

// Requests counts the requests so far by verb and resource, in kubectl's
// notation: "watch pods", "list ingresses.networking.k8s.io"; others by method
// and path.
func (s *Cluster) Requests() map[string]int { return maps.Clone(s.requests) }
