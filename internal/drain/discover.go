package drain

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"drainwait/internal/cluster"
	"drainwait/internal/elb"
)

// askFor is how long one question beside a wait may take before its trouble is
// noted and it is asked again.
const askFor = 3 * time.Second

// discover adds what candidates there are now. None is ever taken away because
// the cluster says so: a binding that is gone does not show that the load
// balancer has let go.
func (w *wait) discover() {
	certain := false
	for _, b := range w.bindings() {
		certain = certain || b.Certain
		about := fmt.Sprintf("TargetGroupBinding %s/%s", b.Namespace, b.Name)
		c := candidate{
			group:   elb.Group{ARN: b.TargetGroupARN, RoleARN: b.RoleARN, ExternalID: b.ExternalID},
			kind:    elb.TypeOfProtocol(b.Protocol),
			certain: b.Certain, ports: b.Ports, keeps: b.PublishesNotReady,
		}
		known := b.TargetGroupARN != "" && b.TargetType != ""
		if known {
			w.follow(about, c, b.TargetType)
		}
		if !known || b.TargetType == cluster.TypeIP && c.kind == "" {
			w.describe(about, b.TargetGroupName, c, known)
		}
	}
	for _, name := range w.request.Ingresses {
		if !w.cluster.HasIngress(w.namespace, name) {
			w.missing = add(w.missing, name)
			w.warn("there is no Ingress %s/%s", w.namespace, name)
		}
	}
	// Bindings are the way where there are any. Host names are the way where
	// load balancers are not the controller's, or it hides its bindings.
	if len(w.cluster.Bindings(w.namespace)) == 0 || !certain && len(w.request.Ingresses) > 0 {
		w.discoverHostnames()
	}
}

// bindings are those that may hold the pod; for an address that no pod has, all
// of the namespace.
func (w *wait) bindings() []cluster.Candidate {
	if w.pod != nil {
		return w.cluster.Candidates(w.pod)
	}
	var all []cluster.Candidate
	for _, b := range w.cluster.Bindings(w.namespace) {
		all = append(all, cluster.Candidate{Binding: b})
	}
	return all
}

// describe asks ELBv2 what a binding does not say: the group's ARN, its target
// type or, where the first two are known, the type of its load balancer.
func (w *wait) describe(about, name string, c candidate, known bool) {
	if !w.once(about, c.certain) {
		return
	}
	g := c.group
	if g.ARN == "" {
		g.Name = name
	}
	w.ask(about, func(ctx context.Context) ([]elb.GroupInfo, error) {
		info, err := w.elb.Describe(ctx, g)
		return []elb.GroupInfo{info}, err
	}, func(infos []elb.GroupInfo, err error) error {
		switch {
		case err == nil && known:
			w.learn(infos[0])
		case err == nil:
			c.group, c.kind = infos[0].Group, infos[0].Type
			w.follow(about, c, infos[0].TargetType)
		case known:
			w.warn("%s: the load balancer's type cannot be told, so the longer settle time counts: %v", about, err)
		case c.certain:
			return fmt.Errorf("%w: %s: %w", ErrRefused, about, err)
		default:
			w.warn("%s: %v", about, err)
		}
		return nil
	})
}

// learn settles the type of a candidate's load balancer.
func (w *wait) learn(info elb.GroupInfo) {
	if c := w.candidates[info.Group]; c != nil {
		c.kind, c.settle = info.Type, w.settle(info.Type)
	}
}

// discoverHostnames finds candidates by the host names of the load balancers
// that Ingresses and Services of the namespace show.
func (w *wait) discoverHostnames() {
	names, noAddress := w.cluster.Hostnames(w.namespace, w.pod)
	w.noAddress = noAddress
	for _, h := range names {
		about := fmt.Sprintf("%s (%s)", h.From, h.Name)
		if !w.once(about, h.Certain) {
			continue
		}
		w.ask(about, func(ctx context.Context) ([]elb.GroupInfo, error) {
			return w.elb.Behind(ctx, h.Name)
		}, func(groups []elb.GroupInfo, err error) error {
			switch {
			case errors.Is(err, elb.ErrNoLoadBalancer):
				if h.Certain {
					w.unsupported = add(w.unsupported, about+": ELBv2 knows no such load balancer in this account and Region")
				}
				w.warn("%s: %v", about, err)
			case err != nil && h.Certain:
				return fmt.Errorf("%w: %s: %w", ErrRefused, about, err)
			case err != nil:
				w.warn("%s: %v", about, err)
			}
			for _, g := range groups {
				// LBC puts Ingresses behind ALBs. A network load balancer in the
				// status of an Ingress is that of another ingress controller,
				// whose targets are the controller's pods, or stands in front of
				// the ALB; so it does not concern our pod unless it lists it.
				certain := h.Certain && (!h.Ingress || g.Type != elb.NLB)
				w.follow(about, candidate{group: g.Group, kind: g.Type, certain: certain}, g.TargetType)
			}
			return nil
		})
	}
}

// once says whether this is the first question about something that is certain
// to hold the pod, or is not.
func (w *wait) once(about string, certain bool) bool {
	key := fmt.Sprintf("%s %t", about, certain)
	first := !w.asked[key]
	w.asked[key] = true
	return first
}

// ask puts a question to ELBv2 beside the wait; take gets the answer, or the
// error that decides. Trouble that passes is noted, and the question is asked
// again.
func (w *wait) ask(about string, question func(context.Context) ([]elb.GroupInfo, error), take func([]elb.GroupInfo, error) error) {
	w.asking++
	w.beside(func(ctx context.Context) func() error {
		ctx, cancel := context.WithTimeout(ctx, askFor)
		defer cancel()
		groups, err := question(ctx)
		return func() error {
			w.asking--
			if err != nil && !elb.Decides(err) {
				w.troubles[about] = fmt.Errorf("%s: %w", about, err)
				w.ask(about, question, take)
				return nil
			}
			delete(w.troubles, about)
			return take(groups, err)
		}
	})
}

// follow adds a group as a candidate if it has ip targets. What was taken for
// uncertain before can become certain.
func (w *wait) follow(about string, c candidate, targetType string) {
	switch targetType {
	case cluster.TypeIP:
	case "instance":
		if c.certain {
			why := about + " has instance targets, which cannot be seen to leave; set target-type: ip"
			w.unsupported = add(w.unsupported, why)
			w.warn("%s", why)
		}
		return
	default:
		return // "alb": the group of a load balancer in front of another; "lambda": no pods
	}
	old := w.candidates[c.group]
	switch {
	case old != nil:
		old.join(c)
		return
	case !c.certain && w.dropped[c.group]:
		return
	}
	c.settle = w.settle(c.kind)
	c.since, c.onStep = time.Now(), w.request.OnStep
	c.sub = w.elb.Subscribe(c.group, w.lookWake)
	w.candidates[c.group] = &c
}

// settle is the settle time of this wait for a load balancer type.
func (w *wait) settle(t elb.Type) time.Duration {
	if w.request.Settle != nil {
		return *w.request.Settle
	}
	return w.cfg.settle(t)
}

// update takes in what the pollers have found. An uncertain candidate becomes
// certain where it lists the pod, and is dropped otherwise. The error is one
// that decides the wait.
func (w *wait) update() error {
	for _, c := range w.sorted() {
		never := w.pod != nil && w.pod.NeverReady && !c.keeps
		err := c.update(w.began, w.ips, never)
		switch {
		case err != nil && c.certain:
			return fmt.Errorf("%w: %w", ErrRefused, err)
		case err != nil:
			w.warn("%v", err)
			w.drop(c)
			continue
		case !c.certain && c.look != nil && !c.listed:
			w.drop(c)
			continue
		}
		c.certain = c.certain || c.listed
		c.confirm()
	}
	return nil
}

func (w *wait) drop(c *candidate) {
	c.sub.Close()
	delete(w.candidates, c.group)
	w.dropped[c.group] = true
}

// nothing is the outcome where there is no candidate.
func (w *wait) nothing() (Outcome, error) {
	var named []string
	for _, name := range w.missing {
		named = append(named, "Ingress "+w.namespace+"/"+name+", which does not exist")
	}
	switch {
	case len(w.unsupported) > 0:
		return "", fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(w.unsupported, "; "))
	case w.pod == nil:
		return "", fmt.Errorf("%w: no pod has the address %s, and no target group of namespace %s holds it", ErrNotFound, w.request.IP, w.namespace)
	case len(w.noAddress) > 0:
		return "", fmt.Errorf("%w: %s has neither an address nor a TargetGroupBinding: its load balancer cannot be told", ErrNotFound, strings.Join(w.noAddress, ", "))
	case len(named) > 0:
		return "", fmt.Errorf("%w: nothing but ingress= leads to a target group of the pod, and it names %s", ErrNotFound, strings.Join(named, ", "))
	default:
		return NotRegistered, nil
	}
}

func add(list []string, s string) []string {
	if slices.Contains(list, s) {
		return list
	}
	return append(list, s)
}
