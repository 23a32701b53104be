package rollout_test

import (
	"fmt"
	"math"
	"os"
	"regexp"
	"strings"
	"testing"

	"drainwait/internal/rollout"
)

var cells = regexp.MustCompile(`(ok|FAILS) (\d+)`)

// readme are the verdicts and figures of the screenshot in README.md, by world
// and policy.
func readme(t *testing.T) map[string]string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	shown := make(map[string]string)
	for line := range strings.Lines(string(text)) {
		for _, s := range rollout.Scenarios() {
			found := cells.FindAllString(line, -1)
			if rest, ok := strings.CutPrefix(line, s.Name); !ok || !strings.HasPrefix(rest, "  ") || len(found) != len(rollout.Policies()) {
				continue
			}
			for i, p := range rollout.Policies() {
				shown[rollout.Rollout{Scenario: s, Policy: p}.String()] = found[i]
			}
		}
	}
	return shown
}

// checkShown compares a cell of the screenshot with a result: the verdict must be the
// same, and the figure within a tenth, as README.md says, or within a second.
func checkShown(t *testing.T, cell string, r rollout.Rollout, m rollout.Result) {
	t.Helper()
	var verdict string
	var figure float64
	if _, err := fmt.Sscan(cell, &verdict, &figure); err != nil {
		t.Errorf("README.md has no cell for %s", r)
		return
	}
	want := m.HeldMean
	if m.Failed > 0 {
		want = float64(m.Failed)
	}
	if verdict != m.Verdict || math.Abs(figure-want) > max(1, 0.1*want) {
		t.Errorf("README.md shows %q for %s, want %s %.1f; make screenshot", cell, r, m.Verdict, want)
	}
}
