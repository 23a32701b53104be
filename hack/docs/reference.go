package main

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/token"
	"path/filepath"
	"slices"
	"sort"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"drainwait/internal/api"
	"drainwait/internal/cli"
)

func contract(root string) (*openapi3.T, error) {
	return openapi3.NewLoader().LoadFromFile(filepath.Join(root, "internal/server/openapi.yaml"))
}

func drainDelay(root string) (*openapi3.Operation, error) {
	c, err := contract(root)
	if err != nil {
		return nil, err
	}
	return c.Paths.Value(api.DrainDelayPath).Get, nil
}

func parameters(root string) (string, error) {
	op, err := drainDelay(root)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for _, p := range op.Parameters {
		meaning, standard, _ := strings.Cut(p.Value.Description, " Default: ")
		rows = append(rows, []string{"`" + p.Value.Name + "`", meaning, strings.TrimSuffix(standard, ".")})
	}
	return table("parameter|meaning|default", rows), nil
}

func statuses(root string) (string, error) {
	op, err := drainDelay(root)
	if err != nil {
		return "", err
	}
	var rows [][]string
	for status, r := range op.Responses.Map() {
		if name, meaning, ok := strings.Cut(*r.Value.Description, ": "); ok && status != "200" {
			rows = append(rows, []string{status, "`" + name + "`", meaning})
		}
	}
	sort.Slice(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
	return table("status|`error`|meaning", rows), nil
}

func bodies(root string) (string, error) {
	c, err := contract(root)
	if err != nil {
		return "", err
	}
	var out strings.Builder
	for _, name := range []string{"Answer", "Target", "Step", "Failure"} {
		schema := c.Components.Schemas[name].Value
		fmt.Fprintf(&out, "**%s.** %s\n\n", name, schema.Description)
		var rows [][]string
		for field, p := range schema.Properties {
			meaning := p.Value.Description
			if enum := p.Value.Enum; enum != nil {
				meaning += " One of " + quoted(enum) + "."
			}
			rows = append(rows, []string{"`" + field + "`", strings.TrimSpace(meaning)})
		}
		sort.Slice(rows, func(i, j int) bool { return rows[i][0] < rows[j][0] })
		out.WriteString(table("field|meaning", rows) + "\n")
	}
	return out.String(), nil
}

func quoted(values []any) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprintf("`%v`", v))
	}
	return strings.Join(texts, ", ")
}

// flagTables makes a section for each command, with a table of its flags.
func flagTables() (string, error) {
	var out strings.Builder
	for _, c := range cli.Root("").Commands() {
		if !c.IsAvailableCommand() || c.Name() == "help" || c.Name() == "completion" {
			continue
		}
		fmt.Fprintf(&out, "### `%s`\n\n%s.\n\n", c.CommandPath(), c.Short)
		if rows := flagRows(c); len(rows) > 0 {
			out.WriteString(table("flag|default|meaning", rows) + "\n")
		}
	}
	return out.String(), nil
}

func flagRows(c *cobra.Command) (rows [][]string) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			value = "`" + f.DefValue + "`"
		}
		rows = append(rows, []string{"`--" + f.Name + "`", value, f.Usage})
	})
	return rows
}

// metrics finds the metrics in the calls that make them:
// NewX(prometheus.XOpts{…}, labels).
func (m module) metrics() (string, error) {
	var rows [][]string
	m.calls(func(_ *file, call *ast.CallExpr) {
		_, kind, _ := strings.Cut(calleeOf(call), "New")
		if len(call.Args) == 0 {
			return
		}
		opts, ok := call.Args[0].(*ast.CompositeLit)
		if !ok {
			return
		}
		field := make(map[string]string)
		for _, e := range opts.Elts {
			if kv, ok := e.(*ast.KeyValueExpr); ok {
				field[fmt.Sprint(kv.Key)] = literal(kv.Value)
			}
		}
		if field["Name"] == "" || field["Help"] == "" {
			return
		}
		var labels []string
		if len(call.Args) > 1 {
			ast.Inspect(call.Args[1], func(n ast.Node) bool {
				if l, ok := n.(*ast.BasicLit); ok && l.Kind == token.STRING {
					labels = append(labels, strings.Trim(l.Value, `"`))
				}
				return true
			})
		}
		kind = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(kind, "Vec"), "Func"))
		rows = append(rows, []string{"`" + field["Name"] + "`", kind, strings.Join(labels, ", "), field["Help"]})
	})
	if len(rows) == 0 {
		return "", fmt.Errorf("no metrics found")
	}
	slices.SortFunc(rows, func(a, b []string) int { return strings.Compare(a[0], b[0]) })
	return table("metric|type|labels|meaning", rows), nil
}

// prestopManual is the package comment of the client.
func (m module) prestopManual() (string, error) {
	for _, f := range m {
		if f.dir == "cmd/prestop" && f.ast.Doc != nil {
			var p comment.Parser
			printer := comment.Printer{HeadingLevel: 3, HeadingID: func(*comment.Heading) string { return "" }}
			return string(printer.Markdown(p.Parse(f.ast.Doc.Text()))), nil
		}
	}
	return "", fmt.Errorf("cmd/prestop has no manual")
}

// literal is the text of a string, or of several that are joined by +. It is empty for
// anything else.
func literal(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.BasicLit:
		if text, err := strconv.Unquote(e.Value); err == nil && e.Kind == token.STRING {
			return text
		}
	case *ast.BinaryExpr:
		if x, y := literal(e.X), literal(e.Y); e.Op == token.ADD && x+y != "" {
			return x + y
		}
	}
	return ""
}
