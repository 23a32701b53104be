// Package matrix is the matrix of what drain-wait works with: what is tried, what cannot
// exist, and what came of each try.
package matrix

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
)

// How the service learns of the target groups of a pod.
const (
	LBC       = "TargetGroupBindings of LBC"
	AutoMode  = "TargetGroupBindings of EKS Auto Mode"
	HostNames = "host names of Ingresses and Services"
)

// How a pod calls the service.
const (
	Curl     = "curl"
	Client   = "client"
	Injected = "injected client"
	// None is that of the controls: a rollout without a hook has to fail.
	None = "none"
)

// The kinds of load balancers.
const (
	ALB = "ALB"
	NLB = "NLB"
)

// What came of a try.
const (
	// Pass: no request failed, and each hook was told that its pod is drained.
	Pass = "pass"
	// Fail is the opposite.
	Fail = "fail"
)

// Cell is what is tried with each version of Kubernetes.
type Cell struct{ API, Balancer, Hook string }

func (c Cell) String() string { return c.API + ", " + c.Balancer + ", " + c.Hook }

// Cells are all cells, the controls at the end.
func Cells() (cells []Cell) {
	for _, api := range []string{LBC, AutoMode, HostNames} {
		for _, balancer := range []string{ALB, NLB} {
			for _, hook := range []string{Curl, Client, Injected} {
				cells = append(cells, Cell{api, balancer, hook})
			}
		}
	}
	return append(cells, Cell{LBC, ALB, None}, Cell{LBC, NLB, None})
}

// Impossible says why a cell cannot exist with Kubernetes 1.minor. It is "" if it can.
func (c Cell) Impossible(minor int) string {
	if c.Hook == Injected && minor < 36 {
		return "A MutatingAdmissionPolicy injects the client. Kubernetes serves it as v1 from 1.36 on; before, it needs a feature gate, which EKS does not offer."
	}
	return ""
}

// Results are what came of the tries with a version of Kubernetes.
type Results struct {
	// Kubernetes is the version, as in 1.37.2.
	Kubernetes string `json:"kubernetes"`
	// Cells has Pass or Fail for each cell that can exist.
	Cells map[string]string `json:"cells"`
}

// Minor is the minor version of Kubernetes, 37 of 1.37.2.
func (r Results) Minor() (int, error) {
	parts := strings.Split(r.Kubernetes, ".")
	if len(parts) != 3 || parts[0] != "1" {
		return 0, fmt.Errorf("%q is no version of Kubernetes", r.Kubernetes)
	}
	return strconv.Atoi(parts[1])
}

// Check finds what is missing in the results, or cannot be.
func (r Results) Check() error {
	minor, err := r.Minor()
	if err != nil {
		return err
	}
	rest := maps.Clone(r.Cells)
	for _, c := range Cells() {
		result, tried := rest[c.String()]
		delete(rest, c.String())
		switch possible := c.Impossible(minor) == ""; {
		case tried && !possible:
			err = errors.Join(err, fmt.Errorf("%s: there is a result for what cannot exist", c))
		case possible && result != Pass && result != Fail:
			err = errors.Join(err, fmt.Errorf("%s: the result is %q; run make matrix", c, result))
		case c.Hook == None && result == Pass:
			err = errors.Join(err, fmt.Errorf("%s: nothing failed, so that the other results say nothing", c))
		}
	}
	for unknown := range rest {
		err = errors.Join(err, fmt.Errorf("%s: there is no such cell", unknown))
	}
	if err != nil {
		return fmt.Errorf("results of Kubernetes %s: %w", r.Kubernetes, err)
	}
	return nil
}

// Load reads the results of all versions, the oldest first.
func Load(dir fs.FS) (all []Results, err error) {
	files, err := fs.Glob(dir, "*.json")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(dir, file)
		if err != nil {
			return nil, err
		}
		var r Results
		if err := json.Unmarshal(text, &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if !strings.HasPrefix(r.Kubernetes, strings.TrimSuffix(path.Base(file), ".json")+".") {
			return nil, fmt.Errorf("%s has the results of Kubernetes %s", file, r.Kubernetes)
		}
		if err := r.Check(); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b Results) int {
		left, _ := a.Minor() // checked above
		right, _ := b.Minor()
		return cmp.Compare(left, right)
	})
	return all, nil
}

// Tables are the results as Markdown: a row for each cell and a column for each version,
// and below it why cells cannot exist.
func Tables(all []Results) string {
	var out strings.Builder
	out.WriteString("| the service learns of target groups by | load balancer | hook |")
	for _, r := range all {
		fmt.Fprintf(&out, " %s |", r.Kubernetes)
	}
	out.WriteString("\n|" + strings.Repeat("---|", 3+len(all)) + "\n")
	var reasons []string
	for _, c := range Cells() {
		fmt.Fprintf(&out, "| %s | %s | %s |", c.API, c.Balancer, c.Hook)
		for _, r := range all {
			minor, _ := r.Minor() // Load has checked it
			reason := c.Impossible(minor)
			if reason == "" {
				fmt.Fprintf(&out, " %s |", r.Cells[c.String()])
				continue
			}
			if !slices.Contains(reasons, reason) {
				reasons = append(reasons, reason)
			}
			fmt.Fprintf(&out, " – (%d) |", slices.Index(reasons, reason)+1)
		}
		out.WriteString("\n")
	}
	for i, reason := range reasons {
		fmt.Fprintf(&out, "\n(%d) %s\n", i+1, reason)
	}
	return out.String()
}
