package kube

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// maxSkew is the largest difference between the API server's clock and ours that
// is corrected. A larger one means that a clock is broken, or that a proxy writes a
// Date of its own; it would end waits at once or never.
const maxSkew = 30 * time.Second

// Clock learns from the Date header of each answer how far the API server's clock
// is from ours. The header has whole seconds, so each answer gives bounds only;
// several answers narrow them.
type Clock struct {
	log    *slog.Logger
	warned atomic.Bool // of a skew that is too large: once

	mu sync.Mutex // guards the rest
	// least and most are the bounds of the API server's time less ours.
	least, most time.Duration
	known       bool
}

// Skew is the API server's clock less ours: zero where the answers so far allow it,
// else the least that they allow. ok is false where it is too large to be used.
func (c *Clock) Skew() (skew time.Duration, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	skew = max(c.least, min(c.most, 0))
	return skew, skew.Abs() <= maxSkew
}

// answered takes in the date of an answer: between sent and received the API
// server's clock showed it, or up to a second more. What contradicts the bounds so
// far replaces them: a clock was set or has drifted.
func (c *Clock) answered(sent, received, date time.Time) {
	// By the wall clock, as date is. A monotonic one would hide that ours was set.
	least, most := date.Sub(received.Round(0)), date.Add(time.Second).Sub(sent.Round(0))
	if least > most {
		return // our clock was set in between
	}
	c.mu.Lock()
	if !c.known || max(c.least, least) > min(c.most, most) {
		c.least, c.most, c.known = least, most, true
	} else {
		c.least, c.most = max(c.least, least), min(c.most, most)
	}
	c.mu.Unlock()
	if skew, ok := c.Skew(); !ok && !c.warned.Swap(true) {
		c.log.Warn("the clock of the API server is too far from ours to correct for it: grace periods are counted from when a pod's deletion is seen; check the clocks",
			"skew", skew)
	}
}
