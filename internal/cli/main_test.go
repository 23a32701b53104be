package cli

import (
	"os"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	// Scripts run this as a program, in a separate process.
	program := func() { os.Exit(Main("")) }
	testscript.Main(m, map[string]func(){"drain-wait": program, "kubectl-drain_wait": program})
}
