package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"
)

// load is clients who send real requests, each to the pod that a node of the
// simulated load balancer chooses.
type load struct {
	stop     context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex // guards the rest
	requests int
	failed   []string // why
}

// rate is how many requests each load sends in a second.
const rate = 50

// startLoad begins to send requests through the load balancer of an application.
func (tb *testbed) startLoad(t *testing.T, a *application) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	// As a load balancer's connection to a target that is not kept alive.
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	l.running.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.running.Go(func() { l.count(tb.request(client, a)) })
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { l.end() })
	return l
}

// request is one client's request. It is not cut where the load ends.
func (tb *testbed) request(client *http.Client, a *application) error {
	var url string
	err := tb.world.Do(context.Background(), "request "+a.name, func() {
		if addr, ok := tb.world.Pick(a.TargetGroup); ok {
			url = "http://" + addr.String() + "/"
		}
	})
	switch {
	case err != nil:
		return err
	case url == "":
		return fmt.Errorf("no target")
	}
	began := time.Now()
	resp, err := client.Get(url)
	if err != nil {
		return fmt.Errorf("at %s: %w", began.Format(time.StampMilli), err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return nil
}

func (l *load) count(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.requests++
	if err != nil {
		l.failed = append(l.failed, err.Error())
	}
}

// end stops the clients and says how many requests they made and why some
// failed.
func (l *load) end() (requests int, failed []string) {
	l.stop()
	l.running.Wait()
	return l.requests, l.failed
}
