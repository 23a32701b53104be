package e2e

import (
	"testing"
)

// curlHook is the hook for images with a shell and curl.
var curlHook = []string{"sh", "-c", "curl -fsS --retry 2 --retry-delay 1 --retry-connrefused --connect-timeout 2 --max-time 300 http://drain-wait.drain-wait:8080/drain-delay || sleep 25"}

// A rolling update by the real controllers, under load: no request fails where
// pods ask the service before they stop, and some do where they don't.
func TestRollingUpdate(t *testing.T) {
	tb := newTestbed(t)
	r := tb.startService(t, hostAddress, tb.serviceKubeconfig(t))
	tb.nameService(t, hostAddress)
	r.awaitReady(t)
	for _, tt := range []struct {
		name  string
		hook  []string
		fails bool
	}{
		{"curl", curlHook, false},
		{"none", nil, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			a := tb.createApplication(t, "app-"+tt.name, 3, 60, tt.hook, nil)
			tb.awaitRollout(t, a)
			l := tb.startLoad(t, a)
			tb.roll(t, a)
			tb.awaitRollout(t, a)
			requests, failed := l.end()
			for _, p := range tb.kubelet.pods(a.name) {
				if p.Deleted.IsZero() {
					continue
				}
				t.Logf("%s: gone after %v, hook: %v %s", p.Name, p.Gone.Sub(p.Deleted), p.HookErr, p.Output)
				if p.MaySend && !tt.fails {
					t.Errorf("pod %s stopped while it might still get requests", p.Name)
				}
			}
			t.Logf("%d requests, %d failed", requests, len(failed))
			switch {
			case tt.fails && len(failed) == 0:
				t.Errorf("none of %d requests failed: this world does not test anything", requests)
			case !tt.fails && len(failed) > 0:
				t.Errorf("%d of %d requests failed: %q", len(failed), requests, failed)
			}
		})
	}
}
