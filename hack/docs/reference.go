package main

import (
	"fmt"
	"go/ast"
	"go/doc/comment"
	"go/token"
	"slices"
	"strconv"
	"strings"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"drainwait/internal/api"
	"drainwait/internal/cli"
)

func drainDelay(contract *openapi3.T) *openapi3.Operation {
	return contract.Paths.Value(api.DrainDelayPath).Get
}

func parameters(contract *openapi3.T) string {
	var rows [][]string
	for _, p := range drainDelay(contract).Parameters {
		meaning, standard, _ := strings.Cut(p.Value.Description, " Default: ")
		rows = append(rows, []string{"`" + p.Value.Name + "`", meaning, strings.TrimSuffix(standard, ".")})
	}
	return table("parameter|meaning|default", rows)
}

func statuses(contract *openapi3.T) string {
	var rows [][]string
	for status, r := range drainDelay(contract).Responses.Map() {
		if name, meaning, ok := strings.Cut(*r.Value.Description, ": "); ok && status != "200" {
			rows = append(rows, []string{status, "`" + name + "`", meaning})
		}
	}
	slices.SortFunc(rows, slices.Compare)
	return table("status|`error`|meaning", rows)
}

func bodies(contract *openapi3.T) string {
	var out strings.Builder
	for _, name := range []string{"Answer", "Target", "Step", "Failure"} {
		schema := contract.Components.Schemas[name].Value
		fmt.Fprintf(&out, "**%s.** %s\n\n", name, schema.Description)
		var rows [][]string
		for field, p := range schema.Properties {
			meaning := p.Value.Description
			if enum := p.Value.Enum; enum != nil {
				meaning += " One of " + quoted(enum) + "."
			}
			rows = append(rows, []string{"`" + field + "`", strings.TrimSpace(meaning)})
		}
		slices.SortFunc(rows, slices.Compare)
		out.WriteString(table("field|meaning", rows) + "\n")
	}
	return out.String()
}

func quoted(values []any) string {
	var texts []string
	for _, v := range values {
		texts = append(texts, fmt.Sprintf("`%v`", v))
	}
	return strings.Join(texts, ", ")
}

// flagTables makes a section for each command, with a table of its flags.
func flagTables() string {
	var out strings.Builder
	for _, c := range cli.Root("").Commands() {
		fmt.Fprintf(&out, "### `%s`\n\n%s.\n\n", c.CommandPath(), c.Short)
		if rows := flagRows(c); len(rows) > 0 {
			out.WriteString(table("flag|default|meaning", rows) + "\n")
		}
	}
	return out.String()
}

func flagRows(c *cobra.Command) (rows [][]string) {
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
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
func (m module) metrics() string {
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
	slices.SortFunc(rows, slices.Compare)
	return table("metric|type|labels|meaning", rows)
}

// prestopManual is the package comment of the client.
func (m module) prestopManual() string {
	for _, f := range m {
		if f.dir == "cmd/prestop" && f.ast.Doc != nil {
			var p comment.Parser
			printer := comment.Printer{HeadingLevel: 3, HeadingID: func(*comment.Heading) string { return "" }}
			return string(printer.Markdown(p.Parse(f.ast.Doc.Text())))
		}
	}
	return ""
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
