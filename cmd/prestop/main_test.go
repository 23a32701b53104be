package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

func TestFlags(t *testing.T) {
	for name, tt := range map[string]struct {
		args string
		env  map[string]string
		want string // server, max-delay, fallback, settle, ingress, strict; or an error
	}{
		"defaults":      {"", nil, "http://drain-wait.drain-wait:8080 none 25s [] [] false"},
		"all":           {"--server http://[::1]:81/x --max-delay 90 --fallback=1m30s -settle 15 --ingress a --ingress b --strict", nil, "http://[::1]:81/x 1m30s 1m30s [15] [a b] true"},
		"environment":   {"", map[string]string{"DRAIN_WAIT_SERVER": "http://h", "DRAIN_WAIT_MAX_DELAY": "5", "DRAIN_WAIT_INGRESS": "a", "DRAIN_WAIT_STRICT": "true"}, "http://h 5s 25s [] [a] true"},
		"the line wins": {"--max-delay=6 --ingress b", map[string]string{"DRAIN_WAIT_MAX_DELAY": "5", "DRAIN_WAIT_INGRESS": "a"}, "http://drain-wait.drain-wait:8080 6s 25s [] [b] false"},
		"a value":       {"--log-file --ingress", map[string]string{"DRAIN_WAIT_INGRESS": "a"}, "http://drain-wait.drain-wait:8080 none 25s [] [a] false"},
		"empty":         {"", map[string]string{"DRAIN_WAIT_MAX_DELAY": ""}, "http://drain-wait.drain-wait:8080 none 25s [] [] false"},
		"service links": {"", map[string]string{"DRAIN_WAIT_PORT": "tcp://10.0.0.1:8080", "DRAIN_WAIT_SERVICE_HOST": "10.0.0.1"}, "http://drain-wait.drain-wait:8080 none 25s [] [] false"},
		"unknown":       {"--max-dealy 5", nil, "flag provided but not defined: -max-dealy"},
		"argument":      {"--strict 5", nil, `unknown argument "5"`},
		"bad duration":  {"--max-delay soon", nil, `invalid value "soon" for flag -max-delay: want whole seconds, as in 60, or a duration with a unit, as in 90s or 1m30s`},
		"negative":      {"--fallback -1s", nil, `invalid value "-1s" for flag -fallback: want 0 or more`},
		"https":         {"--server https://h", nil, `invalid value "https://h" for flag -server: want http://host:port`},
		"no scheme":     {"--server drain-wait:8080", nil, "http://drain-wait:8080 none 25s [] [] false"},
		"bad variable":  {"", map[string]string{"DRAIN_WAIT_FALLBACK": "soon"}, "environment variable DRAIN_WAIT_FALLBACK: want whole seconds, as in 60, or a duration with a unit, as in 90s or 1m30s"},
	} {
		h := newHook(func(string) string { return "" })
		err := parse(h.flags(), strings.Fields(tt.args), func(name string) string { return tt.env[name] })
		maxDelay := "none"
		if h.maxDelay != unlimited {
			maxDelay = h.maxDelay.String()
		}
		got := fmt.Sprint(h.server, " ", maxDelay, " ", h.fallback, " ", h.query["settle"], " ", h.query["ingress"], " ", h.strict)
		if err != nil {
			got = err.Error()
		}
		if got != tt.want {
			t.Errorf("%s: got %s, want %s", name, got, tt.want)
		}
	}
}

// TestManual checks that the manual knows all flags.
func TestManual(t *testing.T) {
	manual, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	newHook(os.Getenv).flags().VisitAll(func(f *flag.Flag) {
		if !strings.Contains(string(manual), "\n//\t--"+f.Name) {
			t.Errorf("the manual lacks --%s", f.Name)
		}
	})
}

// TestExamples parses the hooks of the examples in deploy/.
func TestExamples(t *testing.T) {
	command := regexp.MustCompile(`command: \[/\S*prestop(?:, (--.*))?\]\n`)
	files, _ := filepath.Glob("../../deploy/examples/hook-client-*.yaml")
	if len(files) != 2 {
		t.Errorf("the examples are %q", files)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		found := command.FindSubmatch(text)
		if found == nil {
			t.Fatalf("%s has no hook", file)
		}
		args := strings.FieldsFunc(string(found[1]), func(r rune) bool { return r == ',' || r == ' ' })
		if err := parse(newHook(os.Getenv).flags(), args, os.Getenv); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
}

// TestWrongStart: a hook with a mistake in it still gives the load balancer some
// time, and a wrong command does not.
func TestWrongStart(t *testing.T) {
	for _, tt := range []struct {
		args   []string
		after  time.Duration
		code   int
		stderr string
	}{
		{[]string{"--log-file=", "--max-dealy=5"}, 25 * time.Second, 2, "prestop: flag provided but not defined: -max-dealy; waiting 25s\n"},
		{[]string{"--log-file=", "--fallback=5", "--strict", "x"}, 5 * time.Second, 2, "prestop: unknown argument \"x\"; waiting 5s\n"},
		{[]string{"--log-file=", "--max-delay=3", "--max-dealy=5"}, 3 * time.Second, 2, "prestop: flag provided but not defined: -max-dealy; waiting 3s\n"},
		{[]string{"instal", "/dir"}, 0, 2, "prestop: the commands are install DIR and version; see prestop --help\n"},
		{[]string{"install"}, 0, 2, "prestop: the commands are install DIR and version; see prestop --help\n"},
		{[]string{"--help"}, 0, 0, ""},
		{[]string{"version"}, 0, 0, ""},
	} {
		synctest.Test(t, func(t *testing.T) {
			began := time.Now()
			var stdout, stderr bytes.Buffer
			code := run(tt.args, &stdout, &stderr)
			if took := time.Since(began); took != tt.after || code != tt.code || stderr.String() != tt.stderr {
				t.Errorf("%q: %d after %s: %s", tt.args, code, took, &stderr)
			}
			if (stdout.Len() > 0) != (tt.code == 0) {
				t.Errorf("%q prints %q", tt.args, &stdout)
			}
		})
	}
}

func TestSay(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("first\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var other bytes.Buffer
	said := func() string {
		t.Helper()
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	say(file, &other, "two\nlines\x1b")
	if got, want := said(), "first\nprestop: two lines\x1b\n"; got != want || other.Len() > 0 {
		t.Errorf("the file has %q, want %q; the rest went to %q", got, want, &other)
	}
	say(filepath.Join(dir, "none"), &other, "elsewhere")
	if got, want := other.String(), "prestop: elsewhere\n"; got != want {
		t.Errorf("without a file: %q, want %q", got, want)
	}
	if files, _ := filepath.Glob(filepath.Join(dir, "*")); len(files) > 1 {
		t.Errorf("there are %q now", files)
	}
	other.Reset()
	say("", &other, strings.Repeat("ö", longestLine))
	if got := other.String(); len(got) > longestLine || !strings.HasSuffix(got, "öö\n") {
		t.Errorf("a long line has %d bytes and ends in %q", len(got), got[len(got)-5:])
	}
}

// TestSayIntoPipe: a pipe that nobody reads, or that is full, holds nobody.
func TestSayIntoPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	var other bytes.Buffer
	say(pipe, &other, "nobody")
	reader, err := os.OpenFile(pipe, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for n := 0; other.String() == "prestop: nobody\n"; n++ {
		if n > 1000 {
			t.Fatal("a pipe takes more than four megabytes")
		}
		say(pipe, &other, strings.Repeat("x", longestLine))
	}
	if got := other.Len(); got != len("prestop: nobody\n")+longestLine {
		t.Errorf("a full pipe sends %d bytes elsewhere", got)
	}
}

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	old := filepath.Join(dir, "prestop")
	if err := os.WriteFile(old, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	defer syscall.Umask(syscall.Umask(0o077))
	for range 2 {
		if code := run([]string{"install", dir}, os.Stdout, os.Stderr); code != 0 {
			t.Fatalf("ends with %d", code)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	want, err1 := os.ReadFile(self)
	got, err2 := os.ReadFile(old)
	if err1 != nil || err2 != nil || !bytes.Equal(got, want) {
		t.Errorf("a copy of %d bytes has %d: %v, %v", len(want), len(got), err1, err2)
	}
	if info, _ := os.Stat(old); info.Mode() != 0o755 {
		t.Errorf("its mode is %s", info.Mode())
	}
	files, _ := filepath.Glob(filepath.Join(dir, "*"))
	hidden, _ := filepath.Glob(filepath.Join(dir, ".*"))
	if files = append(files, hidden...); !slices.Equal(files, []string{old}) {
		t.Errorf("the directory holds %q", files)
	}
	var stderr bytes.Buffer
	if code := run([]string{"install", filepath.Join(dir, "none")}, os.Stdout, &stderr); code != 1 || !strings.Contains(stderr.String(), "no such file") {
		t.Errorf("into no directory: %d %s", code, &stderr)
	}
}
