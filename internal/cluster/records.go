package cluster

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"
)

// groupKey is a target group as bindings name it, and who may read it.
type groupKey struct{ arn, name, roleARN, externalID string }

func (s *BindingSpec) group() groupKey {
	return groupKey{s.TargetGroupARN, s.TargetGroupName, s.RoleARN, s.ExternalID}
}

// registers says whether pods can be targets of the binding's group, or that it
// cannot be told.
func (s *BindingSpec) registers() bool { return s.TargetType == "" || s.TargetType == TypeIP }

// Kinds of what leads to a Service, beside the API groups of bindings.
const (
	kindIngress = "Ingress"
	kindService = "Service" // of type LoadBalancer
)

// origin is what leads to a Service; without a name, all that does in a namespace.
type origin struct{ kind, namespace, name string }

// String is how an origin is shown: "Ingress default/web".
func (o origin) String() string { return o.kind + " " + o.namespace + "/" + o.name }

// link is what an object says at one time of how a Service is reached: a binding,
// by which target group; an Ingress or a Service of type LoadBalancer, by which
// load balancer.
type link struct {
	from      origin
	service   string      // namespace/name; empty for none that we know of
	spec      BindingSpec // of a binding
	hostname  string      // of a load balancer; empty where it is not known by name
	noAddress bool        // of an Ingress or a Service: not even an IP address
}

// record is that a link is or was there.
type record struct {
	link
	binding      *Binding // that said so, with its newest metadata; nil where an Ingress or a Service did
	ingressGroup string   // the newest explicit IngressGroup of an Ingress
	everywhere   bool     // the informers show it, and the newest live list, where there is one
	ended        time.Time
	swept        time.Time // when the newest look at the group of a binding began
	cleared      bool      // it has ended, and a look since showed no address of the namespace in rotation
}

// former says that a record has ended: nothing shows it any more.
func (r *record) former() bool { return !r.ended.IsZero() }

// tolerance is what clocks may be wrong by where one compares a creation with an
// end: creationTimestamps are in whole seconds.
const tolerance = 2 * time.Second

// before says whether something ended before a pod was created.
func before(ended, born time.Time) bool { return !ended.IsZero() && ended.Add(tolerance).Before(born) }

// ties says whether a record concerns a pod. born is when the pod was created.
func (r *record) ties(h *history, born time.Time) bool {
	if slices.Contains(h.services, r.service) && !before(r.ended, born) {
		return true
	}
	return r.binding != nil && r.from.namespace == h.namespace &&
		(slices.Contains(h.gates, r.from.name) || slices.Contains(h.listed, r.spec.group()))
}

func bindingRecord(b *Binding) *record {
	return &record{link: link{from: origin{b.API, b.Namespace, b.Name}, service: b.Namespace + "/" + b.ServiceRef.Name, spec: b.BindingSpec}, binding: b}
}

// records are what a picture amounts to for an origin, and for what has its name.
func (p picture) records(o origin) []*record {
	var out []*record
	for _, b := range of[Binding](o, p.bindings) {
		out = append(out, bindingRecord(b))
	}
	for _, i := range of[networkingv1.Ingress](o, p.ingresses) {
		out = append(out, ingressRecords(i)...)
	}
	for _, s := range of[corev1.Service](o, p.services) {
		out = append(out, serviceRecords(s)...)
	}
	return out
}

// of finds the objects that have the name of an origin.
func of[T any](o origin, ss stores) []*T {
	if o.name == "" {
		return by[*T](ss, byNamespace, o.namespace)
	}
	return all[T](ss, o.namespace+"/"+o.name)
}

// remember keeps what objects say, and says whether something of it is new. Called
// with the lock.
func (x *Index) remember(rs ...*record) (news bool) {
	for _, r := range rs {
		known := x.records[r.from.namespace]
		if known == nil {
			known = make(map[link]*record)
			x.records[r.from.namespace] = known
		}
		if old := known[r.link]; old != nil {
			old.binding, old.ingressGroup = r.binding, r.ingressGroup
		} else {
			known[r.link], news = r, true
		}
	}
	return news
}

// reconcile ends the records of an origin that nothing shows any more, and brings
// those back to life that something shows. It looks itself at what there is, so
// that handlers and live lists need not come in any order. Called with the lock.
func (x *Index) reconcile(o origin) {
	pictures := x.pictures(o.namespace)
	shown := make(map[link]int)
	for _, p := range pictures {
		for _, r := range p.records(o) {
			shown[r.link]++
		}
	}
	ended := false
	for _, r := range x.records[o.namespace] {
		if o.name != "" && r.from != o {
			continue
		}
		n := shown[r.link]
		r.everywhere = n == len(pictures)
		switch {
		case n > 0:
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
	for r := range x.bindingRecords() {
		if r.former() {
			formers = append(formers, r)
		}
	}
	if len(formers) <= maxFormers {
		return
	}
	slices.SortFunc(formers, func(a, b *record) int {
		if a.cleared == b.cleared {
			return a.ended.Compare(b.ended)
		}
		if a.cleared {
			return -1
		}
		return 1
	})
	for _, r := range formers[:len(formers)-maxFormers] {
		if !r.cleared {
			x.forgotten[r.from.namespace] = time.Now()
		}
		x.drop(r)
	}
}

// bindingRecords are those of bindings, for who holds the lock.
func (x *Index) bindingRecords() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, rs := range x.records {
			for _, r := range rs {
				if r.binding != nil && !yield(r) {
					return
				}
			}
		}
	}
}

// drop is called with the lock.
func (x *Index) drop(r *record) {
	rs := x.records[r.from.namespace]
	if delete(rs, r.link); len(rs) == 0 {
		delete(x.records, r.from.namespace)
	}
}

// keepFormer is how long what has ended is kept at least.
const keepFormer = 10 * time.Minute

// tidyRecords drops what has ended and concerns no pod any more; of bindings, what
// is cleared.
func (x *Index) tidyRecords() {
	x.mu.Lock()
	defer x.mu.Unlock()
	pods := make(map[string][]*history) // by the namespaces of what can tie them
	for _, h := range x.histories {
		for ns := range h.namespaces() {
			pods[ns] = append(pods[ns], h)
		}
	}
	for ns, rs := range x.records {
		for _, r := range rs {
			over := r.former() && time.Since(r.ended) >= keepFormer && (r.cleared || r.binding == nil)
			if over && !slices.ContainsFunc(pods[ns], func(h *history) bool { return r.ties(h, x.born(h)) }) {
				x.drop(r)
			}
		}
	}
	for ns, at := range x.forgotten {
		if !slices.ContainsFunc(pods[ns], func(h *history) bool { return !before(at, x.born(h)) }) {
			delete(x.forgotten, ns)
		}
	}
}

// Swept takes in a look at the group of a candidate: when it began, and each
// target with whether it is in rotation. Pods and watched addresses of the
// namespaces whose bindings lead to the group are tied to it from now on where
// it lists them.
func (x *Index) Swept(b Binding, began time.Time, targets iter.Seq2[netip.Addr, bool]) {
	listed := make(map[netip.Addr]bool)
	for ip, inRotation := range targets {
		listed[ip.Unmap()] = listed[ip.Unmap()] || inRotation
	}
	for _, h := range x.recordLook(b.group(), began, listed) {
		x.wake(h.namespace, h.name)
	}
}

// recordLook is [Index.Swept] with the lock. It returns the pods that are newly tied.
func (x *Index) recordLook(group groupKey, began time.Time, listed map[netip.Addr]bool) (tied []*history) {
	x.mu.Lock()
	defer x.mu.Unlock()
	var records []*record
	for r := range x.bindingRecords() {
		if r.spec.group() == group {
			records = append(records, r)
		}
	}
	if !slices.ContainsFunc(records, func(r *record) bool { return !r.swept.Equal(began) }) {
		return nil // this look was taken in before, and each survey of a wait brings it again
	}
	pods := x.listedPods(listed)
	for _, r := range records {
		if r.swept.Before(began) {
			r.swept = began
		}
		anyInRotation := false
		for h, inRotation := range pods {
			if h.namespace != r.from.namespace && !r.ties(h, x.born(h)) {
				continue
			}
			anyInRotation = anyInRotation || inRotation
			if h.namespace == r.from.namespace && !slices.Contains(h.listed, group) {
				h.listed = append(h.listed, group)
				tied = append(tied, h)
			}
		}
		r.cleared = r.cleared || r.former() && began.After(r.ended) && !anyInRotation
	}
	return tied
}

// listedPods are the pods and the watched addresses that a look lists, and
// whether any target at their addresses is in rotation. Called with the lock.
func (x *Index) listedPods(listed map[netip.Addr]bool) map[*history]bool {
	pods := make(map[*history]bool)
	for _, h := range x.histories {
		for _, ip := range h.ips {
			if inRotation, ok := listed[ip]; ok {
				pods[h] = pods[h] || inRotation
			}
		}
	}
	return pods
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
	order := func(a, b Candidate) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(b.Namespace, a.Namespace), cmp.Compare(b.Name, a.Name), cmp.Compare(b.TargetGroupARN, a.TargetGroupARN))
	}
	newest := make(map[groupKey]Candidate)
	for r := range x.bindingRecords() {
		since, ok := r.due(x.gap)
		if !ok {
			continue
		}
		c := r.candidate()
		c.Since = since
		if other, known := newest[c.group()]; !known || order(other, c) < 0 {
			newest[c.group()] = c
		}
	}
	return slices.SortedFunc(maps.Values(newest), order)
}

func (r *record) candidate() Candidate {
	return Candidate{Binding: *r.binding, Former: r.former(), Seen: !r.swept.IsZero()}
}

// due says whether the sweep has to look at the group, and from when on a look
// counts.
func (r *record) due(gap time.Time) (since time.Time, ok bool) {
	since = gap
	if since.Before(r.ended) {
		since = r.ended
	}
	switch {
	case !r.spec.registers():
		return time.Time{}, false
	case !r.swept.After(since) && (r.former() || r.swept.Before(since)):
		return since, true
	case r.former() && !r.cleared && time.Since(r.swept) >= lookAgain:
		return r.swept.Add(lookAgain), true
	}
	return time.Time{}, false
}
