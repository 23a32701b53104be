// Image makes the released image, for amd64 and arm64, from the programs that
// `make programs` builds: an OCI layout, and an SBOM for each architecture. The same
// programs and flags make the same digest. Given a reference, as
// registry.example.com/drain-wait:v1, it pushes the image there, with the credentials
// that docker or podman has stored for the registry. It prints the digest, or what was
// pushed by its digest.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "image:", err)
		os.Exit(1)
	}
}

func run(args []string, stdout io.Writer) error {
	flags := flag.NewFlagSet("image", flag.ContinueOnError)
	programs := flags.String("programs", "build/linux", "`directory` of the programs, one below it for each architecture")
	out := flags.String("layout", "build/image", "`directory` that the OCI layout goes to; it must be new")
	sboms := flags.String("sbom", "build/sbom", "`directory` that the SBOMs go to")
	var r release
	flags.StringVar(&r.version, "version", "", "`version` that the programs were built with")
	flags.StringVar(&r.revision, "revision", "", "`commit` of the source, if it has one")
	flags.StringVar(&r.source, "source", "", "`URL` of the source, if it has one")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if r.version == "" || flags.NArg() > 1 {
		return errors.New("want -version and at most one reference to push to")
	}
	created, err := strconv.ParseInt(cmp.Or(os.Getenv("SOURCE_DATE_EPOCH"), "0"), 10, 64)
	if err != nil {
		return fmt.Errorf("environment variable SOURCE_DATE_EPOCH: %w", err)
	}
	r.created = time.Unix(created, 0).UTC()

	var to name.Tag
	if flags.NArg() == 1 {
		if to, err = name.NewTag(flags.Arg(0)); err != nil {
			return fmt.Errorf("the reference %q: %w", flags.Arg(0), err)
		}
	}
	index, documents, err := build(*programs, r)
	if err != nil {
		return err
	}
	if err := write(*out, index); err != nil {
		return fmt.Errorf("write the layout %s: %w", *out, err)
	}
	if err := os.MkdirAll(*sboms, 0o755); err != nil {
		return err
	}
	for file, document := range documents {
		if err := os.WriteFile(filepath.Join(*sboms, file), document, 0o644); err != nil {
			return err
		}
	}
	digest, err := index.Digest()
	if err != nil {
		return err
	}
	if flags.NArg() == 0 {
		_, err = fmt.Fprintln(stdout, digest)
		return err
	}
	if err := remote.WriteIndex(to, index, remote.WithAuthFromKeychain(authn.DefaultKeychain)); err != nil {
		return fmt.Errorf("push to %s: %w", to, err)
	}
	_, err = fmt.Fprintln(stdout, to.Context().Digest(digest.String()))
	return err
}

// write makes a layout that holds the index. A directory that exists is refused, since
// what it holds would stay in it.
func write(dir string, index v1.ImageIndex) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o755); err != nil {
		return err
	}
	path, err := layout.Write(dir, empty.Index)
	if err != nil {
		return err
	}
	return path.AppendIndex(index)
}
