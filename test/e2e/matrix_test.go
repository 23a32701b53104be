package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"drainwait/hack/matrix"
	"drainwait/internal/sim/aws"
)

// envMatrix makes TestMatrix write what it finds, instead of comparing it with what was
// found before.
const envMatrix = "E2E_MATRIX"

// matrixGroups are the API groups of the bindings. The service does not know the last one:
// all that it has then is host names.
var matrixGroups = map[string]string{matrix.LBC: bindings.Group, matrix.AutoMode: "eks.amazonaws.com", matrix.HostNames: "e2e.example"}

// The matrix of what the service works with holds for the Kubernetes of these tests: in
// each cell an application is rolled under load.
func TestMatrix(t *testing.T) {
	t.Parallel()
	tb := newTestbed(t)
	version, err := tb.kube.Discovery().ServerVersion()
	if err != nil {
		t.Fatal(err)
	}
	found := matrix.Results{Kubernetes: strings.TrimPrefix(version.GitVersion, "v"), Cells: make(map[string]string)}
	minor, err := found.Minor()
	if err != nil {
		t.Fatal(err)
	}
	for api, group := range matrixGroups {
		if api != matrix.LBC {
			tb.createDefinition(t, group, bindingsOf(group).Version)
			startController(t.Context(), t, tb, group)
		}
	}
	r := tb.startNamed(t)
	if injects := (matrix.Cell{Hook: matrix.Injected}).Impossible(minor) == ""; injects {
		tb.createNamespace(t, "asks")
		tb.ask(t, "asks", "alb")
		tb.usePolicy(t, injections["init container"].values, podOf(asking, "hostname: a", plainApp), podWith("hostname: a", plainApp))
	}

	var tries []*try
	for i, c := range matrix.Cells() {
		if c.Impossible(minor) == "" {
			tries = append(tries, tb.newTry(t, c, fmt.Sprint("cell-", i)))
		}
	}
	for _, y := range tries {
		tb.awaitRollout(t, y.name)
		y.load = tb.startLoad(t, y.TargetGroup)
	}
	for _, y := range tries {
		tb.roll(t, y.application)
	}
	for _, y := range tries {
		tb.awaitRollout(t, y.name)
		requests, failed := y.load.end()
		result := matrix.Pass
		if err := errors.Join(errors.Join(failed...), y.checkHooks(t, r)); err != nil {
			result = matrix.Fail
			t.Logf("%s: %d requests, %d failed: %v", y.cell, requests, len(failed), err)
		}
		found.Cells[y.cell.String()] = result
	}
	r.checkRights(t)
	compare(t, found, fmt.Sprintf("testdata/matrix/1.%d.json", minor))
}

// try is an application in which a cell of the matrix is tried.
type try struct {
	*application
	tb   *testbed
	cell matrix.Cell
	load *load
}

func (tb *testbed) newTry(t *testing.T, c matrix.Cell, name string) *try {
	t.Helper()
	template := example(t, "hook-curl").Spec.Template
	switch c.Hook {
	case matrix.Client:
		template = example(t, "hook-client-in-image").Spec.Template
	case matrix.Injected, matrix.None:
		template.Spec.Containers[0].Lifecycle = nil
		template.Spec.TerminationGracePeriodSeconds = nil
	}
	kind := aws.ALB
	if c.Balancer == matrix.NLB {
		kind = aws.NLB
	}
	if c.Hook == matrix.Injected {
		tb.createNamespace(t, name)
		tb.ask(t, name, strings.ToLower(c.Balancer))
	}
	a := tb.createApplicationOf(t, matrixGroups[c.API], kind, name, 2, template)
	return &try{application: a, tb: tb, cell: c}
}

// checkHooks says what is wrong with the hooks of the pods that are gone. Each must have
// been told that its pod is drained.
func (y *try) checkHooks(t *testing.T, r *replica) (err error) {
	t.Helper()
	gone, settle := 0, settleALB
	if y.cell.Balancer == matrix.NLB {
		settle = settleNLB
	}
	for _, p := range y.tb.kubelet.pods(y.name) {
		if !p.Gone.IsZero() {
			gone++
		}
		err = errors.Join(err, p.hookError(settle))
	}
	if n := r.drained(t, y.name); n != gone || gone == 0 {
		err = errors.Join(err, fmt.Errorf("%d of %d hooks were told that their pod is drained", n, gone))
	}
	return err
}

// compare compares what was found with what a file says, or writes the file.
func compare(t *testing.T, found matrix.Results, file string) {
	t.Helper()
	text, err := json.MarshalIndent(found, "", "  ")
	if err := errors.Join(err, found.Check()); err != nil {
		t.Fatal(err)
	}
	if os.Getenv(envMatrix) != "" {
		if err := os.WriteFile(file, append(text, '\n'), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	said, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var want matrix.Results
	if err := json.Unmarshal(said, &want); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	if want.Kubernetes != found.Kubernetes {
		t.Errorf("%s is of Kubernetes %s, and this is %s: run make matrix", file, want.Kubernetes, found.Kubernetes)
	}
	for cell, result := range found.Cells {
		if want.Cells[cell] != result {
			t.Errorf("%s: %s; %s says %q", cell, result, file, want.Cells[cell])
		}
	}
}

// ask labels a namespace, so that its pods get a hook.
func (tb *testbed) ask(t *testing.T, namespace, balancer string) {
	t.Helper()
	patch := fmt.Appendf(nil, `{"metadata":{"labels":{"drain-wait/inject":"true"},"annotations":{"drain-wait/load-balancer":%q}}}`, balancer)
	if _, err := tb.kube.CoreV1().Namespaces().Patch(t.Context(), namespace, types.MergePatchType, patch, metav1.PatchOptions{}); err != nil {
		t.Fatal(err)
	}
}
