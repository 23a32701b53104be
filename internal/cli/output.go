package cli

import (
	"encoding/json"
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

// printJSON prints a value for programs to read.
func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// showStatus tells on a terminal, in one line that rewrites itself, what is going on and
// for how long, until stop is called once; elsewhere it does nothing.
func showStatus(out io.Writer, text func() string) (stop func()) {
	if !isTerminal(out) {
		return func() {}
	}
	began, quit := time.Now(), make(chan struct{})
	var over sync.WaitGroup
	over.Go(func() {
		for frame := 0; ; frame++ {
			fmt.Fprintf(out, "\r%c %s, %.0f s ", `|/-\`[frame%4], text(), time.Since(began).Seconds())
			select {
			case <-time.After(200 * time.Millisecond):
			case <-quit:
				fmt.Fprint(out, "\r\x1b[K")
				return
			}
		}
	})
	return func() { close(quit); over.Wait() }
}
