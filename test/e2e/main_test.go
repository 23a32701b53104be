// Package e2e tests drain-wait with a real Kubernetes API server and the real
// controllers. AWS is the project's simulator behind a socket. The tests play the AWS
// Load Balancer Controller, the kubelets and the clients, through the real APIs. Each
// pod is a process in separate namespaces, with its own address, and its preStop hook
// runs inside them.
package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

// These environment variables say what the test binary is started as.
const (
	envInside = "E2E_INSIDE" // the tests, in separate namespaces; the value is the directory with the programs
	envPod    = "E2E_POD"    // the first process of a pod; the value is its environment
	// envKube is the version of Kubernetes, as 1.34, unless it is the newest.
	envKube = "E2E_KUBE"
	// envRequired makes the tests fail, not skip, if they cannot run here.
	envRequired = "E2E_REQUIRED"
)

func TestMain(m *testing.M) {
	if pod := os.Getenv(envPod); pod != "" {
		os.Exit(runPod(pod))
	}
	if os.Getenv(envInside) == "" {
		os.Exit(enter())
	}
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	if err := startNetwork(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

// enter builds the programs and runs the tests in new network, mount and process
// namespaces: nothing outside sees what they do, and everything ends with them.
func enter() int {
	if err := able(); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** e2e: NOT RUN: %v ***\n\n", err)
		if os.Getenv(envRequired) != "" {
			return 1
		}
		return 0
	}
	dir, err := os.MkdirTemp("", "drain-wait-e2e-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	self, err := os.Executable()
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	cmd := exec.Command("unshare", slices.Concat(isolation, reaper, []string{self}, os.Args[1:])...)
	cmd.Env = append(os.Environ(), envInside+"="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	err = cmd.Run()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1)
	} else if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	return 0
}

// isolation are the arguments of unshare.
var isolation = []string{"--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "--"}

// reaper is the first process in the namespaces. It collects dead processes that nobody
// else collects. Otherwise a pod's dead processes would keep its first process from
// ending.
var reaper = []string{"sh", "-c", `"$@"; exit $?`, "sh"}

// able says whether this user can run the tests on this machine.
func able() error {
	for _, tool := range []string{"unshare", "nsenter", "ip", "curl"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("%s is missing", tool)
		}
	}
	args := slices.Concat(isolation, []string{"ip", "link", "add", bridge, "type", "bridge"})
	if out, err := exec.Command("unshare", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("this user cannot make a network namespace with a bridge (root can): %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// build makes the programs in dir. It keeps the control plane, which takes minutes, from
// one run to the next.
func build(dir string) error {
	out, err := command("../../tools/kube/build", cmp.Or(os.Getenv(envKube), "go")).Output()
	if err != nil {
		return fmt.Errorf("build the control plane: %w", err)
	}
	if err := os.Symlink(strings.TrimSpace(string(out)), filepath.Join(dir, "kube")); err != nil {
		return err
	}
	if out, err = command("../../tools/clients/build").Output(); err != nil {
		return fmt.Errorf("build helm and kubectl: %w", err)
	}
	if err := os.Symlink(strings.TrimSpace(string(out)), filepath.Join(dir, "clients")); err != nil {
		return err
	}
	for _, module := range []string{"chart", "image"} { // where the tests run there is no network
		if err := command("go", "-C", "../../tools/"+module, "mod", "download").Run(); err != nil {
			return fmt.Errorf("get what tools/%s needs: %w", module, err)
		}
	}
	if err := getServiceMonitors(filepath.Join(dir, "servicemonitors.yaml")); err != nil {
		fmt.Fprintf(os.Stderr, "\n*** e2e: SKIPPED: the definition of ServiceMonitors cannot be had: %v ***\n\n", err)
	}
	for _, args := range [][]string{
		{"-o", filepath.Join(dir, "drain-wait"), "."},
		{"-tags", "nethttpomithttp2", "-o", filepath.Join(dir, "prestop"), "./cmd/prestop"},
	} {
		cmd := command("go", append([]string{"build", "-trimpath", "-ldflags", "-s -w"}, args...)...)
		cmd.Dir, cmd.Env = "../..", append(os.Environ(), "CGO_ENABLED=0")
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("build the programs: %w", err)
		}
	}
	image := filepath.Join(dir, "image") // what our image has
	err = os.Mkdir(image, 0o755)
	for _, name := range []string{"drain-wait", "prestop"} {
		err = errors.Join(err, os.Link(filepath.Join(dir, name), filepath.Join(image, name)))
	}
	return err
}

// getServiceMonitors links the Prometheus Operator's definition of ServiceMonitors, of the
// version that the chart is tested with, to a path.
func getServiceMonitors(path string) error {
	const module = "github.com/prometheus-operator/prometheus-operator"
	cmd := command("go", "list", "-m", "-f", "{{.Version}}", module+"/pkg/apis/monitoring")
	cmd.Dir = "../../tools/chart"
	version, err := cmd.Output()
	if err != nil {
		return err
	}
	text, err := command("go", "mod", "download", "-json", module+"@"+strings.TrimSpace(string(version))).Output()
	if err != nil {
		return err
	}
	var got struct{ Dir string }
	if err := json.Unmarshal(text, &got); err != nil {
		return err
	}
	return os.Symlink(filepath.Join(got.Dir, "example/prometheus-operator-crd/monitoring.coreos.com_servicemonitors.yaml"), path)
}

func command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(name, args...)
	cmd.Stderr = os.Stderr
	return cmd
}

// program is the path of one of the programs that were built.
func program(name string) string { return filepath.Join(os.Getenv(envInside), name) }
