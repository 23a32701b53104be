package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	spdxjson "github.com/spdx/tools-golang/json"
	"github.com/spdx/tools-golang/spdx"
	"github.com/spdx/tools-golang/spdxlib"
)

// readSBOM reads an SBOM with the library of the SPDX project.
func readSBOM(t *testing.T, m made, arch string) *spdx.Document {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(m.dir, "sbom", "drain-wait_linux_"+arch+".spdx.json"))
	if err != nil {
		t.Fatal(err)
	}
	doc, err := spdxjson.Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if err := spdxlib.ValidateDocument(doc); err != nil {
		t.Error(err)
	}
	return doc
}

// The SBOM names the files of the image and the modules in them: all, and nothing else.
func TestTheSBOMSaysWhatTheImageHolds(t *testing.T) {
	m := setup(t)
	for _, arch := range architectures {
		t.Run(arch, func(t *testing.T) {
			image, digest := m.image(t, arch)
			_, contents := files(t, image)
			doc := readSBOM(t, m, arch)

			wantFiles := make(map[string]string)
			wantLinks := make(map[string]bool)
			for name, content := range contents {
				wantFiles["./"+name] = fmt.Sprintf("%x", sha256.Sum256(content))
				info, err := buildinfo.Read(bytes.NewReader(content))
				if err != nil {
					t.Fatal(err)
				}
				wantLinks[name+" pkg:golang/drainwait@"+version] = true
				wantLinks[name+" pkg:golang/stdlib@"+strings.TrimPrefix(info.GoVersion, "go")] = true
				for _, dep := range info.Deps {
					wantLinks[name+" pkg:golang/"+dep.Path+"@"+dep.Version] = true
				}
			}
			gotFiles := make(map[string]string)
			for _, f := range doc.Files {
				for _, sum := range f.Checksums {
					if sum.Algorithm == spdx.SHA256 {
						gotFiles[f.FileName] = sum.Value
					}
				}
			}
			if !maps.Equal(gotFiles, wantFiles) {
				t.Errorf("its files are %v, those of the image %v", gotFiles, wantFiles)
			}

			purls := make(map[spdx.ElementID]string)
			for _, p := range doc.Packages {
				purls[p.PackageSPDXIdentifier] = p.PackageExternalReferences[0].Locator
			}
			if got, want := purls["image"], "pkg:oci/drain-wait@sha256%3A"+digest.Hex+"?arch="+arch; got != want {
				t.Errorf("it is about %s, want %s", got, want)
			}
			gotLinks := make(map[string]bool)
			for _, r := range doc.Relationships {
				if r.Relationship == spdx.RelationshipStaticLink {
					gotLinks[strings.TrimPrefix(string(r.RefA.ElementRefID), "file-")+" "+purls[r.RefB.ElementRefID]] = true
				}
			}
			if len(purls) < 40 || !maps.Equal(gotLinks, wantLinks) {
				t.Errorf("%d packages; it links\n%s\nand the programs\n%s", len(purls),
					strings.Join(slices.Sorted(maps.Keys(gotLinks)), "\n"), strings.Join(slices.Sorted(maps.Keys(wantLinks)), "\n"))
			}
		})
	}
}
