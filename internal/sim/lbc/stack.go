package lbc

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

// DeleteIngress deletes an Ingress, as a user would. LBC then deletes the load balancers
// that its status names, with everything that belongs to them: the targets are
// deregistered, the load balancer goes, then the group, the bindings and the Ingress;
// see [Assumptions] for when. Without a leader this waits for the next one. If another
// Ingress names a load balancer as well, the load balancer stays, and so does what
// belongs to the other Ingress's Services.
func (l *Controller) DeleteIngress(namespace, name string) {
	i, ok := kube.Get[networkingv1.Ingress](l.cluster, namespace, name)
	if !ok {
		return
	}
	if !slices.Contains(i.Finalizers, ingressFinalizer) {
		i.Finalizers = append(i.Finalizers, ingressFinalizer)
		l.cluster.Apply(i)
	}
	l.cluster.Delete(i)
}

// IngressChanged makes LBC delete the load balancer of an Ingress that is being
// deleted.
func (l *Controller) IngressChanged(i *networkingv1.Ingress) {
	k := key(i.Namespace, i.Name)
	if i.DeletionTimestamp == nil || !slices.Contains(i.Finalizers, ingressFinalizer) || !l.led() || l.stacks[k] {
		return
	}
	l.stacks[k] = true
	l.stackStep(0, func() { l.deleteStack(i) })
}

// resumeStacks goes on with what an earlier leader has not finished.
func (l *Controller) resumeStacks() {
	for _, i := range kube.List[networkingv1.Ingress](l.cluster, "") {
		l.IngressChanged(i)
	}
}

// stackStep runs f after d unless the leader was lost meanwhile.
func (l *Controller) stackStep(d time.Duration, f func()) {
	term := l.term
	l.line.After(d, func() {
		if l.term == term {
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

func (l *Controller) deleteStack(i *networkingv1.Ingress) {
	as, s := l.Assumptions, l.stackOf(i)
	for _, k := range s.bindings {
		l.busy[k] = true // so that the workers leave it alone
		if b := l.binding(k); b != nil {
			l.cluster.Delete(b)
		}
	}
	l.stackStep(as.StackDeregister, func() {
		for _, g := range s.groups {
			l.pods.Leaving(g, l.account.DeregisterTargets(g, g.Registered()))()
		}
		for _, k := range s.bindings {
			l.dropBinding(k)
		}
	})
	l.stackStep(as.StackDeleteBalancer, func() {
		for _, lb := range s.balancers {
			l.account.DeleteLoadBalancer(lb)
		}
	})
	l.stackStep(as.StackDeleteGroup, func() {
		for _, g := range s.groups {
			l.account.ForgetGroup(g)
		}
		delete(l.stacks, key(i.Namespace, i.Name))
		_ = kube.Edit(l.cluster, i.Namespace, i.Name, func(i *networkingv1.Ingress) { // or somebody has stripped it
			i.Finalizers = slices.DeleteFunc(i.Finalizers, func(f string) bool { return f == ingressFinalizer })
		})
	})
}

// dropBinding removes LBC's finalizer from a binding whose targets it has deregistered.
func (l *Controller) dropBinding(k bindingKey) {
	delete(l.owned, k)
	delete(l.busy, k)
	if b := l.binding(k); b != nil {
		b.Finalizers = slices.DeleteFunc(b.Finalizers, func(f string) bool { return f == bindingFinalizer })
		l.cluster.Apply(b)
	}
	l.work()
}

// stackOf finds what must go with an Ingress. The groups of bindings decide, not their
// labels: nobody knows the labels of EKS Auto Mode.
func (l *Controller) stackOf(i *networkingv1.Ingress) stack {
	var s stack
	balancers := l.balancersOf(i)
	others := make(map[string]bool) // Services of other Ingresses of these load balancers
	for _, lb := range balancers {
		shared := false
		for _, other := range kube.List[networkingv1.Ingress](l.cluster, "") {
			if other != i && other.DeletionTimestamp == nil && slices.Contains(l.balancersOf(other), lb) {
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
	for _, b := range kube.List[kube.TargetGroupBinding](l.cluster, "") {
		g, err := l.groupOf(b)
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
func (l *Controller) balancersOf(i *networkingv1.Ingress) []*aws.LoadBalancer {
	var found []*aws.LoadBalancer
	for _, lb := range l.account.Balancers() {
		if slices.ContainsFunc(i.Status.LoadBalancer.Ingress, func(x networkingv1.IngressLoadBalancerIngress) bool {
			return strings.EqualFold(x.Hostname, lb.DNSName())
		}) {
			found = append(found, lb)
		}
	}
	return found
}

// backends are the Services in the rules of an Ingress.
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

// SwitchBackend makes an Ingress lead to another Service, as a user would. LBC follows: it
// makes a group, changes the rules, makes a binding for the new Service, and right after
// that deletes the old binding and its group. Its workers then register and deregister.
// Without a leader this waits for the next one. SwitchBackend returns the new group, which
// exists at once. A node of the load balancer learns of the new rules when the last of the
// old targets leaves its view.
func (l *Controller) SwitchBackend(namespace, ingress, service string) *aws.TargetGroup {
	i, ok := kube.Get[networkingv1.Ingress](l.cluster, namespace, ingress)
	if !ok || len(l.balancersOf(i)) == 0 {
		panic(fmt.Sprintf("sim: no Ingress %s/%s with a load balancer", namespace, ingress))
	}
	lb, before := l.balancersOf(i)[0], backends(i)
	var old []*kube.TargetGroupBinding
	for _, b := range kube.List[kube.TargetGroupBinding](l.cluster, namespace) {
		if g, err := l.groupOf(b); err == nil && g.Balancer() == lb && slices.Contains(before, b.Spec.ServiceRef.Name) {
			old = append(old, b)
		}
	}
	port := 80
	if len(old) > 0 {
		g, _ := l.groupOf(old[0]) // it was just found
		port = g.Port()
	}
	group := l.account.AddTargetGroup(fmt.Sprintf("k8s-%s-%s-%d", namespace, service, l.cluster.Revision()), port, lb)
	_ = kube.Edit(l.cluster, namespace, ingress, func(i *networkingv1.Ingress) { // it was just found
		for _, r := range i.Spec.Rules {
			for p := range r.HTTP.Paths {
				r.HTTP.Paths[p].Backend.Service.Name = service
			}
		}
	})
	l.whenLed(func() { l.followBackend(namespace, service, group, old) })
	return group
}

// whenLed runs f after LBC's lag, or when there is a leader.
func (l *Controller) whenLed(f func()) {
	l.line.After(l.line.Draw(l.Assumptions.Lag, "controller", "stack"), func() {
		if l.led() {
			f()
		} else {
			l.backlog = append(l.backlog, f)
		}
	})
}

// followBackend is LBC's part of a changed backend. The order is that of LBC
// pkg/deploy/elbv2/target_group_binding_synthesizer.go: new bindings are made in
// the first pass over a stack, old ones deleted in the second.
func (l *Controller) followBackend(namespace, service string, group *aws.TargetGroup, old []*kube.TargetGroupBinding) {
	for _, b := range old {
		if g, err := l.groupOf(b); err == nil {
			g.LeadTo(group)
		}
	}
	name := service
	for n := 2; l.binding(bindingKey{kube.GroupELBv2, namespace, name}) != nil; n++ {
		name = fmt.Sprint(service, "-", n)
	}
	l.AddBinding(namespace, name, service, group)
	l.line.After(l.line.Draw(l.cluster.Assumptions.Latency, "controller", "stack"), func() {
		for _, b := range old {
			g, err := l.groupOf(b)
			l.cluster.Delete(b)
			if err == nil {
				l.forgetGroupAfter(g, keyOf(b))
			}
		}
	})
}

// forgetGroupAfter deletes a group when its binding is gone.
func (l *Controller) forgetGroupAfter(g *aws.TargetGroup, k bindingKey) {
	l.line.After(l.line.Draw(l.account.Assumptions.APILatency, "controller", "stack"), func() {
		if l.binding(k) != nil {
			l.forgetGroupAfter(g, k)
		} else {
			l.account.ForgetGroup(g)
		}
	})
}

func key(namespace, name string) string { return namespace + "/" + name }
