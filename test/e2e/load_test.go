package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"drainwait/internal/sim/aws"
)

// load is a set of clients that send real requests. Each request goes to the pod that a
// node of the simulated load balancer chooses.
type load struct {
	stop     context.CancelFunc
	running  sync.WaitGroup
	mu       sync.Mutex // guards the rest
	requests int
	failed   []error // why
}

// rate is how many requests each load sends per second.
const rate = 50

// startLoad begins to send requests through the load balancer of a target group.
func (tb *testbed) startLoad(t *testing.T, g *aws.TargetGroup) *load {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	l := &load{stop: cancel}
	// As if a load balancer did not keep its connection to a target alive.
	client := &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	l.running.Go(func() {
		tick := time.NewTicker(time.Second / rate)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				l.running.Go(func() { l.count(tb.request(client, g)) })
			case <-ctx.Done():
				return
			}
		}
	})
	t.Cleanup(func() { l.end() })
	return l
}

// errNoTarget is a request that reached no pod because the load balancer knows none.
var errNoTarget = errors.New("no target")

// request is one client's request. It is not cut when the load ends.
func (tb *testbed) request(client *http.Client, g *aws.TargetGroup) error {
	var url string
	err := tb.world.Do(context.Background(), "request "+g.ARN(), func() {
		if addr, ok := tb.world.AWS.Pick(g); ok {
			url = "http://" + addr.String() + "/"
		}
	})
	switch {
	case err != nil:
		return err
	case url == "":
		return errNoTarget
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
		l.failed = append(l.failed, err)
	}
}

// end stops the clients. It says how many requests they made, and why some failed.
func (l *load) end() (requests int, failed []error) {
	l.stop()
	l.running.Wait()
	return l.requests, l.failed
}
