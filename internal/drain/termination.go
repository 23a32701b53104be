package drain

import (
	"context"
	"fmt"
	"time"
)

// A preStop hook also runs without a deletion. When a container restarts, as after a
// failed liveness probe, the controller does not deregister the pod. In a graceful
// shutdown of the node it does, since the pod turns unready. And a hook can arrive
// before the watch tells of the deletion.

// terminationCheck is when to check, and what that has found.
type terminationCheck struct {
	again   time.Time // when to check again; zero for after the configured time
	running bool
	leaves  bool // the pod leaves all the same
	stays   bool // it is there to stay
}

// next is when the wait next has to check.
func (t *terminationCheck) next(w *wait) (at time.Time, ok bool) {
	if w.pod == nil || w.pod.UID == "" || !w.pod.KillAt.IsZero() || t.running || t.leaves || t.stays {
		return time.Time{}, false
	}
	if t.again.IsZero() {
		return w.began.Add(w.cfg.TerminationCheck), true
	}
	return t.again, true
}

// checkTermination asks the API server, once it is time, whether the pod is
// there to stay.
func (w *wait) checkTermination() {
	at, ok := w.termination.next(w)
	if !ok || time.Now().Before(at) {
		return
	}
	w.termination.running = true
	pod := w.pod
	w.spawn(func(ctx context.Context) func() {
		ctx, cancel := context.WithTimeout(ctx, liveTimeout)
		defer cancel()
		stays, err := w.cluster.NotTerminating(ctx, w.request.Caller, pod)
		return func() { w.checkedTermination(pod.UID == w.pod.UID, stays, err) }
	})
}

// checkedTermination takes in the answer, where it is about the pod of the wait.
func (w *wait) checkedTermination(same, stays bool, err error) {
	const about = "termination"
	if !same {
		return
	}
	w.termination.running = false
	if err != nil {
		w.setLookupError(about, fmt.Errorf("check whether pod %s is being stopped: %w", w.pod.Key(), err))
		w.termination.again = time.Now().Add(time.Second)
		return
	}
	w.setLookupError(about, nil)
	w.termination.stays, w.termination.leaves = stays, !stays
}
