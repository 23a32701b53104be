package cluster

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"drainwait/internal/sim"
)

func TestPodAt(t *testing.T) {
	const objects = `
kind: Pod
metadata: {name: a}
status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
kind: Pod
metadata: {name: old-status}
status: {phase: Running, podIP: 10.0.0.2}
---
kind: Pod
metadata: {name: succeeded}
status: {phase: Succeeded, podIP: 10.0.0.2, podIPs: [{ip: 10.0.0.2}]}
---
kind: Pod
metadata: {name: failed}
status: {phase: Failed, podIP: 10.0.0.3, podIPs: [{ip: 10.0.0.3}]}
---
kind: Pod
metadata: {name: twin}
status: {phase: Running, podIP: 10.0.0.4, podIPs: [{ip: 10.0.0.4}]}
---
kind: Pod
metadata: {name: twin, namespace: other}
status: {phase: Running, podIP: 10.0.0.4, podIPs: [{ip: 10.0.0.4}]}
---
kind: Pod
metadata: {name: kube-proxy, namespace: kube-system}
spec: {hostNetwork: true}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
kind: Pod
metadata: {name: gateway}
spec: {hostNetwork: true}
status: {phase: Running, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
kind: Pod
metadata: {name: completed}
spec: {hostNetwork: true}
status: {phase: Succeeded, podIP: 10.1.0.1, podIPs: [{ip: 10.1.0.1}]}
---
kind: Pod
metadata: {name: lone, namespace: kube-system}
spec: {hostNetwork: true}
status: {phase: Running, podIP: 10.1.0.2, podIPs: [{ip: 10.1.0.2}]}
---
kind: Pod
metadata: {name: left, namespace: pairs}
spec: {hostNetwork: true}
status: {phase: Running, podIP: 10.1.0.3, podIPs: [{ip: 10.1.0.3}]}
---
kind: Pod
metadata: {name: right, namespace: pairs}
spec: {hostNetwork: true}
status: {phase: Running, podIP: 10.1.0.3, podIPs: [{ip: 10.1.0.3}]}
`
	inIndexed(t, Config{}, objects, func(t *testing.T, w *world) {
		for _, tt := range []struct {
			name, ip, namespace string
			want                string
			err                 error
		}{
			{"by its address", "10.0.0.1", "", "default/a", nil},
			{"by its other address", "fd00::1", "", "default/a", nil},
			{"by another spelling", "fd00:0:0::0:1", "", "default/a", nil},
			{"mapped to IPv6", "::ffff:10.0.0.1", "", "default/a", nil},
			{"in its namespace", "10.0.0.1", "default", "default/a", nil},
			{"in a namespace that is not its own", "10.0.0.1", "other", "default/a", nil},
			{"in a namespace without pods", "10.0.0.1", "none", "default/a", nil},
			{"nobody has the address", "10.9.9.9", "", "", ErrNoPod},
			{"nobody has the address in the namespace", "10.9.9.9", "default", "", ErrNoPod},
			{"a completed one had it before", "10.0.0.2", "", "default/old-status", nil},
			{"only a failed one had it", "10.0.0.3", "", "", ErrNoPod},
			{"two have it", "10.0.0.4", "", "", ErrAmbiguous},
			{"two have it, the namespace tells", "10.0.0.4", "other", "other/twin", nil},
			{"two have it, not in the namespace", "10.0.0.4", "none", "", ErrAmbiguous},
			{"a node's", "10.1.0.1", "", "", ErrAmbiguous},
			{"a node's, the namespace tells", "10.1.0.1", "default", "default/gateway", nil},
			{"a node's, not in the namespace", "10.1.0.1", "other", "", ErrAmbiguous},
			{"a node's with one pod", "10.1.0.2", "", "", ErrAmbiguous},
			{"a node's with one pod, in its namespace", "10.1.0.2", "kube-system", "kube-system/lone", nil},
			{"a node's with one pod, in another namespace", "10.1.0.2", "default", "", ErrAmbiguous},
			{"a node's, two in the namespace", "10.1.0.3", "pairs", "", ErrAmbiguous},
		} {
			p, err := w.PodAt(netip.MustParseAddr(tt.ip), tt.namespace)
			got := ""
			if p != nil {
				got = p.Key()
			}
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s: %s in %q: got %q and error %v, want %q and %v", tt.name, tt.ip, tt.namespace, got, err, tt.want, tt.err)
			}
			if err != nil && !strings.Contains(err.Error(), netip.MustParseAddr(tt.ip).String()) {
				t.Errorf("%s: error %q does not name the address", tt.name, err)
			}
		}
	})
}

func TestPodAtFollowsAddresses(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		find := func(ip string) string {
			p, err := w.PodAt(netip.MustParseAddr(ip), "")
			if err != nil {
				return ""
			}
			return p.Name
		}
		w.apply("{kind: Pod, metadata: {name: a}}")
		w.pass(time.Second)
		w.apply("{kind: Pod, metadata: {name: a}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}")
		w.pass(time.Second)
		if got := find("10.0.0.1"); got != "a" {
			t.Errorf("found %q at the address of a", got)
		}
		w.apply("{kind: Pod, metadata: {name: a}, status: {phase: Succeeded, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}")
		w.apply("{kind: Pod, metadata: {name: b}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}]}}")
		w.pass(time.Second)
		if got := find("10.0.0.1"); got != "b" {
			t.Errorf("found %q at the address that went over to b", got)
		}
		w.remove("{kind: Pod, metadata: {name: b}}")
		w.pass(time.Second)
		if got := find("10.0.0.1"); got != "" {
			t.Errorf("found %q at the address of nobody", got)
		}
	})
}

func TestPod(t *testing.T) {
	for _, tt := range []struct {
		name, yaml string
		want       Pod
	}{
		{
			"as little as can be", `
kind: Pod
metadata: {name: a}`,
			Pod{Grace: 30 * time.Second},
		},
		{
			"hooks and sidecars", `
kind: Pod
metadata: {name: a}
spec:
  terminationGracePeriodSeconds: 90
  initContainers:
  - {name: setup}
  - {name: mesh, restartPolicy: Always}
  - {name: logs, restartPolicy: Always, lifecycle: {preStop: {sleep: {seconds: 1}}}}
  containers:
  - {name: app, lifecycle: {preStop: {exec: {command: [/prestop]}}}}
  - {name: bare}
  - {name: post, lifecycle: {postStart: {exec: {command: [/poststart]}}}}
status:
  podIPs: [{ip: 10.0.0.1}, {ip: "::ffff:10.0.0.2"}]`,
			Pod{
				Grace: 90 * time.Second, WithoutPreStop: []string{"bare", "post"},
				IPs: []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.2")},
			},
		},
		{
			"deleted with a shorter grace", `
kind: Pod
metadata: {name: a, deletionTimestamp: "2000-01-01T00:01:00Z", deletionGracePeriodSeconds: 20}
spec: {terminationGracePeriodSeconds: 90, hostNetwork: true}`,
			Pod{HostNetwork: true, Grace: 20 * time.Second, DeletionSeen: time.Unix(1, 0), KillAt: time.Date(2000, 1, 1, 0, 1, 0, 0, time.UTC)},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, tt.yaml, func(t *testing.T, w *world) {
				got := w.Pod("default", "a")
				if got == nil {
					t.Fatal("no pod")
				}
				if got.UID == "" {
					t.Error("no UID")
				}
				want := tt.want
				if !want.DeletionSeen.IsZero() && time.Since(got.DeletionSeen) <= time.Second {
					want.DeletionSeen = got.DeletionSeen
				}
				want.Namespace, want.Name, want.UID = "default", "a", got.UID
				if d := cmp.Diff(&want, got, cmp.Comparer(sameAddr), cmp.FilterPath(unexported, cmp.Ignore())); d != "" {
					t.Errorf("(-want +got):\n%s", d)
				}
				if w.Pod("default", "b") != nil || w.Pod("other", "a") != nil {
					t.Error("found a pod that there is not")
				}
			})
		})
	}
}

func sameAddr(a, b netip.Addr) bool { return a == b }

// unexported is true for the fields of [Pod] that only this package reads.
func unexported(p cmp.Path) bool {
	f, ok := p.Last().(cmp.StructField)
	return ok && (f.Name() == "raw" || f.Name() == "since")
}

// Which pods can have been tied to something that escaped us.
func TestOlder(t *testing.T) {
	const (
		bare     = "{kind: Pod, metadata: {name: a, labels: {app: web}}}"
		starting = `
kind: Pod
metadata: {name: a, labels: {app: web}}
status: {podIP: 10.0.0.1, conditions: [{type: ContainersReady, status: "False"}]}`
		ready = `
kind: Pod
metadata: {name: a, labels: {app: web}}
status: {podIP: 10.0.0.1, conditions: [{type: ContainersReady, status: "True"}]}`
	)
	for _, tt := range []struct {
		name   string
		before string
		steps  []string
		older  bool
	}{
		{"watched, not ready yet", "", []string{bare, starting}, false},
		{"watched, no status yet", "", []string{bare}, false},
		{"watched and ready", "", []string{bare, starting, ready}, false},
		{"there before the index", starting, nil, true},
		{"appeared with an address", "", []string{starting}, true},
		{"the watch was cut", "", []string{bare, starting, "cut"}, false},
		{"the watch expired", "", []string{bare, starting, "expire"}, true},
		{"the API server was away", "", []string{bare, starting, "refuse", "recover"}, false},
		{"the API server was away for long", "", []string{bare, starting, "refuse", "expire", "recover"}, true},
		{"the API server answered 503", "", []string{bare, starting, "fail", "recover"}, true},
		{"watched after the watch expired", "", []string{"expire", bare, starting}, false},
		{"another pod of the same name", "", []string{"remove " + bare, starting, "remove " + bare, bare, starting}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, tt.before, func(t *testing.T, w *world) {
				w.do(tt.steps...)
				p := w.Pod("default", "a")
				if p == nil {
					t.Fatal("no pod")
				}
				if since := w.since(p); since.IsZero() == tt.older {
					t.Errorf("older since %v, want older: %t", since, tt.older)
				}
			})
		})
	}
}

// A simulated kubelet's pod, from its creation to its end.
func TestPodLife(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		_ = w.AddPod(sim.PodSpec{Namespace: "default", Name: "a", Port: 80, Grace: 45 * time.Second, Hook: sim.Hook{Hold: true}})
		w.pass(time.Second)
		p := w.Pod("default", "a")
		if !w.since(p).IsZero() || !p.KillAt.IsZero() || !p.DeletionSeen.IsZero() {
			t.Errorf("a pod that starts: %+v", p)
		}
		w.pass(10 * time.Second)
		p = w.Pod("default", "a")
		if !w.since(p).IsZero() || len(p.IPs) != 1 || len(p.WithoutPreStop) != 0 {
			t.Errorf("a pod that is up: %+v", p)
		}
		kill := time.Now().Add(45 * time.Second)
		if err := w.DeletePod("default", "a"); err != nil {
			t.Fatal(err)
		}
		w.pass(time.Second)
		p = w.Pod("default", "a")
		if early := kill.Sub(p.KillAt); early < 0 || early >= time.Second {
			t.Errorf("KillAt is %s before the kill, want less than a second", early)
		}
		if len(w.histories) != 1 {
			t.Errorf("the histories of %d pods are kept, want 1", len(w.histories))
		}
		w.pass(time.Minute)
		if w.Pod("default", "a") != nil {
			t.Error("the pod is still known")
		}
		if len(w.histories) != 0 {
			t.Errorf("the histories of %d pods are kept, want none", len(w.histories))
		}
	})
}

// A pod whose deletion was missed.
func TestMissedDeletion(t *testing.T) {
	const pod = "{kind: Pod, metadata: {name: a}, status: {podIP: 10.0.0.1}}"
	inIndexed(t, Config{}, pod, func(t *testing.T, w *world) {
		wake := make(chan struct{}, 1)
		stop := w.Watch(w.Pod("default", "a"), wake)
		w.do("refuse", "remove "+pod, "expire", "recover")
		stop()
		if w.Pod("default", "a") != nil || len(w.histories) != 0 {
			t.Error("the pod is still known")
		}
		if _, err := w.PodAt(netip.MustParseAddr("10.0.0.1"), ""); !errors.Is(err, ErrNoPod) {
			t.Errorf("error %v, want %v", err, ErrNoPod)
		}
		if len(wake) != 1 {
			t.Error("who watched it was not woken")
		}
	})
}

// since is when the pod can last have been tied to something that escaped us.
func (w *world) since(p *Pod) time.Time { return w.histories[p.UID].Since(w.kube.Gap()) }
