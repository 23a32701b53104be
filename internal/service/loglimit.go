package service

import (
	"context"
	"log/slog"
	"maps"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// Limits of the log for each kind of record: its level and its message. The calls that
// anyone can make write two kinds; half a minute of a flood of them is less than 1 MB.
const (
	logBurst = 400 // records at once
	logRate  = 40  // more of them in each second
	logSize  = 256 // bytes of attributes; a record that has more counts as several
	logKinds = 100 // kinds with a limit of their own; others share one
)

// LimitLog passes on to h what is within the limit of its kind. A record tells in
// left_out_before how many of its kind were left out since the one before.
func LimitLog(h slog.Handler) slog.Handler {
	return limitedLog{h, &logLimit{kinds: make(map[logKind]*logAllowance)}}
}

type limitedLog struct {
	slog.Handler
	limit *logLimit
}

// Handle implements [slog.Handler].
func (l limitedLog) Handle(ctx context.Context, r slog.Record) error {
	leftOut, ok := l.limit.allow(logKind{r.Level, r.Message}, weight(r))
	if !ok {
		return nil
	}
	if leftOut > 0 {
		r = r.Clone()
		r.AddAttrs(slog.Int("left_out_before", leftOut))
	}
	return l.Handler.Handle(ctx, r)
}

// WithAttrs implements [slog.Handler].
func (l limitedLog) WithAttrs(attrs []slog.Attr) slog.Handler {
	return limitedLog{l.Handler.WithAttrs(attrs), l.limit}
}

// WithGroup implements [slog.Handler].
func (l limitedLog) WithGroup(name string) slog.Handler {
	return limitedLog{l.Handler.WithGroup(name), l.limit}
}

// weight is how many records of ordinary size a record counts for.
func weight(r slog.Record) int {
	size := 0
	r.Attrs(func(a slog.Attr) bool {
		size += len(a.Key) + len(a.Value.Resolve().String())
		return true
	})
	return min(1+size/logSize, logBurst)
}

type logKind struct {
	level   slog.Level
	message string
}

// logAllowance is what a kind may log.
type logAllowance struct {
	*rate.Limiter
	leftOut int
}

type logLimit struct {
	mu    sync.Mutex // guards kinds; held for a moment only
	kinds map[logKind]*logAllowance
}

// allow says whether a record may pass, and how many were left out since the last one.
func (l *logLimit) allow(kind logKind, weight int) (leftOut int, ok bool) {
	now := time.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	a := l.kinds[kind]
	if a == nil {
		a = l.add(kind, now)
	}
	if a.TokensAt(now) < 1 {
		a.leftOut++
		return 0, false
	}
	leftOut, a.leftOut = a.leftOut, 0
	a.ReserveN(now, weight) // where that is a debt, it is paid first
	return leftOut, true
}

// add makes room for a new kind, which shares the limit of others if there is none.
func (l *logLimit) add(kind logKind, now time.Time) *logAllowance {
	if len(l.kinds) >= logKinds {
		maps.DeleteFunc(l.kinds, func(_ logKind, a *logAllowance) bool {
			return a.TokensAt(now) == logBurst && a.leftOut == 0 // as if it were new
		})
	}
	if len(l.kinds) >= logKinds {
		kind = logKind{}
	}
	if l.kinds[kind] == nil {
		l.kinds[kind] = &logAllowance{Limiter: rate.NewLimiter(logRate, logBurst)}
	}
	return l.kinds[kind]
}
