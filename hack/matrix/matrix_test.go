package matrix

import (
	"encoding/json"
	"strings"
	"testing"
	"testing/fstest"
)

// results are those of a version with which everything that can exist passes.
func results(version string) Results {
	r := Results{Kubernetes: version, Cells: make(map[string]string)}
	minor, err := r.Minor()
	if err != nil {
		panic(err)
	}
	for _, c := range Cells() {
		if c.Impossible(minor) == "" {
			r.Cells[c.String()] = Pass
		}
		if c.Hook == None {
			r.Cells[c.String()] = Fail
		}
	}
	return r
}

func load(t *testing.T, all ...Results) ([]Results, error) {
	t.Helper()
	dir := make(fstest.MapFS)
	for _, r := range all {
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		minor, _, _ := strings.Cut(strings.TrimPrefix(r.Kubernetes, "1."), ".")
		dir["1."+minor+".json"] = &fstest.MapFile{Data: text}
	}
	return Load(dir)
}

func TestTables(t *testing.T) {
	broken := Cell{HostNames, NLB, Curl}
	newest := results("1.37.2")
	newest.Cells[broken.String()] = Fail
	all, err := load(t, results("1.9.1"), newest, results("1.36.3"))
	if err != nil {
		t.Fatal(err)
	}
	text := Tables(all)
	for _, want := range []string{
		"| hook | 1.9.1 | 1.36.3 | 1.37.2 |\n",
		"| host names of Ingresses and Services | NLB | curl | pass | pass | fail |\n",
		"| host names of Ingresses and Services | NLB | client | pass | pass | pass |\n",
		"| TargetGroupBindings of LBC | ALB | injected client | – (1) | pass | pass |\n",
		"| TargetGroupBindings of LBC | ALB | none | fail | fail | fail |\n",
		"\n(1) A MutatingAdmissionPolicy",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("%q is missing in:\n%s", want, text)
		}
	}
	if rows := strings.Count(text, "\n| "); rows != len(Cells()) {
		t.Errorf("%d rows; want %d", rows, len(Cells()))
	}
}

// A cell that is missing, or cannot be, is an error that names it.
func TestBrokenCell(t *testing.T) {
	cell := Cell{AutoMode, ALB, Client}
	for name, c := range map[string]struct {
		version string
		spoil   func(Results)
		want    string
	}{
		"missing":            {"1.37.2", func(r Results) { delete(r.Cells, cell.String()) }, cell.String() + `: the result is ""; run make matrix`},
		"another word":       {"1.37.2", func(r Results) { r.Cells[cell.String()] = "perhaps" }, cell.String() + `: the result is "perhaps"`},
		"unknown":            {"1.37.2", func(r Results) { r.Cells["a raven"] = Pass }, "a raven: there is no such cell"},
		"impossible":         {"1.35.4", func(r Results) { r.Cells[Cell{LBC, ALB, Injected}.String()] = Pass }, "a result for what cannot exist"},
		"the control passes": {"1.37.2", func(r Results) { r.Cells[Cell{LBC, NLB, None}.String()] = Pass }, "NLB, none: nothing failed"},
	} {
		t.Run(name, func(t *testing.T) {
			r := results(c.version)
			if err := r.Check(); err != nil {
				t.Fatal(err)
			}
			c.spoil(r)
			if _, err := load(t, r); err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), c.version) {
				t.Errorf("got %v; want %s", err, c.want)
			}
		})
	}
}

func TestFileOfAnotherVersion(t *testing.T) {
	text, err := json.Marshal(results("1.37.2"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Load(fstest.MapFS{"1.3.json": {Data: text}}); err == nil {
		t.Error("the file of 1.3 may hold the results of 1.37")
	}
}
