// Package verdict decides, from what a wait has seen so far, whether its pod may
// stop. It is pure: it does no input or output and reads no clock.
package verdict

import "drainwait/internal/api"

// Facts is all that a verdict goes by: what the wait has seen and asked so far.
type Facts struct {
	Early bool // a refusal may still be said
	Last  bool // it is now or not at all
	Over  bool // the budget has ended

	Tally
	Open bool // something that may hold the pod is not known yet
	// Live: the pod, and what ties it to target groups, were read from the API
	// server itself since the wait began; Ingresses: so were the Ingresses.
	Live, Ingresses bool
	Stays           bool // live reads show that the pod is there to stay, and no deletion was ever seen
	Address         bool // no pod has the address that is asked about

	// Refused is why the wait cannot be carried out: the pod is not known, or
	// AWS refuses to show a group that is tied to it. Unable is why, where no
	// group is tied to it, that does not mean that it is registered nowhere.
	Refused, Unable error
	Unread          error // why Live or Ingresses is not so
}

// Tally counts the groups that are followed.
type Tally struct {
	Followed  int
	Looked    int // of them, those of which a look was taken in
	Left      int // of those, where the pod was gone in the newest look
	Confirmed int // of those, where it had settled
	Stuck     int // in rotation behind Services alone that publish not-ready addresses
}

// Verdict is the outcome of the wait, or "" where it goes on. The error refuses
// the wait; it comes early or never.
//
// Nothing that is not known makes it say go: drained, not_registered and
// will_not_leave need live reads and answers to all questions, and a budget
// that ends before that is spent.
func (f Facts) Verdict() (api.Outcome, error) {
	known := f.Live && !f.Open && f.Refused == nil
	nothing := known && f.Followed == 0 && f.Ingresses
	if err := f.refusal(nothing); err != nil && f.Early {
		return "", err
	}
	switch {
	case nothing && f.Unable == nil:
		return api.NotRegistered, nil
	case nothing && f.Address:
		return api.BudgetSpent, nil // a mistyped address is likelier than one that has just left
	case known && f.Followed > 0 && f.Confirmed == f.Followed:
		return api.Drained, nil
	case f.Stays:
		return api.NotTerminating, nil
	case known && f.Stuck > 0 && f.Confirmed+f.Stuck == f.Followed:
		return api.WillNotLeave, nil
	case !f.Over:
		return "", nil
	case known && f.Followed > 0 && f.Left == f.Followed:
		return api.SettleCut, nil
	default:
		return api.BudgetSpent, nil
	}
}

// refusal is why the caller had better take its fallback; nil where it need
// not. nothing says that no group holds the pod as far as can be known.
func (f Facts) refusal(nothing bool) error {
	switch {
	case f.Refused != nil:
		return f.Refused
	case nothing:
		return f.Unable
	case f.Last && (!f.Live || !f.Ingresses) && f.Followed == 0 && !f.Over:
		return f.Unread
	default:
		return nil
	}
}
