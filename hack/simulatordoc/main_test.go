package main

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestPageIsUpToDate(t *testing.T) {
	want, err := generate("../../internal/sim")
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile("../../docs/simulator.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), string(got)); diff != "" {
		t.Errorf("docs/simulator.md is not what `make generate` makes (-made +found):\n%s", diff)
	}
}
