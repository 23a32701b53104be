package limiter

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

const ms = time.Millisecond

// order queues tickets of those urgencies at once and tells in which order they
// are paid.
func order(l *Limiter, urgencies []Urgency) (paid []int) {
	ch := make(chan int)
	for i, u := range urgencies {
		t := l.Queue(u)
		go func() {
			<-t.ready
			ch <- i
		}()
	}
	for range urgencies {
		paid = append(paid, <-ch)
	}
	return paid
}

func TestRateAndBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(5, 10)
		began := time.Now()
		var sent []time.Duration
		for range 100 {
			<-l.Queue(Urgency{Class: Cadence}).ready
			sent = append(sent, time.Since(began))
		}
		if sent[9] != 0 || sent[10].Round(ms) != 200*ms || sent[99].Round(ms) != 18*time.Second {
			t.Errorf("the 10th was paid after %v, the 11th after %v, the 100th after %v; want 0, 200ms and 18s", sent[9], sent[10], sent[99])
		}
		time.Sleep(time.Minute) // no more than the burst is saved up
		began = time.Now()
		for range 11 {
			<-l.Queue(Urgency{Class: Cadence}).ready
		}
		if took := time.Since(began).Round(ms); took != 200*ms {
			t.Errorf("11 after a long rest took %v, want 200ms", took)
		}
	})
}

func TestOrder(t *testing.T) {
	u, c, m, s := Urgency{Class: Question}, Urgency{Class: Cadence}, Urgency{Class: Calm}, Urgency{Class: Sweep}
	by := func(seconds int64) Urgency { return Urgency{Awaited, time.Unix(seconds, 0)} }
	for _, tt := range []struct {
		name string
		all  []Urgency
		want []int
	}{
		{"first come, first served", []Urgency{c, c, c, c, c, c}, []int{0, 1, 2, 3, 4, 5}},
		{"urgent first", []Urgency{c, u, by(1)}, []int{2, 1, 0}},
		{"all classes", []Urgency{s, m, c, u}, []int{3, 2, 1, 0}},
		{"earliest deadline first", []Urgency{by(3), by(1), by(2)}, []int{1, 2, 0}},
		{"every fourth to who waits longest", []Urgency{c, c, u, u, u, u, by(1), by(1), by(1), by(1)}, []int{6, 7, 8, 0, 9, 2, 3, 1, 4, 5}},
		{"the sweep excepted", []Urgency{s, s, u, u, u, u, by(1), by(1), by(1)}, []int{6, 7, 8, 2, 3, 4, 5, 0, 1}},
		{"the calm for a time", []Urgency{m, m, u, u, u, u, by(1), by(1), by(1)}, []int{6, 7, 8, 2, 3, 4, 5, 0, 1}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := New(10, 1)
				<-l.Queue(c).ready
				if got := order(l, tt.all); !slices.Equal(got, tt.want) {
					t.Errorf("paid in the order %v, want %v", got, tt.want)
				}
			})
		})
	}
	t.Run("the calm after a time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := New(0.01, 1)
			<-l.Queue(c).ready
			old := l.Queue(m)
			time.Sleep(patience + time.Second)
			l.Resize(10, 1)
			if got := order(l, []Urgency{u, u, u, u, u}); len(got) != 5 {
				t.Fatal(got)
			}
			select {
			case <-old.ready:
			default:
				t.Error("it waits on")
			}
		})
	})
	t.Run("raised", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			l := New(10, 1)
			<-l.Queue(Urgency{Class: Cadence}).ready
			first, second := l.Queue(Urgency{Class: Question}), l.Queue(Urgency{Class: Cadence})
			second.Set(Urgency{Class: Awaited})
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
func TestStarvesNobody(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(10, 1)
		stop := make(chan struct{})
		for range 20 {
			go func() {
				for {
					select {
					case <-l.Queue(Urgency{Class: Awaited}).ready:
					case <-stop:
						return
					}
				}
			}()
		}
		synctest.Wait()
		began := time.Now()
		for range 10 {
			<-l.Queue(Urgency{Class: Cadence}).ready
		}
		// Each waits for the 20 before it at most: four tenths of a second for
		// each of those, as only every fourth token goes by age.
		if took := time.Since(began); took > 10*21*400*ms {
			t.Errorf("ten steady tickets took %v", took)
		}
		close(stop)
	})
}

func TestCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 1)
		paid := l.Queue(Urgency{Class: Cadence})
		waits, next := l.Queue(Urgency{Class: Awaited}), l.Queue(Urgency{Class: Cadence})
		waits.Cancel() // gives up its place, and there is no token to give back
		synctest.Wait()
		select {
		case <-next.ready:
			t.Fatal("a token out of nothing")
		default:
		}
		began := time.Now()
		paid.Cancel() // gives its token back
		<-next.ready
		if took := time.Since(began); took != 0 {
			t.Errorf("the token that was given back came after %v", took)
		}
		<-l.Queue(Urgency{Class: Cadence}).ready
		if took := time.Since(began).Round(ms); took != time.Second {
			t.Errorf("the next token took %v, want 1s", took)
		}
		time.Sleep(time.Hour)
		full := l.Queue(Urgency{Class: Cadence})
		time.Sleep(time.Hour)
		full.Cancel() // into a bucket that is full
		began = time.Now()
		<-l.Queue(Urgency{Class: Cadence}).ready
		<-l.Queue(Urgency{Class: Cadence}).ready
		if took := time.Since(began).Round(ms); took != time.Second {
			t.Errorf("two tokens took %v, want 1s", took)
		}
	})
}

func BenchmarkGrant(b *testing.B) {
	l := New(0.001, 1)
	<-l.Queue(Urgency{}).ready
	for range 10_000 {
		l.Queue(Urgency{Class: Cadence})
	}
	for b.Loop() {
		l.mu.Lock()
		l.tokens = 1
		l.waiting = append(l.waiting, &Ticket{l: l, urgency: Urgency{Class: Cadence}, ready: make(chan struct{})})
		l.grant()
		l.mu.Unlock()
	}
}

func TestThrottled(t *testing.T) {
	for _, tt := range []struct {
		full float64
		want []float64 // after each throttling, one a second
	}{
		{6, []float64{3, 1.55, 1, 1}}, // a sixtieth of the full rate comes back in a second
		{0.5, []float64{0.5, 0.5}},
	} {
		synctest.Test(t, func(t *testing.T) {
			l := New(tt.full, 10)
			for i, want := range tt.want {
				l.Throttle()
				l.Throttle() // those of one burst count once
				if got := l.Rate(); got != want {
					t.Errorf("rate %v after %d throttlings, want %v", got, i+1, want)
				}
				time.Sleep(time.Second)
			}
			time.Sleep(recovery)
			if got := l.Rate(); got != tt.full {
				t.Errorf("rate %v after a minute, want %v", got, tt.full)
			}
			l.Throttle()
			began := time.Now()
			<-l.Queue(Urgency{Class: Cadence}).ready
			if time.Since(began) == 0 {
				t.Error("a token was left after a throttling")
			}
		})
	}
}

func TestResize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(4, 8)
		l.Resize(1, 2)
		<-l.Queue(Urgency{Class: Cadence}).ready
		<-l.Queue(Urgency{Class: Cadence}).ready
		began := time.Now()
		ticket := l.Queue(Urgency{Class: Cadence}) // its timer is set for a second from now
		l.Resize(10, 2)
		<-ticket.ready
		if took := time.Since(began).Round(ms); took != 100*ms {
			t.Errorf("the token took %v, want 100ms", took)
		}
		l.Throttle() // 5 of 10
		l.Resize(4, 1)
		if got := l.Rate(); got != 2 {
			t.Errorf("rate %v, want half of 4", got)
		}
		l.Resize(0.5, 1)
		if got := l.Rate(); got != 0.5 {
			t.Errorf("rate %v, want 0.5: all of what is below the least", got)
		}
	})
}
