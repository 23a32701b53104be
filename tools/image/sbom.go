package main

import (
	"cmp"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// These are the parts of SPDX 2.3 that an image of two static programs needs.
// https://spdx.github.io/spdx-spec/v2.3/
type (
	sbom struct {
		SPDXVersion       string         `json:"spdxVersion"`
		DataLicense       string         `json:"dataLicense"`
		ID                string         `json:"SPDXID"`
		Name              string         `json:"name"`
		DocumentNamespace string         `json:"documentNamespace"`
		CreationInfo      creation       `json:"creationInfo"`
		Packages          []sbomPackage  `json:"packages"`
		Files             []sbomFile     `json:"files"`
		Relationships     []relationship `json:"relationships"`
	}
	creation struct {
		Created  string   `json:"created"`
		Creators []string `json:"creators"`
	}
	sbomPackage struct {
		ID               string        `json:"SPDXID"`
		Name             string        `json:"name"`
		Version          string        `json:"versionInfo"`
		DownloadLocation string        `json:"downloadLocation"`
		FilesAnalyzed    bool          `json:"filesAnalyzed"`
		Purpose          string        `json:"primaryPackagePurpose"`
		Checksums        []checksum    `json:"checksums,omitempty"`
		ExternalRefs     []externalRef `json:"externalRefs"`
	}
	externalRef struct {
		Category string `json:"referenceCategory"`
		Type     string `json:"referenceType"`
		Locator  string `json:"referenceLocator"`
	}
	sbomFile struct {
		ID        string     `json:"SPDXID"`
		Name      string     `json:"fileName"`
		Types     []string   `json:"fileTypes"`
		Checksums []checksum `json:"checksums"`
	}
	checksum struct {
		Algorithm string `json:"algorithm"`
		Value     string `json:"checksumValue"`
	}
	relationship struct {
		From string `json:"spdxElementId"`
		Type string `json:"relationshipType"`
		To   string `json:"relatedSpdxElement"`
	}
)

const (
	documentID = "SPDXRef-DOCUMENT"
	imageID    = "SPDXRef-image"
)

// newSBOM writes down what the image of one architecture holds: its files, and the
// modules that each was built from, as the Go linker recorded them.
func newSBOM(arch string, image v1.Hash, programs []program, r release) ([]byte, error) {
	ids := make(map[debug.Module]string) // of the modules, by path and version
	for _, p := range programs {
		for _, m := range modules(p, r) {
			ids[m] = ""
		}
	}
	sorted := slices.SortedFunc(maps.Keys(ids), func(a, b debug.Module) int {
		return cmp.Or(strings.Compare(a.Path, b.Path), strings.Compare(a.Version, b.Version))
	})
	doc := sbom{
		SPDXVersion:       "SPDX-2.3",
		DataLicense:       "CC0-1.0",
		ID:                documentID,
		Name:              fmt.Sprintf("drain-wait %s linux/%s", r.version, arch),
		DocumentNamespace: "https://spdx.org/spdxdocs/drain-wait-" + image.Hex,
		CreationInfo:      creation{r.created.Format(time.RFC3339), []string{"Tool: drainwait/tools/image"}},
		Packages: []sbomPackage{newPackage(imageID, "drain-wait", r.version, "CONTAINER",
			fmt.Sprintf("pkg:oci/drain-wait@%s?arch=%s", url.QueryEscape(image.String()), arch),
			checksum{"SHA256", image.Hex})},
		Relationships: []relationship{{documentID, "DESCRIBES", imageID}},
	}
	for i, m := range sorted {
		ids[m] = fmt.Sprintf("SPDXRef-module-%d", i+1)
		doc.Packages = append(doc.Packages, newPackage(ids[m], m.Path, m.Version, "LIBRARY", purl(m)))
	}
	for _, p := range programs {
		id := "SPDXRef-file-" + p.name
		doc.Files = append(doc.Files, sbomFile{id, "./" + p.name, []string{"BINARY"}, []checksum{
			{"SHA1", fmt.Sprintf("%x", sha1.Sum(p.content))}, // SPDX demands this one
			{"SHA256", fmt.Sprintf("%x", sha256.Sum256(p.content))},
		}})
		doc.Relationships = append(doc.Relationships, relationship{imageID, "CONTAINS", id})
		for _, m := range modules(p, r) {
			doc.Relationships = append(doc.Relationships, relationship{id, "STATIC_LINK", ids[m]})
		}
	}
	return json.MarshalIndent(doc, "", "  ")
}

// modules are those that a program was built from: our own, the standard library, and
// the dependencies, each with the version that was really used.
func modules(p program, r release) []debug.Module {
	all := []debug.Module{
		{Path: p.info.Main.Path, Version: r.version}, // the programs are built without the version of their source
		{Path: "stdlib", Version: strings.TrimPrefix(p.info.GoVersion, "go")},
	}
	for _, m := range p.info.Deps {
		if m.Replace != nil {
			m = m.Replace
		}
		all = append(all, debug.Module{Path: m.Path, Version: m.Version})
	}
	return all
}

// purl is the module's package URL, by which scanners look up its vulnerabilities.
func purl(m debug.Module) string {
	return "pkg:golang/" + m.Path + "@" + url.QueryEscape(m.Version)
}

func newPackage(id, name, version, purpose, purl string, sums ...checksum) sbomPackage {
	return sbomPackage{
		ID: id, Name: name, Version: version, Purpose: purpose,
		DownloadLocation: "NOASSERTION",
		Checksums:        sums,
		ExternalRefs:     []externalRef{{"PACKAGE-MANAGER", "purl", purl}},
	}
}
