package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"drainwait/internal/api"
)

// The bounds of what a held wait costs.
const (
	mostHeld      = 48  // KiB of resident memory for each
	mostCollected = 37  // the same after a collection
	mostIdle      = 5   // percent of one core, while nothing happens
	mostLate      = 2   // seconds from when the last answer was due until it was there
	mostPerWait   = 2.1 // goroutines, with some that come and go

	// Where there are few waits, what they share weighs more, and garbage stays for longer.
	mostHeldFew      = 64
	mostCollectedFew = 44
)

// busyGroups is how many groups hold the waiting pods.
const busyGroups = 10

// beyond is how many callers come when there are as many waits as may be.
const beyond = 50

// A heldRun is one row of the table.
type heldRun struct {
	name   string
	groups int
	swept  bool // the waits begin after the sweep
	often  bool // the controller writes no checkpoints, so looks are as frequent as the rate allows
}

// held holds many waits, and measures what they cost and how soon they are answered.
func held(ctx context.Context, o *options) (*table, error) {
	t := &table{
		title: "What a held wait costs, and how soon all are answered when all pods leave at once",
		header: []string{
			"groups", "waits held", "before, MiB", "KiB per wait, held", "after a collection", "goroutines per wait", "CPU idle, % of a core",
			"peak, MiB", "beyond the limit", "answered", "last answer after it was due, s", "first to last, s",
		},
		notes: []string{
			"*Before* is the resident memory without waits. *After a collection* compares what is left of both after forced",
			"collections, without free pages that Go keeps.",
		},
	}
	runs := []heldRun{{"10", 10, true, false}}
	if !o.short {
		runs = append(runs, heldRun{"10, no checkpoints", 10, true, true}, heldRun{"50, before the sweep's end", 50, false, true}, heldRun{"50", 50, true, false})
	}
	for _, r := range runs {
		if !o.only.MatchString("held " + r.name) {
			continue
		}
		row, err := o.held(ctx, r)
		if err != nil {
			return nil, fmt.Errorf("held, %s groups: %w", r.name, err)
		}
		t.rows = append(t.rows, row)
	}
	return t, nil
}

func (o *options) held(ctx context.Context, r heldRun) ([]cell, error) {
	w, err := startWorld(ctx, o, "-stuck", fmt.Sprint("-no-checkpoints=", r.often), fmt.Sprint("-pods=", o.waits+beyond), fmt.Sprint("-groups=", r.groups), fmt.Sprint("-busy=", busyGroups))
	if err != nil {
		return nil, err
	}
	defer w.end()
	args := []string{fmt.Sprint("--max-waits=", o.waits)}
	if !r.swept {
		args = append(args, "--aws-rate=0.2") // or the sweep would be over before the waits are there
	}
	s, err := startServer(ctx, o, w, args...)
	if err != nil {
		return nil, err
	}
	defer s.end()
	if r.swept {
		if err := s.awaitSweep(ctx, r.groups); err != nil {
			return nil, err
		}
	}
	h := &holding{options: o, heldRun: r, world: w, server: s}
	if err := h.measure(ctx); err != nil {
		return nil, fmt.Errorf("%w; the server said: %s", err, s.said())
	}
	return h.row(), nil
}

// holding is one run, and what was measured.
type holding struct {
	*options
	heldRun
	world  *cluster
	server *server

	answers                  []hookAnswer
	inFlight, refused        int
	base, perWait, collected float64
	goroutines, idle         float64
	answered                 int
	latest, firstToLast      time.Duration
	baseRoutines, peak       float64
}

// hookAnswer is what a caller got, and when.
type hookAnswer struct {
	asked, at time.Time
	status    int
	body      []byte
	err       error
}

// drained is the answer, if that is what it says; else nil.
func (a *hookAnswer) drained() *api.Answer {
	body := new(api.Answer)
	if a.err != nil || a.status != http.StatusOK || json.Unmarshal(a.body, body) != nil || body.Outcome != api.Drained {
		return nil
	}
	return body
}

func (h *holding) measure(ctx context.Context) error {
	bare, err := h.server.usage()
	if err != nil {
		return err
	}
	base, err := h.server.collected(ctx)
	if err != nil {
		return err
	}
	h.base = float64(bare.resident) / mebibyte
	m, err := h.server.metrics(ctx)
	if err != nil {
		return err
	}
	h.baseRoutines = m["go_goroutines"]
	h.answers = make([]hookAnswer, h.waits)
	var calls sync.WaitGroup
	calls.Go(func() { callAll(ctx, h.server.hooks, h.answers) })
	if err := h.awaitHeld(ctx); err != nil {
		return err
	}
	if err := h.measureHeld(ctx, bare.resident, base); err != nil {
		return err
	}
	for i := range beyond {
		if call(ctx, h.server.hooks, podAddress(h.waits+i), heldQuery).status == http.StatusServiceUnavailable {
			h.refused++
		}
	}
	if h.swept {
		if _, err := request(ctx, http.MethodPost, h.world.url+"/load/leave"); err != nil {
			return err
		}
	} else {
		h.server.end() // these waits would settle at a call in five seconds
	}
	calls.Wait()
	return h.judge()
}

// heldQuery lets a wait settle for as long as ten groups take to be seen leaving, and more.
const heldQuery = "settle=3s&max-delay=30m"

// callAll makes one call for each pod, some at a time, and returns when all are answered.
func callAll(ctx context.Context, hooks string, answers []hookAnswer) {
	var calls sync.WaitGroup
	for i := range answers {
		calls.Go(func() { answers[i] = call(ctx, hooks, podAddress(i), heldQuery) })
		if i%20 == 0 {
			time.Sleep(10 * time.Millisecond) // two thousand in a second
		}
	}
	calls.Wait()
}

// call makes a hook's call from an address.
func call(ctx context.Context, hooks string, from netip.Addr, query string) (a hookAnswer) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: from.AsSlice()}, Timeout: 10 * time.Second}
	a.asked = time.Now()
	defer func() { a.at = time.Now() }()
	var conn net.Conn
	if conn, a.err = d.DialContext(ctx, "tcp", hooks); a.err != nil {
		return a
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	if _, a.err = fmt.Fprintf(conn, "GET %s?%s HTTP/1.1\r\nHost: load\r\nConnection: close\r\n\r\n", api.DrainDelayPath, query); a.err != nil {
		return a
	}
	var resp *http.Response
	if resp, a.err = http.ReadResponse(bufio.NewReaderSize(conn, 1024), nil); a.err != nil {
		return a
	}
	a.status = resp.StatusCode
	a.body, a.err = io.ReadAll(resp.Body)
	return a
}

// awaitHeld returns when all waits are held, can no longer be refused, and know all that
// they asked for: then the server has little to do. If it has much to do for ever, that is
// measured, and so is what it does before the sweep's end.
func (h *holding) awaitHeld(ctx context.Context) error {
	last := time.Duration(0)
	for calm, tries := 0, 0; calm < 5 && tries < 120; tries++ {
		m, err := h.server.metrics(ctx)
		if err != nil {
			return err
		}
		u, err := h.server.usage()
		if err != nil {
			return err
		}
		h.inFlight = int(m["drain_wait_waits_in_flight"])
		if calm++; h.inFlight != h.waits || h.swept && u.cpu-last > 3*mostIdle*time.Second/100 {
			calm = 0
		}
		last = u.cpu
		time.Sleep(time.Second)
	}
	if h.inFlight != h.waits {
		return fmt.Errorf("%d waits are held, want %d", h.inFlight, h.waits)
	}
	return nil
}

// measureHeld measures while nothing happens.
func (h *holding) measureHeld(ctx context.Context, bare, base int) error {
	span := scaled(h.short, 20*time.Second, 3*time.Second)
	before, err := h.server.usage()
	if err != nil {
		return err
	}
	time.Sleep(span)
	after, err := h.server.usage()
	if err != nil {
		return err
	}
	m, err := h.server.metrics(ctx)
	if err != nil {
		return err
	}
	h.inFlight = int(m["drain_wait_waits_in_flight"])
	n := float64(h.waits)
	h.idle = 100 * (after.cpu - before.cpu).Seconds() / span.Seconds()
	h.goroutines = (m["go_goroutines"] - h.baseRoutines) / n
	h.perWait = float64(after.resident-bare) / 1024 / n
	collected, err := h.server.collected(ctx)
	h.collected = float64(collected-base) / 1024 / n
	h.peak = float64(after.peak) / mebibyte
	return err
}

// judge counts the answers, and measures how late they were.
func (h *holding) judge() error {
	if !h.swept {
		return nil
	}
	var first, last time.Time
	for _, a := range h.answers {
		body := a.drained()
		if body == nil {
			continue
		}
		h.answered++
		if first.IsZero() || a.at.Before(first) {
			first = a.at
		}
		if a.at.After(last) {
			last = a.at
		}
		h.latest = max(h.latest, a.at.Sub(due(a.asked, body)))
	}
	h.firstToLast = last.Sub(first)
	u, err := h.server.usage()
	h.peak = float64(u.peak) / mebibyte
	return err
}

// due is when an answer was due: the settle time after the look that saw the last target
// leave.
func due(asked time.Time, a *api.Answer) (at time.Time) {
	for _, t := range a.Targets {
		for _, step := range t.Timeline {
			seconds := float64(step.AfterSeconds + t.SettleSeconds)
			if left := asked.Add(time.Duration(seconds * float64(time.Second))); step.Event == "left" && left.After(at) {
				at = left
			}
		}
	}
	return at
}

// row is what is printed of the run. Before the sweep's end nothing has a bound.
func (h *holding) row() []cell {
	most := func(bound, short float64) float64 { // an infinite one is none
		return scaled(!h.swept, scaled(h.short, bound, short), math.Inf(1))
	}
	idle := most(mostIdle, math.Inf(1))
	if h.often {
		idle = math.Inf(1)
	}
	row := []cell{
		plain("%s", h.name), exactly(h.inFlight, h.waits), plain("%.1f", h.base),
		bounded(h.perWait, most(mostHeld, mostHeldFew)), bounded(h.collected, most(mostCollected, mostCollectedFew)),
		bounded(h.goroutines, most(mostPerWait, mostPerWait)), bounded(h.idle, idle),
		bounded(h.peak, float64(h.memory)), exactly(h.refused, beyond), plain(""), plain(""), plain(""),
	}
	row[8].text += " × 503"
	if h.swept {
		row[9] = exactly(h.answered, h.waits)
		row[10], row[11] = bounded(h.latest.Seconds(), most(mostLate, math.Inf(1))), plain("%.2f", h.firstToLast.Seconds())
	}
	return row
}
