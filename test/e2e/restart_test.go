package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/clientcmd"

	"drainwait/internal/sim/aws"
)

// plainHook leaves it to the test to judge the service's answer, or that there is none.
var plainHook = []string{"curl", "-sS", "http://drain-wait.drain-wait:8080/drain-delay"}

// While waits are in flight, the API server is restarted, the service is cut off for
// longer than the restart takes, and its watches have expired when it comes back. No wait
// is lost and none ends too early, whether the target left before, during or after that.
// A wait that began without the API server gets no answer before the service can read the
// API server again.
func TestAPIServerRestart(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	w := newWire(t, tb.rest.Host)
	const settle = 15 * time.Second // outlasts the restart
	r := tb.startService(t, tb.kubeconfigBy(t, w, tb.serviceKubeconfig(t)), "--settle-alb", settle.String())
	tb.nameService(t, r)
	r.awaitReady(t)
	a := tb.createApplication(t, aws.ALB, "web", 5, withHook(120, plainHook...))
	tb.awaitRollout(t, a.name)
	pods := tb.kubelet.pods(a.name)
	settling, held, blind, meanwhile, after := pods[0], pods[1], pods[2], pods[3], pods[4]

	// The target of one pod has left, so its wait settles. The target of another is in
	// rotation. Of two more the service does not learn that they are deleted.
	tb.deletePod(t, settling)
	tb.awaitState(t, a, settling, "draining")
	tb.lbc.pause()
	tb.deletePod(t, held)
	r.awaitInFlight(t, 2)
	w.cut()
	tb.deletePod(t, blind)
	tb.deletePod(t, meanwhile)
	r.awaitInFlight(t, 4)
	tb.lbc.deregister(t, a, meanwhile)
	left := time.Now()

	// If its watches could go on, the service would learn what it missed. A watch of the
	// same age shows that they cannot.
	version := tb.podsVersion(t)
	tb.write(t)
	tb.apiserver.kill()
	tb.startAPIServer(t)
	tb.checkExpired(t, version)
	tb.awaitGone(t, settling)
	// By now the termination check is due for the pods whose deletion the service has
	// not seen. It would ask the API server about them, but cannot. It does not know
	// either that nothing else holds the pod that has settled.
	time.Sleep(time.Until(left.Add(settle + 2*time.Second)))
	r.awaitInFlight(t, 3)
	w.mend()
	tb.lbc.resume()

	tb.deletePod(t, after)
	for name, p := range map[string]report{"settling": settling, "held": held, "blind": blind, "meanwhile": meanwhile, "after": after} {
		got := tb.awaitGone(t, p)
		got.checkDrained(t, name)
		t.Logf("%s: held for %v", name, got.HookEnded.Sub(got.Deleted))
	}
}

// checkDrained checks that the plain hook of a pod was told that the pod is drained, and
// that this is true.
func (r report) checkDrained(t *testing.T, name string) {
	t.Helper()
	var answer struct{ Outcome string }
	if err := json.Unmarshal(r.Output, &answer); err != nil || answer.Outcome != "drained" {
		t.Errorf("%s: hook ended with %v %s; want drained", name, r.HookErr, r.Output)
	}
	if r.MaySend {
		t.Errorf("%s: hook ended while the pod might still get requests", name)
	}
}

// checkExpired checks that a watch of pods cannot go on from a resource version.
func (tb *testbed) checkExpired(t *testing.T, version string) {
	t.Helper()
	w, err := tb.kube.CoreV1().Pods("").Watch(t.Context(), metav1.ListOptions{ResourceVersion: version})
	if err != nil {
		t.Fatal(err)
	}
	defer w.Stop()
	select {
	case e := <-w.ResultChan():
		if e.Type != watch.Error || !apierrors.IsResourceExpired(apierrors.FromObject(e.Object)) {
			t.Fatalf("a watch from before the restart goes on: %v", e)
		}
	case <-time.After(patience):
		t.Fatal("a watch from before the restart goes on")
	}
}

// wire is a connection to the API server that a test can cut.
type wire struct {
	url    string
	target string

	mu    sync.Mutex // guards the rest
	isCut bool
	conns map[net.Conn]bool
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", netip.AddrPortFrom(hostAddress, 0).String())
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{url: "https://" + l.Addr().String(), target: u.Host, conns: make(map[net.Conn]bool)}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { w.pass(c) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		w.cut()
		running.Wait()
	})
	return w
}

// pass carries one connection until one of its ends closes it, or until the wire is cut.
func (w *wire) pass(c net.Conn) {
	defer c.Close()
	far, err := net.Dial("tcp", w.target)
	if err != nil {
		return
	}
	defer far.Close()
	if !w.add(c, far) {
		return
	}
	defer w.remove(c, far)
	done := make(chan struct{}, 2)
	for _, pair := range [][2]net.Conn{{c, far}, {far, c}} {
		go func() {
			_, _ = io.Copy(pair[0], pair[1])
			done <- struct{}{}
		}()
	}
	<-done
}

func (w *wire) add(conns ...net.Conn) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		w.conns[c] = true
	}
	return !w.isCut
}

func (w *wire) remove(conns ...net.Conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range conns {
		delete(w.conns, c)
	}
}

func (w *wire) cut() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = true
	for c := range w.conns {
		_ = c.Close()
	}
}

func (w *wire) mend() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.isCut = false
}

// kubeconfigBy rewrites a kubeconfig to lead to the API server through a wire.
func (tb *testbed) kubeconfigBy(t *testing.T, w *wire, path string) string {
	t.Helper()
	config, err := clientcmd.LoadFromFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range config.Clusters {
		c.Server = w.url
	}
	path += "-by-wire"
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func (tb *testbed) deletePod(t *testing.T, r report) {
	t.Helper()
	if err := tb.kube.CoreV1().Pods(r.Namespace).Delete(t.Context(), r.Name, metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
}

// awaitState returns when a pod's target is in a state.
func (tb *testbed) awaitState(t *testing.T, a *application, r report, want types.TargetHealthStateEnum) {
	t.Helper()
	until(t, "target "+string(want), func() error {
		state, err := tb.lbc.state(t.Context(), a, r)
		if err == nil && state != want {
			err = fmt.Errorf("it is %q", state)
		}
		return err
	})
}

// awaitReport returns a pod's report as soon as it is as wanted.
func (tb *testbed) awaitReport(t *testing.T, r report, what string, ok func(report) bool) report {
	t.Helper()
	var found report
	until(t, what+" of "+r.Name, func() error {
		for _, found = range tb.kubelet.pods(r.Namespace) {
			if found.UID == r.UID && ok(found) {
				return nil
			}
		}
		return errors.New("not yet")
	})
	return found
}

func (tb *testbed) awaitGone(t *testing.T, r report) report {
	t.Helper()
	return tb.awaitReport(t, r, "end", func(r report) bool { return !r.Gone.IsZero() })
}

// podsVersion is the present resource version of pods.
func (tb *testbed) podsVersion(t *testing.T) string {
	t.Helper()
	list, err := tb.kube.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return list.ResourceVersion
}

// write changes something that does not concern the service.
func (tb *testbed) write(t *testing.T) {
	t.Helper()
	c := &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{GenerateName: "e2e-"}}
	if _, err := tb.kube.CoreV1().ConfigMaps("default").Create(t.Context(), c, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

var inFlight = regexp.MustCompile(`(?m)^drain_wait_waits_in_flight (\d+)$`)

// inFlight is how many callers a replica holds.
func (r *replica) inFlight(ctx context.Context) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.admin+"/metrics", http.NoBody)
	if err != nil {
		return 0, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err
	}
	m := inFlight.FindSubmatch(body)
	if m == nil {
		return 0, fmt.Errorf("no metric %v", inFlight)
	}
	return strconv.Atoi(string(m[1]))
}

func (r *replica) awaitInFlight(t *testing.T, want int) {
	t.Helper()
	until(t, fmt.Sprintf("%d waits in flight", want), func() error {
		n, err := r.inFlight(t.Context())
		if err == nil && n != want {
			err = fmt.Errorf("%d are", n)
		}
		return err
	})
}
