package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// architectures are those of the image, in the order of its index.
var architectures = []string{"amd64", "arm64"}

// release is what the image says of itself.
type release struct {
	version, revision, source string
	created                   time.Time
}

// labels are those of the Dockerfile, and where the source is if that is known.
func (r release) labels() map[string]string {
	labels := map[string]string{
		"org.opencontainers.image.title":       "drain-wait",
		"org.opencontainers.image.description": "Tells a pod behind an AWS load balancer when it may stop",
		"org.opencontainers.image.licenses":    "Apache-2.0",
		"org.opencontainers.image.version":     r.version,
	}
	if r.revision != "" {
		labels["org.opencontainers.image.revision"] = r.revision
	}
	if r.source != "" {
		labels["org.opencontainers.image.source"] = r.source
	}
	return labels
}

// program is a file of the image.
type program struct {
	name    string
	content []byte
	info    *buildinfo.BuildInfo
}

// readPrograms reads the programs of the image, for one architecture.
func readPrograms(dir string) ([]program, error) {
	var programs []program
	for _, name := range []string{"drain-wait", "prestop"} {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, fmt.Errorf("%w; `make programs` builds it", err)
		}
		info, err := buildinfo.Read(bytes.NewReader(content))
		if err != nil {
			return nil, fmt.Errorf("read what %s was built from: %w", filepath.Join(dir, name), err)
		}
		programs = append(programs, program{name, content, info})
	}
	return programs, nil
}

// build makes the index of the images, and the SBOM of each under its file's name.
func build(dir string, r release) (v1.ImageIndex, map[string][]byte, error) {
	index := mutate.IndexMediaType(empty.Index, types.OCIImageIndex)
	sboms := make(map[string][]byte)
	for _, arch := range architectures {
		programs, err := readPrograms(filepath.Join(dir, arch))
		if err != nil {
			return nil, nil, err
		}
		image, err := newImage(arch, programs, r)
		if err != nil {
			return nil, nil, fmt.Errorf("make the image for %s: %w", arch, err)
		}
		digest, err := image.Digest()
		if err != nil {
			return nil, nil, err
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{
			Add:        image,
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: arch}},
		})
		if sboms["drain-wait_linux_"+arch+".spdx.json"], err = newSBOM(arch, digest, programs, r); err != nil {
			return nil, nil, fmt.Errorf("make the SBOM for %s: %w", arch, err)
		}
	}
	return index, sboms, nil
}

// newImage makes an image of one layer, which holds the programs.
func newImage(arch string, programs []program, r release) (v1.Image, error) {
	content, err := layer(programs, r.created)
	if err != nil {
		return nil, err
	}
	programsLayer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(content)), nil
	}, tarball.WithMediaType(types.OCILayer), tarball.WithCompressedCaching)
	if err != nil {
		return nil, err
	}
	image, err := mutate.ConfigFile(mutate.MediaType(empty.Image, types.OCIManifestSchema1), &v1.ConfigFile{
		OS:           "linux",
		Architecture: arch,
		Created:      v1.Time{Time: r.created},
		RootFS:       v1.RootFS{Type: "layers"},
		Config: v1.Config{
			User:       "65532:65532",
			Entrypoint: []string{"/drain-wait"},
			Cmd:        []string{"serve"},
			Labels:     r.labels(),
		},
	})
	if err != nil {
		return nil, err
	}
	return mutate.Append(mutate.ConfigMediaType(image, types.OCIConfigJSON), mutate.Addendum{
		Layer:   programsLayer,
		History: v1.History{Created: v1.Time{Time: r.created}, CreatedBy: "drainwait/tools/image"},
	})
}

// layer is a tar of the programs, which belong to root, and which anybody may run.
func layer(programs []program, modified time.Time) ([]byte, error) {
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, p := range programs {
		header := tar.Header{
			Typeflag: tar.TypeReg,
			Name:     p.name,
			Mode:     0o755,
			Size:     int64(len(p.content)),
			ModTime:  modified,
			Format:   tar.FormatUSTAR,
		}
		if err := w.WriteHeader(&header); err != nil {
			return nil, err
		}
		if _, err := w.Write(p.content); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil { // it writes the end of the archive
		return nil, err
	}
	return buf.Bytes(), nil
}
