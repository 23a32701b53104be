// Package ties remembers what leads from pods to target groups, now and formerly,
// and says for one pod which groups may hold it. It asks nobody and has no lock.
package ties

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"drainwait/internal/cluster/kube"
)

// Kinds of what leads to a Service, beside the API groups of bindings.
const (
	kindIngress = "Ingress"
	kindService = "Service" // of type LoadBalancer
)

// origin is what leads to a Service; without a name, all that does in a namespace.
type origin struct{ kind, namespace, name string }

// String is how an origin is shown: "Ingress default/web".
func (o origin) String() string { return o.kind + " " + o.namespace + "/" + o.name }

// link is what an object says of how a Service is reached: a binding by which target
// group, an Ingress or a Service of type LoadBalancer by which load balancer.
type link struct {
	from      origin
	service   string      // namespace/name; empty for none that we know of
	spec      BindingSpec // of a binding
	hostname  string      // of a load balancer; empty where it is not known by name
	noAddress bool        // of an Ingress or a Service: not even an IP address
}

// record says that a link is or was there.
type record struct {
	link
	binding      *Binding // that said so, with its newest metadata; nil where an Ingress or a Service did
	ingressGroup string   // the newest explicit IngressGroup of an Ingress
	everywhere   bool     // the watches show it, and the newest live list, where there is one
	ended        time.Time
	swept        time.Time // when the newest look at the group of a binding began
	cleared      bool      // it has ended, and a later look showed no pod of it in rotation
}

// former says that a record has ended: nothing shows it any more.
func (r *record) former() bool { return !r.ended.IsZero() }

const (
	keepFormer = 10 * time.Minute // how long at least a record is kept that has ended
	maxFormers = 1000             // how many of those of bindings are kept at most
	lookAgain  = time.Minute      // how often the sweep looks at a former binding that is not cleared
	// tolerance is how wrong the comparison of a creation with an end may be:
	// creationTimestamps are in whole seconds.
	tolerance = 2 * time.Second
)

// before says whether something ended before a pod was created.
func before(ended, born time.Time) bool { return !ended.IsZero() && ended.Add(tolerance).Before(born) }

// ties says whether a record concerns a pod. born is when the pod was created.
func (r *record) ties(h *History, born time.Time) bool {
	if slices.Contains(h.Services, r.service) && !before(r.ended, born) {
		return true
	}
	return r.binding != nil && r.from.namespace == h.Namespace &&
		(slices.Contains(h.gates, r.from.name) || slices.Contains(h.listed, r.spec.group()))
}

func bindingRecords(b *Binding) []*record {
	if b == nil {
		return nil
	}
	l := link{from: origin{b.API, b.Namespace, b.Name}, service: b.Namespace + "/" + b.ServiceRef.Name, spec: b.BindingSpec}
	return []*record{{link: l, binding: b}}
}

// records are what the objects say that have the name of an origin.
func (os *Objects) records(o origin) []*record {
	return slices.Concat(said(o, os.Bindings, bindingRecords), said(o, os.Ingresses, ingressRecords), said(o, os.Services, serviceRecords))
}

func said[T any](o origin, ss kube.Stores, by func(*T) []*record) (all []*record) {
	named := kube.ByKey[T](ss, o.namespace+"/"+o.name)
	if o.name == "" {
		named = kube.InNamespace[T](ss, o.namespace)
	}
	for _, obj := range named {
		all = append(all, by(obj)...)
	}
	return all
}

// Records are what objects say or said of how Services are reached. Who has them
// guards them with a lock.
type Records struct {
	watched  Objects // all but the bindings
	bindings []*kube.BindingWatch
	clock    *kube.Clock
	listed   map[string]Objects // the newest live lists, by namespace

	records map[string]map[link]*record // by namespace
	// forgotten is, by namespace, when a former binding was last dropped that could
	// still matter.
	forgotten map[string]time.Time
}

// NewRecords makes records of what watches show. They are empty.
func NewRecords(watched Objects, bindings []*kube.BindingWatch, clock *kube.Clock) *Records {
	return &Records{
		watched: watched, bindings: bindings, clock: clock, listed: make(map[string]Objects),
		records: make(map[string]map[link]*record), forgotten: make(map[string]time.Time),
	}
}

// objects are those that the watches show and, where there is one, those of the
// newest live list.
func (rs *Records) objects(namespace string) []Objects {
	watched := rs.watched
	for _, w := range rs.bindings {
		watched.Bindings = append(watched.Bindings, w.Stores()...)
	}
	if listed, ok := rs.listed[namespace]; ok {
		return []Objects{watched, listed}
	}
	return []Objects{watched}
}

// Listed takes in a live list of a namespace, and says whether it shows something
// new. Where keep is true the list counts beside the watches, until the next one or
// [Records.DropList]; if it has no Ingresses, those of the list before still count.
func (rs *Records) Listed(namespace string, os Objects, keep bool) (news bool) {
	o := origin{namespace: namespace}
	news = rs.remember(os.records(o)...)
	if keep {
		if os.Ingresses == nil {
			os.Ingresses = rs.listed[namespace].Ingresses
		}
		rs.listed[namespace] = os
	}
	rs.reconcile(o)
	return news
}

// DropList forgets the live list of a namespace.
func (rs *Records) DropList(namespace string) {
	delete(rs.listed, namespace)
	rs.reconcile(origin{namespace: namespace})
}

// BindingChanged takes in what a watch tells. One of the two is nil where the binding
// appears or is gone.
func (rs *Records) BindingChanged(before, after *Binding) {
	rs.changed(bindingRecords(before), bindingRecords(after))
}

// ServiceChanged is [Records.BindingChanged] for a Service.
func (rs *Records) ServiceChanged(before, after *corev1.Service) {
	rs.changed(serviceRecords(before), serviceRecords(after))
}

// IngressChanged is [Records.BindingChanged] for an Ingress.
func (rs *Records) IngressChanged(before, after *networkingv1.Ingress) {
	rs.changed(ingressRecords(before), ingressRecords(after))
}

// changed takes in what one object said and says.
func (rs *Records) changed(before, after []*record) {
	rs.remember(after...) // before was remembered when it came
	if both := slices.Concat(before, after); len(both) > 0 {
		rs.reconcile(both[0].from)
	}
}

// remember keeps what objects say, and tells whether some of it is new.
func (rs *Records) remember(said ...*record) (news bool) {
	for _, r := range said {
		known := rs.records[r.from.namespace]
		if known == nil {
			known = make(map[link]*record)
			rs.records[r.from.namespace] = known
		}
		if old := known[r.link]; old != nil {
			old.binding, old.ingressGroup = r.binding, r.ingressGroup
		} else {
			known[r.link], news = r, true
		}
	}
	return news
}

// reconcile ends the records of an origin that nothing shows any more, and revives
// those that something shows. It looks at the objects itself, so handlers and live
// lists may come in any order.
func (rs *Records) reconcile(o origin) {
	all := rs.objects(o.namespace)
	shown := make(map[link]int)
	for _, os := range all {
		for _, r := range os.records(o) {
			shown[r.link]++
		}
	}
	ended := false
	for _, r := range rs.records[o.namespace] {
		if o.name != "" && r.from != o {
			continue
		}
		n := shown[r.link]
		r.everywhere = n == len(all)
		switch {
		case n > 0:
			r.ended, r.cleared = time.Time{}, false
		case !r.former():
			r.ended, ended = time.Now(), true
		}
	}
	if ended {
		rs.dropExcess()
	}
}

// dropExcess drops what is too much: what is cleared goes first, and then what ended
// first. That a record was dropped that was not cleared is not forgotten: it could
// have concerned a pod.
func (rs *Records) dropExcess() {
	var formers []*record
	for r := range rs.ofBindings() {
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
			rs.forgotten[r.from.namespace] = time.Now()
		}
		rs.drop(r)
	}
}

func (rs *Records) ofBindings() iter.Seq[*record] {
	return func(yield func(*record) bool) {
		for _, known := range rs.records {
			for _, r := range known {
				if r.binding != nil && !yield(r) {
					return
				}
			}
		}
	}
}

func (rs *Records) drop(r *record) {
	known := rs.records[r.from.namespace]
	if delete(known, r.link); len(known) == 0 {
		delete(rs.records, r.from.namespace)
	}
}

// Tidy drops records that have ended and concern no pod any more; of bindings, only
// those that are cleared.
func (rs *Records) Tidy(histories iter.Seq[*History]) {
	pods := make(map[string][]*History) // by the namespaces of what can tie them
	for h := range histories {
		for ns := range h.namespaces() {
			pods[ns] = append(pods[ns], h)
		}
	}
	for ns, known := range rs.records {
		for _, r := range known {
			over := r.former() && time.Since(r.ended) >= keepFormer && (r.cleared || r.binding == nil)
			if over && !slices.ContainsFunc(pods[ns], func(h *History) bool { return r.ties(h, h.born(rs.clock)) }) {
				rs.drop(r)
			}
		}
	}
	for ns, at := range rs.forgotten {
		if !slices.ContainsFunc(pods[ns], func(h *History) bool { return !before(at, h.born(rs.clock)) }) {
			delete(rs.forgotten, ns)
		}
	}
}

// Look takes in a look at the group of a binding: when it began, and whether each
// address that it lists is in rotation. A pod that it lists is tied to the group from
// now on, where a binding of the pod's namespace leads there. Look returns the pods
// that are newly tied.
func (rs *Records) Look(b *Binding, began time.Time, listed map[netip.Addr]bool, histories iter.Seq[*History]) (tied []*History) {
	group := b.group()
	var records []*record
	for r := range rs.ofBindings() {
		if r.spec.group() == group {
			records = append(records, r)
		}
	}
	if !slices.ContainsFunc(records, func(r *record) bool { return !r.swept.Equal(began) }) {
		return nil // it was taken in before: each survey of a wait brings it again
	}
	pods := listedPods(histories, listed)
	for _, r := range records {
		if r.swept.Before(began) {
			r.swept = began
		}
		anyInRotation := false
		for h, inRotation := range pods {
			if h.Namespace != r.from.namespace && !r.ties(h, h.born(rs.clock)) {
				continue
			}
			anyInRotation = anyInRotation || inRotation
			if h.Namespace == r.from.namespace && !slices.Contains(h.listed, group) {
				h.listed = append(h.listed, group)
				tied = append(tied, h)
			}
		}
		r.cleared = r.cleared || r.former() && began.After(r.ended) && !anyInRotation
	}
	return tied
}

// listedPods are the pods and the watched addresses that a look lists, and
// whether any target at their addresses is in rotation.
func listedPods(histories iter.Seq[*History], listed map[netip.Addr]bool) map[*History]bool {
	pods := make(map[*History]bool)
	for h := range histories {
		for _, ip := range h.ips {
			if inRotation, ok := listed[ip]; ok {
				pods[h] = pods[h] || inRotation
			}
		}
	}
	return pods
}

// Unswept lists what the sweep still has to look at, one binding for each group
// whose targets may be pods: those, present or former, that were not looked at since
// the last [kube.Client.Gap]; and former ones that still have a pod in rotation,
// again after a minute. A look counts from Since on. What is due for longest comes
// first.
func (rs *Records) Unswept(gap time.Time) []Candidate {
	order := func(a, b Candidate) int {
		return cmp.Or(a.Since.Compare(b.Since), cmp.Compare(b.Namespace, a.Namespace), cmp.Compare(b.Name, a.Name), cmp.Compare(b.TargetGroupARN, a.TargetGroupARN))
	}
	newest := make(map[groupKey]Candidate)
	for r := range rs.ofBindings() {
		since, ok := r.due(gap)
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
