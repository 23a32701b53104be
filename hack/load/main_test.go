package main

import (
	"math"
	"os"
	"testing"
	"time"
)

func TestP99(t *testing.T) {
	var times []time.Duration
	if got := p99(times); !math.IsNaN(got) {
		t.Errorf("of nothing: %v", got)
	}
	for n := 200; n > 0; n-- {
		times = append(times, time.Duration(n)*time.Millisecond)
	}
	for n, want := range map[int]float64{1: 200, 100: 199, 200: 198} { // from 200 ms down
		if got := p99(times[:n]); got != want {
			t.Errorf("of %d: %v ms, want %v", n, got, want)
		}
	}
}

func TestParseUsage(t *testing.T) {
	const status = "Name:\tdrain wait\nVmHWM:\t    2048 kB\nVmRSS:\t    1024 kB\n"
	const stat = "7 (a )b (c) S 1 7 7 0 -1 4194304 900 0 0 0 150 25 0 0 20 0 9 0 100 0 256"
	got, err := parseUsage(status, stat)
	if want := (usage{resident: 1 << 20, peak: 2 << 20, cpu: 1750 * time.Millisecond}); err != nil || got != want {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if _, err := parseUsage("Name:\tgone\n", stat); err == nil {
		t.Error("a process that has ended has a usage")
	}
}

// TestManifestMemory: the load is measured against what ships.
func TestManifestMemory(t *testing.T) {
	manifest, err := os.ReadFile("../../deploy/deployment.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if limit, goMem, err := manifestMemory(string(manifest)); err != nil || limit < 64 || goMem > limit {
		t.Errorf("limit %d, GOMEMLIMIT %d, %v", limit, goMem, err)
	}
	const text = "env:\n- name: GOMEMLIMIT\n  value: 400MiB\nlimits: # none for CPU\n  memory: 512Mi\n"
	if limit, goMem, err := manifestMemory(text); limit != 512 || goMem != 400 || err != nil {
		t.Errorf("limit %d, GOMEMLIMIT %d, %v", limit, goMem, err)
	}
}
