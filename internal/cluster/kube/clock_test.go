package kube

import (
	"log/slog"
	"testing"
	"time"
)

func TestClock(t *testing.T) {
	const ms = time.Millisecond
	noon := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	// An answer: when the request was sent and how long it took, by our clock from
	// noon, and how far the API server's was ahead when it wrote the header, half
	// way in between.
	type answer struct{ sent, took, skew time.Duration }
	for _, tt := range []struct {
		name    string
		answers []answer
		want    time.Duration
	}{
		{"nothing seen", nil, 0},
		{"no skew", []answer{{0, 10 * ms, 0}, {700 * ms, 10 * ms, 0}, {1990 * ms, 10 * ms, 0}}, 0},
		{"too little to tell", []answer{{300 * ms, 10 * ms, 400 * ms}}, 0},
		// 12:00:10.305 is written as 12:00:10: at least that, less the time of receipt.
		{"ahead", []answer{{300 * ms, 10 * ms, 10 * time.Second}}, 9690 * ms},
		{"ahead, narrowed", []answer{{300 * ms, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, 10 * time.Second}}, 9990 * ms},
		{"ahead, narrowed in any order", []answer{{5 * time.Second, 10 * ms, 10 * time.Second}, {300 * ms, 10 * ms, 10 * time.Second}}, 9990 * ms},
		// 11:59:50.305 is written as 11:59:50: at most 51, less the time of sending.
		{"behind", []answer{{300 * ms, 10 * ms, -10 * time.Second}}, -9300 * ms},
		{"behind, narrowed", []answer{{300 * ms, 10 * ms, -10 * time.Second}, {5900 * ms, 10 * ms, -10 * time.Second}}, -9900 * ms},
		{"a slow answer tells little", []answer{{0, 20 * time.Second, 5 * time.Second}}, 0},
		{"a slow answer spoils nothing", []answer{{5 * time.Second, 10 * ms, 10 * time.Second}, {6 * time.Second, 20 * time.Second, 10 * time.Second}}, 9990 * ms},
		{"a clock was set", []answer{{0, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, -10 * time.Second}}, -9 * time.Second},
		{"a clock was set right", []answer{{0, 10 * ms, 10 * time.Second}, {5 * time.Second, 10 * ms, 0}}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Clock{log: slog.New(slog.DiscardHandler)}
			for _, a := range tt.answers {
				sent := noon.Add(a.sent)
				c.answered(sent, sent.Add(a.took), sent.Add(a.took/2+a.skew).Truncate(time.Second))
			}
			if got, _ := c.Skew(); got != tt.want {
				t.Errorf("skew %s, want %s", got, tt.want)
			}
		})
	}
	t.Run("our clock was set back amid a request", func(t *testing.T) {
		c := Clock{log: slog.New(slog.DiscardHandler)}
		c.answered(noon, noon.Add(10*ms), noon)
		c.answered(noon.Add(time.Minute), noon.Add(2*time.Second), noon.Add(time.Minute))
		if got, _ := c.Skew(); got != 0 {
			t.Errorf("skew %s, want 0", got)
		}
	})
}
