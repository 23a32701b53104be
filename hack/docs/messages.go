package main

import (
	"fmt"
	"go/ast"
	"maps"
	"slices"
	"strings"
)

// speakers are the functions whose texts users read, and the kind of each text.
var speakers = map[string]string{
	"Errorf": "error", "New": "error",
	"Info": "log", "Warn": "log", "Error": "log",
	"Print": "output", "Printf": "output", "Println": "output",
	"Fprint": "output", "Fprintf": "output", "Fprintln": "output", "Sprintf": "text",
	"warn": "warning", "say": "output", "fail": "error", "noteOpen": "warning", "noteRefused": "warning",
}

// messages lists each text once for each package, as it stands in the code.
func (m module) messages() string {
	texts := make(map[string][]string) // by package
	m.calls(func(f *file, call *ast.CallExpr) {
		kind := speakers[calleeOf(call)]
		if kind == "" || strings.HasPrefix(f.dir, "internal/sim") {
			return
		}
		args := call.Args
		if kind == "log" {
			args = args[:min(1, len(args))] // the others are attributes
		}
		for _, a := range args {
			text := literal(a)
			if kind == "log" && text != "" || strings.Contains(strings.Trim(text, " \n"), " ") {
				line := fmt.Sprintf("%s: %q", kind, text)
				if !slices.Contains(texts[f.dir], line) {
					texts[f.dir] = append(texts[f.dir], line)
				}
			}
		}
	})
	var out strings.Builder
	out.WriteString("# Messages\n\nEvery text that a user can see: errors, warnings, log lines and output, as they stand in\n" +
		"the code. Made by `make generate`, to be read from top to bottom.\n")
	for _, dir := range slices.Sorted(maps.Keys(texts)) {
		slices.Sort(texts[dir])
		fmt.Fprintf(&out, "\n## %s\n\n```text\n%s\n```\n", dir, strings.Join(texts[dir], "\n"))
	}
	return out.String()
}
