package kube

import (
	"time"

	"drainwait/internal/sim/timeline"
)

// Assumptions are what we assume that an API server does.
type Assumptions struct {
	// How long one call to the Kubernetes API takes. Typical of a small
	// cluster; no published figure.
	Latency timeline.Range
	// How long a change takes from the Kubernetes API to a watcher. Measured
	// with kube-apiserver 1.37 on one machine: a few milliseconds; the rest is
	// allowance for a busy machine.
	WatchLag timeline.Range
	// How often a watch that allows bookmarks gets one. k8s.io/apiserver,
	// pkg/storage/cacher: about once a minute.
	BookmarkEvery timeline.Range
}

// DefaultAssumptions is an ordinary day in a small cluster.
func DefaultAssumptions() Assumptions {
	const ms = time.Millisecond
	return Assumptions{
		Latency:       timeline.Between(2*ms, 20*ms),
		WatchLag:      timeline.Between(2*ms, 50*ms),
		BookmarkEvery: timeline.Between(55*time.Second, 65*time.Second),
	}
}
