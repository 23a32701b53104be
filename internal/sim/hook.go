package sim

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	corev1 "k8s.io/api/core/v1"

	"drainwait/internal/sim/kube"
)

// Hook is a preStop hook. The zero value is none: SIGTERM follows the deletion
// at once.
type Hook struct {
	// Sleep waits that long, as `preStop: sleep` does.
	Sleep time.Duration
	// Hold waits until the grace period is over, so that somebody else can play
	// the hook.
	Hold bool
	// URL asks the service at this address, as in http://drain-wait:8080, after
	// Delay.
	URL   string
	Delay time.Duration
	// Query, if not empty, is the whole query of that request. Otherwise the
	// fields below decide it.
	Query string
	// MaxDelay is the max-delay that the hook asks for; 0 leaves it out.
	MaxDelay time.Duration
	// ByAddress makes the hook call without ip and namespace: the service has
	// to find the pod by the caller's address.
	ByAddress bool
	// Fallback is how long the hook waits by itself if the service does not
	// answer 200.
	Fallback time.Duration
}

// lifecycle is the hook as the pod's specification shows it.
func (h Hook) lifecycle() *corev1.Lifecycle {
	switch {
	case h.Sleep > 0:
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: int64(h.Sleep.Seconds())}}}
	case h.Hold || h.URL != "":
		return &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"/prestop"}}}}
	default:
		return nil
	}
}

// HookCall is a call of a hook to the service, and the answer to it. Times are
// world times.
type HookCall struct {
	Container string
	// Asked is when the call was made. Answered is when the whole answer had
	// arrived; in a bubble this is the instant when the service sent it. It is zero
	// if the hook was ended before that.
	Asked, Answered time.Duration
	// Status is 0 if there was no answer; Err then says why.
	Status int
	Err    error
	// Outcome comes from Answer, the body of the answer.
	Outcome string
	Answer  []byte
	// Choosable says whether, when the answer came, a node of any load balancer
	// could still choose the pod, or would again. It would if a target of the pod is
	// registered and not draining in a group that a load balancer uses, or if LBC's
	// RegisterTargets for it is on its way.
	Choosable bool
	// Deleted says whether the API server had accepted the pod's deletion by then.
	// Unready and NodeUnready say whether the pod or its node was not ready.
	Deleted, Unready, NodeUnready bool
}

// startHook runs the container's preStop hook. When it is over, the container is
// stopped.
func (w *World) startHook(c *container) {
	switch h := c.hook; {
	case c.stopped, h.Hold:
	case h.Sleep > 0:
		w.later(c, h.Sleep, w.stop)
	case h.URL != "":
		w.later(c, h.Delay, w.callService)
	default:
		w.stop(c)
	}
}

// callService makes the hook's HTTP request, in a new goroutine.
func (w *World) callService(c *container) {
	if c.stopped {
		return
	}
	r := c.pod.report
	call := &HookCall{Container: c.name, Asked: w.Present()}
	r.HookCall, r.Calls = *call, append(r.Calls, call)
	ctx, cancel := context.WithCancel(w.Lifetime())
	c.cancel = cancel
	request := w.hookRequest(c)
	ip, name, starts := r.IP, fmt.Sprintf("hook %s/%s %s %d", r.Namespace, r.Name, c.name, c.pod.serial), c.starts
	go func() {
		var answer HookCall
		answer.Status, answer.Answer, answer.Err = w.ask(ctx, ip, request)
		_ = w.Do(ctx, name, func() {
			if !c.stopped && c.starts == starts {
				w.hookAnswered(c, call, answer)
			}
		})
	}()
}

// hookAnswered goes on with the hook after the service's answer, or after none.
func (w *World) hookAnswered(c *container, call *HookCall, answer HookCall) {
	var body struct{ Outcome string }
	_ = json.Unmarshal(answer.Answer, &body) // an answer that is not JSON has no outcome
	call.Answered, call.Outcome = w.Present(), body.Outcome
	call.Status, call.Answer, call.Err = answer.Status, answer.Answer, answer.Err
	p := c.pod
	w.judge(p, call)
	p.report.HookCall = *call
	if call.Status == http.StatusOK {
		w.stop(c)
		return
	}
	w.later(c, c.hook.Fallback, w.stop)
}

// judge notes what was true of the pod when the service answered, and counts the
// answers that were wrong.
func (w *World) judge(p *pod, call *HookCall) {
	r := p.report
	call.Choosable, call.Deleted = w.choosable(p), r.Deleted > 0
	call.Unready, call.NodeUnready = !kube.ConditionTrue(p.obj, corev1.PodReady), !w.Kube.NodeReady(p.obj.Spec.NodeName)
	switch call.Outcome {
	case "drained", "not_registered":
		p.safe = true
		if call.Outcome == "drained" {
			r.Drained++
		} else {
			r.NotRegistered++
		}
		if call.Choosable {
			r.Premature++
		}
	case "not_terminating":
		if call.Deleted || call.Unready || call.NodeUnready {
			r.WrongNotTerminating++
		}
	case "will_not_leave":
		p.staying++
	}
}

// deregistered notes that a DeregisterTargets call for the pod has returned.
func (p *pod) deregistered(now time.Duration, byController bool) {
	r := p.report
	r.Deregistered = now
	if !byController {
		return
	}
	r.DeregisteredByController = now
	if !p.over {
		r.WrongWillNotLeave += p.staying
		p.staying = 0
	}
}

// hookRequest is the URL that the hook asks.
func (w *World) hookRequest(c *container) string {
	h := c.hook
	if h.Query != "" {
		return h.URL + "/drain-delay?" + h.Query
	}
	q := url.Values{}
	if !h.ByAddress {
		q.Set("ip", c.pod.report.IP.String())
		q.Set("namespace", c.pod.report.Namespace)
	}
	if h.MaxDelay > 0 {
		q.Set("max-delay", w.Real(h.MaxDelay).String())
	}
	return h.URL + "/drain-delay?" + q.Encode()
}

func (w *World) ask(ctx context.Context, from netip.Addr, request string) (status int, body []byte, err error) {
	client := http.DefaultClient
	if w.cfg.HookClient != nil {
		client = w.cfg.HookClient(from)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, request, http.NoBody)
	if err != nil {
		return 0, nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer resp.Body.Close()
	if body, err = io.ReadAll(resp.Body); err != nil {
		return 0, nil, err
	}
	return resp.StatusCode, body, nil
}
