package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"syscall"
	"time"
)

// The network of the tests: a bridge, to which each pod has a cable.
const bridge = "br0"

var (
	hostAddress = netip.MustParseAddr("10.77.0.1")
	addressBits = 16
)

func ip(args ...string) error {
	if out, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}

func startNetwork() error {
	return errors.Join(
		ip("link", "set", "lo", "up"),
		ip("link", "add", bridge, "type", "bridge"),
		addHostAddress(hostAddress),
		ip("link", "set", bridge, "up"),
	)
}

// addHostAddress gives the host one more address on the bridge.
func addHostAddress(a netip.Addr) error {
	return ip("addr", "add", netip.PrefixFrom(a, addressBits).String(), "dev", bridge)
}

var pods atomic.Uint32

// process is the one container of a pod: the application in a network, a mount
// and a process namespace, with an address of its own.
type process struct {
	addr   netip.AddrPort
	cmd    *exec.Cmd
	log    string        // path of what it writes, as `kubectl logs` shows it
	exited chan struct{} // closed when it is dead
}

// appPort is where the application listens.
const appPort = 8080

// startProcess runs the application. hosts is its /etc/hosts.
func startProcess(dir, name, hosts string) (*process, error) {
	n := pods.Add(1)
	p := &process{
		addr:   netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(1 + n>>8), byte(n)}), appPort),
		log:    filepath.Join(dir, name+".log"),
		exited: make(chan struct{}),
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), envApp+"="+hosts)
	p.cmd.Stdout, p.cmd.Stderr = out, out
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	plugged, err := p.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start application: %w", err)
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	pid, cable := strconv.Itoa(p.cmd.Process.Pid), fmt.Sprint("veth", n)
	inside := func(args ...string) error {
		if out, err := exec.Command("nsenter", append([]string{"-t", pid, "-n", "ip"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %q in pod: %w: %s", args, err, bytes.TrimSpace(out))
		}
		return nil
	}
	err = errors.Join(
		ip("link", "add", cable, "type", "veth", "peer", "name", "eth0", "netns", pid),
		ip("link", "set", cable, "master", bridge, "up"),
		inside("addr", "add", netip.PrefixFrom(p.addr.Addr(), addressBits).String(), "dev", "eth0"),
		inside("link", "set", "lo", "up"),
		inside("link", "set", "eth0", "up"),
	)
	if err != nil {
		p.kill()
		return nil, err
	}
	return p, plugged.Close()
}

// exec makes a command that runs in the pod.
func (p *process) exec(ctx context.Context, args ...string) *exec.Cmd {
	pid := strconv.Itoa(p.cmd.Process.Pid)
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", pid, "-n", "-m", "-p", "--"}, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// app is the application of a pod. Its main waits until the pod has a network,
// which is when its standard input ends. On SIGTERM it refuses new connections
// and finishes what it has.
func app() int {
	if err := serveApp(os.Getenv(envApp)); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		return 1
	}
	return 0
}

func serveApp(hosts string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	err := errors.Join(
		syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""),
		syscall.Mount("proc", "/proc", "proc", 0, ""),
		syscall.Mount(hosts, "/etc/hosts", "", syscall.MS_BIND, ""),
	)
	if err != nil {
		return fmt.Errorf("mount: %w", err)
	}
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	l, err := net.Listen("tcp", fmt.Sprint(":", appPort))
	if err != nil {
		return err
	}
	srv := &http.Server{ReadHeaderTimeout: 5 * time.Second, Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		time.Sleep(serviceTime)
		_, _ = io.WriteString(rw, "OK\n")
	})}
	srv.SetKeepAlivesEnabled(false)
	context.AfterFunc(ctx, func() { _ = srv.Shutdown(context.Background()) })
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	time.Sleep(shutdownTime) // Serve returns before the last requests are over
	return nil
}

// How long the application takes for a request, and to shut down.
const (
	serviceTime  = 20 * time.Millisecond
	shutdownTime = 200 * time.Millisecond
)
