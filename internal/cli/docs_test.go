package cli

import (
	"flag"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

var updateDocs = flag.Bool("update-docs", false, "write what is generated in README.md, as `make generate` does")

// TestReadmeFlags checks that the flags in README.md are those of the commands.
func TestReadmeFlags(t *testing.T) {
	const file = "../../README.md"
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	between := regexp.MustCompile(`(?s)(<!-- flags: .*? -->\n).*?(<!-- end of flags -->)`)
	if n := len(between.FindAll(text, -1)); n != 1 {
		t.Fatalf("%s has %d places for the flags, want one", file, n)
	}
	want := between.ReplaceAllFunc(text, func(old []byte) []byte {
		m := between.FindSubmatch(old)
		return []byte(string(m[1]) + flagTables(Root("")) + string(m[2]))
	})
	if *updateDocs {
		if err := os.WriteFile(file, want, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if diff := cmp.Diff(string(want), string(text)); diff != "" {
		t.Errorf("%s is not what `make generate` makes (-made +found):\n%s", file, diff)
	}
}

// flagTables makes a table for each command that has flags of its own.
func flagTables(c *cobra.Command) string {
	var out strings.Builder
	for _, sub := range c.Commands() {
		if sub.IsAvailableCommand() {
			out.WriteString(flagTables(sub))
		}
	}
	if !c.HasParent() || !c.HasAvailableLocalFlags() {
		return out.String()
	}
	var table strings.Builder
	fmt.Fprintf(&table, "\n#### `%s`\n\n%s.\n\n| flag | default | meaning |\n|---|---|---|\n", c.CommandPath(), c.Short)
	c.LocalFlags().VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		value := ""
		if f.DefValue != "" && f.DefValue != "[]" {
			value = "`" + f.DefValue + "`"
		}
		fmt.Fprintf(&table, "| `--%s` | %s | %s |\n", f.Name, value, strings.ReplaceAll(f.Usage, "|", `\|`))
	})
	return table.String() + out.String()
}

// TestReadmeCommands checks that README.md leaves no command out.
func TestReadmeCommands(t *testing.T) {
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range Root("").Commands() {
		if c.IsAvailableCommand() && !strings.Contains(string(text), "`"+c.CommandPath()) {
			t.Errorf("README.md does not mention `%s`", c.CommandPath())
		}
	}
}
