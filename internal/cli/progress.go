package cli

import (
	"fmt"
	"io"
	"sync"
	"time"

	"drainwait/internal/rollout"
)

// progress tells on a terminal, in one line that rewrites itself, how far the
// demo is; elsewhere it prints a line for each world that is done.
type progress struct {
	out      io.Writer
	terminal bool
	began    time.Time
	total    int
	quit     chan struct{}
	over     sync.WaitGroup

	mu   sync.Mutex // guards done and the writes to out
	done int
}

func newProgress(out io.Writer, total int) *progress {
	p := &progress{out: out, terminal: isTerminal(out), began: time.Now(), total: total, quit: make(chan struct{})}
	if p.terminal {
		p.over.Go(p.tick)
	}
	return p
}

func (p *progress) tick() {
	for frame := 0; ; frame++ {
		p.mu.Lock()
		fmt.Fprintf(p.out, "\r%c %d of %d worlds done, %2.0f s ", `|/-\`[frame%4], p.done, p.total, time.Since(p.began).Seconds())
		p.mu.Unlock()
		select {
		case <-time.After(200 * time.Millisecond):
		case <-p.quit:
			fmt.Fprintf(p.out, "\r%60s\r", "")
			return
		}
	}
}

func (p *progress) finished(r rollout.Result) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if !p.terminal {
		fmt.Fprintf(p.out, "%2d of %d: %s, %s: %d of %d requests failed\n", p.done, p.total, r.Scenario, r.Policy, r.Failed, r.Requests)
	}
}

func (p *progress) stop() {
	close(p.quit)
	p.over.Wait()
}
