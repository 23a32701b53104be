package kube

import (
	"os"
	"testing"

	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
)

func TestMain(m *testing.M) {
	// The second of client-go's error handlers slows down a process that has
	// many errors, by a clock that was read outside of any bubble: it would
	// sleep for the years between that clock and the bubble's.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	os.Exit(m.Run())
}
