// Chart renders charts/drain-wait as Helm does, and writes what the default values make
// into deploy/, which kustomize users apply. With -values it prints what other values make,
// as `helm template` does:
//
//	cd tools/chart && go run .
//	cd tools/chart && go run . -values FILE
//
// It is a module of its own, since Helm's library brings many others.
package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/yaml"
)

// release is the name of the release, and the namespace that it is in.
const release = "drain-wait"

func main() {
	values := flag.String("values", "", "print what the values in this `file` make, instead")
	flag.Parse()
	var err error
	if *values != "" {
		err = printForm("../..", *values)
	} else {
		err = writeManifests("../..")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func writeManifests(root string) error {
	files, err := manifests(root)
	for file, text := range files {
		if err == nil {
			err = os.WriteFile(file, []byte(text), 0o644)
		}
	}
	return err
}

// printForm prints the objects that the values in a file make.
func printForm(root, file string) error {
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(text, &values); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	rendered, err := render(root, values)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(rendered)) {
		if path.Ext(name) == ".yaml" {
			fmt.Printf("---\n# %s\n%s", name, rendered[name])
		}
	}
	return nil
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
// schema, for the newest cluster. The keys are the paths in the chart. Templates that make
// nothing are left out.
func render(root string, values map[string]any) (map[string]string, error) {
	return renderFor(root, values, "admissionregistration.k8s.io/v1/MutatingAdmissionPolicy")
}

// renderFor renders for a cluster that serves some kinds, beside what every cluster does.
func renderFor(root string, values map[string]any, kinds ...string) (map[string]string, error) {
	chart, err := loader.Load(filepath.Join(root, "charts/drain-wait"))
	if err != nil {
		return nil, fmt.Errorf("load the chart: %w", err)
	}
	options := common.ReleaseOptions{Name: release, Namespace: release, Revision: 1, IsInstall: true}
	cluster := common.DefaultCapabilities.Copy()
	cluster.APIVersions = slices.Concat(cluster.APIVersions, kinds)
	top, err := util.ToRenderValues(chart, values, options, cluster)
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
