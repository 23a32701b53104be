package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/internal/sim/aws"
)

// edited is a namespace in which pods of one color are behind load balancers, until an
// edit removes what leads to them. Soon after that the pods are deleted. Users made the
// bindings by hand: no label and no readiness gate shows them.
type edited struct {
	name   string
	kinds  []aws.Kind // of its load balancers, each of which has a binding of the same name
	green  bool       // there are green pods beside the blue ones
	edit   func(*edited, *testing.T)
	lag    time.Duration // from the edit until the blue pods are deleted
	settle time.Duration

	tb      *testbed
	loads   []*load
	exposed int // blue pods that might still get requests when they were deleted
}

const blue, green = "blue", "green"

func edits() []*edited {
	alb, both := []aws.Kind{aws.ALB}, []aws.Kind{aws.ALB, aws.NLB}
	return []*edited{
		{name: "binding-switched-100ms", kinds: alb, green: true, edit: (*edited).switchBinding, lag: 100 * time.Millisecond, settle: settleALB},
		{name: "binding-switched-2s", kinds: alb, green: true, edit: (*edited).switchBinding, lag: 2 * time.Second, settle: settleALB},
		{name: "binding-deleted-300ms", kinds: alb, edit: (*edited).deleteBinding, lag: 300 * time.Millisecond, settle: settleALB},
		{name: "selector-switched-100ms", kinds: alb, green: true, edit: (*edited).switchSelector, lag: 100 * time.Millisecond, settle: settleALB},
		{name: "selector-switched-2s", kinds: alb, green: true, edit: (*edited).switchSelector, lag: 2 * time.Second, settle: settleALB},
		{name: "nlb-binding-deleted-2s", kinds: both, edit: (*edited).deleteBinding, lag: 2 * time.Second, settle: settleNLB},
	}
}

// An edit through the real API server removes what leads from a load balancer to a pod,
// a moment before the pod is deleted. The hook is told that the pod is drained, and not
// before that is true.
func TestEditedAway(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	r := tb.startNamed(t)
	all, idle := edits(), 0
	for _, e := range all {
		e.create(t, tb)
	}
	for _, e := range all {
		e.awaitRequests(t)
		e.withdraw(t)
		if e.exposed == 0 {
			// On a machine that is slow now, the tail of an ALB can be over in two seconds.
			t.Logf("%s: no pod got requests any more when it was deleted", e.name)
			idle++
		}
	}
	if idle > 2 {
		t.Errorf("in %d of %d worlds no pod got requests any more when it was deleted: they do not test anything", idle, len(all))
	}
	for _, e := range all {
		t.Run(e.name, e.check)
	}
	r.checkRights(t)
}

func (e *edited) create(t *testing.T, tb *testbed) {
	t.Helper()
	e.tb = tb
	tb.createNamespace(t, e.name)
	tb.createDeployment(t, e.name, blue, 2, withHook(60, plainHook...))
	tb.createService(t, e.name, blue, blue)
	if e.green {
		tb.createDeployment(t, e.name, green, 1, withHook(60, plainHook...))
		tb.createService(t, e.name, green, green)
	}
	for _, kind := range e.kinds {
		g, _ := tb.createGroup(t, kind, e.name+"-"+string(kind))
		tb.createBinding(t, binding{api: bindings.Group, namespace: e.name, name: string(kind), service: blue, kind: kind, TargetGroup: g})
		e.loads = append(e.loads, tb.startLoad(t, g))
	}
}

// blues reports the blue pods.
func (e *edited) blues() []report {
	var found []report
	for _, r := range e.tb.kubelet.pods(e.name) {
		if strings.HasPrefix(r.Name, blue+"-") {
			found = append(found, r)
		}
	}
	return found
}

// awaitRequests returns when all pods run and the blue ones get requests.
func (e *edited) awaitRequests(t *testing.T) {
	t.Helper()
	e.tb.awaitRollout(t, e.name)
	for _, r := range e.blues() {
		until(t, "requests to "+r.Name, func() error {
			may, err := e.tb.maySend(t.Context(), r.Pod.addr)
			if err == nil && !may {
				err = errors.New("no load balancer node knows it")
			}
			return err
		})
	}
}

// withdraw carries out the edit and, after the lag, deletes the blue pods.
func (e *edited) withdraw(t *testing.T) {
	t.Helper()
	e.edit(e, t)
	time.Sleep(e.lag)
	e.patch(t, "deployment", blue, `{"spec":{"replicas":0}}`)
	for _, r := range e.blues() {
		may, err := e.tb.maySend(t.Context(), r.Pod.addr)
		if err != nil {
			t.Fatal(err)
		}
		if may {
			e.exposed++
		}
	}
}

// patch merges into an object of the namespace.
func (e *edited) patch(t *testing.T, kind, name, patch string) {
	t.Helper()
	var err error
	ctx, merge, body, o := t.Context(), types.MergePatchType, []byte(patch), metav1.PatchOptions{}
	switch kind {
	case "deployment":
		_, err = e.tb.kube.AppsV1().Deployments(e.name).Patch(ctx, name, merge, body, o)
	case "service":
		_, err = e.tb.kube.CoreV1().Services(e.name).Patch(ctx, name, merge, body, o)
	case "binding":
		_, err = e.tb.dynamic.Resource(bindings).Namespace(e.name).Patch(ctx, name, merge, body, o)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func (e *edited) switchBinding(t *testing.T) {
	t.Helper()
	e.patch(t, "binding", e.lastBinding(), fmt.Sprintf(`{"spec":{"serviceRef":{"name":%q}}}`, green))
}

func (e *edited) switchSelector(t *testing.T) {
	t.Helper()
	e.patch(t, "service", blue, fmt.Sprintf(`{"spec":{"selector":{%q:%q}}}`, appLabel, green))
}

func (e *edited) deleteBinding(t *testing.T) {
	t.Helper()
	err := e.tb.dynamic.Resource(bindings).Namespace(e.name).Delete(t.Context(), e.lastBinding(), metav1.DeleteOptions{})
	if err != nil {
		t.Fatal(err)
	}
}

// lastBinding names the binding that is edited.
func (e *edited) lastBinding() string { return string(e.kinds[len(e.kinds)-1]) }

// check checks what the hooks were told, and that no request came after that.
func (e *edited) check(t *testing.T) {
	for _, r := range e.blues() {
		r = e.tb.awaitGone(t, r)
		t.Logf("%s: held for %v: %s", r.Name, r.HookEnded.Sub(r.Deleted), r.Output)
		r.checkDrained(t, r.Name)
		r.checkHook(t, e.settle)
	}
	for _, l := range e.loads {
		requests, failed := l.end()
		var broken []error
		for _, err := range failed {
			if !errors.Is(err, errNoTarget) { // the group has no targets left here
				broken = append(broken, err)
			}
		}
		t.Logf("%d requests, for %d of which there was no target", requests, len(failed)-len(broken))
		if len(broken) > 0 {
			t.Errorf("%d of %d requests failed: %q", len(broken), requests, broken)
		}
	}
}
