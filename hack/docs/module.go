package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/doc"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// file is one Go file of the programs. Tests are left out.
type file struct {
	dir   string // of the package, from the root; "." for that
	name  string
	lines int
	ast   *ast.File
	fset  *token.FileSet
}

// module is all files, sorted by path.
type module []*file

func parseModule(root string) (files module, err error) {
	for _, top := range []string{"main.go", "cmd", "internal"} {
		err := filepath.WalkDir(filepath.Join(root, top), func(p string, _ fs.DirEntry, err error) error {
			if err != nil || filepath.Ext(p) != ".go" || strings.HasSuffix(p, "_test.go") {
				return err
			}
			f, err := parse(root, p)
			files = append(files, f)
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return files, nil
}

func parse(root, p string) (*file, error) {
	text, err := os.ReadFile(p)
	if err != nil {
		return nil, err
	}
	relative, err := filepath.Rel(root, p)
	if err != nil {
		return nil, err
	}
	f := &file{
		dir: path.Dir(filepath.ToSlash(relative)), name: filepath.Base(p),
		lines: bytes.Count(text, []byte("\n")), fset: token.NewFileSet(),
	}
	f.ast, err = parser.ParseFile(f.fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
	return f, err
}

// calls visits every call.
func (m module) calls(visit func(*file, *ast.CallExpr)) {
	for _, f := range m {
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if call, ok := n.(*ast.CallExpr); ok {
				visit(f, call)
			}
			return true
		})
	}
}

// calleeOf is the name of the function that is called, without its receiver or package.
func calleeOf(call *ast.CallExpr) string {
	switch f := call.Fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

// room is one package.
type room struct {
	dir, sentence string
	lines         int
	imports       []string // of the module's own packages
}

func (m module) rooms() (rooms []*room) {
	byDir := make(map[string]*room)
	for _, f := range m {
		r := byDir[f.dir]
		if r == nil {
			r = &room{dir: f.dir}
			byDir[f.dir] = r
			rooms = append(rooms, r)
		}
		r.lines += f.lines
		if f.ast.Doc != nil {
			r.sentence = new(doc.Package).Synopsis(f.ast.Doc.Text())
		}
		for _, i := range f.ast.Imports {
			if own, ok := strings.CutPrefix(strings.Trim(i.Path.Value, `"`), "drainwait/"); ok && !slices.Contains(r.imports, own) {
				r.imports = append(r.imports, own)
			}
		}
	}
	for _, r := range rooms {
		slices.Sort(r.imports)
	}
	return rooms
}

// packageTable has a row for each package. Sizes are rounded to a hundred lines, so the
// table does not change with each line.
func (m module) packageTable() (string, error) {
	var rows [][]string
	for _, r := range m.rooms() {
		if r.sentence == "" {
			return "", fmt.Errorf("package %s has no sentence that says what it is", r.dir)
		}
		sentence := r.sentence
		if rest, ok := strings.CutPrefix(sentence, "Package "+path.Base(r.dir)+" "); ok {
			rest = strings.TrimPrefix(rest, "is ")
			sentence = strings.ToUpper(rest[:1]) + rest[1:]
		}
		imports := strings.ReplaceAll(strings.Join(r.imports, ", "), "internal/", "")
		rows = append(rows, []string{"`" + r.dir + "`", sentence, fmt.Sprint((r.lines + 50) / 100 * 100), imports})
	}
	return table("package|what it is|lines|imports", rows), nil
}
