package memnet

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
)

// Listener is a [net.Listener] without a network, for a server in a synctest
// bubble: sockets would keep the bubble's clock from moving. Its connections are
// pipes, and their remote address is that of the pod that made them.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	port   atomic.Uint32 // of the last connection's remote address
}

// NewListener makes a listener. In a bubble it must be called inside.
func NewListener() *Listener {
	l := &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener]. It refuses later calls; existing connections go on.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(10, 254, 0, 1), Port: 8080} }

// Dial connects from the address of a pod. As with a socket, it waits for the
// server to accept.
func (l *Listener) Dial(ctx context.Context, from netip.Addr) (net.Conn, error) {
	// A new port for each, from the range that Linux uses.
	remote := net.TCPAddrFromAddrPort(netip.AddrPortFrom(from, uint16(32768+(l.port.Add(1)-1)%28232)))
	client, server := net.Pipe()
	select {
	case l.conns <- pipeConn{server, remote}:
		return client, nil
	case <-l.closed:
		return nil, &net.OpError{Op: "dial", Net: "tcp", Addr: l.Addr(), Err: os.NewSyscallError("connect", syscall.ECONNREFUSED)}
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Client makes an HTTP client that calls the server from the address of a pod, whatever
// host the URL names. It fits HookClient of sim.Config. Like curl, it closes its
// connection after each request.
func (l *Listener) Client(from netip.Addr) *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return l.Dial(ctx, from) },
		DisableKeepAlives: true,
	}}
}

// pipeConn is the server's end of a pipe.
type pipeConn struct {
	net.Conn
	remote net.Addr
}

// RemoteAddr implements [net.Conn].
func (c pipeConn) RemoteAddr() net.Addr { return c.remote }
