package cli

import (
	"bufio"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// TestSecondSignal: the first signal lets the service go away in order, which takes ten
// minutes here; the second one ends it.
func TestSecondSignal(t *testing.T) {
	for _, sig := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
		t.Run(sig.String(), func(t *testing.T) {
			t.Parallel()
			program, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(program, "serve", "--simulate", "--listen-address", "127.0.0.1:0", "--admin-address", "127.0.0.1:0",
				"--shutdown-quiet", "10m", "--shutdown-grace", "10m", "--log-format", "json")
			cmd.Args[0] = "drain-wait" // what TestMain goes by
			log, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = cmd.Process.Kill() })
			lines := bufio.NewScanner(log)
			for _, event := range []string{`"msg":"serving"`, `"msg":"shutting down"`} {
				for lines.Scan() {
					if strings.Contains(lines.Text(), event) {
						break
					}
				}
				if err := cmd.Process.Signal(sig); err != nil {
					t.Fatalf("%s: %v", event, err)
				}
			}
			for lines.Scan() { // to the end, so that nothing is lost
			}
			err = cmd.Wait()
			if status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || !status.Signaled() || status.Signal() != sig {
				t.Errorf("the process ended with %v, want the signal", err)
			}
		})
	}
}
