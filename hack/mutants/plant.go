package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// variable is the environment variable that wakes one of the planted mutants: the first
// is 1, so that 0 or nothing wakes none.
const variable = "DRAIN_WAIT_MUTANT"

// planting is what makes the compiler see mutants in place of the real files: all at
// once, each of them asleep.
type planting struct {
	dir, temp string
	replace   map[string]string // real file to changed one
}

// plant writes the files that mutants of these numbers change, and tells the compiler
// which files they replace.
func (p *planting) plant(mutants []mutant, numbers []int) (overlay string, err error) {
	if err := os.MkdirAll(p.temp, 0o700); err != nil {
		return "", err
	}
	p.replace = make(map[string]string)
	files := make(map[string][]int)
	for _, n := range numbers {
		files[mutants[n].file] = append(files[mutants[n].file], n)
	}
	for name, numbers := range files {
		if err := p.plantFile(name, mutants, numbers); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": p.replace})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(p.temp, "overlay.json")
	return overlay, os.WriteFile(overlay, text, 0o600)
}

// plantFile gives each function that mutants change a changed copy of its body for each
// of them, which runs in place of its own if the mutant is awake.
func (p *planting) plantFile(name string, mutants []mutant, numbers []int) error {
	s, err := read(p.dir, name)
	if err != nil {
		return err
	}
	copies := make(map[function]string)
	for _, n := range numbers {
		at, fn, err := mutants[n].find(s)
		if err != nil {
			return err
		}
		done := ""
		if !fn.results {
			done = "\nreturn"
		}
		copies[fn] += fmt.Sprintf("if mutantAwake == %d {\n//line mutant%d.go:1\n%s%s%s%s\n}\n", n+1, n, s.text[fn.open:at.from], at.text, s.text[at.to:fn.end], done)
	}
	var out strings.Builder
	last := 0
	for _, fn := range slices.SortedFunc(maps.Keys(copies), func(a, b function) int { return a.open - b.open }) {
		open := fn.open + 1
		line := strings.Count(s.text[:open], "\n") + 1
		fmt.Fprintf(&out, "%s\n%s//line %s:%d\n", s.text[last:open], copies[fn], filepath.Base(name), line)
		last = open
	}
	out.WriteString(s.text[last:])
	awake := fmt.Sprintf("package %s\n\nimport (\n\t\"os\"\n\t\"strconv\"\n)\n\nvar mutantAwake, _ = strconv.Atoi(os.Getenv(%q))\n", s.pkg, variable)
	return errors.Join(p.write(name, out.String()), p.write(filepath.Join(filepath.Dir(name), "mutant_awake.go"), awake))
}

// write makes the compiler see a text in place of a file, which need not be there.
func (p *planting) write(name, text string) error {
	file, err := filepath.Abs(filepath.Join(p.dir, name))
	if err != nil {
		return err
	}
	p.replace[file] = filepath.Join(p.temp, strings.ReplaceAll(name, "/", "_"))
	return os.WriteFile(p.replace[file], []byte(text), 0o600)
}

// source is a file of Go.
type source struct {
	text, pkg string
	functions []function // those of the file itself, not those inside of others
}

// function is where in a file the body of a function is, with its braces.
type function struct {
	open, end int
	results   bool // it returns some
}

func read(dir, name string) (*source, error) {
	text, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return parse(string(text))
}

func parse(text string) (*source, error) {
	files := token.NewFileSet()
	f, err := parser.ParseFile(files, "", text, parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	s := &source{text: text, pkg: f.Name.Name}
	ast.Inspect(f, func(n ast.Node) bool {
		var typ *ast.FuncType
		var body *ast.BlockStmt
		switch n := n.(type) {
		case *ast.FuncDecl:
			typ, body = n.Type, n.Body
		case *ast.FuncLit: // of a variable
			typ, body = n.Type, n.Body
		}
		if body == nil {
			return true
		}
		at := func(p token.Pos) int { return files.PositionFor(p, false).Offset }
		s.functions = append(s.functions, function{at(body.Lbrace), at(body.Rbrace) + 1, typ.Results != nil})
		return false
	})
	return s, nil
}

// change puts a text in place of a part of a file.
type change struct {
	from, to int
	text     string
}

// find says what a mutant changes in its file, and in which function.
func (m mutant) find(s *source) (change, function, error) {
	if found := strings.Count(s.text, m.from); found != 1 {
		return change{}, function{}, fmt.Errorf("STALE: the text occurs %d times in %s, not once", found, m.file)
	}
	// Only what differs has to be inside of the function.
	same := 0
	for same < min(len(m.from), len(m.to)) && m.from[same] == m.to[same] {
		same++
	}
	from, to := m.from[same:], m.to[same:]
	for from != "" && to != "" && from[len(from)-1] == to[len(to)-1] {
		from, to = from[:len(from)-1], to[:len(to)-1]
	}
	begin := strings.Index(s.text, m.from) + same
	c := change{begin, begin + len(from), to}
	if _, err := parse(s.text[:c.from] + c.text + s.text[c.to:]); err != nil {
		return change{}, function{}, fmt.Errorf("DOES NOT COMPILE: %w", err)
	}
	for _, fn := range s.functions {
		if fn.open < c.from && c.to < fn.end {
			return c, fn, nil
		}
	}
	return change{}, function{}, fmt.Errorf("STALE: the text is not inside of a function of %s", m.file)
}

// fits says whether a mutant can be planted in the module in dir.
func (m mutant) fits(dir string) error {
	s, err := read(dir, m.file)
	if err != nil {
		return err
	}
	_, _, err = m.find(s)
	return err
}
