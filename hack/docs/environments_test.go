package main

import (
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestEnvironments checks that the page of environments has them all, that what it calls
// tested names tests that there are, and that what it calls reasoned has a source.
func TestEnvironments(t *testing.T) {
	page, err := os.ReadFile("../../docs/environments.md")
	if err != nil {
		t.Fatal(err)
	}
	has := sourceOfTests(t)
	missing := []string{
		"Istio, plain sidecar", "Istio, native sidecar", "Istio, ambient", "Linkerd", "nginx", "Envoy", "Argo Rollouts", "Karpenter", "Spot", "kubectl drain",
		"StatefulSets", "Jobs", "Fargate", "Auto Mode", "Gateway API", "another account", "IPv6", "China", "GovCloud", "Private clusters", "Security groups for pods",
	}
	for line := range strings.Lines(string(page)) {
		cells := strings.Split(strings.TrimSpace(line), " | ")
		if len(cells) != 4 || cells[0] == "| environment" {
			continue
		}
		name, from := cells[0], cells[3]
		missing = slices.DeleteFunc(missing, func(m string) bool { return strings.Contains(name, m) })
		tests := testNames.FindAllStringSubmatch(line, -1)
		source := strings.Contains(line, "](https://")
		switch cells[2] {
		case "tested":
			if len(tests) == 0 {
				t.Errorf("%s: tested by what?", name)
			}
		case "reasoned":
			if !source {
				t.Errorf("%s: reasoned from what?", name)
			}
		case "unknown":
			if !strings.HasPrefix(from, "not known: ") {
				t.Errorf("%s: what is not known?", name)
			}
		default:
			t.Errorf("%s is %q", name, cells[2])
		}
		for _, m := range tests {
			if !has(m[1], m[2]) {
				t.Errorf("%s: there is no test %s%s", name, m[1], m[2])
			}
		}
	}
	for _, m := range missing {
		t.Errorf("%s is missing", m)
	}
}

var testNames = regexp.MustCompile("`(Test\\w+)((?:/[^`]+)?)`")

// sourceOfTests says whether there is a test of a name and, in any file beside it, a case
// with the last part of the rest of the name.
func sourceOfTests(t *testing.T) (has func(name, rest string) bool) {
	t.Helper()
	packages := make(map[string]string) // the text of all tests in a directory
	root := os.DirFS("../..")
	err := fs.WalkDir(root, ".", func(path string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, "_test.go") {
			text, err := fs.ReadFile(root, path)
			packages[path[:strings.LastIndex("/"+path, "/")]] += string(text)
			return err
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return func(name, rest string) bool {
		for _, text := range packages {
			parts := strings.Split(rest, "/")
			if strings.Contains(text, "\nfunc "+name+"(t *testing.T)") && (rest == "" || strings.Contains(text, `"`+parts[len(parts)-1]+`"`)) {
				return true
			}
		}
		return false
	}
}
