package elb

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// order queues tickets with these priorities at once and tells in which order
// they are paid.
func order(l *limiter, prios []class) (paid []int) {
	ch := make(chan int)
	for i, p := range prios {
		t := l.queue(p, time.Time{})
		go func() {
			<-t.ready
			ch <- i
		}()
	}
	for range prios {
		paid = append(paid, <-ch)
	}
	return paid
}

func TestLimiterRateAndBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(5, 10)
		began := time.Now()
		var sent []time.Duration
		for range 100 {
			<-l.queue(cadence, time.Time{}).ready
			sent = append(sent, time.Since(began))
		}
		if sent[9] != 0 || sent[10].Round(ms) != 200*ms || sent[99].Round(ms) != 18*time.Second {
			t.Errorf("the 10th was paid after %v, the 11th after %v, the 100th after %v; want 0, 200ms and 18s", sent[9], sent[10], sent[99])
		}
		time.Sleep(time.Minute) // no more than the burst is saved up
		began = time.Now()
		for range 11 {
			<-l.queue(cadence, time.Time{}).ready
		}
		if took := time.Since(began).Round(ms); took != 200*ms {
			t.Errorf("11 after a long rest took %v, want 200ms", took)
		}
	})
}

func TestLimiterOrder(t *testing.T) {
	const s, n, c = cadence, uncertain, awaited
	for _, tt := range []struct {
		name  string
		prios []class
		want  []int
	}{
		{"first come, first served", []class{s, s, s, s, s, s}, []int{0, 1, 2, 3, 4, 5}},
		{"urgent first", []class{s, n, c}, []int{2, 1, 0}},
		{"every fourth to who waits longest", []class{s, s, n, n, n, n, c, c, c, c}, []int{6, 7, 8, 0, 9, 2, 3, 1, 4, 5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLimiter(10, 1)
				<-l.queue(cadence, time.Time{}).ready
				if got := order(l, tt.prios); !slices.Equal(got, tt.want) {
					t.Errorf("paid in the order %v, want %v", got, tt.want)
				}
			})
		})
	}
	t.Run("raised", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(10, 1)
			<-l.queue(cadence, time.Time{}).ready
			first, second := l.queue(uncertain, time.Time{}), l.queue(cadence, time.Time{})
			second.set(awaited, time.Time{})
			<-second.ready
			select {
			case <-first.ready:
				t.Error("the other one is paid, too")
			default:
			}
			<-first.ready
		})
	})
}

// Urgent tickets without end leave a quarter of the rate to the others.
func TestLimiterStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(10, 1)
		stop := make(chan struct{})
		for range 20 {
			go func() {
				for {
					select {
					case <-l.queue(awaited, time.Time{}).ready:
					case <-stop:
						return
					}
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		for range 10 {
			<-l.queue(cadence, time.Time{}).ready
		}
		// Each waits for the 20 before it at most: four tenths of a second for
		// each of those, as only every fourth token goes by age.
		if took := time.Since(began); took > 10*21*400*ms {
			t.Errorf("ten steady tickets took %v", took)
		}
		close(stop)
	})
}

func TestLimiterCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(1, 1)
		paid := l.queue(cadence, time.Time{})
		waits, next := l.queue(awaited, time.Time{}), l.queue(cadence, time.Time{})
		waits.cancel() // gives up its place, and there is no token to give back
		synctest.Wait()
		select {
		case <-next.ready:
			t.Fatal("a token out of nothing")
		default:
		}
		began := time.Now()
		paid.cancel() // gives its token back
		<-next.ready
		if took := time.Since(began); took != 0 {
			t.Errorf("the token that was given back came after %v", took)
		}
		<-l.queue(cadence, time.Time{}).ready
		if took := time.Since(began).Round(ms); took != time.Second {
			t.Errorf("the next token took %v, want 1s", took)
		}
		time.Sleep(time.Hour)
		full := l.queue(cadence, time.Time{})
		time.Sleep(time.Hour)
		full.cancel() // into a bucket that is full
		began = time.Now()
		<-l.queue(cadence, time.Time{}).ready
		<-l.queue(cadence, time.Time{}).ready
		if took := time.Since(began).Round(ms); took != time.Second {
			t.Errorf("two tokens took %v, want 1s", took)
		}
	})
}

func TestLimiterThrottled(t *testing.T) {
	for _, tt := range []struct {
		full float64
		want []float64 // after each throttling, one a second
	}{
		{6, []float64{3, 1.55, 1, 1}}, // a sixtieth of the full rate comes back in a second
		{0.5, []float64{0.5, 0.5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := newLimiter(tt.full, 10)
			for i, want := range tt.want {
				l.throttled()
				l.throttled() // those of one burst count once
				if got := l.current(); got != want {
					t.Errorf("rate %v after %d throttlings, want %v", got, i+1, want)
				}
				time.Sleep(time.Second)
			}
			time.Sleep(recovery)
			if got := l.current(); got != tt.full {
				t.Errorf("rate %v after a minute, want %v", got, tt.full)
			}
			l.throttled()
			began := time.Now()
			<-l.queue(cadence, time.Time{}).ready
			if time.Since(began) == 0 {
				t.Error("a token was left after a throttling")
			}
		})
	}
}

func TestLimiterResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLimiter(4, 8)
		l.resize(1, 2)
		<-l.queue(cadence, time.Time{}).ready
		<-l.queue(cadence, time.Time{}).ready
		began := time.Now()
		ticket := l.queue(cadence, time.Time{}) // its timer is set for a second from now
		l.resize(10, 2)
		<-ticket.ready
		if took := time.Since(began).Round(ms); took != 100*ms {
			t.Errorf("the token took %v, want 100ms", took)
		}
		l.throttled() // 5 of 10
		l.resize(4, 1)
		if got := l.current(); got != 2 {
			t.Errorf("rate %v, want half of 4", got)
		}
		l.resize(0.5, 1)
		if got := l.current(); got != 0.5 {
			t.Errorf("rate %v, want 0.5: all of what is below the least", got)
		}
	})
}
