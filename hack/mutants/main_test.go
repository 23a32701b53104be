package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRunner tries mutants of a small module.
func TestRunner(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"go.mod":    "module small\n\ngo 1.25\n",
		"half.go":   "package small\n\n// Half halves.\nfunc Half(n int) int { return n / 2 }\n\nfunc twice(n int) int { return n * 2 }\n",
		"a_test.go": "package small\n\nimport \"testing\"\n\nfunc TestHalf(t *testing.T) {\n\tt.Run(\"of four\", func(t *testing.T) {\n\t\tif Half(4) != 2 {\n\t\t\tt.Error(Half(4))\n\t\t}\n\t})\n}\n\nfunc TestRed(t *testing.T) { t.Error(twice(1)) }\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, from, to, run string
		want                string
		fails               bool
	}{
		{"noticed", "n / 2", "n / 3", "^TestHalf$", "dies by TestHalf/of_four in", false},
		{"a change of a comment", "Half halves.", "Half does something.", "^TestHalf$", "LIVES", true},
		{"what no test runs", "n * 2", "n * 3", "^TestHalf$", "LIVES", true},
		{"not there", "n / 7", "n / 3", "^TestHalf$", "STALE: the text occurs 0 times", true},
		{"there twice", "int {", "int {\n", "^TestHalf$", "STALE: the text occurs 2 times", true},
		{"no Go", "n / 2", "n /", "^TestHalf$", "DOES NOT COMPILE", true},
		{"no such test", "n / 2", "n / 3", "^TestThird$", "STALE: . has no test ^TestThird$", true},
		{"red without it", "n / 2", "n / 3", "^TestRed$", "UNSOUND: TestRed fails without the mutant too", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			var out strings.Builder
			err := try(dir, []mutant{{file: "half.go", from: c.from, to: c.to, pkg: ".", run: c.run}}, &out)
			if !strings.Contains(out.String(), c.want) || (err != nil) != c.fails {
				t.Errorf("got %v and %q, want %q", err, out.String(), c.want)
			}
		})
	}
	if text, err := os.ReadFile(filepath.Join(dir, "half.go")); err != nil || !strings.Contains(string(text), "n / 2") {
		t.Errorf("the tree was written: %v\n%s", err, text)
	}
	if err := try(dir, nil, os.Stdout); err == nil {
		t.Error("no mutant at all is no failure")
	}
}

// TestList checks that each mutant fits the code as it is now: if a line changes, the list
// has to follow.
func TestList(t *testing.T) {
	for _, m := range list() {
		text, err := os.ReadFile(filepath.Join("../..", m.file))
		if found := strings.Count(string(text), m.from); err != nil || found != 1 {
			t.Errorf("%s\n\tthe text occurs %d times, not once; %v", m, found, err)
		}
	}
}
