package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"drainwait/internal/sim/aws"
)

// If the replica that holds the hook client is killed, the client asks another one. Its
// answer does not come too early, and comes at most one settle time later than it would
// have come.
func TestReplicaKilled(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	const settle, grace = 10 * time.Second, 90 * time.Second
	var replicas []*replica
	for range 2 {
		replicas = append(replicas, tb.startService(t, tb.serviceKubeconfig(t), "--settle-alb", settle.String()))
	}
	tb.nameService(t, replicas...)
	for _, r := range replicas {
		r.awaitReady(t)
	}
	a := tb.createApplication(t, aws.ALB, "web", 1, withHook(int64(grace.Seconds()), "/prestop", "--strict"))
	tb.awaitRollout(t, a.name)
	pod := tb.kubelet.pods(a.name)[0]
	tb.deletePod(t, pod)
	var asked *replica
	until(t, "question of the hook", func() error {
		for _, r := range replicas {
			if n, err := r.inFlight(t.Context()); err == nil && n == 1 {
				asked = r
				return nil
			}
		}
		return fmt.Errorf("no replica has one")
	})
	tb.awaitState(t, a, pod, "draining")
	left := time.Now() // or a little earlier
	time.Sleep(settle / 2)
	asked.kill()

	got := tb.awaitGone(t, pod)
	log, err := os.ReadFile(got.Pod.log)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("held for %v, %v after its target had left; its log:\n%s", got.HookEnded.Sub(got.Deleted), got.HookEnded.Sub(left), log)
	if got.HookErr != nil || !strings.Contains(string(log), "drained after") {
		t.Errorf("hook: %v %s; want it to be told that the pod is drained", got.HookErr, got.Output)
	}
	if got.MaySend {
		t.Error("hook ended while the pod might still get requests")
	}
	if held := got.HookEnded.Sub(got.Deleted); held > grace-5*time.Second {
		t.Errorf("hook held the pod for %v of a grace period of %v", held, grace)
	}
	if late := got.HookEnded.Sub(left) - settle; late > settle {
		t.Errorf("hook ended %v later than if the replica had lived; want %v at most", late, settle)
	}
}
