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
)

// Hook is a preStop hook. The zero value is none: SIGTERM follows the deletion
// at once.
type Hook struct {
	// Sleep waits that long, as `preStop: sleep` does.
	Sleep time.Duration
	// Hold waits until the grace period is over, for somebody else to play the
	// hook.
	Hold bool
	// URL asks the service there, as in http://drain-wait:8080.
	URL string
	// MaxDelay is the max-delay that the hook asks for; 0 leaves it out.
	MaxDelay time.Duration
	// ByAddress makes the hook call without ip and namespace: the service has
	// to tell the pod by the caller's address.
	ByAddress bool
	// Fallback is how long the hook waits itself where the service does not
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

// startHook runs the pod's preStop hook; when it is over, the pod is stopped.
func (w *World) startHook(p *pod) {
	switch h := p.spec.Hook; {
	case p.stopped, p.gone, h.Hold:
	case h.Sleep > 0:
		w.after(h.Sleep, func() { w.stop(p) })
	case h.URL != "":
		ctx, cancel := context.WithCancel(w.hooks)
		p.cancel = cancel
		p.report.Asked = w.now
		go w.callService(ctx, p.ip, p.spec, func(status int, outcome string) { w.hookAnswered(p, status, outcome) })
	default:
		w.stop(p)
	}
}

// hookAnswered is the hook after the service's answer; status is 0 where there
// was none.
func (w *World) hookAnswered(p *pod, status int, outcome string) {
	if p.stopped {
		return
	}
	p.report.Answered, p.report.Status, p.report.Outcome = w.now, status, outcome
	if status == http.StatusOK {
		w.stop(p)
		return
	}
	w.after(p.spec.Hook.Fallback, func() { w.stop(p) })
}

// callService is the hook's HTTP request, in a goroutine of its own; answered
// runs in the world.
func (w *World) callService(ctx context.Context, ip netip.Addr, spec PodSpec, answered func(status int, outcome string)) {
	status, outcome := w.askService(ctx, ip, spec)
	_ = w.Do(ctx, "hook "+spec.Namespace+"/"+spec.Name, func() { answered(status, outcome) })
}

func (w *World) askService(ctx context.Context, ip netip.Addr, spec PodSpec) (status int, outcome string) {
	client := http.DefaultClient
	if w.cfg.HookClient != nil {
		client = w.cfg.HookClient(ip)
	}
	q := url.Values{}
	if !spec.Hook.ByAddress {
		q.Set("ip", ip.String())
		q.Set("namespace", spec.Namespace)
	}
	if spec.Hook.MaxDelay > 0 {
		q.Set("max-delay", w.real(spec.Hook.MaxDelay).String())
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("%s/drain-delay?%s", spec.Hook.URL, q.Encode()), http.NoBody)
	if err != nil {
		return 0, err.Error()
	}
	resp, err := client.Do(req)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	var answer struct{ Outcome string }
	_ = json.Unmarshal(body, &answer) // an answer that is not JSON has no outcome
	return resp.StatusCode, answer.Outcome
}
