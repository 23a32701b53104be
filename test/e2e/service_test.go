package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// replica is one running drain-wait.
type replica struct {
	*daemon
	addr         netip.Addr // its own address, like a pod's
	hooks, admin string     // URLs
	log          string     // path
}

var replicas atomic.Uint32

// startService runs the program as the user of a kubeconfig.
func (tb *testbed) startService(t *testing.T, kubeconfig string, args ...string) *replica {
	t.Helper()
	return tb.startServiceIn(t, nil, kubeconfig, args...)
}

// startServiceIn is startService with more environment variables.
func (tb *testbed) startServiceIn(t *testing.T, environment []string, kubeconfig string, args ...string) *replica {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{10, 77, 0, byte(1 + replicas.Add(1))})
	if err := addHostAddress(addr); err != nil {
		t.Fatal(err)
	}
	name := "drain-wait-" + addr.String()
	r := &replica{
		addr:  addr,
		hooks: fmt.Sprintf("http://%s:8080", addr),
		admin: fmt.Sprintf("http://%s:9090", addr),
		log:   filepath.Join(tb.dir, name+".log"),
	}
	cmd := exec.Command(program("drain-wait"), append([]string{
		"--listen-address", addr.String() + ":8080", "--admin-address", addr.String() + ":9090",
		"--kubeconfig", kubeconfig, "--settle-alb", settleALB.String(), "--settle-nlb", settleNLB.String(),
	}, args...)...)
	cmd.Env = append(environment, tb.awsEnvironment()...)
	r.daemon = start(t, tb.dir, name, cmd)
	return r
}

func (r *replica) ready() error {
	return get(context.Background(), http.DefaultClient, r.admin+"/readyz")
}

func (r *replica) awaitReady(t *testing.T) {
	t.Helper()
	until(t, "drain-wait ready", r.ready)
}

// startNamed starts the service with its deployed rights, under the name by which hooks
// call it.
func (tb *testbed) startNamed(t *testing.T) *replica {
	t.Helper()
	r := tb.startService(t, tb.serviceKubeconfig(t))
	tb.nameService(t, r)
	r.awaitReady(t)
	return r
}

// nameService lets the pods find the service by its name in the cluster.
func (tb *testbed) nameService(t *testing.T, replicas ...*replica) {
	t.Helper()
	var addresses []string
	for _, r := range replicas {
		addresses = append(addresses, r.addr.String())
	}
	tb.writeHosts(t, addresses)
}

// writeHosts gives the service's name these addresses, in the /etc/hosts of the pods.
func (tb *testbed) writeHosts(t *testing.T, addresses []string) {
	t.Helper()
	hosts := "127.0.0.1 localhost\n"
	for _, a := range addresses {
		hosts += a + " drain-wait.drain-wait drain-wait.drain-wait.svc\n"
	}
	// One write of the same length, so that nobody reads half of a file.
	f, err := os.OpenFile(tb.hosts, os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	_, err = fmt.Fprintf(f, "%-2048s\n", hosts)
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}
