package e2e

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// patience is how long a test waits for what must come. Only a failing test waits that
// long.
const patience = 2 * time.Minute

// until retries until there is no error.
func until(t *testing.T, what string, try func() error) {
	t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		err := try()
		if err == nil {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s: not within %v: %v", what, patience, err)
		}
	}
}

var ports atomic.Uint32

// freePort returns each port once. Nobody else is in this network namespace.
func freePort() int { return 20000 + int(ports.Add(1)) }

// daemon is a program in the background.
type daemon struct {
	*exec.Cmd
	exited chan struct{} // closed when it is dead
}

// start runs a program until the test is over. Its output is appended to a file in dir.
func start(t *testing.T, dir, name string, cmd *exec.Cmd) *daemon {
	t.Helper()
	out, err := os.OpenFile(filepath.Join(dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	cmd.Stdout, cmd.Stderr = out, out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start %s: %v", name, err)
	}
	d := &daemon{Cmd: cmd, exited: make(chan struct{})}
	go func() {
		defer close(d.exited)
		_ = cmd.Wait()
	}()
	t.Cleanup(d.kill)
	return d
}

func (d *daemon) kill() {
	_ = d.Process.Kill()
	<-d.exited
}

// cluster is a Kubernetes control plane.
type cluster struct {
	dir       string
	apiserver *daemon
	command   []string // of the API server
	rest      *rest.Config
	kube      kubernetes.Interface
	dynamic   dynamic.Interface
}

// controllers are the controllers that the tests need: they roll Deployments and
// StatefulSets, fill EndpointSlices, and make what the pods of a namespace need: a service
// account and the certificate of the API server.
const controllers = "deployment-controller,replicaset-controller,statefulset-controller,endpointslice-controller,serviceaccount-controller,root-ca-certificate-publisher-controller"

// adminToken is the token of a user who may do everything.
const adminToken = "e2e-admin"

// cleaners are controllers that remove what is no longer wanted, as the pods of a
// Deployment that was deleted, and the contents of a namespace.
const cleaners = "namespace-controller,garbage-collector-controller"

// startCluster starts etcd, the API server and the controllers.
func startCluster(t *testing.T, dir, controllers string) *cluster {
	t.Helper()
	c := &cluster{dir: dir}
	etcd := fmt.Sprintf("http://127.0.0.1:%d", freePort())
	start(t, dir, "etcd", exec.Command(program("kube"), "etcd", filepath.Join(dir, "etcd"), etcd, fmt.Sprintf("http://127.0.0.1:%d", freePort())))

	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	accounts := filepath.Join(dir, "service-accounts.pem")
	write(t, accounts, pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	tokens := filepath.Join(dir, "tokens.csv")
	write(t, tokens, []byte(adminToken+",admin,admin,system:masters\n"))
	address := netip.AddrPortFrom(hostAddress, uint16(freePort()))
	c.command = []string{
		"kube-apiserver",
		"--etcd-servers=" + etcd,
		"--bind-address=" + hostAddress.String(), fmt.Sprint("--secure-port=", address.Port()),
		"--cert-dir=" + filepath.Join(dir, "apiserver"),
		"--service-cluster-ip-range=10.78.0.0/16",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file=" + accounts, "--service-account-signing-key-file=" + accounts,
		"--token-auth-file=" + tokens,
		"--authorization-mode=RBAC",
	}
	c.rest = &rest.Config{
		Host:            "https://" + address.String(),
		BearerToken:     adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "apiserver", "apiserver.crt")},
		QPS:             -1,
	}
	c.startAPIServer(t)
	if c.kube, err = kubernetes.NewForConfig(c.rest); err != nil {
		t.Fatal(err)
	}
	if c.dynamic, err = dynamic.NewForConfig(c.rest); err != nil {
		t.Fatal(err)
	}
	start(t, dir, "kube-controller-manager", exec.Command(program("kube"), "kube-controller-manager",
		"--kubeconfig="+c.kubeconfig(t, "admin", adminToken), "--leader-elect=false", "--secure-port=0",
		"--controllers="+controllers, "--service-account-private-key-file="+accounts, "--root-ca-file="+c.rest.CAFile))
	return c
}

// startAPIServer starts the API server, also after it was killed, and returns when it is
// ready.
func (c *cluster) startAPIServer(t *testing.T) {
	t.Helper()
	c.apiserver = start(t, c.dir, "kube-apiserver", exec.Command(program("kube"), c.command...))
	until(t, "API server", func() error {
		client, err := rest.HTTPClientFor(c.rest) // fails until the server has made its certificate
		if err != nil {
			return err
		}
		defer client.CloseIdleConnections()
		return get(context.Background(), client, c.rest.Host+"/readyz")
	})
}

// get makes a request whose answer must be a 200.
func get(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

// kubeconfig writes a kubeconfig for a user with a token.
func (c *cluster) kubeconfig(t *testing.T, user, token string) string {
	t.Helper()
	config := clientcmdapi.NewConfig()
	config.Clusters["e2e"] = &clientcmdapi.Cluster{Server: c.rest.Host, CertificateAuthority: c.rest.TLSClientConfig.CAFile}
	config.AuthInfos[user] = &clientcmdapi.AuthInfo{Token: token}
	config.Contexts["e2e"] = &clientcmdapi.Context{Cluster: "e2e", AuthInfo: user}
	config.CurrentContext = "e2e"
	path := filepath.Join(c.dir, "kubeconfig-"+user)
	if err := clientcmd.WriteToFile(*config, path); err != nil {
		t.Fatal(err)
	}
	return path
}

func write(t *testing.T, path string, text []byte) {
	t.Helper()
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
}
