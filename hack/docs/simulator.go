package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"text/template"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/measured"
	"drainwait/internal/sim/timeline"
)

//go:embed simulator.md.tmpl
var simulatorTemplate string

// assumptions are the assumptions of the packages below internal/sim that have some.
var assumptions = []struct {
	title, dir string
	values     any
}{
	{"AWS", "aws", aws.DefaultAssumptions()},
	{"The Kubernetes API", "kube", kube.DefaultAssumptions()},
	{"The AWS Load Balancer Controller (LBC)", "lbc", lbc.DefaultAssumptions()},
	{"Kubelets, controllers and applications", "", sim.DefaultAssumptions()},
}

// tails are the values of the variables of type Tail, since reflection cannot find a
// variable by its name.
var tails = map[string]aws.Tail{"TypicalTail": aws.TypicalTail, "WorstTail": aws.WorstTail}

// row is one line of a table.
type row struct{ Name, Value, Comment string }

// roomTable is the table of one package's assumptions.
type roomTable struct {
	Title string
	Rows  []row
}

// simulatorPage is docs/simulator.md: the template, with the simulator's assumptions,
// their values and the comments that justify them.
func simulatorPage(root string) (string, error) {
	var data struct {
		Rooms   []roomTable
		Tails   []tailRow
		Figures []figureRow
		Bed     string // of the figures
	}
	for _, r := range assumptions {
		source := filepath.Join(root, "internal/sim", r.dir, "assumptions.go")
		rows, tails, err := readAssumptions(source, r.values)
		if err != nil {
			return "", fmt.Errorf("%s: %w", source, err)
		}
		if len(rows) == 0 {
			return "", fmt.Errorf("%s: no assumptions", source)
		}
		data.Rooms, data.Tails = append(data.Rooms, roomTable{r.title, rows}), append(data.Tails, tails...)
	}
	if len(data.Tails) != len(tails) {
		return "", fmt.Errorf("found %d tails, want %d", len(data.Tails), len(tails))
	}
	var err error
	if data.Figures, data.Bed, err = figures(root, filepath.Join(root, "internal/sim/measured/measured.go"), measured.LBC()); err != nil {
		return "", err
	}
	t, err := template.New("page").Parse(simulatorTemplate)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	err = t.Execute(&out, data)
	return out.String(), err
}

// readAssumptions reads the assumptions and the tails from a file. The caller gives their
// values.
func readAssumptions(source string, values any) (rows []row, tails []tailRow, err error) {
	file, err := parser.ParseFile(token.NewFileSet(), source, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, nil, err
	}
	_, list := structOf(file, "Assumptions")
	if rows, err = fields(list, values); err != nil {
		return nil, nil, err
	}
	for _, d := range file.Decls {
		gen, ok := d.(*ast.GenDecl)
		if !ok || gen.Tok != token.VAR {
			continue
		}
		if name := gen.Specs[0].(*ast.ValueSpec).Names[0].Name; strings.HasSuffix(name, "Tail") {
			r, err := tail(name, gen.Doc.Text())
			if err != nil {
				return nil, nil, err
			}
			tails = append(tails, r)
		}
	}
	return rows, tails, nil
}

// fields makes a row of each group of fields that share a comment.
func fields(list []*ast.Field, values any) ([]row, error) {
	var rows []row
	v := reflect.ValueOf(values)
	for _, f := range list {
		if x, ok := f.Type.(*ast.SelectorExpr); ok && x.Sel.Name == "Assumptions" {
			continue // of another room
		}
		var names, texts []string
		for _, n := range f.Names {
			names = append(names, "`"+n.Name+"`")
			texts = append(texts, format(v.FieldByName(n.Name).Interface()))
		}
		if f.Doc.Text() == "" {
			return nil, fmt.Errorf("assumption %s has no comment that says where it comes from", strings.Join(names, ", "))
		}
		rows = append(rows, row{strings.Join(names, ", "), strings.Join(texts, ", "), prose(f.Doc.Text())})
	}
	return rows, nil
}

type tailRow struct{ Name, ALB, NLB, Comment string }

func tail(name, comment string) (tailRow, error) {
	t, ok := tails[name]
	if !ok {
		return tailRow{}, fmt.Errorf("aws.%s is not among the tails of hack/docs", name)
	}
	_, why, _ := strings.Cut(prose(comment), " is ") // after the name with which a doc comment begins
	return tailRow{t.Name, format(t.ALB), format(t.NLB), why}, nil
}

func format(value any) string {
	switch v := value.(type) {
	case timeline.Range:
		return format(v.Min) + " to " + format(v.Max)
	case time.Duration:
		switch {
		case v != 0 && v%time.Second == 0:
			return fmt.Sprintf("%d s", v/time.Second)
		case v%time.Millisecond == 0 && v > time.Second:
			return fmt.Sprintf("%g s", v.Seconds())
		case v%time.Millisecond == 0:
			return fmt.Sprintf("%d ms", v/time.Millisecond)
		}
		return v.String()
	case []time.Duration:
		var texts []string
		for _, d := range v {
			texts = append(texts, format(d))
		}
		return strings.Join(texts, ", ")
	case []string:
		return "`" + strings.Join(v, "`, `") + "`"
	case measured.Spread:
		return fmt.Sprintf("%s to %s, median %s", format(v.Min), format(v.Max), format(v.Median))
	case string:
		if !strings.Contains(v, " ") { // a name, or something like it
			return "`" + v + "`"
		}
		return v
	case aws.Tail:
		return v.Name
	default:
		return fmt.Sprint(v)
	}
}

var link = regexp.MustCompile(`\[([A-Za-z.]+)\]`)

// prose turns a comment into the text of a table's cell.
func prose(comment string) string {
	s := strings.Join(strings.Fields(comment), " ")
	return link.ReplaceAllString(strings.ReplaceAll(s, "|", `\|`), "`$1`")
}
