package sim

import (
	"fmt"
	"slices"
	"strings"
	"time"

	networkingv1 "k8s.io/api/networking/v1"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
)

// ingressFinalizer keeps an Ingress until LBC has deleted its load balancer. LBC
// controllers/ingress/group_controller.go.
const ingressFinalizer = "ingress.k8s.aws/resources"

// DeleteIngress deletes an Ingress, as a user would, and has LBC delete the load
// balancers that its status names with all that belongs to them: its targets are
// deregistered, the load balancer goes, then the group, the bindings and the
// Ingress; see [Assumptions] for when. Without a leader that waits for the next. A
// load balancer that another Ingress names as well stays, and what belongs to the
// other's Services.
func (w *World) DeleteIngress(namespace, name string) {
	i, ok := kube.Get[networkingv1.Ingress](w.Kube, namespace, name)
	if !ok {
		return
	}
	if !slices.Contains(i.Finalizers, ingressFinalizer) {
		i.Finalizers = append(i.Finalizers, ingressFinalizer)
		w.Kube.Apply(i)
	}
	w.Kube.Delete(i)
}

// ingressChanged has LBC delete the load balancer of an Ingress that is being
// deleted.
func (w *World) ingressChanged(i *networkingv1.Ingress) {
	k := key(i.Namespace, i.Name)
	if i.DeletionTimestamp == nil || !slices.Contains(i.Finalizers, ingressFinalizer) || !w.led() || w.lbc.stacks[k] {
		return
	}
	w.lbc.stacks[k] = true
	w.stackStep(0, func() { w.deleteStack(i) })
}

// resumeStacks goes on with what an earlier leader has not ended.
func (w *World) resumeStacks() {
	for _, i := range kube.List[networkingv1.Ingress](w.Kube, "") {
		w.ingressChanged(i)
	}
}

// stackStep runs f after d unless the leader was lost meanwhile.
func (w *World) stackStep(d time.Duration, f func()) {
	term := w.lbc.term
	w.After(d, func() {
		if w.lbc.term == term {
			f()
		}
	})
}

// stack is what LBC made for an Ingress.
type stack struct {
	balancers []*aws.LoadBalancer // that no other Ingress names
	groups    []*aws.TargetGroup
	bindings  []bindingKey
}

func (w *World) deleteStack(i *networkingv1.Ingress) {
	as, s := &w.cfg.Assumptions, w.stackOf(i)
	for _, k := range s.bindings {
		w.lbc.busy[k] = true // the workers leave it alone
		if b := w.binding(k); b != nil {
			w.Kube.Delete(b)
		}
	}
	w.stackStep(as.StackDeregister, func() {
		for _, g := range s.groups {
			for _, p := range w.deregister(g, g.Registered()) {
				p.deregistered(w.Present(), true)
			}
		}
		for _, k := range s.bindings {
			w.dropBinding(k)
		}
	})
	w.stackStep(as.StackDeleteBalancer, func() {
		for _, lb := range s.balancers {
			w.AWS.DeleteLoadBalancer(lb)
		}
	})
	w.stackStep(as.StackDeleteGroup, func() {
		for _, g := range s.groups {
			w.AWS.ForgetGroup(g)
		}
		delete(w.lbc.stacks, key(i.Namespace, i.Name))
		_ = kube.Edit(w.Kube, i.Namespace, i.Name, func(i *networkingv1.Ingress) { // or somebody has stripped it
			i.Finalizers = slices.DeleteFunc(i.Finalizers, func(f string) bool { return f == ingressFinalizer })
		})
	})
}

// dropBinding takes LBC's finalizer off a binding whose targets it has deregistered.
func (w *World) dropBinding(k bindingKey) {
	delete(w.lbc.owned, k)
	delete(w.lbc.busy, k)
	if b := w.binding(k); b != nil {
		b.Finalizers = slices.DeleteFunc(b.Finalizers, func(f string) bool { return f == bindingFinalizer })
		w.Kube.Apply(b)
	}
	w.work()
}

// stackOf finds what is to go with an Ingress. Bindings count by their groups, not
// by their labels: nobody knows those of EKS Auto Mode.
func (w *World) stackOf(i *networkingv1.Ingress) stack {
	var s stack
	balancers := w.balancersOf(i)
	others := make(map[string]bool) // Services of other Ingresses of these load balancers
	for _, lb := range balancers {
		shared := false
		for _, other := range kube.List[networkingv1.Ingress](w.Kube, "") {
			if other != i && other.DeletionTimestamp == nil && slices.Contains(w.balancersOf(other), lb) {
				shared = true
				for _, service := range backends(other) {
					others[key(other.Namespace, service)] = true
				}
			}
		}
		if !shared {
			s.balancers = append(s.balancers, lb)
		}
	}
	for _, b := range kube.List[kube.TargetGroupBinding](w.Kube, "") {
		g, err := w.groupOf(b)
		if err != nil || g.Balancer() == nil || !slices.Contains(balancers, g.Balancer()) {
			continue
		}
		if slices.Contains(s.balancers, g.Balancer()) || !others[key(b.Namespace, b.Spec.ServiceRef.Name)] {
			s.groups, s.bindings = append(s.groups, g), append(s.bindings, keyOf(b))
		}
	}
	return s
}

// balancersOf are the load balancers that an Ingress names in its status.
func (w *World) balancersOf(i *networkingv1.Ingress) []*aws.LoadBalancer {
	var found []*aws.LoadBalancer
	for _, lb := range w.AWS.Balancers() {
		if slices.ContainsFunc(i.Status.LoadBalancer.Ingress, func(x networkingv1.IngressLoadBalancerIngress) bool {
			return strings.EqualFold(x.Hostname, lb.DNSName())
		}) {
			found = append(found, lb)
		}
	}
	return found
}

// backends are the Services of an Ingress' rules.
func backends(i *networkingv1.Ingress) []string {
	var names []string
	for _, r := range i.Spec.Rules {
		if r.HTTP == nil {
			continue
		}
		for _, p := range r.HTTP.Paths {
			if p.Backend.Service != nil {
				names = append(names, p.Backend.Service.Name)
			}
		}
	}
	return names
}

// SwitchBackend has an Ingress lead to another Service, as a user would, and LBC
// follow: it makes a group, changes the rules, makes a binding for the new Service,
// and right after that deletes the old binding and its group. Its workers then
// register and deregister. Without a leader that waits for the next. It returns the
// new group, which there is at once. Of the rules a node of the load balancer learns
// when the last of the old targets leaves its view.
func (w *World) SwitchBackend(namespace, ingress, service string) *aws.TargetGroup {
	i, ok := kube.Get[networkingv1.Ingress](w.Kube, namespace, ingress)
	if !ok || len(w.balancersOf(i)) == 0 {
		panic(fmt.Sprintf("sim: no Ingress %s/%s with a load balancer", namespace, ingress))
	}
	lb, before := w.balancersOf(i)[0], backends(i)
	var old []*kube.TargetGroupBinding
	for _, b := range kube.List[kube.TargetGroupBinding](w.Kube, namespace) {
		if g, err := w.groupOf(b); err == nil && g.Balancer() == lb && slices.Contains(before, b.Spec.ServiceRef.Name) {
			old = append(old, b)
		}
	}
	port := 80
	if len(old) > 0 {
		g, _ := w.groupOf(old[0]) // it was just found
		port = g.Port()
	}
	group := w.AWS.AddTargetGroup(fmt.Sprintf("k8s-%s-%s-%d", namespace, service, w.Kube.Revision()), port, lb)
	_ = kube.Edit(w.Kube, namespace, ingress, func(i *networkingv1.Ingress) { // it was just found
		for _, r := range i.Spec.Rules {
			for p := range r.HTTP.Paths {
				r.HTTP.Paths[p].Backend.Service.Name = service
			}
		}
	})
	w.whenLed(func() { w.followBackend(namespace, service, group, old) })
	return group
}

// whenLed runs f after LBC's lag, or when there is a leader.
func (w *World) whenLed(f func()) {
	w.After(w.Draw(w.cfg.Assumptions.ControllerLag, "controller", "stack"), func() {
		if w.led() {
			f()
		} else {
			w.lbc.backlog = append(w.lbc.backlog, f)
		}
	})
}

// followBackend is LBC's part of a changed backend. The order is that of LBC
// pkg/deploy/elbv2/target_group_binding_synthesizer.go: new bindings are made in
// the first pass over a stack, old ones deleted in the second.
func (w *World) followBackend(namespace, service string, group *aws.TargetGroup, old []*kube.TargetGroupBinding) {
	for _, b := range old {
		if g, err := w.groupOf(b); err == nil {
			g.LeadTo(group)
		}
	}
	name := service
	for n := 2; w.binding(bindingKey{kube.GroupELBv2, namespace, name}) != nil; n++ {
		name = fmt.Sprint(service, "-", n)
	}
	w.AddBinding(namespace, name, service, group)
	w.After(w.Draw(w.cfg.Assumptions.Kube.KubeLatency, "controller", "stack"), func() {
		for _, b := range old {
			g, err := w.groupOf(b)
			w.Kube.Delete(b)
			if err == nil {
				w.forgetGroupAfter(g, keyOf(b))
			}
		}
	})
}

// forgetGroupAfter deletes a group when its binding is gone.
func (w *World) forgetGroupAfter(g *aws.TargetGroup, k bindingKey) {
	w.After(w.Draw(w.cfg.Assumptions.AWS.APILatency, "controller", "stack"), func() {
		if w.binding(k) != nil {
			w.forgetGroupAfter(g, k)
		} else {
			w.AWS.ForgetGroup(g)
		}
	})
}
