package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"drainwait/internal/sim/aws"
)

const mebibyte = 1 << 20

// manifestMemory is the memory limit in a manifest and the GOMEMLIMIT, in MiB. Without
// one, the latter is the same as the limit.
func manifestMemory(manifest string) (limit, goMem int, err error) {
	m := regexp.MustCompile(`limits:.*\s+memory: (\d+)Mi\b`).FindStringSubmatch(manifest)
	if m == nil {
		return 0, 0, errors.New("the manifest has no memory limit in Mi")
	}
	limit, _ = strconv.Atoi(m[1]) // digits
	goMem = limit
	if m := regexp.MustCompile(`name: GOMEMLIMIT\s+value: "?(\d+)MiB`).FindStringSubmatch(manifest); m != nil {
		goMem, _ = strconv.Atoi(m[1])
	}
	return limit, goMem, nil
}

// cluster is a process with a simulated cluster and account.
type cluster struct {
	url string
	dir string
	end func()
}

// startWorld starts this program as a world.
func startWorld(ctx context.Context, o *options, args ...string) (*cluster, error) {
	cmd := exec.CommandContext(ctx, "/proc/self/exe", append([]string{"world"}, args...)...)
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe() // it ends with this process
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the world: %w", err)
	}
	c := &cluster{dir: o.dir, end: func() { stdin.Close(); _ = cmd.Wait() }}
	line, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		c.end()
		return nil, fmt.Errorf("the world did not start: %w", err)
	}
	c.url = strings.TrimSpace(line)
	config := fmt.Sprintf(`{apiVersion: v1, kind: Config, current-context: load, users: [{name: load, user: {}}],
clusters: [{name: load, cluster: {server: %q}}], contexts: [{name: load, context: {cluster: load, user: load}}]}`, c.url)
	return c, os.WriteFile(c.kubeconfig(), []byte(config), 0o600)
}

func (c *cluster) kubeconfig() string { return filepath.Join(c.dir, "kubeconfig") }

// counts are what the world has seen so far.
func (c *cluster) counts(ctx context.Context) (n counts, err error) {
	body, err := request(ctx, http.MethodGet, c.url+"/load/counts")
	if err != nil {
		return n, err
	}
	return n, json.Unmarshal(body, &n)
}

// request makes one request; any status but 200 is an error.
func request(ctx context.Context, method, url string) ([]byte, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s: %.200s", method, url, resp.Status, body)
	}
	return body, err
}

// server is a process of the service.
type server struct {
	cmd          *exec.Cmd
	log          *os.File
	hooks, admin string // addresses
}

// said is the beginning of the server's log.
func (s *server) said() string {
	text := make([]byte, 4000)
	n, _ := s.log.ReadAt(text, 0) // there may be less, or nothing
	return string(text[:n])
}

// logged is how much the server has logged, in kB.
func (s *server) logged() float64 {
	info, err := s.log.Stat()
	if err != nil {
		return math.NaN()
	}
	return float64(info.Size()) / 1000
}

// startServer starts the service, and returns when it is ready.
func startServer(ctx context.Context, o *options, c *cluster, args ...string) (*server, error) {
	log, err := os.Create(filepath.Join(o.dir, "log"))
	if err != nil {
		return nil, err
	}
	s := &server{log: log}
	s.cmd = exec.CommandContext(ctx, o.server(), append([]string{
		"serve", "--listen-address=127.0.0.1:0", "--admin-address=127.0.0.1:0", "--pprof",
		"--kubeconfig=" + c.kubeconfig(), "--aws-region=" + aws.Region,
	}, args...)...)
	s.cmd.Env = append(os.Environ(), fmt.Sprintf("GOMEMLIMIT=%dMiB", o.goMem), "AWS_ENDPOINT_URL="+c.url,
		"AWS_ACCESS_KEY_ID="+aws.AccessKeyID, "AWS_SECRET_ACCESS_KEY="+aws.SecretAccessKey, "AWS_CONFIG_FILE=/dev/null")
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the server: %w", err)
	}
	serving := regexp.MustCompile(`"msg":"serving","hooks":"([^"]*)","admin":"([^"]*)"`)
	for range 600 {
		if m := serving.FindStringSubmatch(s.said()); m != nil {
			s.hooks, s.admin = m[1], m[2]
			if _, err := request(ctx, http.MethodGet, "http://"+s.admin+"/readyz"); err == nil {
				return s, nil
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	s.end()
	return nil, fmt.Errorf("the server does not get ready; it said: %s", s.said())
}

func (s *server) end() {
	_ = s.cmd.Process.Kill() // it may be dead
	_ = s.cmd.Wait()
	s.log.Close()
}

// usage is what a process uses.
type usage struct {
	resident, peak int // in bytes
	cpu            time.Duration
}

func (s *server) usage() (usage, error) {
	dir := fmt.Sprintf("/proc/%d/", s.cmd.Process.Pid)
	status, err := os.ReadFile(dir + "status")
	if err != nil {
		return usage{}, err
	}
	stat, err := os.ReadFile(dir + "stat")
	if err != nil {
		return usage{}, err
	}
	return parseUsage(string(status), string(stat))
}

// tick is the unit of CPU time in /proc: USER_HZ is 100 on every architecture that Go has.
const tick = 10 * time.Millisecond

// parseUsage reads the texts of a process's status and stat in /proc.
func parseUsage(status, stat string) (u usage, err error) {
	for name, to := range map[string]*int{"VmRSS": &u.resident, "VmHWM": &u.peak} {
		_, rest, _ := strings.Cut(status, "\n"+name+":")
		kib, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]))
		if err != nil {
			return u, fmt.Errorf("%s is missing: has the process ended?", name)
		}
		*to = kib << 10
	}
	fields := strings.Fields(stat[strings.LastIndex(stat, ")")+1:]) // from the third one on: the second may contain spaces
	if len(fields) < 13 {
		return u, errors.New("the CPU time is missing")
	}
	for _, f := range fields[11:13] { // utime, stime
		ticks, err := strconv.Atoi(f)
		if err != nil {
			return u, fmt.Errorf("read the CPU time: %w", err)
		}
		u.cpu += time.Duration(ticks) * tick
	}
	return u, nil
}

// metrics are the server's own, each summed over its labels.
func (s *server) metrics(ctx context.Context) (map[string]float64, error) {
	text, err := request(ctx, http.MethodGet, "http://"+s.admin+"/metrics")
	if err != nil {
		return nil, err
	}
	sums := make(map[string]float64)
	for line := range strings.Lines(string(text)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if i := strings.LastIndex(line, "} "); i >= 0 {
			name, value = line[:strings.Index(line, "{")], strings.TrimSpace(line[i+2:])
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return nil, fmt.Errorf("read the metric %q: %w", line, err)
		}
		sums[name] += v
	}
	return sums, nil
}

// collected is the server's resident memory once everything is given back that it does not
// need: after forced collections, without the free pages that Go keeps for later. A call of
// debug.FreeOSMemory in the server would leave the same. The two figures are not of one
// instant, so that the least of some counts.
func (s *server) collected(ctx context.Context) (least int, err error) {
	least = math.MaxInt
	for range 4 {
		if _, err := request(ctx, http.MethodGet, "http://"+s.admin+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, fmt.Errorf("force a collection: %w", err)
		}
		m, err := s.metrics(ctx)
		if err != nil {
			return 0, err
		}
		u, err := s.usage()
		if err != nil {
			return 0, err
		}
		least = min(least, u.resident-int(m["go_memstats_heap_idle_bytes"]-m["go_memstats_heap_released_bytes"]))
	}
	return least, nil
}

// awaitSweep returns when the server has asked AWS about each group, and then nothing for
// longer than the sweep pauses.
func (s *server) awaitSweep(ctx context.Context, groups int) error {
	const calls = "drain_wait_aws_calls_total"
	last, calm := -1.0, 0
	for range 600 {
		m, err := s.metrics(ctx)
		if err != nil {
			return err
		}
		if calm++; m[calls] != last || int(last) < groups {
			last, calm = m[calls], 0
		}
		if calm == 3 {
			return nil
		}
		time.Sleep(500 * time.Millisecond)
	}
	return errors.New("the sweep does not end")
}
