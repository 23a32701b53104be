package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"unicode"
)

// TestLinks checks the links of every page: a file of this repository exists, and so does
// the heading in it; anything else is a URL that begins with https. Nothing is fetched.
func TestLinks(t *testing.T) {
	pages, errs := checkLinks(os.DirFS("../.."))
	for _, err := range errs {
		t.Error(err)
	}
	for _, page := range []string{"README.md", "CONTRIBUTING.md", "docs/install.md", "docs/decisions/README.md", ".github/pull_request_template.md"} {
		if !slices.Contains(pages, page) {
			t.Errorf("%s is not checked, only %q", page, pages)
		}
	}
}

// TestBrokenLinks checks that a broken link is found, and that one that is right is not.
func TestBrokenLinks(t *testing.T) {
	const other = "# Title\n\n## What `it` does, *and* why\n\n## Twice\n\n## Twice\n\n```sh\n# no heading\n```\n\n## A_b [c](d.md)\n"
	for link, want := range map[string]string{
		"[a](b/other.md)": "", "[a](b/other.md#title)": "", "[a](b/other.md#what-it-does-and-why)": "", "[a](b/other.md#twice-1)": "",
		"[a](#here)": "", "[a\nb](b/other.md)": "", "[a](b)": "", "![a](b/other.md \"title\")": "", "[a](b/other.md#a_b-c)": "",
		"[a](https://example.com/x_(y)#z)": "", "[a]: https://example.com": "", "`[a](gone.md)`": "", "```\n[a](gone.md)\n```": "", "<https://example.com/x>": "",
		"[a](gone.md)":               "page.md: gone.md: there is no such file",
		"[a](b/../../x.md)":          "page.md: b/../../x.md: outside of the repository",
		"[a](/b/other.md)":           "page.md: /b/other.md: outside of the repository",
		"[a](b/other.md#gone)":       "page.md: b/other.md#gone: there is no such heading",
		"[a](b/other.md#twice-2)":    "page.md: b/other.md#twice-2: there is no such heading",
		"[a](b/other.md#no-heading)": "page.md: b/other.md#no-heading: there is no such heading",
		"[a](#gone)":                 "page.md: #gone: there is no such heading",
		"[a](b#x)":                   "page.md: b#x: only a page has headings",
		"[a]: gone.md":               "page.md: gone.md: there is no such file",
		"![a](gone.png)":             "page.md: gone.png: there is no such file",
		"[a](http://example.com)":    "page.md: http://example.com: want https://host/path",
		"[a](https://example)":       "page.md: https://example: want https://host/path",
		"[a](https:/example.com)":    "page.md: https:/example.com: want https://host/path",
		"<http://example.com>":       "page.md: http://example.com: want https://host/path",
		"[a](b/other.md":             "page.md: b/other.md: a link without an end",
	} {
		page := &fstest.MapFile{Data: []byte("# Here\n\nText.\n\n" + link + "\n")}
		_, errs := checkLinks(fstest.MapFS{"page.md": page, "b/other.md": {Data: []byte(other)}, "b/d.md": {}})
		if got := errors.Join(errs...); fmt.Sprint(got) != want && (got != nil || want != "") {
			t.Errorf("%s: got %v, want %q", link, got, want)
		}
	}
}

// links finds what is linked, in a text without code.
var links = regexp.MustCompile(`\]\(\s*([^\s()]*(?:\([^\s()]*\)[^\s()]*)*)\s*(?:"[^"]*"\s*)?(.|$)|(?m:^ *\[[^\]]+\]:\s+(\S+))|<(\w+:[^>\s]*)>`)

// checkLinks reads all pages below a root.
func checkLinks(root fs.FS) (pages []string, errs []error) {
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if d != nil && d.IsDir() && slices.Contains([]string{".git", "build", "testdata", "node_modules"}, d.Name()) {
			return fs.SkipDir
		}
		if err != nil || path.Ext(name) != ".md" {
			return err
		}
		text, err := fs.ReadFile(root, name)
		pages = append(pages, name)
		for _, m := range links.FindAllStringSubmatch(withoutCode(string(text), true), -1) {
			target := m[1] + m[3] + m[4]
			err := checkLink(root, name, target)
			if m[2] != "" && m[2] != ")" || m[0][0] == ']' && m[2] == "" {
				err = errors.New("a link without an end")
			}
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %s: %w", name, target, err))
			}
		}
		return err
	})
	if err != nil {
		errs = append(errs, err)
	}
	return pages, errs
}

func checkLink(root fs.FS, page, target string) error {
	u, err := url.Parse(target)
	if err != nil {
		return err
	}
	if u.Scheme != "" || u.Host != "" {
		if u.Scheme != "https" || !strings.Contains(u.Hostname(), ".") || u.User != nil {
			return errors.New("want https://host/path")
		}
		return nil
	}
	file := page
	if u.Path != "" {
		file = path.Join(path.Dir(page), u.Path)
	}
	if path.IsAbs(u.Path) || !filepath.IsLocal(file) {
		return errors.New("outside of the repository")
	}
	if _, err := fs.Stat(root, file); err != nil {
		return errors.New("there is no such file")
	}
	if u.Fragment == "" {
		return nil
	}
	if path.Ext(file) != ".md" {
		return errors.New("only a page has headings")
	}
	text, err := fs.ReadFile(root, file)
	if err == nil && !slices.Contains(anchors(string(text)), u.Fragment) {
		return errors.New("there is no such heading")
	}
	return err
}

var (
	codeBlock = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	codeSpan  = regexp.MustCompile("(?s)``[^`].*?``|`[^`]+`")
	linkText  = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// withoutCode leaves out blocks of code, in which there are neither links nor headings,
// and, for links, code within lines.
func withoutCode(text string, spans bool) string {
	text = codeBlock.ReplaceAllString(text, "")
	if spans {
		text = codeSpan.ReplaceAllString(text, "code")
	}
	return text
}

// anchors are the names that GitHub gives to the headings of a page.
func anchors(text string) (all []string) {
	seen := make(map[string]int)
	for line := range strings.Lines(withoutCode(text, false)) {
		marks := len(line) - len(strings.TrimLeft(line, "#"))
		if marks == 0 || marks > 6 || line[marks] != ' ' {
			continue
		}
		name := strings.Map(func(r rune) rune {
			switch {
			case r == ' ':
				return '-'
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				return unicode.ToLower(r)
			}
			return -1
		}, linkText.ReplaceAllString(strings.TrimSpace(line[marks:]), "$1"))
		if n := seen[name]; n > 0 {
			all = append(all, fmt.Sprintf("%s-%d", name, n))
		} else {
			all = append(all, name)
		}
		seen[name]++
	}
	return all
}
