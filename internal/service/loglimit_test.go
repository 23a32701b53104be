package service_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
)

// records is what became of a test's log lines.
func records(t *testing.T, log *bytes.Buffer) (lines []map[string]any) {
	t.Helper()
	for dec := json.NewDecoder(log); ; {
		var line map[string]any
		err := dec.Decode(&line)
		if err == io.EOF {
			return lines
		}
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, line)
	}
}

func TestLogLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(service.LimitLog(slog.NewJSONHandler(&out, nil)))
		flood := func(n int) {
			for i := range n {
				log.With("caller", i).Warn("refused", "i", i) // kinds do not differ by attributes
			}
		}
		flood(10_000)
		if got := records(t, &out); len(got) != 400 || got[0]["i"] != 0.0 || got[0]["left_out_before"] != nil || got[399]["i"] != 399.0 {
			t.Errorf("of 10,000 records %d passed, want the first 400", len(got))
		}
		log.Info("refused")
		log.Warn("another")
		if got := records(t, &out); len(got) != 2 || got[0]["left_out_before"] != nil || got[1]["left_out_before"] != nil {
			t.Errorf("of other kinds these passed: %v", got)
		}
		time.Sleep(2 * time.Second)
		flood(1000)
		if got := records(t, &out); len(got) != 80 || got[0]["left_out_before"] != 9600.0 || got[1]["left_out_before"] != nil {
			t.Errorf("after two seconds %d passed, the first with %v, want 80 and 9600", len(got), got[0])
		}
		time.Sleep(time.Hour)
		flood(1000)
		if got := records(t, &out); len(got) != 400 || got[0]["left_out_before"] != 920.0 {
			t.Errorf("after an hour %d passed, the first with %v, want 400 and 920", len(got), got[0])
		}
	})
}

// TestLogLimitBySize: large records use up the limit sooner.
func TestLogLimitBySize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(service.LimitLog(slog.NewJSONHandler(&out, nil)))
		for range 1000 {
			log.Error("panicked", "stack", strings.Repeat("x", 5<<10), "warnings", []string{strings.Repeat("y", 5<<10)})
		}
		if n := out.Len(); n < 100<<10 || n > 200<<10 {
			t.Errorf("a burst of 10 MiB writes %d bytes", n)
		}
	})
}

// TestLogLimitKinds: messages that are never the same, as klog has them, share a limit.
func TestLogLimitKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		log := slog.New(service.LimitLog(slog.NewJSONHandler(&out, nil)))
		for i := range 10_000 {
			log.Warn(fmt.Sprintf("failed after %d ms", i)) //nolint:sloglint // as others write it
		}
		if got := len(records(t, &out)); got < 400 || got > 600 {
			t.Errorf("of 10,000 kinds %d passed", got)
		}
		time.Sleep(time.Minute)
		for range 600 {
			log.Warn("wait refused")
		}
		log.Warn("wait over")
		if got := records(t, &out); len(got) != 401 || got[400]["msg"] != "wait over" {
			t.Errorf("a minute later %d of 601 passed", len(got))
		}
	})
}

// TestFloodOfCalls: what strangers send does not fill the log, and an honest wait is
// in it still.
func TestFloodOfCalls(t *testing.T) {
	var log bytes.Buffer
	inScene(t, func(c *service.Config) { c.Log = slog.New(service.LimitLog(slog.NewJSONHandler(&log, nil))) }, func(s *scene) {
		client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return s.Hooks.Dial(ctx, addr("10.0.99.99"))
		}}}
		defer client.CloseIdleConnections()
		call := func(method, path string, status int) {
			req, err := http.NewRequestWithContext(s.Context(), method, servicetest.URL+path, http.NoBody)
			if err != nil {
				t.Fatal(err)
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if res.Body.Close(); res.StatusCode != status {
				t.Fatalf("%s %.40s: got %d, want %d", method, path, res.StatusCode, status)
			}
		}
		name := strings.Repeat("n", 240)
		_ = s.DeletePod(web, "web-1")
		honest := s.Ask(webIP, "max-delay=60")
		for second := range 30 {
			for i := range 300 {
				call(http.MethodGet, fmt.Sprintf("/nothing/%d/%d", second, i), http.StatusNotFound)
				call(http.MethodPost, fmt.Sprintf("/fallback?reason=refused&namespace=%s&pod=%s-%d", name, name, i), http.StatusNoContent)
				call(http.MethodGet, fmt.Sprintf("/drain-delay?settle=soon-%d&%s", i, strings.Repeat(name+"&", 14)), http.StatusBadRequest)
			}
			s.Advance(time.Second)
		}
		if a := s.Await(honest).OK(t); a.Outcome != "drained" {
			t.Errorf("got %s", honest.Body)
		}
	})
	if n := log.Len(); n > 1e6 || n < 100<<10 {
		t.Errorf("27,000 calls wrote %d bytes", n)
	}
	if text := log.String(); !strings.Contains(text, `"outcome":"drained"`) || !strings.Contains(text, "left_out_before") {
		t.Error("the log has no answer of the honest wait, or does not say what was left out")
	}
}
