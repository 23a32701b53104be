package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"os/exec"
	"slices"
	"sync"
	"time"

	"drainwait/internal/cluster/kube"
	"drainwait/internal/elb"
)

// The bounds under each hostile load.
const (
	mostReady   = 100     // milliseconds: the readiness probe's p99
	mostHonest  = 250     // milliseconds: an honest caller's p99, if twice the quiet one is less
	mostLogged  = 1000    // kB of log
	endOfServer = 3 << 30 // bytes: a server that needs more is stopped, for the machine's sake
)

// The bounds of calls to the API server are the service's own, in internal/cluster: reads of
// pods, and 25 calls a second for lists of the namespace.
const (
	kubeRate  = 500 + 25
	kubeBurst = 9500
)

// The honest callers: now and then a group loses some pods at once, in an ordinary way.
const (
	honestGroups = 4
	honestBatch  = 5
	honestEvery  = time.Second
	honestSettle = time.Second
)

// siege is the world and the pods that are left in it.
type siege struct {
	*options
	world  *cluster
	server *server // with -short one for all loads, which saves time
	next   int     // the next pod to be deleted
	pod    int     // one that stays in rotation
	quiet  float64 // an honest caller's p99 without a load, in milliseconds
}

// hostile serves honest callers beside one kind of fools after another.
func hostile(ctx context.Context, o *options) (*table, error) {
	t := &table{
		title: "Beside hostile callers",
		header: []string{
			"load", "sent, answered, most open, lost", "/readyz p99, ms", "not ready", "panics", "honest callers", "their p99, ms", "peak, MiB",
			"calls to AWS", "calls to the API server", "log, kB",
		},
		notes: []string{
			fmt.Sprintf("An honest caller is a pod that is deleted: every second, %d of one group. Its time counts from when AWS was told that", honestBatch),
			"it leaves, less the settle time. Each load has a server of its own, except with -short.",
		},
	}
	s := &siege{options: o}
	chosen := slices.DeleteFunc(slices.Clone(ways), func(w way) bool { return w.do != nil && !o.only.MatchString("hostile "+w.name) })
	if len(chosen) == 1 {
		return t, nil
	}
	if o.short { // no time is compared with the quiet one
		chosen = chosen[1:]
	}
	seconds := 0
	for _, w := range chosen {
		seconds += o.seconds(w)
	}
	s.pod = honestBatch * honestGroups * (seconds/honestGroups + 1)
	var err error
	if s.world, err = startWorld(ctx, o, fmt.Sprint("-pods=", s.pod+1), fmt.Sprint("-groups=", honestGroups), fmt.Sprint("-busy=", honestGroups)); err != nil {
		return nil, err
	}
	defer s.world.end()
	defer func() {
		if s.server != nil {
			s.server.end()
		}
	}()
	for _, w := range chosen {
		row, err := s.endure(ctx, w)
		if err != nil {
			return nil, fmt.Errorf("hostile, %s: %w", w.name, err)
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

func (o *options) seconds(w way) int { return scaled(o.short, w.span, 3) }

// prepare starts a server, or keeps the one that there is.
func (s *siege) prepare(ctx context.Context) (err error) {
	if s.server != nil {
		if s.short {
			return nil
		}
		s.server.end()
	}
	if s.server, err = startServer(ctx, s.options, s.world); err != nil {
		return err
	}
	return s.server.awaitSweep(ctx, honestGroups)
}

// endure serves honest callers beside fools of one kind.
func (s *siege) endure(ctx context.Context, w way) ([]cell, error) {
	if err := s.prepare(ctx); err != nil {
		return nil, err
	}
	before, err := s.world.counts(ctx)
	if err != nil {
		return nil, err
	}
	began, logged, span := time.Now(), s.server.logged(), time.Duration(s.seconds(w))*time.Second
	loaded, cancel := context.WithTimeout(ctx, span)
	defer cancel()
	var probes []time.Duration
	var unready, peak int
	var honest map[netip.Addr]hookAnswer
	var did fooled
	var foolish error
	var all sync.WaitGroup
	all.Go(func() { did, foolish = s.sendFools(ctx, w, span) })
	all.Go(func() { probes, unready = probe(loaded, s.server) })
	all.Go(func() { honest = s.deploy(ctx, span) })
	all.Go(func() { peak = s.server.guard(loaded) })
	all.Wait()
	after, err := s.world.counts(ctx)
	m, _ := s.server.metrics(ctx) // a dead server shows in the other figures
	if err = errors.Join(err, foolish); err != nil {
		return nil, err
	}
	late, failed := overdue(honest, after.Deregistered)
	if w.do == nil {
		s.quiet = p99(late)
	}
	most := func(bound float64) float64 { return scaled(s.short, bound, math.Inf(1)) }
	served := plain("%d ok", len(honest))
	if failed > 0 {
		served = cell{fmt.Sprintf("%d of %d FAILED", failed, len(honest)), true}
	}
	rate, lasted := elb.DefaultConfig(), time.Since(began).Seconds()
	return []cell{
		plain("%s", w.name), plain("%d, %d, %d, %d", did.Sent, did.Replies, did.MostOpen, did.Lost),
		bounded(p99(probes), most(mostReady)), exactly(unready, 0), exactly(int(m["drain_wait_panics_total"]), 0), served, bounded(p99(late), most(max(2*s.quiet, mostHonest))),
		bounded(float64(peak)/mebibyte, float64(s.memory)),
		bounded(float64(after.AWS-before.AWS), math.Ceil(rate.Rate*lasted)+float64(rate.Burst)),
		bounded(float64(after.Kube-before.Kube), math.Ceil(kubeRate*lasted)+kubeBurst),
		bounded(s.server.logged()-logged, mostLogged),
	}, nil
}

// sendFools runs a process of fools to its end.
func (s *siege) sendFools(ctx context.Context, w way, span time.Duration) (did fooled, err error) {
	if w.do == nil {
		return did, nil
	}
	which := slices.IndexFunc(ways, func(x way) bool { return x.name == w.name })
	cmd := exec.CommandContext(ctx, "/proc/self/exe", "fool", fmt.Sprint("-way=", which), "-addr="+s.server.hooks,
		"-pod="+podAddress(s.pod).String(), fmt.Sprint("-n=", s.scale(w.n)), fmt.Sprint("-total=", w.total*s.seconds(w)/w.span),
		fmt.Sprint("-span=", span))
	var out, said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &said
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return did, err
	}
	defer stdin.Close()
	if err := cmd.Run(); err != nil {
		return did, fmt.Errorf("fools: %w: %.1000s", err, said.String())
	}
	return did, json.Unmarshal(out.Bytes(), &did)
}

// probe asks whether the server is ready as kubelets do, but far more often, and says how
// long each answer took, five seconds at most, and how many were not "ready".
func probe(ctx context.Context, s *server) (took []time.Duration, unready int) {
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for ctx.Err() == nil {
		began := time.Now()
		resp, err := client.Get("http://" + s.admin + "/readyz")
		took = append(took, time.Since(began))
		if err == nil {
			resp.Body.Close()
		}
		if err != nil || resp.StatusCode != http.StatusOK {
			unready++
		}
		kube.Pause(ctx, 20*time.Millisecond)
	}
	return took, unready
}

// guard watches the server's memory, and stops a server that needs far too much. It returns
// the peak, in bytes.
func (s *server) guard(ctx context.Context) (peak int) {
	for ctx.Err() == nil {
		u, err := s.usage()
		if err != nil {
			return peak // it is dead
		}
		if peak = u.peak; u.resident > endOfServer {
			_ = s.cmd.Process.Kill()
			return peak
		}
		kube.Pause(ctx, 100*time.Millisecond)
	}
	return peak
}

// deploy deletes pods for as long as that, calls as their hooks do, and returns what each
// got.
func (s *siege) deploy(ctx context.Context, span time.Duration) map[netip.Addr]hookAnswer {
	ctx, cancel := context.WithTimeout(ctx, span+30*time.Second)
	defer cancel()
	got := make(map[netip.Addr]hookAnswer)
	var mu sync.Mutex // guards got
	var calls sync.WaitGroup
	for end := time.Now().Add(span - honestEvery); time.Now().Before(end); kube.Pause(ctx, honestEvery) {
		group := s.next / honestBatch % honestGroups
		first := s.next / (honestBatch * honestGroups) * honestBatch // of those that the group has left
		s.next += honestBatch
		for k := range honestBatch {
			n := group + honestGroups*(first+k)
			calls.Go(func() {
				var a hookAnswer
				if _, a.err = request(ctx, http.MethodDelete, s.world.url+"/api/v1/namespaces/"+namespace+"/pods/"+podName(n)); a.err == nil {
					a = call(ctx, s.server.hooks, podAddress(n), fmt.Sprint("settle=", honestSettle))
				}
				mu.Lock()
				got[podAddress(n)] = a
				mu.Unlock()
			})
		}
	}
	calls.Wait()
	return got
}

// overdue is how long after its settle time each honest caller was answered, and how many
// were not told that they are drained.
func overdue(got map[netip.Addr]hookAnswer, deregistered map[netip.Addr]time.Time) (late []time.Duration, failed int) {
	for pod, a := range got {
		left, known := deregistered[pod]
		if a.drained() == nil || !known {
			failed++
			continue
		}
		late = append(late, a.at.Sub(left)-honestSettle)
	}
	return late, failed
}
