package main

import (
	"io"
	"strings"
	"testing"
)

// TestRunner tries mutants of a small module, all at once.
func TestRunner(t *testing.T) {
	const half = "^TestHalf$"
	cases := []struct {
		name, from, to, run string
		want                string
	}{
		{"noticed", "n / 2", "n / 3", half, "dies by TestHalf/of_four in"},
		{"of a variable", "n + 1", "n + 2", half, "dies by TestHalf/and_more in"},
		{"without results", "c <- true\n", "c <- true\n\tc <- true\n", half, "dies by TestHalf/and_a_channel in"},
		{"ends the program", "c <- true", "go panic(\"a mutant\")\n\tc <- <-make(chan bool)", half, "dies by TestHalf/and_a_channel (panic: a mutant) in"},
		{"changes nothing", "return n / 2", "return /* half of */ n / 2", half, "LIVES"},
		{"what no test runs", "n * 2", "n * 3", half, "LIVES"},
		{"not there", "n / 7", "n / 3", half, "STALE: the text occurs 0 times"},
		{"there twice", "int {", "int {\n", half, "STALE: the text occurs 3 times"},
		{"outside of functions", "Half halves.", "Half does something.", half, "STALE: the text is not inside of a function"},
		{"no Go", "n / 2", "n /", half, "DOES NOT COMPILE"},
		{"not the right Go", "n / 2", "n / half", half, "undefined: half"},
		{"no such test", "n / 2", "n / 3", "^TestThird$", "STALE: . has no test ^TestThird$"},
		{"red without it", "n / 2", "n / 3", "^TestRed$", "UNSOUND: TestRed fails without the mutant too"},
	}
	var mutants []mutant
	for _, c := range cases {
		mutants = append(mutants, mutant{file: "half.go", from: c.from, to: c.to, why: c.name, pkg: ".", run: c.run})
	}
	var out strings.Builder
	err := try("testdata/small", mutants, &out)
	for i, c := range cases {
		_, result, _ := strings.Cut(out.String(), mutants[i].String()+"\n\t")
		result, _, _ = strings.Cut(result, "\nhalf.go: ")
		if !strings.Contains(result, c.want) {
			t.Errorf("%s: got %q, want %q", c.name, result, c.want)
		}
	}
	if err == nil || err.Error() != "9 of 13 mutants are not noticed, or do not fit" {
		t.Error(err)
	}
	if err := try("testdata/small", mutants[:4], io.Discard); err != nil {
		t.Errorf("all are noticed, and yet: %v", err)
	}
	if err := try("testdata/small", nil, io.Discard); err == nil {
		t.Error("no mutant at all is no failure")
	}
}

// TestList checks that each mutant fits the code as it is now: if a line changes, the list
// has to follow.
func TestList(t *testing.T) {
	seen := make(map[string]bool)
	for _, m := range list() {
		if err := m.fits("../.."); err != nil {
			t.Errorf("%s\n\t%v", m, err)
		}
		if seen[m.String()] || m.why == "" {
			t.Errorf("%s\n\tis there twice, or has no reason", m)
		}
		seen[m.String()] = true
	}
}
