package e2e

import (
	"bytes"
	"context"
	"encoding/json"
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

// The network of the tests is a bridge. A cable connects each pod to it.
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
		// Without its own address the bridge would take the address of a cable. That
		// would change with the cables, and the pods would have a wrong one.
		ip("link", "add", bridge, "address", "02:00:0a:4d:00:01", "type", "bridge"),
		addHostAddress(hostAddress),
		ip("link", "set", bridge, "up"),
	)
}

// addHostAddress gives the host another address on the bridge.
func addHostAddress(a netip.Addr) error {
	return ip("addr", "add", netip.PrefixFrom(a, addressBits).String(), "dev", bridge)
}

var pods atomic.Uint32

// process is the only container of a pod: the application in a network, a mount and a
// process namespace, with its own address.
type process struct {
	addr   netip.AddrPort
	cmd    *exec.Cmd
	log    string        // path of what it writes, as `kubectl logs` shows it
	exited chan struct{} // closed when it is dead
}

// appPort is where the application listens.
const appPort = 8080

// environment is what the application finds in its pod.
type environment struct {
	Root   string            // an empty directory that becomes its root
	Mounts map[string]string // paths in the pod to what is mounted there
}

// startProcess runs the application. mounts is what is mounted where in the pod.
func startProcess(dir, name string, mounts map[string]string) (*process, error) {
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
	root := filepath.Join(dir, name)
	if err := os.Mkdir(root, 0o755); err != nil {
		return nil, err
	}
	pod, err := json.Marshal(environment{root, mounts})
	if err != nil {
		return nil, err
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), envApp+"="+string(pod))
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
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"-t", pid, "-n", "-m", "-p", "-r", "-w", "--"}, args...)...)
	cmd.WaitDelay = time.Second
	return cmd
}

func (p *process) terminate() { _ = p.cmd.Process.Signal(syscall.SIGTERM) }

func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.exited
}

// app is the application of a pod. It waits until the pod has a network: that is when its
// standard input ends. On SIGTERM it refuses new connections and finishes the requests
// that it has.
func app() int {
	if err := serveApp(os.Getenv(envApp)); err != nil {
		fmt.Fprintln(os.Stderr, "app:", err)
		return 1
	}
	return 0
}

// enter makes the root of the pod: what the machine has, and what is mounted into the
// pod. Nobody else sees those mounts.
func (e environment) enter() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	entries, err := os.ReadDir("/")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := "/"+entry.Name(), filepath.Join(e.Root, entry.Name())
		switch {
		case entry.Type() == os.ModeSymlink:
			var target string
			if target, err = os.Readlink(from); err == nil {
				err = os.Symlink(target, to)
			}
		case !entry.IsDir():
		case from == "/proc":
			err = errors.Join(os.Mkdir(to, 0o755), syscall.Mount("proc", to, "proc", 0, ""))
		default:
			err = errors.Join(os.Mkdir(to, 0o755), syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, ""))
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	for path, from := range e.Mounts {
		to := filepath.Join(e.Root, path)
		if err := mountPoint(to, from); err != nil {
			return err
		}
		if err := syscall.Mount(from, to, "", syscall.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	return errors.Join(syscall.Chroot(e.Root), os.Chdir("/"))
}

// mountPoint makes a file or a directory to mount another one onto, if it is missing.
func mountPoint(path, other string) error {
	if _, err := os.Stat(path); err == nil {
		return nil
	}
	if info, err := os.Stat(other); err != nil || info.IsDir() {
		return errors.Join(err, os.Mkdir(path, 0o755))
	}
	return os.WriteFile(path, nil, 0o755)
}

func serveApp(pod string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	var e environment
	if err := json.Unmarshal([]byte(pod), &e); err != nil {
		return err
	}
	if err := e.enter(); err != nil {
		return err
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

// How long the application takes for a request and for its shutdown.
const (
	serviceTime  = 20 * time.Millisecond
	shutdownTime = 200 * time.Millisecond
)
