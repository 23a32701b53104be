package cluster

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// bindingID names a binding.
type bindingID struct{ api, namespace, name string }

func (b *Binding) id() bindingID { return bindingID{b.API, b.Namespace, b.Name} }

// groupKey is a target group as bindings name it, and who may read it.
type groupKey struct{ arn, name, roleARN, externalID string }

func (s *BindingSpec) group() groupKey {
	return groupKey{s.TargetGroupARN, s.TargetGroupName, s.RoleARN, s.ExternalID}
}

// registers says whether pods can be targets of the binding's group, or that it
// cannot be told.
func (s *BindingSpec) registers() bool { return s.TargetType == "" || s.TargetType == TypeIP }

// record is what a binding said at one time. Another group, Service, role or type
// makes another record.
type record struct {
	Binding           // its metadata are the newest
	ended   time.Time // since when the binding is gone or says otherwise; zero for a record that is present
	swept   time.Time // when the newest look at the group began
	cleared bool      // it has ended, and a look since showed no address of the namespace in rotation
}

func (r *record) former() bool { return !r.ended.IsZero() }

// tolerance is what clocks may be wrong by where one compares a creation with an
// end: creationTimestamps are in whole seconds.
const tolerance = 2 * time.Second

// before says whether something ended before a pod was created.
func before(ended, born time.Time) bool { return !ended.IsZero() && ended.Add(tolerance).Before(born) }

// ties says whether a record concerns a pod. born is when the pod was created.
func (r *record) ties(h *past, born time.Time) bool {
	if slices.Contains(h.services, r.Namespace+"/"+r.Service) && !before(r.ended, born) {
		return true
	}
	return r.Namespace == h.namespace && (slices.Contains(h.gates, r.Name) || slices.Contains(h.listed, r.group()))
}

// learnBinding keeps what a binding says, and says whether that is new.
func (x *Index) learnBinding(b *Binding) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	records := x.records[b.Namespace]
	if records == nil {
		records = make(map[bindingID][]*record)
		x.records[b.Namespace] = records
	}
	for _, r := range records[b.id()] {
		if r.BindingSpec == b.BindingSpec {
			r.Binding = *b
			return false
		}
	}
	records[b.id()] = append(records[b.id()], &record{Binding: *b})
	return true
}

// settle ends the records of a binding that nothing shows any more, and brings
// those back to life that something shows. It looks itself at what there is, so
// that handlers and live lists need not come in any order.
func (x *Index) settle(id bindingID) {
	x.mu.Lock()
	defer x.mu.Unlock()
	cached := x.cachedBinding(id)
	var live *Binding
	if l := x.lists[id.namespace]; l != nil {
		live = l.newest.bindings[id]
	}
	ended := false
	for _, r := range x.records[id.namespace][id] {
		shown := cached != nil && cached.BindingSpec == r.BindingSpec || live != nil && live.BindingSpec == r.BindingSpec
		switch {
		case shown:
			r.ended, r.cleared = time.Time{}, false
		case !r.former():
			r.ended, ended = time.Now(), true
		}
	}
	if ended {
		x.dropExcess()
	}
}

// maxFormers is how many records that have ended are kept at most.
const maxFormers = 1000

// dropExcess drops what is too much: first what is cleared, and of that what
// ended first. A pod that another one concerned is not judged by what is left.
// Called with the lock.
func (x *Index) dropExcess() {
	var formers []*record
	for r := range x.allRecords() {
		if r.former() {
			formers = append(formers, r)
		}
	}
	if len(formers) <= maxFormers {
		return
	}
	slices.SortFunc(formers, func(a, b *record) int {
		if a.cleared != b.cleared {
			return cmp.Compare(boolRank(a.cleared), boolRank(b.cleared))
		}
		return a.ended.Compare(b.ended)
	})
	for _, r := range formers[:len(formers)-maxFormers] {
		if !r.cleared {
			x.forgotten[r.Namespace] = time.Now()
		}
		x.dropRecord(r)
	}
}

// boolRank puts what is true first.
func boolRank(b bool) int {
	if b {
		return 0
	}
	return 1
}

// allRecords is for who holds the lock.
func (x *Index) allRecords() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, ids := range x.records {
			for _, rs := range ids {
				for _, r := range rs {
					if !yield(r) {
						return
					}
				}
			}
		}
	}
}

// dropRecord is called with the lock.
func (x *Index) dropRecord(r *record) {
	ids := x.records[r.Namespace]
	ids[r.id()] = slices.DeleteFunc(slices.Clone(ids[r.id()]), func(o *record) bool { return o == r })
	if len(ids[r.id()]) == 0 {
		delete(ids, r.id())
	}
	if len(ids) == 0 {
		delete(x.records, r.Namespace)
	}
}

// keepFormer is how long what has ended is kept at least.
const keepFormer = 10 * time.Minute

// bonds are what the pods that are remembered are tied by, all together: for
// each, when the first of them was created.
type bonds struct {
	namespaces, services map[string]time.Time
	gates                map[[2]string]bool // namespace and name
	listed               map[listing]bool
}

type listing struct {
	namespace string
	group     groupKey
}

// bonds is called with the lock.
func (x *Index) bonds() bonds {
	b := bonds{make(map[string]time.Time), make(map[string]time.Time), make(map[[2]string]bool), make(map[listing]bool)}
	for _, h := range x.past {
		born := x.born(h.created)
		earliest(b.namespaces, h.namespace, born)
		for _, s := range h.services {
			earliest(b.services, s, born)
		}
		for _, name := range h.gates {
			b.gates[[2]string{h.namespace, name}] = true
		}
		for _, g := range h.listed {
			b.listed[listing{h.namespace, g}] = true
		}
	}
	return b
}

func earliest(m map[string]time.Time, key string, at time.Time) {
	if old, ok := m[key]; !ok || at.Before(old) {
		m[key] = at
	}
}

// has says whether a pod is tied to a Service and was there before something
// ended.
func (b bonds) has(service string, ended time.Time) bool {
	born, ok := b.services[service]
	return ok && !before(ended, born)
}

func (b bonds) tied(r *record) bool {
	return b.has(r.Namespace+"/"+r.Service, r.ended) || b.gates[[2]string{r.Namespace, r.Name}] || b.listed[listing{r.Namespace, r.group()}]
}

// tidyRecords drops former bindings that concern no pod any more.
func (x *Index) tidyRecords() {
	x.mu.Lock()
	defer x.mu.Unlock()
	b := x.bonds()
	var dropped []*record
	for r := range x.allRecords() {
		if r.former() && r.cleared && time.Since(r.ended) >= keepFormer && !b.tied(r) {
			dropped = append(dropped, r)
		}
	}
	for _, r := range dropped {
		x.dropRecord(r)
	}
	for ns, at := range x.forgotten {
		if born, ok := b.namespaces[ns]; !ok || before(at, born) {
			delete(x.forgotten, ns)
		}
	}
}

// Swept takes in a look at the group of a candidate: when it began, and each
// target with whether it is in rotation. Pods and watched addresses of the
// namespaces whose bindings lead to the group are tied to it from now on where
// it lists them.
func (x *Index) Swept(b Binding, began time.Time, targets iter.Seq2[netip.Addr, bool]) {
	found := x.podsAt(targets)
	x.mu.Lock()
	var woken []*past
	for r := range x.allRecords() {
		if r.group() != b.group() {
			continue
		}
		if r.swept.Before(began) {
			r.swept = began
		}
		inRotation := false
		for id, rotation := range found {
			h := x.past[id]
			if h == nil || h.namespace != r.Namespace && !r.ties(h, x.born(h.created)) {
				continue
			}
			inRotation = inRotation || rotation
			if h.namespace == r.Namespace && !slices.Contains(h.listed, r.group()) {
				h.listed = append(h.listed, r.group())
				woken = append(woken, h)
			}
		}
		r.cleared = r.cleared || r.former() && began.After(r.ended) && !inRotation
	}
	x.mu.Unlock()
	for _, h := range woken {
		x.wake(h.namespace, h.name)
	}
}

// podsAt are the pods and the watched addresses that a look lists, and whether
// any target at their addresses is in rotation.
func (x *Index) podsAt(targets iter.Seq2[netip.Addr, bool]) map[types.UID]bool {
	others := x.uncachedAt()
	found := make(map[types.UID]bool)
	for ip, inRotation := range targets {
		ip = ip.Unmap()
		for _, p := range by[*corev1.Pod](x.pods, byAddress, ip.String()) {
			x.tie(p) // the handler of pods can be behind
			found[p.UID] = found[p.UID] || inRotation
		}
		for _, id := range others[ip] {
			found[id] = found[id] || inRotation
		}
	}
	return found
}

// uncachedAt are, by address, the watched addresses and those pods that the
// cache does not have.
func (x *Index) uncachedAt() map[netip.Addr][]types.UID {
	x.mu.Lock()
	defer x.mu.Unlock()
	ids := make(map[netip.Addr][]types.UID)
	for id, h := range x.past {
		if h.cached {
			continue
		}
		for _, ip := range h.ips {
			ids[ip] = append(ids[ip], id)
		}
	}
	return ids
}

// lookAgain is how often a former binding is looked at that is not cleared.
const lookAgain = time.Minute

// Unswept lists what the sweep has still to look at, a binding for each group:
// those, present or former, whose group may have pods as targets and was not
// looked at since the last gap in what we saw of the cluster; and former ones
// that still have an address of their namespace in rotation, again after a
// minute. Since is from when on a look counts; what is due for longest comes
// first.
func (x *Index) Unswept() []Candidate {
	x.mu.Lock()
	defer x.mu.Unlock()
	var all []Candidate
	for r := range x.allRecords() {
		if since, ok := r.due(x.gap); ok {
			all = append(all, Candidate{Binding: r.Binding, Former: r.former(), Seen: !r.swept.IsZero(), Since: since})
		}
	}
	slices.SortFunc(all, func(a, b Candidate) int {
		return cmp.Or(b.Since.Compare(a.Since), cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name), cmp.Compare(a.TargetGroupARN, b.TargetGroupARN))
	})
	seen := make(map[groupKey]bool)
	all = slices.DeleteFunc(all, func(c Candidate) bool {
		known := seen[c.group()]
		seen[c.group()] = true
		return known
	})
	slices.Reverse(all)
	return all
}

// due says whether the sweep has to look at the group, and from when on a look
// counts.
func (r *record) due(gap time.Time) (since time.Time, ok bool) {
	since = gap
	if since.Before(r.ended) {
		since = r.ended
	}
	switch {
	case !r.registers():
		return time.Time{}, false
	case !r.swept.After(since) && (r.former() || r.swept.Before(since)):
		return since, true
	case r.former() && !r.cleared && time.Since(r.swept) >= lookAgain:
		return r.swept.Add(lookAgain), true
	}
	return time.Time{}, false
}
