package cluster

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// identify asks who that is, and gives the world a second to answer.
func (w *world) identify(ref PodRef) (p *Pod, err error) {
	w.t.Helper()
	w.await(func() { p, err = w.Identify(w.t.Context(), ref) })
	return p, err
}

// at is a running pod of a name with an address.
func at(key, ip, spec string) string {
	namespace, name, _ := strings.Cut(key, "/")
	return sep + "{kind: Pod, metadata: {name: " + name + ", namespace: " + namespace + "}, spec: {" + spec + "}, status: {phase: Running, podIP: " + ip + ", podIPs: [{ip: " + ip + "}]}}"
}

const hostNetwork = "hostNetwork: true"

// before is what the cache shows, and after what is really there: the watch of
// pods is an hour behind.
func TestIdentify(t *testing.T) {
	const ip, other = "10.0.0.1", "10.0.0.2"
	a, b := at("default/a", ip, ""), at("default/b", ip, "")
	completedA := strings.ReplaceAll(a, "Running", "Succeeded")
	for _, tt := range []struct {
		name   string
		before string
		after  []string
		ref    PodRef
		want   string
		err    error
	}{
		{"by name", a, nil, PodRef{Namespace: "default", Pod: "a"}, "default/a", nil},
		{"by name, not in the cache", "", []string{a}, PodRef{Namespace: "default", Pod: "a"}, "default/a", nil},
		{"by name, gone", a, []string{"remove " + a}, PodRef{Namespace: "default", Pod: "a"}, "", ErrNoPod},
		{"by name, never there", a, nil, PodRef{Namespace: "default", Pod: "z"}, "", ErrNoPod},
		{"by name, made anew with another address", a, []string{"remove " + a, at("default/a", other, "")}, PodRef{Namespace: "default", Pod: "a"}, "default/a", nil},
		{"by name and address", a, nil, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr(ip)}, "default/a", nil},
		{"by name and address in IPv6", a, nil, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr("::ffff:" + ip)}, "default/a", nil},
		{"by name and an address that it lost", a, []string{"remove " + a, at("default/a", other, "")}, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr(ip)}, "", ErrDisagree},
		{"by name and an address that it got", a, []string{"remove " + a, at("default/a", other, "")}, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr(other)}, "default/a", nil},
		{"by name and the caller's address", a, nil, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr(other), Inferred: true}, "default/a", nil},
		{"by name and address, without any yet", "{kind: Pod, metadata: {name: a}}", nil, PodRef{Namespace: "default", Pod: "a", IP: netip.MustParseAddr(ip)}, "", ErrDisagree},

		{"by address", a, nil, PodRef{IP: netip.MustParseAddr(ip)}, "default/a", nil},
		{"by address, in its namespace", a, nil, PodRef{IP: netip.MustParseAddr(ip), Namespace: "default"}, "default/a", nil},
		{"by address, in another namespace", a, nil, PodRef{IP: netip.MustParseAddr(ip), Namespace: "other"}, "default/a", nil},
		{"by its second address", "{kind: Pod, metadata: {name: a}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}}", nil, PodRef{IP: netip.MustParseAddr("fd00::1")}, "default/a", nil},
		{"by address, not in the cache", "", []string{a}, PodRef{IP: netip.MustParseAddr(ip)}, "default/a", nil},
		{"by address in IPv6, not in the cache", "", []string{a}, PodRef{IP: netip.MustParseAddr("::ffff:" + ip)}, "default/a", nil},
		{"by address, gone", a, []string{"remove " + a}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrNoPod},
		{"by address, completed", a, []string{completedA}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrNoPod},
		{"by address, completed and given on", a, []string{completedA, b}, PodRef{IP: netip.MustParseAddr(ip)}, "default/b", nil},
		{"by address, gone and given on", a, []string{"remove " + a, b}, PodRef{IP: netip.MustParseAddr(ip)}, "default/b", nil},
		{"by address, made anew with another", a, []string{"remove " + a, at("default/a", other, "")}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrNoPod},
		{"by address, made anew with the same", a, []string{"remove " + a, a}, PodRef{IP: netip.MustParseAddr(ip)}, "default/a", nil},
		{"by address, made anew with the same, and another has it", a, []string{"remove " + a, a, at("other/b", ip, "")}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrAmbiguous},
		{"by address, nobody", a, nil, PodRef{IP: netip.MustParseAddr("10.9.9.9")}, "", ErrNoPod},
		{"two have it", "", []string{a, at("other/a", ip, "")}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrAmbiguous},
		{"two have it, the namespace tells", "", []string{a, at("other/a", ip, "")}, PodRef{IP: netip.MustParseAddr(ip), Namespace: "other"}, "other/a", nil},
		{"a node's", "", []string{at("default/a", ip, hostNetwork)}, PodRef{IP: netip.MustParseAddr(ip)}, "", ErrAmbiguous},
		{"a node's, the namespace tells", "", []string{at("default/a", ip, hostNetwork), at("other/b", ip, hostNetwork)}, PodRef{IP: netip.MustParseAddr(ip), Namespace: "default"}, "default/a", nil},
		{"a node's, another one came", at("default/a", ip, hostNetwork), []string{at("default/b", ip, hostNetwork)}, PodRef{IP: netip.MustParseAddr(ip), Namespace: "default"}, "", ErrAmbiguous},
		{"a node's, the cache has two and one is left", at("default/a", ip, hostNetwork) + at("default/b", ip, hostNetwork), []string{"remove " + at("default/a", ip, hostNetwork)}, PodRef{IP: netip.MustParseAddr(ip), Namespace: "default"}, "default/b", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inIndexed(t, Config{}, tt.before, func(t *testing.T, w *world) {
				w.Kube.LagWatches("pods", time.Hour)
				w.do(tt.after...)
				p, err := w.identify(tt.ref)
				got := ""
				if p != nil {
					got = p.Key()
				}
				if got != tt.want || !errors.Is(err, tt.err) {
					t.Errorf("got %q and error %v, want %q and %v", got, err, tt.want, tt.err)
				}
				if p == nil {
					return
				}
				w.await(func() {
					if live, err := w.readPod(t.Context(), netip.Addr{}, p.Namespace, p.Name); err != nil || live.UID != p.UID {
						t.Errorf("not the pod that is there; error %v", err)
					}
				})
			})
		})
	}
}

func TestIdentifyOnlyServedNamespaces(t *testing.T) {
	inIndexed(t, Config{Namespaces: []string{"one", "two"}}, "", func(t *testing.T, w *world) {
		w.Kube.LagWatches("pods", time.Hour)
		w.do(at("two/a", "10.0.0.1", "") + at("three/b", "10.0.0.2", ""))
		if p, err := w.identify(PodRef{IP: netip.MustParseAddr("10.0.0.1")}); err != nil || p.Key() != "two/a" {
			t.Errorf("%v, error %v", p, err)
		}
		if p, err := w.identify(PodRef{IP: netip.MustParseAddr("10.0.0.2")}); !errors.Is(err, ErrNoPod) {
			t.Errorf("%v, error %v", p, err)
		}
	})
}

// An API server that does not answer is no answer.
func TestIdentifyTrouble(t *testing.T) {
	for _, status := range []int{http.StatusForbidden, http.StatusServiceUnavailable, http.StatusTooManyRequests} {
		for name, ref := range map[string]PodRef{
			"name": {Namespace: "default", Pod: "a"}, "address": {IP: netip.MustParseAddr("10.0.0.1")}, "search": {IP: netip.MustParseAddr("10.9.9.9")},
		} {
			t.Run(fmt.Sprint(name, " ", status), func(t *testing.T) {
				inIndexed(t, Config{}, at("default/a", "10.0.0.1", ""), func(t *testing.T, w *world) {
					w.Kube.Fail(func(r *http.Request) bool { return !r.URL.Query().Has("watch") }, status)
					p, err := w.identify(ref)
					if p != nil || err == nil || errors.Is(err, ErrNoPod) || errors.Is(err, ErrAmbiguous) {
						t.Errorf("%v and error %v", p, err)
					}
					w.Kube.Fail(nil, 0)
					if _, err := w.identify(ref); errors.Is(err, ErrNoPod) != (name == "search") || err != nil && name != "search" {
						t.Errorf("when it is over, error %v", err)
					}
				})
			})
		}
	}
	t.Run("the caller gives up", func(t *testing.T) {
		inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
			for _, ref := range []PodRef{{Namespace: "default", Pod: "a"}, {IP: netip.MustParseAddr("10.9.9.9")}} {
				ctx, cancel := context.WithTimeout(t.Context(), time.Microsecond)
				var err error
				w.await(func() { _, err = w.Identify(ctx, ref) })
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Errorf("error %v", err)
				}
				cancel()
			}
		})
	})
}

// What a live read shows is remembered as if the watch had told it.
func TestIdentifyIsRemembered(t *testing.T) {
	web, blue := tgb("one", "web", "one"), tgb("two", "blue", "two")
	const deleted = "{kind: Pod, metadata: {name: a, labels: {app: web}, deletionTimestamp: '2000-01-01T00:05:00Z', deletionGracePeriodSeconds: 20, finalizers: [x/y]}, status: {phase: Running, podIP: 10.0.0.1}}"
	inIndexed(t, Config{}, web+sep+blue+sep+service("web", "app: web")+sep+slice("blue", "kind: Pod, name: a"), func(t *testing.T, w *world) {
		w.Kube.LagWatches("pods", time.Hour)
		w.do(deleted)
		began := time.Now()
		p, err := w.identify(PodRef{Namespace: "default", Pod: "a"})
		if err != nil {
			t.Fatal(err)
		}
		stop := w.Watch(p, make(chan struct{}, 1))
		if d := p.DeletionSeen.Sub(began); d < 0 || d > time.Second {
			t.Errorf("deletion seen after %s", d)
		}
		w.pass(10 * time.Minute)
		s := w.Survey(p, nil)
		if got := strings.Join(show(s.Candidates), " "); got != "one two" {
			t.Errorf("candidates %q", got)
		}
		if since := w.since(p); since.Before(began) || since.After(began.Add(time.Second)) {
			t.Errorf("older since %s", since)
		}
		w.do("remove "+service("web", ""), service("blue", "app: nobody"))
		if got := strings.Join(w.candidates(p), " "); got != "one two" {
			t.Errorf("candidates %q", got)
		}
		// A look finds it although the cache does not have it.
		w.do(tgb("three", "green", "three"))
		w.sweep("three", "10.0.0.1")
		if got := strings.Join(w.candidates(p), " "); got != "one three two" {
			t.Errorf("candidates %q", got)
		}
		w.do(service("green", "app: web"), tgb("four", "green", "four"))
		if got := strings.Join(w.candidates(p), " "); got != "four one three two" {
			t.Errorf("candidates %q", got)
		}
		stop()
		w.pass(3 * tidyEvery)
		if len(w.histories)+len(w.reads.List()) > 0 {
			t.Error("kept without a watch")
		}
	})
}

// A pod that no watch has told of can have been tied to something before, even
// where it shows no address yet.
func TestPodThatOnlyALiveReadShowsIsOlder(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		w.Kube.LagWatches("pods", time.Hour)
		w.do(noStatus)
		p, err := w.identify(PodRef{Namespace: "default", Pod: "a"})
		if err != nil || w.since(p).IsZero() {
			t.Errorf("error %v; older since %s", err, w.since(p))
		}
	})
}

// Refresh knows the newest of cache and live reads.
func TestRefresh(t *testing.T) {
	const first, second = "{kind: Pod, metadata: {name: a}, status: {phase: Running, podIP: 10.0.0.1}}", "{kind: Pod, metadata: {name: a}, status: {phase: Running, podIP: 10.0.0.1, podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}], conditions: [{type: Ready, status: 'True'}]}}"
	inIndexed(t, Config{}, first, func(t *testing.T, w *world) {
		old := w.Index.Pod("default", "a")
		if w.Refresh(old) != old {
			t.Error("another pod although nothing is newer")
		}
		w.Kube.LagWatches("pods", time.Minute)
		w.do(second)
		if w.Refresh(old) != old {
			t.Error("another pod although nothing newer is known")
		}
		if _, err := w.identify(PodRef{Namespace: "default", Pod: "a"}); err != nil {
			t.Fatal(err)
		}
		p := w.Refresh(old)
		if len(p.IPs) != 2 {
			t.Errorf("after a live read: %+v", p)
		}
		if q := w.Index.Pod("default", "a"); len(q.IPs) != 1 {
			t.Error("the cache has heard of it")
		}
		w.pass(2 * time.Minute)
		w.Kube.LagWatches("pods", 0)
		if len(w.reads.List()) > 0 {
			t.Error("what was read live is kept although the cache has it")
		}
		w.do(first)
		if q := w.Refresh(p); len(q.IPs) != 1 {
			t.Errorf("after the watch: %+v", q)
		}
		w.do("remove "+first, second)
		if q := w.Refresh(p); q != p {
			t.Errorf("another one of its name: %+v", q)
		}
		if a := w.Address("default", netip.MustParseAddr("10.9.9.9")); w.Refresh(a) != a {
			t.Error("an address is another one")
		}
	})
}
