package limiter

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

// TestWhoGivesUpCostsNothing: the token of a caller that has gone goes to the next one.
func TestWhoGivesUpCostsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(1, 1)
		<-l.Queue(Urgency{}).Paid()
		ctx, cancel := context.WithTimeout(t.Context(), 100*ms)
		defer cancel()
		if err := l.Queue(Urgency{}).Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("error %v", err)
		}
		began := time.Now()
		<-l.Queue(Urgency{}).Paid()
		if took := time.Since(began).Round(ms); took != 900*ms {
			t.Errorf("paid after %s, want 900ms", took)
		}
	})
}
