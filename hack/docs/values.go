package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"sigs.k8s.io/yaml"
)

var valuesLine = regexp.MustCompile(`^( *)(?:# (.*)|([a-zA-Z]+):.*)$`)

// valuesTable is the table of the chart's values, made of the comments in values.yaml. A
// comment is about the key below it, and about what is in it.
func valuesTable(root string) (string, error) {
	file := filepath.Join(root, "charts/drain-wait/values.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	var defaults map[string]any
	if err := yaml.UnmarshalStrict(text, &defaults); err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	var rows [][]string
	var comment []string
	var path []string // the keys above the line, and the one in it
	covered := ""     // the path of the comment that is about the line
	for line := range strings.SplitSeq(string(text), "\n") {
		m := valuesLine.FindStringSubmatch(line)
		switch {
		case m == nil:
			comment = nil // a blank line, or an item of a list
			continue
		case m[2] != "":
			comment = append(comment, m[2])
			continue
		}
		path = append(path[:min(len(m[1])/2, len(path))], m[3])
		name := strings.Join(path, ".")
		value, err := valueAt(defaults, path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		_, parent := value.(map[string]any)
		parent = parent && strings.HasSuffix(line, ":")
		switch {
		case len(comment) > 0:
			rows = append(rows, []string{"`" + name + "`", valueText(value), strings.Join(comment, " ")})
			covered = name + "."
		case !parent && (covered == "" || !strings.HasPrefix(name, covered)):
			return "", fmt.Errorf("%s: %s has no comment", file, name)
		}
		comment = nil
	}
	return table("value|default|meaning", rows), nil
}

func valueAt(values map[string]any, path []string) (any, error) {
	value, ok := values[path[0]]
	if inner, isMap := value.(map[string]any); len(path) > 1 && isMap {
		return valueAt(inner, path[1:])
	}
	if !ok || len(path) > 1 {
		return nil, fmt.Errorf("no value at %q", path)
	}
	return value, nil
}

// valueText is a default as YAML has it in one line; nothing for an empty string.
func valueText(value any) string {
	if value == "" {
		return ""
	}
	text, err := json.Marshal(value)
	if err != nil {
		panic(err) // it came from JSON
	}
	return "`" + strings.Trim(string(text), `"`) + "`"
}
