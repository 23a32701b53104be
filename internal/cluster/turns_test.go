package cluster

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// asker asks the API server for pods that are not there, by name, as hooks and strangers do.
type asker struct {
	*world
	running sync.WaitGroup
}

// ask asks once in the background, and notes in took how long that took.
func (a *asker) ask(caller netip.Addr, name string, took *time.Duration) {
	a.running.Go(func() {
		began := time.Now()
		_, err := a.Identify(a.t.Context(), PodRef{Namespace: "default", Pod: name, Caller: caller})
		if !errors.Is(err, ErrNoPod) {
			a.t.Errorf("%s: %v", name, err)
		}
		*took = time.Since(began)
	})
}

// Strangers with ever new names cost the API server no more than a rate, and an honest
// caller among them does not wait.
func TestLiveReadsGoInTurn(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		a := &asker{world: w}
		const strangers, perSecond, seconds = 8, 4000, 5
		var honest time.Duration
		for i := range perSecond * seconds {
			if i%(perSecond/100) == 0 {
				w.pass(10 * time.Millisecond)
			}
			if i == perSecond*seconds*9/10 { // when what was saved up is spent
				a.ask(netip.MustParseAddr("10.0.0.1"), "honest", &honest)
			}
			a.ask(netip.AddrFrom4([4]byte{192, 0, 2, byte(i % strangers)}), fmt.Sprint("name-", i), new(time.Duration))
		}
		if n := w.Kube.Requests()["get pods"]; n > readBurst+readRate*(seconds+1) || n < readRate*seconds {
			t.Errorf("%d reads", n)
		}
		if honest == 0 || honest > 250*time.Millisecond {
			t.Errorf("the honest caller was answered after %s", honest)
		}
		w.pass(time.Minute) // so that all are answered
		a.running.Wait()
		if q := w.reading; len(q.queues)+len(q.order) > 0 {
			t.Errorf("left: %d callers", len(q.order))
		}
	})
}

// Ten thousand waits that begin at once are all identified while they may still be refused.
func TestLiveReadsOfACrowd(t *testing.T) {
	inIndexed(t, Config{}, "", func(t *testing.T, w *world) {
		a := &asker{world: w}
		took := make([]time.Duration, 10_000)
		for i := range took {
			a.ask(netip.AddrFrom4([4]byte{10, 1, byte(i / 256), byte(i)}), fmt.Sprint("name-", i), &took[i])
		}
		w.pass(2 * time.Second)
		for i, d := range took {
			if d == 0 {
				t.Fatalf("wait %d is not identified within two seconds", i)
			}
		}
		a.running.Wait()
	})
}

// A turn that has come and is not needed goes to the next.
func TestTurnThatIsNotNeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		q := newTurns(1, 1)
		first, next := q.queue(netip.MustParseAddr("10.0.0.1")), q.queue(netip.MustParseAddr("10.0.0.2"))
		<-first.come
		q.giveUp(first)
		select {
		case <-next.come:
		default:
			t.Error("the next one waits")
		}
	})
}
