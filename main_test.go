package main

import (
	"log/slog"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	utilruntime "k8s.io/apimachinery/pkg/util/runtime"
	"k8s.io/klog/v2"
)

func TestMain(m *testing.M) {
	// The second of client-go's error handlers slows down a process that has
	// many errors, by a clock that was read outside of any bubble: it would
	// sleep for the years between that clock and the bubble's.
	utilruntime.ErrorHandlers = utilruntime.ErrorHandlers[:1]
	klog.SetSlogLogger(slog.New(slog.DiscardHandler)) // an API server that is away is no news here
	// Scripts run this as a program, in a process of its own.
	testscript.Main(m, map[string]func(){"drain-wait": main})
}
