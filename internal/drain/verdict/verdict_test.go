package verdict

import (
	"errors"
	"testing"

	"drainwait/internal/api"
)

var errTest, errUnread = errors.New("test"), errors.New("unread")

// each calls f with all the facts that there can be: with up to two groups, and
// each of the rest either way.
func each(f func(Facts)) {
	bools := []bool{false, true}
	errs := []error{nil, errTest}
	var tallies []Tally
	for followed := range 3 {
		for looked := range followed + 1 {
			for left := range looked + 1 {
				for confirmed := range left + 1 {
					for stuck := range looked - left + 1 {
						tallies = append(tallies, Tally{followed, looked, left, confirmed, stuck})
					}
				}
			}
		}
	}
	for bits := range 1 << 7 {
		on := func(bit int) bool { return bits>>bit&1 == 1 }
		for _, ingresses := range bools {
			for _, refused := range errs {
				for _, unable := range errs {
					for _, t := range tallies {
						f(Facts{
							Early: on(0), Last: on(1), Over: on(2), Open: on(3), Live: on(4), Stays: on(5), Address: on(6),
							Ingresses: ingresses, Tally: t, Refused: refused, Unable: unable, Unread: errUnread,
						})
					}
				}
			}
		}
	}
}

// TestVerdictNeverGuesses: what an outcome claims is known.
func TestVerdictNeverGuesses(t *testing.T) {
	count := make(map[api.Outcome]int)
	each(func(f Facts) {
		o, err := f.Verdict()
		if err != nil {
			count["refused"]++
		} else {
			count[o]++
		}
		known := f.Live && !f.Open && f.Refused == nil
		var right bool
		switch {
		case err != nil:
			right = o == "" && f.Early
		case o == api.Drained:
			right = known && f.Followed > 0 && f.Confirmed == f.Followed
		case o == api.NotRegistered:
			right = known && f.Ingresses && f.Followed == 0 && f.Unable == nil
		case o == api.WillNotLeave:
			right = known && f.Stuck > 0 && f.Confirmed+f.Stuck == f.Followed
		case o == api.NotTerminating:
			right = f.Stays
		case o == api.SettleCut:
			right = f.Over && known && f.Followed > 0 && f.Left == f.Followed && f.Confirmed < f.Followed
		case o == api.BudgetSpent:
			absent := known && f.Ingresses && f.Followed == 0 && f.Address && f.Unable != nil
			right = absent || f.Over
		case o == "":
			right = !f.Over
		}
		if !right {
			t.Fatalf("%+v: %q, %v", f, o, err)
		}
	})
	for _, o := range append(api.Outcomes, "", "refused") {
		if count[o] == 0 {
			t.Errorf("no facts end as %q", o)
		}
	}
}

// TestVerdictIsNotLate: what is known is said.
func TestVerdictIsNotLate(t *testing.T) {
	each(func(f Facts) {
		o, err := f.Verdict()
		known := f.Live && !f.Open && f.Refused == nil
		nothing := known && f.Ingresses && f.Followed == 0
		want := func(right bool, why string) {
			t.Helper()
			if !right {
				t.Fatalf("%s: %+v: %q, %v", why, f, o, err)
			}
		}
		switch {
		case f.Early && f.Refused != nil:
			want(errors.Is(err, errTest), "a refusal is passed on")
		case nothing && f.Unable == nil:
			want(o == api.NotRegistered, "it is registered nowhere")
		case nothing && f.Early:
			want(errors.Is(err, errTest), "why it cannot be done is said")
		case nothing && f.Address:
			want(o == api.BudgetSpent, "an address that is in no group")
		case f.Early && f.Last && (!f.Live || !f.Ingresses) && f.Followed == 0 && !f.Over:
			want(errors.Is(err, errUnread), "nobody is kept waiting without a group")
		case known && f.Followed > 0 && f.Confirmed == f.Followed:
			want(o == api.Drained, "all have settled")
		case f.Stays:
			want(o == api.NotTerminating, "it stays")
		case known && f.Stuck > 0 && f.Confirmed+f.Stuck == f.Followed:
			want(o == api.WillNotLeave, "nothing else will leave")
		case f.Over && known && f.Followed > 0 && f.Left == f.Followed:
			want(o == api.SettleCut, "all have left")
		case f.Over:
			want(o == api.BudgetSpent, "the budget is over")
		default:
			want(o == "" && err == nil, "it goes on")
		}
	})
}
