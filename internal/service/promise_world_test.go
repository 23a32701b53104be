package service_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/timeline"
)

// promise is one random world.
type promise struct {
	seed uint64
	*rand.Rand
	world *servicetest.Bubble
	apps  []*promiseApp
	hit   map[string]int // faults
	// away are the times when the API server's news may not come through: a watch
	// that is cut comes back after some seconds. lagging are the times when news of
	// pods comes late, so that ties of new pods can come and go unseen.
	away, lagging [][2]time.Duration
}

type promiseApp struct {
	sim.App
	*sim.Deployment
	group     *aws.TargetGroup
	second    *aws.TargetGroup                 // of another load balancer, in some
	kinds     []aws.Kind                       // of its load balancers
	publishes bool                             // its Service publishes not-ready addresses
	outerLB   *aws.LoadBalancer                // of second, if an Ingress that is not the controller's leads to it
	graces    map[*sim.PodReport]time.Duration // of the pods that were deleted by hand
	forced    map[*sim.PodReport]bool          // pods whose objects went at once
	edited    bool                             // an edit has not been undone yet
	edits     []time.Duration                  // when somebody edited what ties its pods
}

// settle is the longest settle time of the application's load balancers.
func (a *promiseApp) settle() time.Duration {
	if slices.Contains(a.kinds, aws.NLB) {
		return settleNLB
	}
	return settleALB
}

func newPromise(seed uint64) *promise {
	return &promise{seed: seed, Rand: rand.New(rand.NewPCG(seed, 0)), hit: make(map[string]int)}
}

func (p *promise) between(lo, hi time.Duration) time.Duration {
	return lo + time.Duration(p.Int64N(int64(hi-lo)+1))
}

// span is a range that begins at lo and ends somewhere up to hi.
func (p *promise) span(lo, hi time.Duration) timeline.Range {
	return timeline.Range{Min: lo, Max: p.between(lo, hi)}
}

func (p *promise) assumptions() sim.Assumptions {
	const ms = time.Millisecond
	a := sim.DefaultAssumptions()
	a.AWS.APILatency = p.span(10*ms, 300*ms)
	a.Kube.WatchLag = p.span(2*ms, time.Second)
	a.EndpointLag = p.span(10*ms, time.Second)
	a.KubeletLag = p.span(20*ms, 2*time.Second)
	a.LBC.Lag = p.span(5*ms, 3*time.Second)
	a.AWS.RegistrationTime = p.span(5*time.Second, 60*time.Second)
	a.AWS.DeregistrationDelay = []time.Duration{0, 5 * time.Second, 30 * time.Second, 300 * time.Second}[p.IntN(4)]
	// Within the default settle times, which are judged here: 20 and 120 s.
	a.AWS.Tail = aws.Tail{Name: "random", ALB: p.span(0, 19900*ms), NLB: p.span(0, 119900*ms)}
	return a
}

// named is something that happens in the worlds.
type named interface{ label() string }

func names[T named](all []T) (names []string) {
	for _, x := range all {
		names = append(names, x.label())
	}
	return names
}

// wrong is what goes wrong in a world for some seconds.
type wrong struct {
	name    string
	on, off func(*promise)
	kube    bool // the API server's news may not come through
}

func (w wrong) label() string { return w.name }

var faults = []wrong{
	{"Throttling", awsFault(aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}), noFault, false},
	{"InternalFailure", awsFault(aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}), noFault, false},
	{"Hang", awsFault(aws.Fault{Hang: true}), noFault, false},
	{"Garbled", garbled, noFault, false},
	{"ExpiredToken", func(p *promise) { p.world.AWS.ExpireCredentials(true) }, func(p *promise) { p.world.AWS.ExpireCredentials(false) }, false},
	{"cut watches", counted("cut watches", func(p *promise) { p.world.Kube.CutWatches() }), nothing, true},
	{"expired watches", counted("expired watches", func(p *promise) { p.world.Kube.ExpireWatches() }), nothing, true},
	{"lagging watches", counted("lagging watches", lagSome), func(p *promise) { p.world.Kube.LagWatches("", 0) }, true},
	{"API server away", counted("API server away", func(p *promise) {
		p.world.Kube.CutWatches()
		p.world.Kube.Fail(func(*http.Request) bool { return true }, http.StatusServiceUnavailable)
	}), func(p *promise) { p.world.Kube.Fail(nil, 0) }, true},
	{"leader change", counted("leader change", func(p *promise) { p.world.LBC.ChangeLeader() }), nothing, false},
}

func awsFault(f aws.Fault) func(*promise) {
	return func(p *promise) { p.world.AWS.Fail(fault("", f)) }
}

// garbled makes AWS answer with something that is not an answer.
func garbled(p *promise) {
	bodies := []string{"", "OK", `<?xml version="1.0"?>`, `{"message": "hello"}`, "<html></html>"}
	f := aws.Fault{Garble: garble(bodies[p.IntN(len(bodies))])}
	if p.IntN(3) == 0 {
		f.Garble = func(answer []byte) []byte { return answer[:len(answer)/2] }
	}
	p.world.AWS.Fail(fault("", f))
}

// lagSome makes the watches of one resource, or of all, lag.
func lagSome(p *promise) {
	resources := []string{"", "pods", "services", "endpointslices", "targetgroupbindings", "ingresses"}
	resource, lag := resources[p.IntN(len(resources))], p.between(time.Second, 20*time.Second)
	p.world.Kube.LagWatches(resource, lag)
	if resource == "" || resource == "pods" {
		p.lagging = append(p.lagging, [2]time.Duration{p.world.Now() - time.Minute, p.world.Now() + time.Minute})
	}
}

func noFault(p *promise) { p.world.AWS.Fail(nil) }
func nothing(*promise)   {}

func counted(name string, f func(*promise)) func(*promise) {
	return func(p *promise) { p.hit[name]++; f(p) }
}

// edit is a change that people and controllers make to what ties pods to target groups.
// Afterwards a pod is deleted, and after a while the edit is undone.
type edit struct {
	name string
	does func(*promise, *promiseApp) bool // whether it can be done
	undo func(*promise, *promiseApp)
	// unties says that a pod that the service does not know yet would lose its tie
	// unseen.
	unties bool
}

func (e edit) label() string { return e.name }

var edits = []edit{
	{"binding switched", func(p *promise, a *promiseApp) bool { return p.bind(a, "green") }, func(p *promise, a *promiseApp) { p.bind(a, a.Name) }, false},
	{"binding deleted", func(p *promise, a *promiseApp) bool {
		return p.change(a, func(b *kube.TargetGroupBinding) { p.world.Kube.Delete(b) })
	}, func(p *promise, a *promiseApp) {
		if !p.change(a, func(*kube.TargetGroupBinding) {}) {
			p.world.LBC.AddBinding(a.Namespace, a.Name, a.Name, a.group)
		}
	}, false},
	{"selector switched", func(p *promise, a *promiseApp) bool { return p.selectBy(a, "green") }, func(p *promise, a *promiseApp) { p.selectBy(a, a.Name) }, true},
	{"Service deleted", func(p *promise, a *promiseApp) bool {
		return kube.Edit(p.world.World.Kube, a.Namespace, a.Name, func(s *corev1.Service) { p.world.After(0, func() { p.world.Kube.Delete(s) }) }) == nil
	}, func(p *promise, a *promiseApp) {
		p.world.Kube.AddService(a.Namespace, a.Name, map[string]string{"app": a.Name}, a.Port)
	}, true},
	{"label taken off", func(p *promise, a *promiseApp) bool {
		r := p.alive(a)
		if r == nil {
			return false
		}
		p.world.Kube.SetLabels(r.Namespace, r.Name, map[string]string{"app": "debug", "deployment": a.Name})
		p.world.After(p.between(0, 3*time.Second), func() { p.deleteIn(a, r, a.Grace) })
		return true
	}, func(*promise, *promiseApp) {}, true},
	{"Ingress edited", func(p *promise, a *promiseApp) bool { return a.outerLB != nil && p.route(a, "green") }, func(p *promise, a *promiseApp) { p.route(a, a.Name) }, false},
	{"Ingress deleted", func(p *promise, a *promiseApp) bool {
		return a.outerLB != nil && kube.Edit(p.world.World.Kube, a.Namespace, a.Name+"-outer", func(i *networkingv1.Ingress) { p.world.After(0, func() { p.world.Kube.Remove(i) }) }) == nil
	}, func(p *promise, a *promiseApp) {
		p.world.LBC.AddIngress(a.Namespace, a.Name+"-outer", a.Name, a.outerLB)
	}, false},
	{"slice edited", func(p *promise, a *promiseApp) bool {
		return kube.Edit(p.world.World.Kube, a.Namespace, a.Name+"-ipv4-0", func(x *discoveryv1.EndpointSlice) { x.Endpoints = nil }) == nil
	}, func(*promise, *promiseApp) {}, true}, // the next change of a pod repairs it
}

// change edits the application's binding, if there is one.
func (p *promise) change(a *promiseApp, f func(*kube.TargetGroupBinding)) bool {
	var b *kube.TargetGroupBinding
	if kube.Edit(p.world.World.Kube, a.Namespace, a.Name, func(x *kube.TargetGroupBinding) { b = x }) != nil || b.DeletionTimestamp != nil {
		return false
	}
	f(b)
	return true
}

func (p *promise) bind(a *promiseApp, service string) bool {
	return kube.Edit(p.world.World.Kube, a.Namespace, a.Name, func(b *kube.TargetGroupBinding) { b.Spec.ServiceRef.Name = service }) == nil
}

func (p *promise) selectBy(a *promiseApp, app string) bool {
	return kube.Edit(p.world.World.Kube, a.Namespace, a.Name, func(s *corev1.Service) { s.Spec.Selector = map[string]string{"app": app} }) == nil
}

func (p *promise) route(a *promiseApp, service string) bool {
	return kube.Edit(p.world.World.Kube, a.Namespace, a.Name+"-outer", func(i *networkingv1.Ingress) {
		i.Spec.Rules[0].HTTP.Paths[0].Backend.Service.Name = service
	}) == nil
}

func (p *promise) play(t *testing.T, change func(*service.Config), sum *coverage) {
	cfg := sim.Config{Seed: p.seed, Assumptions: p.assumptions(), NoCheckpoint: p.IntN(5) == 0}
	servicetest.Run(t, cfg, change, func(b *servicetest.Bubble) {
		p.world = b
		b.Kube.AddService("default", "green", map[string]string{"app": "green"}, 8080)
		for i := range 1 + p.IntN(3) {
			p.addApp(i)
		}
		b.Advance(3 * time.Minute) // all are up
		for _, a := range p.apps {
			b.AddClients(a.group, 5)
			if a.second != nil {
				b.AddClients(a.second, 5)
			}
			p.planRollouts(a)
			p.planDeletions(a)
			p.planEdits(a)
			p.planRestarts(a)
			p.planReuse(a)
			p.planLateBinding(a)
		}
		if p.IntN(3) == 0 {
			b.After(p.between(10*time.Minute, 16*time.Minute), func() { p.hit["node shutdown"]++; b.ShutdownNode("node-1") })
		}
		p.planFaults()
		b.Advance(25 * time.Minute)
		p.judge(sum)
	})
}

func (p *promise) addApp(i int) {
	a := &promiseApp{graces: make(map[*sim.PodReport]time.Duration), forced: make(map[*sim.PodReport]bool), kinds: []aws.Kind{aws.ALB}}
	a.App = sim.App{
		Namespace: "default", Name: fmt.Sprint("app-", i), Kind: aws.ALB, Replicas: 2 + p.IntN(4), Port: 8080,
		Grace: []time.Duration{30, 60, 90, 120}[p.IntN(4)] * time.Second,
		Hook: sim.Hook{
			URL: servicetest.URL, MaxDelay: []time.Duration{30, 60, 90}[p.IntN(3)] * time.Second,
			ByAddress: p.IntN(2) == 0, Delay: p.between(0, 5*time.Second), Fallback: 25 * time.Second,
		},
	}
	if p.IntN(3) == 0 {
		a.Kind, a.kinds = aws.NLB, []aws.Kind{aws.NLB}
	}
	second := p.IntN(3) // a second load balancer: none, through a binding, or through a host name only
	kind := []aws.Kind{aws.ALB, aws.NLB}[p.IntN(2)]
	if second == 2 {
		kind = aws.ALB // an Ingress with an NLB belongs to an ingress controller
	}
	if second > 0 {
		a.kinds = append(a.kinds, kind)
	}
	if slices.Contains(a.kinds, aws.NLB) {
		a.Grace, a.Hook.MaxDelay = p.between(180*time.Second, 240*time.Second).Round(time.Second), 180*time.Second
	}
	a.Deployment, a.group = p.world.AddApp(a.App)
	p.addSecond(a, second, kind)
	if p.IntN(6) == 0 {
		a.publishes = true
		_ = kube.Edit(p.world.World.Kube, a.Namespace, a.Name, func(s *corev1.Service) { s.Spec.PublishNotReadyAddresses = true })
	}
	p.apps = append(p.apps, a)
}

// addSecond puts a second load balancer in front of an application, through a binding or
// through an Ingress whose controller shows no binding.
func (p *promise) addSecond(a *promiseApp, how int, kind aws.Kind) {
	if how == 0 {
		return
	}
	name := a.Name + "-second"
	lb := p.world.AWS.AddLoadBalancer(name, kind)
	delay := []time.Duration{0, 30 * time.Second, 300 * time.Second}[p.IntN(3)]
	a.second = p.world.AWS.AddGroup(aws.TargetGroupSpec{Name: name, Port: a.Port, Balancer: lb, DeregistrationDelay: &delay})
	if how == 1 {
		p.world.LBC.AddBinding(a.Namespace, name, a.Name, a.second)
		return
	}
	a.outerLB = lb
	p.world.LBC.AddHiddenBinding(a.Namespace, name, a.Name, a.second)
	p.world.LBC.AddIngress(a.Namespace, a.Name+"-outer", a.Name, lb)
}

// planRollouts rolls an application three times in twelve minutes.
func (p *promise) planRollouts(a *promiseApp) {
	for i := range 3 {
		p.world.After(p.between(0, 3*time.Minute)+time.Duration(i)*5*time.Minute, func() { p.world.Rollout(a.Deployment, nil, nil) })
	}
}

// planEdits edits what ties the application's pods to its target groups, six times in
// eighteen minutes. Each time it deletes a pod within eight seconds, and undoes the edit
// after a minute or more.
func (p *promise) planEdits(a *promiseApp) {
	for i := range 6 {
		e := edits[p.IntN(len(edits))]
		at := time.Duration(i)*3*time.Minute + p.between(0, time.Minute)
		p.world.After(at, func() {
			if a.edited || p.isAway() || e.unties && p.during(p.lagging) || !e.does(p, a) {
				return
			}
			p.hit[e.name]++
			a.edited, a.edits = true, append(a.edits, p.world.Now())
			p.world.After(p.between(0, 8*time.Second), func() {
				if r := p.alive(a); r != nil {
					p.deleteIn(a, r, a.Grace)
				}
			})
			p.undo(a, e, p.between(60*time.Second, 90*time.Second))
		})
	}
}

// undo undoes an edit when the API server is there.
func (p *promise) undo(a *promiseApp, e edit, after time.Duration) {
	p.world.After(after, func() {
		if p.isAway() {
			p.undo(a, e, 5*time.Second)
			return
		}
		a.edits = append(a.edits, p.world.Now())
		e.undo(p, a)
		a.edited = false
	})
}

// alive is a pod of the application that nobody has deleted, nil if there is none.
func (p *promise) alive(a *promiseApp) *sim.PodReport {
	var alive []*sim.PodReport
	for _, r := range p.world.Pods() {
		if r.Deleted == 0 && r.Gone == 0 && r.Asked == 0 && strings.HasPrefix(r.Name, a.Name+"-") {
			alive = append(alive, r)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	return alive[p.IntN(len(alive))]
}

// planDeletions deletes pods by hand, some with another grace period, and some twice, the
// second time with a shorter one.
func (p *promise) planDeletions(a *promiseApp) {
	for range 4 {
		p.world.After(p.between(0, 15*time.Minute), func() {
			r := p.alive(a)
			if r == nil {
				return
			}
			grace := a.Grace
			if p.IntN(3) == 0 {
				grace = p.between(10*time.Second, a.Grace).Round(time.Second)
			}
			p.deleteIn(a, r, grace)
			if p.IntN(3) == 0 {
				shorter := p.between(10*time.Second, grace).Round(time.Second)
				p.world.After(p.between(0, 20*time.Second), func() {
					inTime := r.Deleted+shorter*4/5 > p.world.Now()+3*time.Second && !p.isAway() && !p.during(p.lagging) // else nobody can answer in time
					if r.Gone == 0 && inTime {
						p.deleteIn(a, r, shorter)
					}
				})
			}
		})
	}
}

// planRestarts restarts containers, as failed liveness probes do.
func (p *promise) planRestarts(a *promiseApp) {
	p.world.After(p.between(0, 15*time.Minute), func() {
		if r := p.alive(a); r != nil {
			p.hit["restart"]++
			p.world.RestartContainer(r.Namespace, r.Name)
		}
	})
}

// planReuse deletes a pod and, as soon as it is gone, gives its name and its
// address to a new one, as a StatefulSet and a short supply of addresses do.
func (p *promise) planReuse(a *promiseApp) {
	spec := sim.PodSpec{
		Namespace: a.Namespace, Name: a.Name + "-set-0", Labels: map[string]string{"app": a.Name},
		Port: a.Port, Grace: a.Grace, Hook: a.Hook,
	}
	first := p.world.AddPod(spec)
	spec.Addresses = first.IPs
	for i := range 3 {
		p.world.After(time.Duration(4*i+4)*time.Minute+p.between(0, time.Minute), func() { p.again(a, spec) })
	}
}

func (p *promise) again(a *promiseApp, spec sim.PodSpec) {
	i := slices.IndexFunc(p.world.Pods(), func(r *sim.PodReport) bool { return r.Name == spec.Name && r.Gone == 0 })
	if i < 0 {
		return
	}
	r := p.world.Pods()[i]
	if p.IntN(3) == 0 { // its processes and its hook go on next to the new pod
		p.hit["made anew by force"]++
		_ = p.world.ForceDelete(r.Namespace, r.Name)
		a.forced[r] = true
		spec.Addresses = nil
		p.world.AddPod(spec)
		return
	}
	p.deleteIn(a, r, a.Grace)
	var recreate func()
	recreate = func() {
		if r.Gone == 0 || p.isAway() {
			p.world.After(time.Second, recreate)
			return
		}
		p.hit["name and address used again"]++
		if p.IntN(3) == 0 {
			p.behindTheWatch(a, spec)
			return
		}
		p.world.AddPod(spec)
	}
	p.world.After(time.Second, recreate)
}

// behindTheWatch makes the new pod, and deletes it, while the watch of pods is so
// far behind that it still shows the old one at the address.
func (p *promise) behindTheWatch(a *promiseApp, spec sim.PodSpec) {
	p.hit["pod too new for the watch"]++
	p.world.Kube.LagWatches("pods", 3*time.Minute)
	p.lagging = append(p.lagging, [2]time.Duration{p.world.Now(), p.world.Now() + 4*time.Minute})
	r := p.world.AddPod(spec)
	p.world.After(p.between(90*time.Second, 2*time.Minute), func() {
		if !p.isAway() {
			p.deleteIn(a, r, a.Grace)
		}
	})
	p.world.After(3*time.Minute, func() { p.world.Kube.LagWatches("pods", 0) })
}

// planLateBinding also puts an application behind an NLB, while the watch of bindings is
// behind, and deletes a pod before the watch shows the binding.
func (p *promise) planLateBinding(a *promiseApp) {
	if a.settle() != settleALB || p.IntN(2) == 0 {
		return
	}
	p.world.After(p.between(16*time.Minute, 18*time.Minute), func() {
		if p.isAway() || a.edited {
			return
		}
		p.hit["binding too new for the watch"]++
		a.kinds = append(a.kinds, aws.NLB)
		p.world.Kube.LagWatches("targetgroupbindings", 4*time.Minute)
		late := p.world.AWS.AddTargetGroup(a.Name+"-late", a.Port, p.world.AWS.AddLoadBalancer(a.Name+"-late", aws.NLB))
		p.world.LBC.AddBinding(a.Namespace, a.Name+"-late", a.Name, late)
		p.world.AddClients(late, 5)
		p.world.After(p.between(90*time.Second, 2*time.Minute), func() {
			if r := p.alive(a); r != nil && !p.isAway() {
				p.deleteIn(a, r, a.Grace)
			}
		})
		p.world.After(4*time.Minute, func() { p.world.Kube.LagWatches("targetgroupbindings", 0) })
	})
}

func (p *promise) isAway() bool { return p.during(p.away) }

func (p *promise) during(windows [][2]time.Duration) bool {
	return slices.ContainsFunc(windows, func(w [2]time.Duration) bool { return w[0] < p.world.Now() && p.world.Now() < w[1] })
}

func (p *promise) deleteIn(a *promiseApp, r *sim.PodReport, grace time.Duration) {
	if err := p.world.DeletePodIn(r.Namespace, r.Name, grace); err != nil {
		return // it has gone by itself
	}
	if g, ok := a.graces[r]; !ok || grace < g {
		a.graces[r] = grace
	}
}

// planFaults plans one of each in turn, so that they do not end each other.
func (p *promise) planFaults() {
	at := time.Duration(0)
	for range 2 {
		for _, i := range p.Perm(len(faults)) {
			at += p.between(10*time.Second, 45*time.Second)
			f, lasts := faults[i], p.between(time.Second, 8*time.Second)
			p.world.After(at, func() { f.on(p) })
			if f.kube {
				now := p.world.Now() + at
				p.away = append(p.away, [2]time.Duration{now - 2*time.Second, now + lasts + 15*time.Second})
			}
			at += lasts
			p.world.After(at, func() { f.off(p) })
		}
	}
}
