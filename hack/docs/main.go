// Docs writes the generated parts of the documentation:
//
//	docs/reference.md      tables made of the API's description, the flags, the chart's
//	                       values, the metrics and the manual of the hook client
//	docs/architecture.md   the table of packages
//	docs/compatibility.md  the matrix of what was tried
//	docs/messages.md       every text that users can see
//	docs/simulator.md      what the simulator assumes
//
//	go run ./hack/docs
package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"

	"drainwait/hack/matrix"
)

func main() {
	pages, err := generate(".")
	for file, text := range pages {
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "docs:", err)
		os.Exit(1)
	}
}

// generate makes all pages of the module in a directory. The keys are their paths.
func generate(root string) (map[string]string, error) {
	files, err1 := parseModule(root)
	packages, err2 := files.packageTable()
	contract, err3 := openapi3.NewLoader().LoadFromFile(filepath.Join(root, "internal/server/openapi.yaml"))
	results, err4 := matrix.Load(os.DirFS(filepath.Join(root, "test/e2e/testdata/matrix")))
	values, err5 := valuesTable(root)
	simulator, err6 := simulatorPage(root)
	if err := errors.Join(err1, err2, err3, err4, err5, err6); err != nil {
		return nil, err
	}
	sections := map[string]map[string]string{
		"docs/reference.md": {
			"parameters": parameters(contract),
			"statuses":   statuses(contract),
			"body":       bodies(contract),
			"flags":      flagTables(),
			"values":     values,
			"metrics":    files.metrics(),
			"prestop":    files.prestopManual(),
		},
		"docs/architecture.md":  {"packages": packages},
		"docs/compatibility.md": {"matrix": matrix.Tables(results)},
	}
	pages := map[string]string{
		filepath.Join(root, "docs/messages.md"):  files.messages(),
		filepath.Join(root, "docs/simulator.md"): simulator,
	}
	for file, parts := range sections {
		path := filepath.Join(root, file)
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		page := string(text)
		for name, content := range parts {
			if page, err = replace(page, name, content); err != nil {
				return nil, fmt.Errorf("%s: %w", file, err)
			}
		}
		pages[path] = page
	}
	return pages, nil
}

// replace puts content between the two markers of a section.
func replace(page, name, content string) (string, error) {
	begin, end := "<!-- "+name+": made by make generate -->\n", "<!-- end of "+name+" -->"
	before, rest, ok := strings.Cut(page, begin)
	_, after, ok2 := strings.Cut(rest, end)
	if !ok || !ok2 {
		return "", fmt.Errorf("no place for %s", name)
	}
	return before + begin + "\n" + strings.TrimSpace(content) + "\n\n" + end + after, nil
}

// table makes a Markdown table.
func table(header string, rows [][]string) string {
	columns := strings.Split(header, "|")
	var out strings.Builder
	fmt.Fprintf(&out, "| %s |\n|%s\n", strings.Join(columns, " | "), strings.Repeat("---|", len(columns)))
	for _, r := range rows {
		for i := range r {
			r[i] = strings.ReplaceAll(r[i], "|", `\|`)
		}
		fmt.Fprintf(&out, "| %s |\n", strings.Join(r, " | "))
	}
	return out.String()
}
