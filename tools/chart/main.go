// Chart renders charts/drain-wait as Helm does, and writes what the default values make
// into deploy/, which kustomize users apply:
//
//	cd tools/chart && go run .
//
// It is a module of its own, since Helm's library brings many others.
package main

import (
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
)

// release is the name of the release, and the namespace that it is in.
const release = "drain-wait"

func main() {
	files, err := manifests("../..")
	for file, text := range files {
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

// manifests are the files of deploy that the chart makes. The keys are their paths.
func manifests(root string) (map[string]string, error) {
	rendered, err := render(root, nil)
	if err != nil {
		return nil, err
	}
	files := make(map[string]string)
	for name, text := range rendered {
		if path.Dir(name) == "templates" && path.Ext(name) == ".yaml" {
			files[filepath.Join(root, "deploy", path.Base(name))] = "# Made from charts/drain-wait by make generate.\n\n" + text
		}
	}
	return files, nil
}

// render makes what the chart consists of with some values, which are checked by its
// schema. The keys are the paths in the chart. Templates that make nothing are left out.
func render(root string, values map[string]any) (map[string]string, error) {
	chart, err := loader.Load(filepath.Join(root, "charts/drain-wait"))
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	options := common.ReleaseOptions{Name: release, Namespace: release, Revision: 1, IsInstall: true}
	top, err := util.ToRenderValues(chart, values, options, nil)
	if err != nil {
		return nil, err
	}
	rendered, err := engine.Render(chart, top)
	if err != nil {
		return nil, fmt.Errorf("render the chart: %w", err)
	}
	out := make(map[string]string)
	for name, text := range rendered {
		if text = strings.TrimSpace(text); text != "" {
			out[strings.TrimPrefix(name, "drain-wait/")] = text + "\n"
		}
	}
	return out, nil
}
