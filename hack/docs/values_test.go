package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestValuesTable checks which values have a row, and that each has a comment.
func TestValuesTable(t *testing.T) {
	for _, c := range []struct{ values, want string }{
		{"# How many.\nreplicas: 2\n", "| `replicas` | `2` | How many. |"},
		{"image:\n  # Where\n  # it is.\n  name: \"\"\n", "| `image.name` |  | Where it is. |"},
		{"# All of it.\nresources:\n  limits:\n    memory: 1Gi\n", "| `resources` | `{\"limits\":{\"memory\":\"1Gi\"}}` | All of it. |"},
		{"# How many.\nreplicas: 2\nother: 3\n", "values.yaml: other has no comment"},
		{"# All of it.\nimage:\n  name: a\nimages: 3\n", "values.yaml: images has no comment"},
		{"# About nothing.\n\nother: {}\n", "values.yaml: other has no comment"},
	} {
		root := t.TempDir()
		dir := filepath.Join(root, "charts/drain-wait")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "values.yaml"), []byte(c.values), 0o644); err != nil {
			t.Fatal(err)
		}
		got, err := valuesTable(root)
		if err != nil {
			got = err.Error()
		}
		if !strings.HasSuffix(strings.TrimSpace(got), c.want) {
			t.Errorf("%s: got %s, want %s", c.values, got, c.want)
		}
	}
}
