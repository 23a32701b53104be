package main

import (
	"bufio"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/cluster/kube"
)

// way is one hostile load: what each fool does with one connection after another, from an
// address where no pod is.
type way struct {
	name  string
	n     int  // how many fools at once
	total int  // how many connections in all; 0 for any number
	span  int  // for how many seconds
	same  bool // all come from one address
	tight bool // the kernel holds little of what they do not read
	do    func(f *fools, i int, c net.Conn)
}

// ways are the hostile loads.
var ways = []way{
	{name: "quiet", span: 20},
	{name: "never read", n: 300, span: 20, tight: true, do: (*fools).neverRead},
	{name: "slow headers", n: 1000, span: 20, do: (*fools).slowHeader},
	{name: "idle connections", n: 10_000, span: 20, do: (*fools).idle},
	{name: "long queries", n: 250, span: 20, same: true, do: (*fools).longQueries},
	{name: "distinct queries", n: 200, total: 100_000, span: 30, do: (*fools).distinct},
	{name: "flood of 404", n: 32, span: 10, do: func(f *fools, _ int, c net.Conn) { f.flood(c, "GET /nothing") }},
	{name: "flood of fallbacks", n: 32, span: 10, do: func(f *fools, i int, c net.Conn) {
		f.flood(c, fmt.Sprintf("POST %s?reason=%s&namespace=web&pod=nobody-%d", api.FallbackPath, api.Reasons[0], i))
	}},
}

// fools are the ones of one process.
type fools struct {
	way
	addr  string // of the service
	pod   string // the address of a pod in rotation
	began time.Time

	sent, replies        atomic.Int64 // requests; connections if no request is ever whole
	open, mostOpen, lost atomic.Int64 // connections; the lost could not be opened
}

// fooled is what a process of fools did.
type fooled struct{ Sent, Replies, MostOpen, Lost int64 }

// foolMain is a process of fools. It ends with its standard input, or when it is time.
func foolMain(args []string) error {
	var f fools
	flags := flag.NewFlagSet("fool", flag.ExitOnError)
	which := flags.Int("way", 0, "which of the ways")
	flags.StringVar(&f.addr, "addr", "", "the service")
	flags.StringVar(&f.pod, "pod", "", "the address of a pod in rotation")
	n, total := flags.Int("n", 0, "how many at once"), flags.Int("total", 0, "how many connections in all")
	span := flags.Duration("span", 0, "for how long")
	_ = flags.Parse(args) // it exits
	f.way, f.began = ways[*which], time.Now()
	f.n, f.total = *n, *total
	ctx, cancel := context.WithTimeout(context.Background(), *span)
	defer cancel()
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	var all sync.WaitGroup
	for i := range f.n {
		all.Go(func() {
			for k := i; ctx.Err() == nil && (f.total == 0 || k < f.total); k += f.n {
				f.connect(ctx, i, k, *span)
			}
		})
	}
	all.Wait()
	return json.NewEncoder(os.Stdout).Encode(fooled{f.sent.Load(), f.replies.Load(), f.mostOpen.Load(), f.lost.Load()})
}

// connect opens the kth connection, for the ith fool.
func (f *fools) connect(ctx context.Context, i, k int, span time.Duration) {
	source := i
	if f.total > 0 { // evenly over the time, from sixty thousand addresses
		source = k % 60_000
		kube.Pause(ctx, time.Until(f.began.Add(span*time.Duration(k)/time.Duration(f.total))))
	}
	if f.same {
		source = 1
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 9, byte(source>>8), byte(source))}, Timeout: 5 * time.Second}
	if f.tight {
		d.Control = tighten
	}
	c, err := d.DialContext(ctx, "tcp", f.addr)
	if err != nil {
		f.lost.Add(1)
		kube.Pause(ctx, 100*time.Millisecond)
		return
	}
	defer c.Close()
	defer context.AfterFunc(ctx, func() { c.Close() })()
	_ = c.(*net.TCPConn).SetLinger(0) // nothing is left in the kernel
	n := f.open.Add(1)
	defer f.open.Add(-1)
	for most := f.mostOpen.Load(); n > most && !f.mostOpen.CompareAndSwap(most, n); {
		most = f.mostOpen.Load()
	}
	f.do(f, i, c)
	if f.total == 0 {
		kube.Pause(ctx, 200*time.Millisecond) // who is turned away comes again, but not a million times
	}
}

// send sends a request, and says whether it could.
func (f *fools) send(c net.Conn, methodAndPath string) bool {
	_, err := fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: load\r\n\r\n", methodAndPath)
	f.sent.Add(1)
	return err == nil
}

// reply reads an answer, and says whether there was one.
func (f *fools) reply(in *bufio.Reader) bool {
	resp, err := http.ReadResponse(in, nil)
	if err != nil {
		return false
	}
	_, err = io.Copy(io.Discard, resp.Body)
	f.replies.Add(1)
	return err == nil
}

// tighten makes small packets and a small buffer, and with them the peer's buffer small.
func tighten(_, _ string, raw syscall.RawConn) error {
	return raw.Control(func(fd uintptr) {
		_ = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, 4096) // where it cannot be, the load is milder
		_ = syscall.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_MAXSEG, 536)
	})
}

// neverRead sends requests whose answers are large, or many, and reads none. The first ones
// fill the kernel's buffers, so that the server has to wait.
func (f *fools) neverRead(i int, c net.Conn) {
	size := []int{len(unknown), 0}[i%2]
	for sent, query := 0, "ip=nonsense"+unknown[:size]; f.send(c, "GET "+api.DrainDelayPath+"?"+query); sent++ {
		if i%2 == 0 || sent > 200 {
			time.Sleep(100 * time.Millisecond)
		}
	}
}

// Parts of queries. They are made once: to make them anew for each connection would take
// more of the machine than the service does.
var (
	unknown   = names("&x%d=", 900<<10) // as much as net/http takes
	ingresses = names("&ingress=no-%d", 150_000)
)

// names repeats a format with a number until it fills some bytes.
func names(format string, size int) string {
	var b strings.Builder
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, format, i)
	}
	return b.String()
}

// slowHeader sends one header after another, and never the end.
func (f *fools) slowHeader(_ int, c net.Conn) {
	f.sent.Add(1)
	for _, err := io.WriteString(c, "GET /health HTTP/1.1\r\nHost: load\r\n"); err == nil; _, err = io.WriteString(c, "X-Slow: yes\r\n") {
		time.Sleep(500 * time.Millisecond)
	}
}

// idle sends nothing, or after one request nothing more.
func (f *fools) idle(i int, c net.Conn) {
	if i%2 == 0 {
		f.send(c, "GET /health")
		f.reply(bufio.NewReaderSize(c, 512))
	}
	_, _ = io.Copy(io.Discard, c)
}

// longQueries waits for a pod with as many Ingresses as may be named, and with more.
func (f *fools) longQueries(i int, c net.Conn) {
	query := "max-delay=60&ip=" + f.pod + ingresses[:[]int{214, 3900, 15_000, 150_000}[i%4]] // 16 of them, and far more
	f.flood(c, "GET "+api.DrainDelayPath+"?"+query)
}

// distinct asks for a pod that nobody has asked for, and hangs up.
func (f *fools) distinct(i int, c net.Conn) {
	n := f.sent.Load()
	query := fmt.Sprintf("namespace=web&pod=nobody-%d-%d", i, n)
	if i%2 == 0 {
		query = fmt.Sprintf("namespace=web&ip=127.200.%d.%d&settle=%d", n>>8&255, n&255, 1+n>>16)
	}
	if f.send(c, "GET "+api.DrainDelayPath+"?"+query) && i%4 < 2 {
		_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // the others hang up at once
		f.reply(bufio.NewReaderSize(c, 512))
	}
}

// flood makes one request as often as it is answered.
func (f *fools) flood(c net.Conn, methodAndPath string) {
	in := bufio.NewReader(c)
	for f.send(c, methodAndPath) {
		if !f.reply(in) {
			return
		}
	}
}
