package e2e

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/sim/aws"
)

// The image is in a registry of the tests, in place of that of the documents.
var (
	registryAddress   = netip.AddrPortFrom(hostAddress, 5000)
	repository        = registryAddress.String() + "/drain-wait"
	exampleRepository = "registry.example.com/drain-wait"
)

// pushImage makes the image as users do, and pushes it to the registry, once for all tests.
var pushImage = sync.OnceValue(func() error {
	l, err := net.Listen("tcp", registryAddress.String())
	if err != nil {
		return err
	}
	srv := &http.Server{Handler: registry.New(registry.Logger(log.New(io.Discard, "", 0))), ReadHeaderTimeout: time.Minute}
	go func() { _ = srv.Serve(l) }() // ends with the namespaces
	out, err := shell("IMAGE_TOOL=go "+commandIn("README.md", "make image", exampleRepository, repository), nil)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	return nil
})

// isOurs says whether an image is the one in the registry.
func isOurs(image string) bool { return image == repository+":v1" }

// unpacked is an image on the node.
type unpacked struct {
	dir string // of its files
	*v1.Config
}

// pullImage pulls the image from the registry and unpacks it, once, as a node does.
var pullImage = sync.OnceValues(func() (*unpacked, error) {
	ref, err := name.ParseReference(repository + ":v1")
	if err != nil {
		return nil, err
	}
	img, err := remote.Image(ref)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	u := &unpacked{program("pulled"), &file.Config}
	if err := os.Mkdir(u.dir, 0o755); err != nil {
		return nil, err
	}
	content := mutate.Extract(img)
	defer content.Close()
	for files := tar.NewReader(content); ; {
		header, err := files.Next()
		if errors.Is(err, io.EOF) {
			return u, nil
		}
		if err != nil {
			return nil, err
		}
		if err := unpack(filepath.Join(u.dir, header.Name), header, files); err != nil {
			return nil, err
		}
	}
})

// unpack writes one file of an image.
func unpack(path string, header *tar.Header, content io.Reader) error {
	switch header.Typeflag {
	case tar.TypeDir:
		return os.MkdirAll(path, header.FileInfo().Mode())
	case tar.TypeReg:
		f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, header.FileInfo().Mode())
		if err != nil {
			return err
		}
		_, err = io.Copy(f, content)
		return errors.Join(err, f.Close())
	default:
		return fmt.Errorf("%s is neither a file nor a directory", header.Name)
	}
}

// contained is what the first container of a pod runs as, if it has our image.
func (tb *testbed) contained(p *corev1.Pod, addr netip.Addr) (e environment, err error) {
	c := p.Spec.Containers[0]
	image, err := pullImage()
	if err != nil {
		return e, err
	}
	e.Image = image.dir
	entrypoint, args := image.Entrypoint, image.Cmd
	if len(c.Command) > 0 {
		entrypoint, args = c.Command, nil
	}
	if len(c.Args) > 0 {
		args = c.Args
	}
	e.Args = slices.Concat(entrypoint, args)
	e.UID = int(*p.Spec.SecurityContext.RunAsUser)
	e.ReadOnly = *c.SecurityContext.ReadOnlyRootFilesystem
	apiServer := netip.MustParseAddrPort(strings.TrimPrefix(tb.rest.Host, "https://"))
	e.Env = slices.Concat(image.Env, variables(p, addr), []string{
		"KUBERNETES_SERVICE_HOST=" + apiServer.Addr().String(), fmt.Sprint("KUBERNETES_SERVICE_PORT=", apiServer.Port()),
	}, tb.awsEnvironment())
	return e, nil
}

// awsEnvironment is how a program finds AWS, and its rights there. EKS gives the pods of
// a service account with a role such variables, too.
func (tb *testbed) awsEnvironment() []string {
	return []string{
		"AWS_ENDPOINT_URL=" + tb.aws, "AWS_REGION=" + aws.Region,
		"AWS_ACCESS_KEY_ID=" + aws.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + aws.SecretAccessKey,
	}
}

// project writes the files of a projected volume: the token of the pod's service account,
// the certificate of the API server, and the namespace.
func (tb *testbed) project(ctx context.Context, p *corev1.Pod, v *corev1.ProjectedVolumeSource, dir string) error {
	if err := os.Chmod(dir, 0o755); err != nil {
		return err
	}
	files := make(map[string]string)
	for _, source := range v.Sources {
		switch {
		case source.ServiceAccountToken != nil:
			request := &authenticationv1.TokenRequest{Spec: authenticationv1.TokenRequestSpec{
				ExpirationSeconds: source.ServiceAccountToken.ExpirationSeconds,
				BoundObjectRef:    &authenticationv1.BoundObjectReference{APIVersion: "v1", Kind: "Pod", Name: p.Name, UID: p.UID},
			}}
			token, err := tb.kube.CoreV1().ServiceAccounts(p.Namespace).CreateToken(ctx, p.Spec.ServiceAccountName, request, metav1.CreateOptions{})
			if err != nil {
				return err
			}
			files[source.ServiceAccountToken.Path] = token.Status.Token
		case source.ConfigMap != nil:
			err := tb.insist(ctx, func() error {
				m, err := tb.kube.CoreV1().ConfigMaps(p.Namespace).Get(ctx, source.ConfigMap.Name, metav1.GetOptions{})
				if err != nil {
					return errors.New(err.Error()) // it may come later, so that "not found" is no reason to give up
				}
				for _, item := range source.ConfigMap.Items {
					files[item.Path] = m.Data[item.Key]
				}
				return nil
			})
			if err != nil {
				return err
			}
		case source.DownwardAPI != nil:
			files["namespace"] = p.Namespace
		}
	}
	for file, text := range files {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}
