package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestFigures breaks one cell at a time: a figure for which an imitation has no test and
// no difference is an error.
func TestFigures(t *testing.T) {
	const figure = "package measured\n\n// Figures are some.\n//\n// This was the bed.\ntype Figures struct {\n\t// How long it takes.\n%s\tLag int\n}\n"
	const uses = "package x\n\nfunc TestLag(t *testing.T) {\n\twant := measured.LBC()\n\tt.Log(want.Lag)\n}\n"
	for _, tt := range []struct {
		name, comment, simulator, e2e string
		want                          []string // the cells
		err                           string
	}{
		{name: "a test each", simulator: uses, e2e: uses, want: []string{"`TestLag`.", "`TestLag`."}},
		{
			name: "a test and a difference", comment: "\t//\n\t// e2e: nobody\n\t// knows.\n",
			simulator: uses, want: []string{"`TestLag`.", "Nobody knows."},
		},
		{
			name: "both of one", comment: "\t//\n\t// Simulator: it is faster.\n",
			simulator: uses, e2e: uses, want: []string{"`TestLag`. It is faster.", "`TestLag`."},
		},
		{name: "used without a variable", simulator: strings.ReplaceAll(uses, "want.Lag", "measured.LBC().Lag"), e2e: uses, want: []string{"`TestLag`.", "`TestLag`."}},
		{name: "no test of the imitation", simulator: uses, err: "figure Lag: e2e:"},
		{name: "no test of the simulator", e2e: uses, err: "figure Lag: Simulator:"},
		{name: "another figure", simulator: strings.ReplaceAll(uses, "want.Lag", "want.Other"), e2e: uses, err: "figure Lag: Simulator:"},
		{name: "something else of that name", simulator: strings.ReplaceAll(uses, "want.Lag", "other.Lag"), e2e: uses, err: "figure Lag: Simulator:"},
		{name: "not in a test", simulator: strings.ReplaceAll(uses, "TestLag", "lag"), e2e: uses, err: "figure Lag: Simulator:"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := t.TempDir()
			source := filepath.Join(root, "measured.go")
			for path, text := range map[string]string{
				source: strings.ReplaceAll(figure, "%s", tt.comment),
				filepath.Join(root, "internal/sim/x_test.go"): tt.simulator,
				filepath.Join(root, "test/e2e/x_test.go"):     tt.e2e,
			} {
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			rows, bed, err := figures(root, source, struct{ Lag int }{7})
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want one about %s", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := []string{rows[0].Simulator, rows[0].E2E}; !slices.Equal(got, tt.want) || rows[0].Comment != "How long it takes." || rows[0].Value != "7" || bed != "This was the bed." {
				t.Errorf("row %+v and bed %q, want the cells %q", rows[0], bed, tt.want)
			}
		})
	}
}
