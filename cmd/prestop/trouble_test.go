package main

import (
	"context"
	"io"
	"net"
	"testing"
	"time"
)

// TestProxyRefusesInJSON: what is not the service's own refusal is no refusal. The hook
// asks again.
func TestProxyRefusesInJSON(t *testing.T) {
	inBubble(t, nil, func(s *service, _ *hook) {
		s.add(replica{status: 404, body: `{"message": "no route"}`})
		s.add(replica{status: 200, body: drained})
	}, func(s *service, r ran) {
		if !r.served || len(s.asked) != 2 {
			t.Errorf("served %v after %s and %d questions", r.served, r.took, len(s.asked))
		}
	})
}

// TestOtherVersions: the status decides, so that a service of another version can answer
// and refuse for reasons, and with words, that this client does not know.
func TestOtherVersions(t *testing.T) {
	for _, tt := range []struct {
		name    string
		replica replica
		served  bool
		took    time.Duration
		said    string
	}{
		{
			"an outcome and fields of a newer service", replica{after: 40 * time.Second, status: 200, body: `{"apiVersion": "v1", "outcome": "moved_away", "traffic": {"quietSeconds": 3.5}, "targets": [{"zone": "a", "timeline": [{"event": "seen", "by": {}}]}], "warnings": ["w"]}`},
			true, 40 * time.Second, "moved_away after 40s; warning: w",
		},
		{
			"a body of an older service", replica{after: 40 * time.Second, status: 200, body: `{"outcome": "drained"}`},
			true, 40 * time.Second, "drained after 40s",
		},
		{
			"an error of a newer service", replica{status: 451, body: `{"apiVersion": "v1", "error": "not_allowed", "message": "m", "because": ["x"]}`},
			false, 25 * time.Second, "http://drain-wait.drain-wait:8080 answered 451: m; waiting 25s instead",
		},
		{
			"a body of an older service without a message", replica{status: 404, body: `{"error": "not_found"}`},
			false, 25 * time.Second, "http://drain-wait.drain-wait:8080 answered 404: ; waiting 25s instead",
		},
	} {
		inBubble(t, nil, func(s *service, _ *hook) { s.add(tt.replica) }, func(s *service, r ran) {
			if r.served != tt.served || r.took != tt.took || len(s.asked) != 1 || len(r.said) != 1 || r.said[0] != tt.said {
				t.Errorf("%s: served %v after %s and %d questions, said %q", tt.name, r.served, r.took, len(s.asked), r.said)
			}
		})
	}
}

// at makes one of the dials, counted from 1, another one.
func (h *hook) at(n int, other func(ctx context.Context) (net.Conn, error)) {
	dial := h.dial
	h.dial = func(ctx context.Context, network, address string) (net.Conn, error) {
		if n--; n == 0 {
			return other(ctx)
		}
		return dial(ctx, network, address)
	}
}

// TestConnectHangs: a replica whose node is gone answers no connect. The next one is asked
// soon.
func TestConnectHangs(t *testing.T) {
	inBubble(t, nil, func(s *service, h *hook) {
		s.add(replica{status: 200, body: drained})
		h.at(1, func(ctx context.Context) (net.Conn, error) {
			<-ctx.Done()
			return nil, ctx.Err()
		})
	}, func(_ *service, r ran) {
		if !r.served || r.took < dialTimeout || r.took > dialTimeout+firstPause {
			t.Errorf("served %v after %s", r.served, r.took)
		}
	})
}

// TestReportHangs: that a fallback cannot be reported costs the pod no time.
func TestReportHangs(t *testing.T) {
	inBubble(t, nil, func(s *service, h *hook) {
		s.add(replica{status: 404, body: `{"error": "not_found"}`})
		h.at(2, func(context.Context) (net.Conn, error) {
			ours, _ := net.Pipe() // to who says nothing
			return ours, nil
		})
	}, func(_ *service, r ran) {
		if r.served || r.took != 25*time.Second {
			t.Errorf("served %v after %s", r.served, r.took)
		}
	})
}

// TestStrict: without --strict a hook that falls back is no failure, which Kubernetes
// would show as an event.
func TestStrict(t *testing.T) {
	args := []string{"--server", "http://127.0.0.1:1", "--fallback", "0", "--log-file", "/dev/null"}
	if code := run(args, io.Discard, io.Discard); code != 0 {
		t.Errorf("exit code %d, want 0", code)
	}
	if code := run(append(args, "--strict"), io.Discard, io.Discard); code != 1 {
		t.Errorf("exit code %d with --strict, want 1", code)
	}
}
