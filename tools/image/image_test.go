package main

import (
	"archive/tar"
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"maps"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

const version = "v1.2.3-test"

// made is what one run of the program made, from programs that make built.
type made struct {
	dir, stdout string
	index       v1.ImageIndex
}

// first is made of the checkout, once for all tests.
var first = sync.OnceValues(func() (made, error) { return makeImage(filepath.Join(temporary, "first"), "../..") })

var temporary string

func TestMain(m *testing.M) {
	var err error
	if temporary, err = os.MkdirTemp("", "image"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(temporary)
	os.Exit(code)
}

func makeImage(dir, source string, settings ...string) (made, error) {
	programs := filepath.Join(dir, "programs")
	cmd := exec.Command("make", "-C", source, "programs", "VERSION="+version, "PROGRAMS="+programs)
	cmd.Env = append(os.Environ(), settings...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return made{}, fmt.Errorf("make programs in %s: %w\n%s", source, err, out)
	}
	var stdout bytes.Buffer
	if err := run(flags(dir), &stdout); err != nil {
		return made{}, err
	}
	path, err := layout.FromPath(filepath.Join(dir, "layout"))
	if err != nil {
		return made{}, err
	}
	outer, err := path.ImageIndex()
	if err != nil {
		return made{}, err
	}
	manifest, err := outer.IndexManifest()
	if err != nil {
		return made{}, err
	}
	if len(manifest.Manifests) != 1 {
		return made{}, fmt.Errorf("the layout has %d manifests, want the image's index alone", len(manifest.Manifests))
	}
	index, err := outer.ImageIndex(manifest.Manifests[0].Digest)
	return made{dir, strings.TrimSpace(stdout.String()), index}, err
}

func flags(dir string) []string {
	return []string{
		"-version", version, "-programs", filepath.Join(dir, "programs"),
		"-layout", filepath.Join(dir, "layout"), "-sbom", filepath.Join(dir, "sbom"),
	}
}

// image returns the image for an architecture, and the digest of its manifest.
func (m made) image(t *testing.T, arch string) (v1.Image, v1.Hash) {
	t.Helper()
	manifest, err := m.index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range manifest.Manifests {
		if d.Platform.Architecture == arch && d.Platform.OS == "linux" {
			image, err := m.index.Image(d.Digest)
			if err != nil {
				t.Fatal(err)
			}
			return image, d.Digest
		}
	}
	t.Fatalf("no image for %s in %+v", arch, manifest.Manifests)
	return nil, v1.Hash{}
}

// files are all entries of all layers, by name.
func files(t *testing.T, image v1.Image) (map[string]*tar.Header, map[string][]byte) {
	t.Helper()
	layers, err := image.Layers()
	if err != nil {
		t.Fatal(err)
	}
	headers, contents := make(map[string]*tar.Header), make(map[string][]byte)
	for _, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		defer content.Close()
		whole, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		if end := make([]byte, 1024); len(whole)%512 != 0 || !bytes.HasSuffix(whole, end) { // Go's reader does not mind
			t.Errorf("the tar of %d bytes has no end", len(whole))
		}
		for r := tar.NewReader(bytes.NewReader(whole)); ; {
			h, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			headers[h.Name] = h
			if contents[h.Name], err = io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
		}
	}
	return headers, contents
}

func setup(t *testing.T) made {
	t.Helper()
	m, err := first()
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// The digest does not depend on where the source is, or on the settings of who builds.
func TestTwoBuildsShareTheDigest(t *testing.T) {
	m := setup(t)
	source := t.TempDir()
	for _, dir := range []string{"cmd", "internal"} {
		if err := os.CopyFS(filepath.Join(source, dir), os.DirFS("../../"+dir)); err != nil {
			t.Fatal(err)
		}
	}
	for _, file := range []string{"go.mod", "go.sum", "main.go", "Makefile"} {
		content, err := os.ReadFile("../../" + file)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(source, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	again, err := makeImage(filepath.Join(t.TempDir(), "second"), source, "GOFLAGS=-tags=other", "GOAMD64=v3", "GOARM64=v8.1", "CGO_ENABLED=1", "TZ=Asia/Tokyo")
	if err != nil {
		t.Fatal(err)
	}
	if m.stdout != again.stdout {
		t.Errorf("the first build made %s, the second %s", m.stdout, again.stdout)
	}
	digest, err := again.index.Digest()
	if err != nil {
		t.Fatal(err)
	}
	if digest.String() != again.stdout {
		t.Errorf("it says %s, and the layout holds %s", again.stdout, digest)
	}
}

func TestTheImage(t *testing.T) {
	m := setup(t)
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		t.Run(arch, func(t *testing.T) {
			image, _ := m.image(t, arch)
			headers, contents := files(t, image)
			if got, want := slices.Sorted(maps.Keys(headers)), []string{"drain-wait", "prestop"}; !slices.Equal(got, want) {
				t.Fatalf("it holds %q, want %q", got, want)
			}
			unpacked := 0
			for name, h := range headers {
				if h.Typeflag != tar.TypeReg || h.Mode != 0o755 || h.Uid != 0 || h.Gid != 0 {
					t.Errorf("%s: type %c, mode %o, owner %d:%d; want a file of root's that anybody may run", name, h.Typeflag, h.Mode, h.Uid, h.Gid)
				}
				unpacked += len(contents[name])
				static(t, name, contents[name], machine)
			}
			t.Logf("%.1f MB unpacked", float64(unpacked)/1e6)
			if unpacked >= 45e6 {
				t.Errorf("it takes %d bytes unpacked, want less than 45 MB", unpacked)
			}
			config, err := image.ConfigFile()
			if err != nil {
				t.Fatal(err)
			}
			if config.Architecture != arch || config.OS != "linux" {
				t.Errorf("it is for %s/%s", config.OS, config.Architecture)
			}
		})
	}
}

// static fails if the program needs anything that the image does not have.
func static(t *testing.T, name string, content []byte, machine elf.Machine) {
	t.Helper()
	f, err := elf.NewFile(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	if f.Machine != machine {
		t.Errorf("%s is for %s, want %s", name, f.Machine, machine)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			t.Errorf("%s is linked dynamically", name)
		}
	}
	info, err := buildinfo.Read(bytes.NewReader(content))
	if err != nil {
		t.Fatal(err)
	}
	roots := slices.ContainsFunc(info.Deps, func(m *debug.Module) bool { return m.Path == "golang.org/x/crypto/x509roots/fallback" })
	if want := name == "drain-wait"; roots != want { // prestop speaks plain HTTP alone
		t.Errorf("%s has CA certificates: %t, want %t", name, roots, want)
	}
}

// Whoever builds with the Dockerfile gets what the released image is.
func TestTheDockerfileMakesTheSame(t *testing.T) {
	content, err := os.ReadFile("../../Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	want := v1.Config{Labels: make(map[string]string)}
	for line := range strings.Lines(string(content)) {
		instruction, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		switch instruction {
		case "", "#", "ARG":
		case "FROM":
			if value != "scratch" {
				t.Errorf("FROM %s, want scratch", value)
			}
		case "COPY":
			if want := "--chmod=0755 build/linux/${TARGETARCH}/drain-wait build/linux/${TARGETARCH}/prestop /"; value != want {
				t.Errorf("COPY %s, want %s", value, want)
			}
		case "USER":
			want.User = value
		case "ENTRYPOINT":
			err = json.Unmarshal([]byte(value), &want.Entrypoint)
		case "CMD":
			err = json.Unmarshal([]byte(value), &want.Cmd)
		case "LABEL":
			key, quoted, _ := strings.Cut(value, "=")
			want.Labels[key] = strings.ReplaceAll(strings.Trim(quoted, `"`), "${VERSION}", version)
		default:
			t.Errorf("the Dockerfile has %s, which the released image does not", line)
		}
		if err != nil {
			t.Fatalf("%s: %v", line, err)
		}
	}
	for _, arch := range architectures {
		image, _ := setup(t).image(t, arch)
		config, err := image.ConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, config.Config); diff != "" {
			t.Errorf("%s: -Dockerfile +image:\n%s", arch, diff)
		}
	}
	if want.User != "65532:65532" {
		t.Errorf("USER %s, want a user who is not root, by number", want.User)
	}
}

// What is pushed has the digest that the layout has, and holds both architectures.
func TestPush(t *testing.T) {
	m := setup(t)
	server := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	defer server.Close()
	tag, err := name.NewTag(strings.TrimPrefix(server.URL, "http://") + "/drain-wait:" + version)
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	args := flags(m.dir)
	args[slices.Index(args, "-layout")+1] = filepath.Join(t.TempDir(), "layout")
	if err := run(append(args, tag.String()), &stdout); err != nil {
		t.Fatal(err)
	}
	if got, want := stdout.String(), tag.Context().Digest(m.stdout).String()+"\n"; got != want {
		t.Errorf("it says %q, want %q", got, want)
	}
	pushed, err := remote.Get(tag)
	if err != nil {
		t.Fatal(err)
	}
	if pushed.Digest.String() != m.stdout || pushed.MediaType != types.OCIImageIndex {
		t.Errorf("pushed the %s %s, want the index %s", pushed.MediaType, pushed.Digest, m.stdout)
	}
	for _, arch := range architectures {
		image, err := remote.Image(tag, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := image.Layers(); err != nil {
			t.Error(err)
		}
	}
}

func TestWhatIsRefused(t *testing.T) {
	m := setup(t)
	for want, args := range map[string][]string{
		"want -version and at most one reference":                  {"-programs", m.dir},
		"`make programs` builds it":                                {"-version", version, "-programs", t.TempDir()},
		"write the layout " + filepath.Join(m.dir, "layout") + ":": flags(m.dir), // it is there already
		`the reference "a:b:c"`:                                    append(flags(m.dir), "-layout", filepath.Join(t.TempDir(), "layout"), "a:b:c"),
	} {
		var stdout bytes.Buffer
		if err := run(args, &stdout); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", args, err, want)
		}
	}
}
