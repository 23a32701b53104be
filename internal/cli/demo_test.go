package cli

import (
	"bytes"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"drainwait/internal/rollout"
)

// TestDemoFits prints a table of large numbers, which has to fit 80 columns.
func TestDemoFits(t *testing.T) {
	var results []rollout.Result
	for i, r := range rollout.All() {
		m := rollout.Result{Scenario: r.Scenario.Name, Policy: r.Policy.Name, HeldMean: 170.4}
		if i%2 == 0 {
			m.Failed = 9999
		}
		results = append(results, m)
	}
	var out bytes.Buffer
	if err := (demoOptions{seed: 1 << 20, speed: 12.5}).printTable(&out, results, 60*time.Second); err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(out.String()) {
		if n := utf8.RuneCountInString(strings.TrimRight(line, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, line)
		}
	}
	if !strings.Contains(out.String(), "FAILS 9999") || !strings.Contains(out.String(), "ok 170 s") {
		t.Errorf("got\n%s", &out)
	}
	if plain, coloured := cell(results[0], false), cell(results[0], true); strings.TrimLeft(plain, " ") == plain || !strings.Contains(coloured, "\x1b[31mFAILS 9999\x1b[0m") {
		t.Errorf("got %q and %q", plain, coloured)
	}
}
