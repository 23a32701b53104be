package drain

import (
	"context"
	"fmt"
	"time"
)

// A preStop hook also runs without a deletion. In a restart of the container,
// as after a failed liveness probe, the controller does not deregister the pod,
// and waiting would be useless. In a graceful shutdown of the node it does,
// since the pod turns unready. And a hook can arrive before the watch tells of
// the deletion. So a wait whose pod is not being deleted has doubts after a
// while and asks the API server itself.

// doubts is what a wait thinks of a pod that is not being deleted.
type doubts struct {
	next    time.Time // when to ask; zero for after the configured time
	asking  bool
	over    bool // it was found to be leaving all the same
	staying bool // it was found to be there to stay
}

// doubtAt is when the wait next has to ask.
func (w *wait) doubtAt() (at time.Time, ok bool) {
	if w.pod == nil || !w.pod.KillAt.IsZero() || w.doubts.asking || w.doubts.over {
		return time.Time{}, false
	}
	if w.doubts.next.IsZero() {
		return w.began.Add(w.cfg.Doubt), true
	}
	return w.doubts.next, true
}

// doubt asks the API server, once it is time, whether the pod is there to stay.
func (w *wait) doubt() {
	const about = "pod"
	at, ok := w.doubtAt()
	if !ok || time.Now().Before(at) {
		return
	}
	w.doubts.asking = true
	pod := w.pod
	w.beside(func(ctx context.Context) func() error {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		staying, err := w.cluster.Staying(ctx, pod)
		return func() error {
			w.doubts.asking = false
			if err != nil {
				w.troubles[about] = fmt.Errorf("tell whether pod %s is being stopped: %w", pod.Key(), err)
				w.doubts.next = time.Now().Add(time.Second)
				return nil
			}
			delete(w.troubles, about)
			w.doubts.staying, w.doubts.over = staying, !staying
			return nil
		}
	})
}
