package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestBinary runs the program as it ships.
func TestBinary(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "prestop")
	cmd := exec.Command("go", "build", "-tags", "nethttpomithttp2", "-trimpath", "-ldflags", "-s -w", "-o", program, ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	info, err := os.Stat(program)
	if err != nil {
		t.Fatal(err)
	}
	if mb := float64(info.Size()) / 1e6; mb > 6 {
		t.Errorf("the program has %.2f MB, want 6 at most", mb)
	}
	t.Run("Alone", func(t *testing.T) { testAlone(t, dir) })
	t.Run("KubectlLogs", func(t *testing.T) { testKubectlLogs(t, program) })
}

// testAlone runs it in a root directory that holds nothing else: no resolver's
// configuration, no certificates and no /proc.
func testAlone(t *testing.T, root string) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can run a program in a root directory of its own")
	}
	requests := make(chan string, 10)
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		requests <- r.Method + " " + r.URL.String()
		switch {
		case r.Method == http.MethodPost:
			rw.WriteHeader(http.StatusNoContent)
		case r.URL.Query().Get("pod") == "unknown":
			rw.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(rw, `{"error": "not_found", "message": "no pod default/unknown"}`)
		default:
			_, _ = io.WriteString(rw, `{"outcome": "drained"}`)
		}
	}))
	defer service.Close()
	alone := func(pod string, args ...string) (code int, stderr string) {
		cmd := exec.Command("/prestop", args...)
		cmd.Dir, cmd.SysProcAttr = "/", &syscall.SysProcAttr{Chroot: root}
		cmd.Env = []string{"POD_NAMESPACE=default", "POD_NAME=" + pod}
		var out bytes.Buffer
		cmd.Stderr = &out
		if err := cmd.Run(); err != nil && !errors.As(err, new(*exec.ExitError)) {
			t.Fatal(err)
		}
		return cmd.ProcessState.ExitCode(), out.String()
	}
	check := func(pod string, args []string, wantCode int, wantErr string, want ...string) {
		t.Helper()
		code, stderr := alone(pod, args...)
		var got []string
		for len(requests) > 0 {
			got = append(got, <-requests)
		}
		if code != wantCode || !strings.Contains(stderr, wantErr) || fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%s %q: ends with %d, says %q and asks %q", pod, args, code, stderr, got)
		}
	}
	server := "--server=" + service.URL
	asks := "GET /drain-delay?namespace=default&pod="
	tells := "POST /fallback?namespace=default&pod=unknown&reason=refused"
	check("web-1", []string{server}, 0, "prestop: drained after ", asks+"web-1")
	check("web-1", []string{server, "--max-delay=60"}, 0, "prestop: drained after ", "GET /drain-delay?max-delay=58&namespace=default&pod=web-1")
	check("web-1", []string{server, "--strict"}, 0, "prestop: drained after ", asks+"web-1")
	check("unknown", []string{server, "--fallback=0"}, 0, "answered 404: no pod default/unknown; waiting 0s instead", asks+"unknown", tells)
	check("unknown", []string{server, "--fallback=0", "--strict"}, 1, "answered 404", asks+"unknown", tells)
	check("web-1", []string{"--server=http://127.0.0.1:1", "--fallback=100ms"}, 0, "no answer in 100ms, so requests may fail: cannot reach http://127.0.0.1:1: ")
	check("web-1", []string{"--server=http://drain-wait.drain-wait:8080", "--max-delay=100ms", "--strict"}, 1, "no answer in 100ms, so requests may fail: cannot reach http://drain-wait.drain-wait:8080: ")
	check("web-1", []string{"--fallback=0", "--sever=x"}, 2, "not defined: -sever")
	check("web-1", []string{"version"}, 0, "")
}

// testKubectlLogs runs it beside the first process of a container: what it says
// goes to the output of that one.
func testKubectlLogs(t *testing.T, program string) {
	if os.Geteuid() != 0 {
		t.Skip("NOT TESTED: only root can make namespaces")
	}
	service := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(rw, `{"outcome": "drained"}`)
	}))
	defer service.Close()
	own := filepath.Join(t.TempDir(), "own")
	// In a subshell, since some shells redirect their own output for a moment.
	script := fmt.Sprintf("mount -t proc proc /proc && echo began && (%s --server=%s >%s 2>&1; echo ended with $?)", program, service.URL, own)
	cmd := exec.Command("sh", "-c", script)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWPID | syscall.CLONE_NEWNS, Unshareflags: syscall.CLONE_NEWNS}
	logs, err := cmd.Output()
	if err != nil || !strings.HasPrefix(string(logs), "began\n") {
		t.Skipf("NOT TESTED: no namespaces here: %v, %s", err, logs)
	}
	if got := string(logs); !strings.HasPrefix(got, "began\nprestop: drained after ") || !strings.HasSuffix(got, "s\nended with 0\n") {
		t.Errorf("the logs of the container: %q", got)
	}
	if text, err := os.ReadFile(own); err != nil || len(text) > 0 {
		t.Errorf("its own output: %q, %v", text, err)
	}
}
