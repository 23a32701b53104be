package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	corev1 "k8s.io/api/core/v1"
)

// TestScript runs the scripts in testdata/script. They say what the program does, as its
// users see it. In addition to the commands of testscript, they have
//
//	[!] http METHOD URL STATUS
//	                       make a request, print the body; another status is a failure
//	hook NAME URL          ask as a preStop hook does, and go on as soon as the request is sent
//	answer NAME            wait for the hook's 200 and print its body
//	build PACKAGE          build a program of this module into $WORK
//	free-port NAME...      put the address of a free port on loopback into variables
//	source FILE            take the variables that the file exports
//	waitfor FILE           wait until the file exists and is not empty
//	waitfor URL STATUS     wait until the URL answers with the status
//	waitpod URL            wait for a ready pod in the cluster at the URL: $POD and $POD_IP
//	balance NAME ADDRESS...
//	                       put an address on loopback into a variable that leads to each
//	                       of the others in turn, as a Service does
//	sigterm NAME           send SIGTERM to the program in the background with NAME among its arguments
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(ts *testscript.TestScript, neg bool, args []string){
			"http":      httpCommand,
			"hook":      startHook,
			"answer":    awaitHook,
			"build":     buildProgram,
			"free-port": freePort,
			"balance":   balance,
			"source":    source,
			"waitfor":   waitFor,
			"waitpod":   waitPod,
			"sigterm":   sigterm,
		},
		Setup: func(env *testscript.Env) error {
			env.Values["hooks"] = make(hooks)
			return nil
		},
		RequireExplicitExec: true,
	})
}

// patience is how long a script waits for what must come. Only a failing test waits
// that long.
const patience = 30 * time.Second

// until tries again and again until there is no error.
func until(ts *testscript.TestScript, try func() error) {
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not within %v: %v", patience, err)
		}
	}
}

func usage(ts *testscript.TestScript, neg, ok bool, text string) {
	if neg || !ok {
		ts.Fatalf("usage: %s", text)
	}
}

func buildProgram(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "build PACKAGE")
	out, err := exec.Command("go", "build", "-o", ts.Getenv("WORK"), args[0]).CombinedOutput()
	if err != nil {
		ts.Fatalf("go build %s: %v\n%s", args[0], err, out)
	}
}

func freePort(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 0, "free-port NAME...")
	for _, name := range args {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		ts.Check(err)
		defer l.Close() // after the last port is found, so that all ports differ
		ts.Setenv(name, l.Addr().String())
	}
}

func balance(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) > 1, "balance NAME ADDRESS...")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	ts.Defer(func() { l.Close() })
	ts.Setenv(args[0], l.Addr().String())
	go func() {
		for i := 0; ; i++ {
			from, err := l.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", args[1+i%(len(args)-1)])
			if err != nil {
				from.Close()
				continue
			}
			pass := func(to, from net.Conn) {
				_, _ = io.Copy(to, from)
				to.Close()
			}
			go pass(to, from)
			go pass(from, to)
		}
	}()
}

func source(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "source FILE")
	for line := range strings.Lines(ts.ReadFile(args[0])) {
		name, value, ok := strings.Cut(strings.TrimSpace(strings.TrimPrefix(line, "export ")), "=")
		if !ok {
			ts.Fatalf("%s: want export NAME=value, not %q", args[0], line)
		}
		ts.Setenv(name, value)
	}
}

func waitFor(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, 1 <= len(args) && len(args) <= 3, "waitfor FILE, waitfor URL STATUS [TEXT]")
	until(ts, func() error {
		if len(args) > 1 {
			body, err := request(http.MethodGet, args[0], args[1], nil)
			if len(args) == 3 && err == nil && !strings.Contains(string(body), args[2]) {
				err = fmt.Errorf("%s does not say %q", args[0], args[2])
			}
			return err
		}
		info, err := os.Stat(ts.MkAbs(args[0]))
		if err == nil && info.Size() == 0 {
			return fmt.Errorf("%s is empty", args[0])
		}
		return err
	})
}

func waitPod(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "waitpod URL")
	until(ts, func() error {
		body, err := request(http.MethodGet, args[0]+"/api/v1/namespaces/default/pods", "200", nil)
		if err != nil {
			return err
		}
		var pods corev1.PodList
		if err := json.Unmarshal(body, &pods); err != nil {
			return err
		}
		for _, p := range pods.Items {
			for _, c := range p.Status.Conditions {
				if c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && p.DeletionTimestamp == nil {
					ts.Setenv("POD", p.Name)
					ts.Setenv("POD_IP", p.Status.PodIP)
					return nil
				}
			}
		}
		return fmt.Errorf("none of %d pods is ready", len(pods.Items))
	})
}

func sigterm(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "sigterm NAME")
	for _, cmd := range ts.BackgroundCmds() {
		if slices.Contains(cmd.Args, args[0]) {
			ts.Check(cmd.Process.Signal(syscall.SIGTERM))
			return
		}
	}
	ts.Fatalf("no program in the background has the argument %s", args[0])
}

// httpCommand makes a request and prints the body. It fails if the status is another
// one, or if there is no answer.
func httpCommand(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, false, len(args) == 3, "[!] http METHOD URL STATUS")
	body, err := request(args[0], args[1], args[2], nil)
	_, _ = ts.Stdout().Write(body)
	if err != nil {
		fmt.Fprintln(ts.Stderr(), err)
	}
	if neg != (err != nil) {
		ts.Fatalf("unexpected result: %v", err)
	}
}

// hook is a preStop hook that waits for its answer.
type hook struct {
	body []byte
	err  error
	over chan struct{}
}

// hooks are those of one script, by name.
type hooks map[string]*hook

// startHook returns when the request has been sent.
func startHook(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 2, "hook NAME URL")
	h := &hook{over: make(chan struct{})}
	ts.Value("hooks").(hooks)[args[0]] = h
	sent := make(chan struct{})
	go func() {
		defer close(h.over)
		h.body, h.err = request(http.MethodGet, args[1], "200", func() { close(sent) })
	}()
	select {
	case <-sent:
	case <-h.over:
		ts.Check(h.err)
	}
}

func awaitHook(ts *testscript.TestScript, neg bool, args []string) {
	usage(ts, neg, len(args) == 1, "answer NAME")
	h := ts.Value("hooks").(hooks)[args[0]]
	if h == nil {
		ts.Fatalf("no hook %s", args[0])
	}
	<-h.over
	ts.Check(h.err)
	_, _ = ts.Stdout().Write(h.body)
}

// request returns the body even if the status is not the wanted one. It calls sent, if
// that is not nil, when the request is on its way.
func request(method, url, status string, sent func()) ([]byte, error) {
	req, err := http.NewRequest(method, url, nil)
	if err != nil {
		return nil, err
	}
	if sent != nil {
		req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
			WroteRequest: func(httptrace.WroteRequestInfo) { sent() },
		}))
	}
	client := http.Client{Timeout: patience, Transport: &http.Transport{DisableKeepAlives: true}}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && strconv.Itoa(res.StatusCode) != status {
		err = fmt.Errorf("%s %s: status %d, want %s", method, url, res.StatusCode, status)
	}
	return body, err
}
