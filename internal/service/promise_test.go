package service_test

import (
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"drainwait/internal/service"
	"drainwait/internal/sim"
)

var (
	promiseSeeds = flag.Int("seeds", 4, "how many random worlds TestPromises plays")
	promiseSeed  = flag.Uint64("seed", 0, "play this one world of TestPromises alone")
)

// TestPromises plays random worlds in which the tail is within the settle times, and
// checks that the service keeps its promises:
//
//   - no load balancer can choose a pod, or will again, after its "drained" or
//     "not_registered";
//   - no pod gets "not_terminating" if its deletion was accepted, or if it or its
//     node is not ready;
//   - no pod gets "will_not_leave" if it is deregistered before it is gone;
//   - a refusal comes within two seconds and a latency;
//   - no wait goes beyond its budget by more than a second;
//   - of the waits with enough budget, 99 in 100 end "drained".
//
// These worlds do not have what the README says nobody can see in time.
func TestPromises(t *testing.T) {
	if testing.Short() {
		t.Skip("many worlds")
	}
	sum := playWorlds(t, nil)
	for _, v := range sum.broken {
		t.Error(v)
	}
	percent := 99
	if sum.possible < 500 {
		percent = 95 // with few waits, one more fault counts too much
	}
	if *promiseSeed > 0 {
		return // one world is not enough to count
	}
	if sum.possible == 0 || sum.drainedOfPossible*100 < percent*sum.possible {
		t.Errorf("only %d of %d waits that had the time ended drained; the others:\n%s", sum.drainedOfPossible, sum.possible, strings.Join(sum.missed, "\n"))
	}
	if *promiseSeeds < 100 {
		return
	}
	if sum.outcomes["drained"] < 1000 {
		t.Errorf("only %d waits ended drained", sum.outcomes["drained"])
	}
	others := []string{"restart", "node shutdown", "name and address used again", "made anew by force", "pod too new for the watch", "binding too new for the watch"}
	for _, name := range slices.Concat(names(faults), names(edits), others) {
		if sum.faults[name] < 50 {
			t.Errorf("%s was hit %d times only", name, sum.faults[name])
		}
	}
}

// coverage is what happened in random worlds, and what they were made of.
type coverage struct {
	mu                          sync.Mutex // guards the rest; held for additions only
	outcomes, faults            map[string]int
	possible, drainedOfPossible int
	broken, missed              []string
}

func playWorlds(t *testing.T, change func(*service.Config)) *coverage {
	t.Helper()
	sum := &coverage{outcomes: make(map[string]int), faults: make(map[string]int)}
	first, last := uint64(1), uint64(*promiseSeeds)
	if *promiseSeed > 0 {
		first, last = *promiseSeed, *promiseSeed
	}
	t.Run("worlds", func(t *testing.T) {
		for seed := first; seed <= last; seed++ {
			t.Run(fmt.Sprint(seed), func(t *testing.T) {
				t.Parallel()
				newPromise(seed).play(t, change, sum)
			})
		}
	})
	// Printed, so that it shows without the lines of each world, as in `make promises`.
	fmt.Printf("outcomes: %v\nfaults: %v\n%d of %d waits that had the time ended drained\n",
		sum.outcomes, sum.faults, sum.drainedOfPossible, sum.possible)
	return sum
}

// judge compares the calls of all hooks with what really happened.
func (p *promise) judge(sum *coverage) {
	sum.mu.Lock()
	defer sum.mu.Unlock()
	for call, n := range p.world.AWS.Calls() {
		if _, code, _ := strings.Cut(call, " "); code != "OK" {
			p.hit[code] += n
		}
	}
	for name, n := range p.hit {
		sum.faults[name] += n
	}
	for _, r := range p.world.Pods() {
		p.judgePod(sum, r)
	}
}

// promptly is how long after the request a refusal may come: two seconds and a latency.
const promptly = 3 * time.Second

func (p *promise) judgePod(sum *coverage, r *sim.PodReport) {
	broke := func(format string, args ...any) {
		sum.broken = append(sum.broken, fmt.Sprintf("seed %d, pod %s: %s (replay: go test ./internal/service -run '^TestPromises$' -seed %d)",
			p.seed, r.Name, fmt.Sprintf(format, args...), p.seed))
	}
	if r.Late > 0 || r.Premature > 0 {
		broke("%d new requests after it was %s at %s, the last at %s; could still be chosen then: %d; deregistered at %s",
			r.Late, r.Outcome, r.Answered, r.LastArrival, r.Premature, r.Deregistered)
	}
	if r.WrongNotTerminating > 0 {
		broke("not_terminating at %s, deleted at %s; deleted, unready, node unready: %t, %t, %t", r.Answered, r.Deleted, r.HookCall.Deleted, r.Unready, r.NodeUnready)
	}
	// Nobody can foresee an edit, or know of an edit that was made a moment ago.
	unknown := func(edit time.Duration) bool {
		return r.Answered-time.Second < edit && edit < r.DeregisteredByController
	}
	if r.WrongWillNotLeave > 0 && !slices.ContainsFunc(p.appOf(r).edits, unknown) {
		broke("will_not_leave at %s, and deregistered at %s", r.Answered, r.DeregisteredByController)
	}
	for _, c := range r.Calls {
		if c.Answered > 0 && c.Status != http.StatusOK && c.Answered-c.Asked > promptly {
			broke("asked at %s and refused at %s: %d %s", c.Asked, c.Answered, c.Status, c.Answer)
		}
	}
	if r.Asked == 0 {
		return
	}
	sum.outcomes[fmt.Sprintf("%s%s", r.Outcome, map[bool]string{true: "", false: fmt.Sprint(r.Status)}[r.Status == http.StatusOK])]++
	a := p.appOf(r)
	end := p.budgetEnd(a, r)
	// A pod that is not deleted, or that was removed from the API at once, is killed
	// by a clock that nobody outside its node knows.
	timed := r.Deleted > 0 && !a.forced[r]
	if r.Answered == 0 && timed || r.Answered > max(end, r.Asked)+time.Second {
		broke("asked at %s, with time until %s, and answered at %s", r.Asked, end, r.Answered)
	}
	// The settle time starts with what this wait sees, so not before the wait began.
	// A pod that is restarted and not deleted is never deregistered.
	if r.Deregistered == 0 || a.publishes || a.forced[r] || end <= max(r.Deregistered, r.Asked)+a.settle()+3*time.Second {
		return
	}
	sum.possible++
	if r.Outcome == "drained" || r.Deleted == 0 {
		sum.drainedOfPossible++
		return
	}
	sum.missed = append(sum.missed, fmt.Sprintf("seed %d, pod %s: deregistered at %s, asked at %s, with time until %s: %s", p.seed, r.Name, r.Deregistered, r.Asked, end, r.Answer))
}

func (p *promise) appOf(r *sim.PodReport) *promiseApp {
	i := slices.IndexFunc(p.apps, func(a *promiseApp) bool { return strings.HasPrefix(r.Name, a.Name+"-") })
	return p.apps[i]
}

// budgetEnd is the latest time for the answer to a wait.
func (p *promise) budgetEnd(a *promiseApp, r *sim.PodReport) time.Duration {
	if r.Deleted == 0 {
		return r.Asked + min(a.Hook.MaxDelay, a.Grace-min(5*time.Second, a.Grace/5))
	}
	grace := a.Grace
	if g, ok := a.graces[r]; ok {
		grace = g
	}
	return min(r.Asked+a.Hook.MaxDelay, r.Deleted+grace-min(5*time.Second, grace/5))
}
