package drain

import (
	"context"
	"errors"
	"time"

	"drainwait/internal/cluster/ties"
	"drainwait/internal/elb"
)

const (
	sweepPause  = time.Second // how often the sweep asks what there is to look at
	sweepWidth  = 8           // how many groups it looks at side by side: enough to use up what is left of the rate
	accessPause = time.Minute // how long after AWS refused a role it is tried again
)

// sweeper looks in the background at target groups, for pods whose ties may have escaped
// our watches of the cluster. It belongs to the goroutine of [Drainer.Run].
type sweeper struct {
	*Drainer
	wake    chan struct{}        // an answer may be there
	allowed map[access]bool      // whether AWS answered each of them
	asked   map[access]elb.Group // for what
	again   time.Time            // when to try again those that it did not answer
	refused map[access]string    // what was logged of them
}

// access is one way to AWS: an account, by the role that leads there, and a Region.
type access struct{ region, roleARN, externalID string }

// Run sweeps until ctx ends. First it makes one real call in each account and Region,
// so that it is not a hook that finds out that AWS refuses us.
func (d *Drainer) Run(ctx context.Context) {
	s := &sweeper{
		Drainer: d, wake: make(chan struct{}, 1),
		allowed: make(map[access]bool), asked: make(map[access]elb.Group), refused: make(map[access]string),
	}
	for ctx.Err() == nil {
		if d.cluster.Synced() {
			unswept := d.cluster.Unswept()
			s.checkAccess(ctx, unswept)
			s.sweep(unswept)
		}
		select {
		case <-s.wake:
		case <-time.After(sweepPause):
		case <-ctx.Done():
		}
	}
}

// sweep takes in the looks that have come, and asks for some more.
func (s *sweeper) sweep(unswept []ties.Candidate) {
	pending := 0
	for _, c := range unswept {
		if pending == sweepWidth {
			return
		}
		look, known, err := s.look(c)
		switch {
		case !known:
			pending++
		case err == nil && (!look.Gone || c.Former):
			s.cluster.Swept(c.Binding, look.Began, targetsIn(look))
		}
	}
}

// look asks for a look at the group of a binding, which may have to be found by
// its name first.
func (s *sweeper) look(c ties.Candidate) (look *elb.Look, known bool, err error) {
	g := groupOf(c.Binding)
	if g.ARN == "" {
		info, known, err := s.elb.Describe(g, c.Since, s.wake)
		if !known || err != nil {
			return nil, known, err
		}
		g = info.Group
	}
	return s.elb.Look(g, c.Since, false, s.wake)
}

// checkAccess makes a real call in each account and Region that has had none, and again
// where it failed. If there is no binding, it does so in the service's own.
func (s *sweeper) checkAccess(ctx context.Context, cs []ties.Candidate) {
	if _, tried := s.allowed[access{}]; len(cs) == 0 && (tried || len(s.allowed) == 0) {
		cs = []ties.Candidate{{}}
	}
	needed := make(map[access]bool)
	retry := !time.Now().Before(s.again)
	for _, c := range cs {
		g := groupOf(c.Binding)
		if a := (access{g.Region(), g.RoleARN, g.ExternalID}); !needed[a] {
			needed[a] = true
			s.asked[a] = g
			s.check(ctx, a, retry, true)
		}
	}
	// The sweep may be through with what was refused, or nothing may name it any more.
	for a := range s.asked {
		if !needed[a] {
			s.check(ctx, a, retry, false)
		}
	}
}

// check makes the call for what was asked last, unless AWS has answered one, or retry says
// that it is too early. If nothing needs the group, it may have been deleted.
func (s *sweeper) check(ctx context.Context, a access, retry, needed bool) {
	if allowed, known := s.allowed[a]; allowed || known && !retry {
		return
	}
	err := s.elb.Check(ctx, s.asked[a])
	if errors.Is(err, elb.ErrNoGroup) && !needed {
		err = nil
	}
	s.allowed[a] = err == nil
	s.again = time.Now().Add(accessPause)
	s.tellAccess(a, err)
}

// tellAccess logs a refusal once, and its end.
func (s *sweeper) tellAccess(a access, err error) {
	switch _, was := s.refused[a]; {
	case err == nil && was:
		delete(s.refused, a)
		s.log.Info("AWS answers again", "region", a.region, "role", a.roleARN)
	case err != nil && elb.IsPermanent(err) && s.refused[a] != err.Error():
		s.refused[a] = err.Error()
		s.log.Error("AWS refuses the first call: no wait can succeed", "region", a.region, "role", a.roleARN, "error", err)
	}
	s.denied.Set(float64(len(s.refused)))
}
