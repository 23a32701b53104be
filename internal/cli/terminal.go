package cli

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"golang.org/x/term"
)

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// statusLine shows on a terminal what is going on and for how long, in one line that
// rewrites itself. If the output is not a terminal, it does nothing.
type statusLine struct {
	out  io.Writer
	quit chan struct{}
	over sync.WaitGroup
}

func newStatusLine(out io.Writer, text func() string) *statusLine {
	l := &statusLine{out: out, quit: make(chan struct{})}
	if isTerminal(out) {
		l.over.Go(func() { l.tick(text) })
	}
	return l
}

func (l *statusLine) tick(text func() string) {
	began := time.Now()
	for frame := 0; ; frame++ {
		fmt.Fprintf(l.out, "\r%c %s, %.0f s ", `|/-\`[frame%4], text(), time.Since(began).Seconds())
		select {
		case <-time.After(200 * time.Millisecond):
		case <-l.quit:
			fmt.Fprint(l.out, "\r\x1b[K")
			return
		}
	}
}

// stop removes the line. Call it once.
func (l *statusLine) stop() {
	close(l.quit)
	l.over.Wait()
}
