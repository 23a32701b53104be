package main

import (
	"go/ast"
	"os"
	"path/filepath"
	"testing"
)

// The limits that keep the house small: lines of a package without its tests, and lines
// of a function.
const (
	mostLines         = 1500
	mostLinesSim      = 2000
	mostLinesFunction = 50
)

func TestRooms(t *testing.T) {
	m, err := parseModule("../..")
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range m.rooms() {
		most := mostLines
		if r.dir == "internal/sim" {
			most = mostLinesSim
		}
		if r.lines > most {
			t.Errorf("%s has %d lines, want %d at most", r.dir, r.lines, most)
		}
	}
	for _, f := range m {
		for _, d := range f.ast.Decls {
			if d, ok := d.(*ast.FuncDecl); ok {
				if n := f.fset.Position(d.End()).Line - f.fset.Position(d.Pos()).Line + 1; n > mostLinesFunction {
					t.Errorf("%s in %s/%s has %d lines, want %d at most", d.Name, f.dir, f.name, n, mostLinesFunction)
				}
			}
		}
	}
	if files, _ := filepath.Glob("../../*.go"); len(files) != 1 {
		t.Errorf("%q at the root, want main.go alone", files)
	}
	if _, err := os.Stat("../../main.go"); err != nil {
		t.Error(err)
	}
}
