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

// process is the only container of a pod: a program in a network, a mount and a process
// namespace, with its own address.
type process struct {
	addr   netip.AddrPort
	cmd    *exec.Cmd
	log    string        // path of what it writes, as `kubectl logs` shows it
	exited chan struct{} // closed when it is dead
}

// appPort is where the application listens.
const appPort = 8080

// environment is what a pod's program finds there.
type environment struct {
	Root   string            // an empty directory that becomes its root
	Image  string            // what it shows there: the files of an image, or / for the application
	Mounts map[string]string // paths in the pod to what is mounted there
	// What runs. Without arguments it is the application.
	Args, Env []string
	UID       int
	ReadOnly  bool // the root, but not what is mounted
}

// nextAddress is an address for a pod.
func nextAddress() netip.AddrPort {
	n := pods.Add(1)
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 77, byte(1 + n>>8), byte(n)}), appPort)
}

// startProcess runs the program of a pod. It makes the root in dir.
func startProcess(addr netip.AddrPort, dir, name string, e environment) (*process, error) {
	p := &process{
		addr:   addr,
		log:    filepath.Join(dir, name+".log"),
		exited: make(chan struct{}),
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	e.Root = filepath.Join(dir, name)
	if err := os.Mkdir(e.Root, 0o755); err != nil {
		return nil, err
	}
	pod, err := json.Marshal(e)
	if err != nil {
		return nil, err
	}
	out, err := os.Create(p.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	p.cmd = exec.Command(self)
	p.cmd.Env = append(os.Environ(), envPod+"="+string(pod))
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
	pid, cable := strconv.Itoa(p.cmd.Process.Pid), fmt.Sprintf("veth%x", addr.Addr().As4())
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
		log, _ := os.ReadFile(p.log) // says why, if the process has ended early
		return nil, fmt.Errorf("%w; its log: %s", err, log)
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

// runPod is what the first process of a pod does. It waits until the pod has a network:
// that is when its standard input ends.
func runPod(pod string) int {
	var e environment
	err := json.Unmarshal([]byte(pod), &e)
	if err == nil {
		err = e.enter()
	}
	if err == nil {
		_, err = io.Copy(io.Discard, os.Stdin)
	}
	if err == nil {
		err = e.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "pod:", err)
		return 1
	}
	return 0
}

// run becomes what runs in the pod.
func (e environment) run() error {
	if len(e.Args) == 0 {
		return serveApp()
	}
	if err := syscall.Setgroups(nil); err != nil {
		return err
	}
	if err := syscall.Setgid(e.UID); err != nil {
		return err
	}
	if err := syscall.Setuid(e.UID); err != nil {
		return err
	}
	return fmt.Errorf("run %s: %w", e.Args[0], syscall.Exec(e.Args[0], e.Args, e.Env))
}

// enter makes the root of the pod: what its image has, its own /proc, and what is mounted
// into the pod. Nobody else sees those mounts.
func (e environment) enter() error {
	if err := syscall.Mount("none", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := syscall.Mount(e.Root, e.Root, "", syscall.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount the root: %w", err)
	}
	entries, err := os.ReadDir(e.Image)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		from, to := filepath.Join(e.Image, entry.Name()), filepath.Join(e.Root, entry.Name())
		switch {
		case entry.Type() == os.ModeSymlink:
			var target string
			if target, err = os.Readlink(from); err == nil {
				err = os.Symlink(target, to)
			}
		case from != "/proc":
			err = mount(from, to)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", from, err)
		}
	}
	proc := filepath.Join(e.Root, "proc")
	if err := errors.Join(os.Mkdir(proc, 0o755), syscall.Mount("proc", proc, "proc", 0, "")); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for path, from := range e.Mounts {
		if err := mount(from, filepath.Join(e.Root, path)); err != nil {
			return fmt.Errorf("mount %s: %w", path, err)
		}
	}
	if e.ReadOnly {
		if err := syscall.Mount("", e.Root, "", syscall.MS_BIND|syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
			return fmt.Errorf("make the root read-only: %w", err)
		}
	}
	return errors.Join(syscall.Chroot(e.Root), os.Chdir("/"))
}

// mount shows a file or a directory at another path, which it makes if it is missing.
func mount(from, to string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	if info.IsDir() {
		err = os.MkdirAll(to, 0o755)
	} else if _, missing := os.Stat(to); missing != nil {
		err = errors.Join(os.MkdirAll(filepath.Dir(to), 0o755), os.WriteFile(to, nil, 0o755))
	}
	if err != nil {
		return err
	}
	return syscall.Mount(from, to, "", syscall.MS_BIND|syscall.MS_REC, "")
}

// serveApp is the application. On SIGTERM it refuses new connections and finishes the
// requests that it has.
func serveApp() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
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
