package main

import "time"

// patience is how long a hook goes on without an answer.
type patience struct {
	began time.Time
	limit deadline // of --max-delay

	// trouble is when it ends where nobody answers: a fallback after it began or
	// was last held, or, once a wait was cut, at the end of that wait's budget.
	trouble deadline
	cut     bool
}

func newPatience(maxDelay, fallback time.Duration) *patience {
	now := time.Now()
	return &patience{began: now, limit: after(now, maxDelay), trouble: after(now, fallback)}
}

// renew takes in that a question came to nothing. It says whether that is a new
// trouble, and not the one before that goes on.
//
// A break of a connection that held the hook is one, and so is whatever else came
// in place of an answer after a hold. What comes sooner is none: a proxy that
// cannot reach the service would keep the hook for ever.
func (p *patience) renew(t *trouble, fallback time.Duration) bool {
	held := !t.sent.IsZero() && time.Since(t.sent) > longestRefusal
	switch {
	case t.budget > 0 && p.cut:
		p.trouble = earlier(p.trouble, after(t.sent, t.budget)) // it waits once, not twice
	case t.budget > 0:
		p.trouble, p.cut = after(t.sent, t.budget), true
		return true
	case held && !p.cut:
		p.trouble = after(time.Now(), fallback)
	}
	return held
}

// end is when the hook ends where nobody answers until then.
func (p *patience) end() deadline { return earlier(p.limit, p.trouble) }

// fallBack is when it ends where the service cannot help.
func (p *patience) fallBack(fallback time.Duration) time.Time {
	end := earlier(p.limit, after(time.Now(), fallback))
	if p.cut {
		end = earlier(end, p.trouble)
	}
	return end.at
}

// connectBy is when a connection has to stand. A short fallback, or none, leaves
// a second for it all the same.
func (p *patience) connectBy() time.Time {
	by := p.end().giveUp()
	if least := p.began.Add(time.Second); by.Before(least) {
		by = least
	}
	return by
}

// answerBy is when an answer has to be there. The pod's grace period bounds a
// wait, and the service keeps to it. After a cut, an answer that comes at the end
// of the budget has a moment to arrive.
func (p *patience) answerBy() time.Time {
	by := p.limit.giveUp()
	if late := p.trouble.at.Add(p.trouble.margin); p.cut && late.Before(by) {
		by = late
	}
	return by
}

// deadline is when a hook ends. The margin before it is for its last words, and
// for those of the service.
type deadline struct {
	at     time.Time
	margin time.Duration
}

func after(t time.Time, d time.Duration) deadline {
	return deadline{t.Add(d), min(time.Second, d/10)}
}

func (d deadline) giveUp() time.Time { return d.at.Add(-d.margin) }

func earlier(a, b deadline) deadline {
	if b.at.Before(a.at) {
		return b
	}
	return a
}
