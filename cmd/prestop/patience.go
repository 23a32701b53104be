package main

import "time"

// patience is how long a hook goes on without an answer.
type patience struct {
	began time.Time
	limit deadline // of --max-delay

	// noAnswer is when it ends where nobody answers: a fallback after it began or
	// was last held, or, once a wait was cut, at the end of that wait's budget.
	noAnswer deadline
	cut      bool
}

func newPatience(maxDelay, fallback time.Duration) *patience {
	now := time.Now()
	return &patience{began: now, limit: newDeadline(now, maxDelay), noAnswer: newDeadline(now, fallback)}
}

// renew takes in a failure. It says whether that begins a new outage, and does not
// only continue the one before.
//
// A break of a connection that held the hook begins one, and so does whatever else
// came instead of an answer after a hold. What comes sooner does not: a proxy that
// cannot reach the service would keep the hook for ever.
func (p *patience) renew(f *failure, fallback time.Duration) bool {
	held := !f.sent.IsZero() && time.Since(f.sent) > longestRefusal
	switch {
	case f.budget > 0 && p.cut:
		p.noAnswer = earlier(p.noAnswer, newDeadline(f.sent, f.budget)) // it waits once, not twice
	case f.budget > 0:
		p.noAnswer, p.cut = newDeadline(f.sent, f.budget), true
		return true
	case held && !p.cut:
		p.noAnswer = newDeadline(time.Now(), fallback)
	}
	return held
}

// end is when the hook ends where nobody answers until then.
func (p *patience) end() deadline { return earlier(p.limit, p.noAnswer) }

// fallBack is when it ends where the service cannot help.
func (p *patience) fallBack(fallback time.Duration) time.Time {
	end := earlier(p.limit, newDeadline(time.Now(), fallback))
	if p.cut {
		end = earlier(end, p.noAnswer)
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
	if late := p.noAnswer.at.Add(p.noAnswer.margin); p.cut && late.Before(by) {
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

func newDeadline(t time.Time, d time.Duration) deadline {
	return deadline{t.Add(d), min(time.Second, d/10)}
}

func (d deadline) giveUp() time.Time { return d.at.Add(-d.margin) }

func earlier(a, b deadline) deadline {
	if b.at.Before(a.at) {
		return b
	}
	return a
}
