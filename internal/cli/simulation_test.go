package cli

import (
	"net"
	"strings"
	"testing"

	"drainwait/internal/sim"
)

// TestSimulationThatNeverStarted: what stops it runs on every way out, and gives the
// address back.
func TestSimulationThatNeverStarted(t *testing.T) {
	s, err := newSimulation(sim.New(sim.Config{Assumptions: sim.DefaultAssumptions()}), "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s.stop()
	l, err := net.Listen("tcp", strings.TrimPrefix(s.url, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
}
