package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
)

// imitation is something that is held against the measured figures.
type imitation struct {
	mark string   // begins the paragraph of a comment that says how it differs
	dirs []string // of its tests
}

var imitations = []imitation{
	{"Simulator:", []string{"internal/sim", "internal/sim/aws"}},
	{"e2e:", []string{"test/e2e"}},
}

// figureRow is a measured figure: what it is, and what each of the imitations makes of it.
type figureRow struct{ Name, Value, Comment, Simulator, E2E string }

// figures makes a row of each measured figure in a file. An imitation that neither has a
// test for a figure nor says how it differs is an error. bed is the last paragraph of the
// comment on all of them.
func figures(root, source string, values any) (rows []figureRow, bed string, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, "", err
	}
	var tests []map[string][]string // for each imitation, the tests by figure
	for _, i := range imitations {
		found, err := testsOfFigures(root, i.dirs)
		if err != nil {
			return nil, "", err
		}
		tests = append(tests, found)
	}
	about, fields := structOf(file, "Figures")
	for _, f := range fields {
		comment, differs := paragraphs(f.Doc.Text())
		for _, n := range f.Names {
			var cells []string
			for i, imitation := range imitations {
				cell, err := figureCell(tests[i][n.Name], differs[imitation.mark])
				if err != nil {
					return nil, "", fmt.Errorf("%s: figure %s: %s %w", source, n.Name, imitation.mark, err)
				}
				cells = append(cells, cell)
			}
			value := format(reflect.ValueOf(values).FieldByName(n.Name).Interface())
			rows = append(rows, figureRow{"`" + n.Name + "`", prose(value), comment, cells[0], cells[1]})
		}
	}
	if len(rows) == 0 {
		return nil, "", fmt.Errorf("%s: no figures", source)
	}
	return rows, prose(about[strings.LastIndex(about, "\n\n")+1:]), nil
}

// structOf is the comment on a struct type, and its fields.
func structOf(file *ast.File, name string) (comment string, fields []*ast.Field) {
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, s := range gen.Specs {
			if t, ok := s.(*ast.TypeSpec); ok && t.Name.Name == name {
				return gen.Doc.Text(), t.Type.(*ast.StructType).Fields.List
			}
		}
	}
	return "", nil
}

// paragraphs divides the comment of a figure into what it is and how imitations differ, by
// their marks.
func paragraphs(comment string) (first string, differs map[string]string) {
	differs = make(map[string]string)
	for p := range strings.SplitSeq(comment, "\n\n") {
		text := prose(p)
		i := slices.IndexFunc(imitations, func(i imitation) bool { return strings.HasPrefix(text, i.mark) })
		if i < 0 {
			first = strings.TrimSpace(first + " " + text)
			continue
		}
		said := strings.TrimSpace(strings.TrimPrefix(text, imitations[i].mark))
		differs[imitations[i].mark] = strings.ToUpper(said[:1]) + said[1:]
	}
	return first, differs
}

func figureCell(tests []string, differs string) (string, error) {
	var cell string
	if len(tests) > 0 {
		cell = strings.Join(tests, ", ") + ". "
	}
	if cell += differs; cell == "" {
		return "", fmt.Errorf("no test uses it, and no comment says how it differs")
	}
	return strings.TrimSpace(cell), nil
}

// testsOfFigures finds the tests in some directories that use measured figures.
func testsOfFigures(root string, dirs []string) (map[string][]string, error) {
	found := make(map[string][]string)
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(root, dir, "*_test.go"))
		if err != nil {
			return nil, err
		}
		for _, path := range files {
			file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
			if err != nil {
				return nil, err
			}
			for _, d := range file.Decls {
				if f, ok := d.(*ast.FuncDecl); ok && strings.HasPrefix(f.Name.Name, "Test") {
					for _, name := range figuresIn(f) {
						found[name] = append(found[name], "`"+f.Name.Name+"`")
					}
				}
			}
		}
	}
	return found, nil
}

// figuresIn are the figures that a test uses: fields of measured.LBC(), or of a variable
// that holds it.
func figuresIn(f *ast.FuncDecl) (names []string) {
	isFigures := func(e ast.Expr) bool {
		call, ok := e.(*ast.CallExpr)
		if !ok || len(call.Args) > 0 {
			return false
		}
		callee, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return false
		}
		pkg, ok := callee.X.(*ast.Ident)
		return ok && pkg.Name == "measured" && callee.Sel.Name == "LBC"
	}
	held := make(map[string]bool)
	ast.Inspect(f, func(n ast.Node) bool {
		if a, ok := n.(*ast.AssignStmt); ok && len(a.Lhs) == len(a.Rhs) {
			for i, e := range a.Rhs {
				if v, ok := a.Lhs[i].(*ast.Ident); ok && isFigures(e) {
					held[v.Name] = true
				}
			}
		}
		return true
	})
	ast.Inspect(f, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		v, ok := s.X.(*ast.Ident)
		if (ok && held[v.Name] || isFigures(s.X)) && !slices.Contains(names, s.Sel.Name) {
			names = append(names, s.Sel.Name)
		}
		return true
	})
	return names
}
