package drain

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"drainwait/internal/cluster"
	"drainwait/internal/cluster/ties"
	"drainwait/internal/drain/verdict"
	"drainwait/internal/elb"
)

// survey is what a wait knows at one moment of which target groups may hold its pod.
// It is made anew from the caches of cluster and elb: nothing in it is remembered.
type survey struct {
	open      []string // what is not known yet, or the first of it
	openInAll int
	// refused: AWS refuses to show something that is tied to the pod. hidden: it
	// refuses to show something that may or may not hold it.
	refused, hidden error
	unsupported     []string // load balancers of the pod that cannot be watched, and why
	noAddress       []string // Ingresses and Services whose load balancer is not known
	missing         []string // Ingresses that the caller names and that do not exist
	live, ingresses bool     // the live lists were read
	unread          error    // why not
}

// unable is why the pod may be registered somewhere though no group is tied to it.
func (s *survey) unable(p *cluster.Pod) error {
	switch {
	case len(s.unsupported) > 0:
		return fmt.Errorf("%w: %s", ErrUnsupported, strings.Join(s.unsupported, "; "))
	case s.hidden != nil:
		return fmt.Errorf("%w: %w", ErrRefused, s.hidden)
	case p.UID == "":
		return fmt.Errorf("%w: no pod has the address %s, and no target group of namespace %s holds it", ErrNotFound, p.IPs[0], p.Namespace)
	case len(s.noAddress) > 0:
		return fmt.Errorf("%w: %s has neither an address nor a TargetGroupBinding, so its load balancer is not known", ErrNotFound, strings.Join(s.noAddress, ", "))
	case len(s.missing) > 0:
		return fmt.Errorf("%w: nothing leads to a target group of the pod, and the Ingress of ingress=, %s/%s, does not exist",
			ErrNotFound, p.Namespace, strings.Join(s.missing, ", "))
	}
	return nil
}

// takeSurvey reads what is known now, and asks for the rest.
func (w *wait) takeSurvey() {
	w.survey = survey{}
	w.surveys++
	w.untyped = false
	s := w.cluster.Survey(w.pod, w.request.Ingresses)
	for _, c := range s.Candidates {
		w.addCandidate(c)
	}
	for _, h := range s.Hostnames {
		w.addHostname(h)
	}
	w.followRuledOut()
	for _, name := range s.MissingIngresses {
		w.warn("Ingress %s/%s does not exist", w.pod.Namespace, name)
	}
	w.survey.missing, w.survey.noAddress = s.MissingIngresses, s.NoAddress
	if s.Forgotten {
		w.noteOpen("the service has forgotten a former TargetGroupBinding that may have held the pod")
	}
	if len(w.pod.IPs) == 0 {
		w.noteOpen("the pod has no address yet")
	}
	for _, g := range w.groups {
		if g.surveyed != w.surveys {
			g.publishesNotReady = false // nothing says so any more
		}
	}
	w.readLists()
	w.dropSurveyErrors()
}

// readLists asks for the live lists that an outcome needs: with no group to follow,
// those of Ingresses too.
func (w *wait) readLists() {
	s := &w.survey
	s.live, s.unread = w.cluster.Lists(w.pod.Namespace, w.began, false, w.surveyWake)
	w.setSurveyError("API server", s.unread)
	if s.live && len(w.groups) == 0 {
		s.ingresses, s.unread = w.cluster.Lists(w.pod.Namespace, w.began, true, w.surveyWake)
		w.setSurveyError("API server", s.unread)
	}
}

var errNoAnswer = errors.New("no answer yet")

func (w *wait) noteOpen(format string, args ...any) {
	w.survey.openInAll++
	if len(w.survey.open) < maxOpen {
		w.survey.open = append(w.survey.open, fmt.Sprintf(format, args...))
	}
}

// noteRefused notes that AWS refuses to show something. If that is tied to the pod,
// the wait is refused or ends with its budget.
func (w *wait) noteRefused(about string, tied bool, err error) {
	err = fmt.Errorf("%s: %w", about, err)
	if !tied {
		w.survey.hidden = err
		w.warn("%v", err)
		return
	}
	if w.survey.refused == nil {
		w.survey.refused = fmt.Errorf("%w: %w", ErrRefused, err)
	}
	w.setSurveyError(about, err)
}

// addCandidate adds a TargetGroupBinding that may hold the pod.
func (w *wait) addCandidate(c ties.Candidate) {
	about := fmt.Sprintf("TargetGroupBinding %s/%s", c.Namespace, c.Name)
	id, targetType, ok := w.identifyGroup(about, c)
	if !ok || !w.canWatch(about, targetType, c.Tied && !c.Former) {
		return
	}
	lists, known := true, true
	if !c.Tied && w.group(id) == nil {
		lists, known = w.lists(about, id, c)
	}
	if !known {
		return
	}
	kind := elb.TypeOfProtocol(c.Protocol)
	if kind == "" {
		kind = w.typeOf(about, id)
	}
	t := tie{
		about: about, kind: kind, former: c.Former, seen: c.Seen,
		publishesNotReady: c.PublishesNotReady, otherPorts: c.OtherPorts,
	}
	if lists {
		w.follow(id, t)
	} else {
		w.ruleOut(id, t)
	}
}

// ruleOut notes that a group does not list an address that no pod has.
func (w *wait) ruleOut(id elb.Group, t tie) {
	if w.pod.UID != "" {
		return
	}
	if w.ruledOut == nil {
		w.ruledOut = make(map[elb.Group]tie)
	}
	w.ruledOut[id] = t
}

// followRuledOut follows, for an address that no pod has, all groups that might have
// held it, as soon as one of them does: with a deregistration delay of 0 a group does
// not list it while its load balancer still sends.
func (w *wait) followRuledOut() {
	if len(w.groups) == 0 {
		return
	}
	for id, t := range w.ruledOut {
		w.follow(id, t)
	}
}

// identifyGroup finds the group of a binding and its target type; ok is false if these
// are not known (yet).
func (w *wait) identifyGroup(about string, c ties.Candidate) (id elb.Group, targetType string, ok bool) {
	id = groupOf(c.Binding)
	if id.ARN != "" && c.TargetType != "" {
		return id, c.TargetType, true
	}
	info, known, err := w.elb.Describe(id, w.namedSince(about, id), w.surveyWake)
	switch {
	case !known:
		w.setSurveyError(about, err)
		w.noteOpen("%s: its target group has not been found yet", about)
	case errors.Is(err, elb.ErrNoGroup) && c.Former:
		// The group is gone, and its targets with it.
	case err != nil:
		w.noteRefused(about, c.Tied, err)
	default:
		return info.Group, info.TargetType, true
	}
	return id, "", false
}

// namedSince is from when on an answer counts to which group a binding names: once a
// look shows that this group is gone, another one can have been made under the name.
func (w *wait) namedSince(about string, id elb.Group) time.Time {
	since := w.began
	for _, g := range w.groups {
		if id.ARN == "" && g.about == about && g.isGone() && g.look.Ended.After(since) {
			since = g.look.Ended
		}
	}
	return since
}

// groupOf is the group of a binding, by ARN or else by name.
func groupOf(b ties.Binding) elb.Group {
	g := elb.Group{ARN: b.TargetGroupARN, RoleARN: b.RoleARN, ExternalID: b.ExternalID}
	if g.ARN == "" {
		g.Name = b.TargetGroupName
	}
	return g
}

// canWatch says whether a group's targets can be pods. Those of type "alb" are
// load balancers that stand behind another one, and "lambda" are no pods either.
func (w *wait) canWatch(about, targetType string, tied bool) bool {
	if targetType == "instance" && tied {
		why := about + " has instance targets, which cannot be seen to leave; set target-type: ip"
		w.survey.unsupported = append(w.survey.unsupported, why)
		w.warn("%s", why)
	}
	return targetType == ties.TypeIP
}

// lists says whether an untied group lists the pod, if that is known.
func (w *wait) lists(about string, id elb.Group, c ties.Candidate) (lists, known bool) {
	look := w.lookAt(about, "its target group", id, c.Since)
	if look == nil {
		return false, false
	}
	if look.Gone && !c.Former {
		w.noteRefused(about, false, elb.ErrNotOurs)
		return false, false
	}
	w.cluster.Swept(c.Binding, look.Began, targetsIn(look))
	return len(verdict.TargetsOf(look, w.addresses, c.OtherPorts)) > 0, true
}

// lookAt asks for a look at an untied group, which messages call what; nil if there
// is none (yet).
func (w *wait) lookAt(about, what string, id elb.Group, since time.Time) *elb.Look {
	look, known, err := w.elb.Look(id, since, true, w.surveyWake)
	switch {
	case !known:
		w.setSurveyError(about, err)
		w.noteOpen("%s: %s has not been looked at yet", about, what)
	case err != nil:
		w.noteRefused(about, false, err)
	default:
		return look
	}
	return nil
}

// targetsIn are the addresses that a look lists, and whether any target there is in
// rotation.
func targetsIn(look *elb.Look) map[netip.Addr]bool {
	inRotation := make(map[netip.Addr]bool)
	for t := range look.Targets() {
		inRotation[t.IP] = inRotation[t.IP] || verdict.InRotation([]elb.Target{t})
	}
	return inRotation
}

// typeOf asks for the type of a group's load balancer. Until it is known, or if AWS
// refuses to tell, the longer settle time applies.
func (w *wait) typeOf(about string, id elb.Group) elb.Type {
	info, known, err := w.elb.Describe(id, w.began, w.surveyWake)
	switch {
	case !known:
		w.untyped = true
	case err != nil:
		w.warn("%s: the type of its load balancer is not known, so the longer settle time applies: %v", about, err)
	}
	return info.Type
}

// addHostname adds the groups of the load balancer that an Ingress or a Service names
// in its status.
func (w *wait) addHostname(h ties.Hostname) {
	about := fmt.Sprintf("%s (%s)", h.From, h.Name)
	infos, known, err := w.elb.GroupsByHostname(h.Name, w.began, w.surveyWake)
	switch {
	case !known:
		w.setSurveyError(about, err)
		w.noteOpen("%s: its load balancer has not been found yet", about)
		return
	case errors.Is(err, elb.ErrNoLoadBalancer):
		if h.Tied {
			w.survey.unsupported = append(w.survey.unsupported, about+": ELBv2 knows no such load balancer in this account and Region")
		}
		w.warn("%s: %v", about, err)
		return
	case err != nil:
		w.noteRefused(about, h.Tied, err)
		return
	}
	for _, info := range infos {
		w.addHostnameGroup(about, h, info)
	}
}

// addHostnameGroup adds one group of a load balancer. A Network Load Balancer of an
// Ingress belongs to an ingress controller, whose own pods are in the group, or stands
// in front of the ALB: such a group is not tied to the pod.
func (w *wait) addHostnameGroup(about string, h ties.Hostname, info elb.GroupInfo) {
	tied := h.Tied && (!h.Ingress || info.Type != elb.NLB)
	if !w.canWatch(about, info.TargetType, tied) {
		return
	}
	t := tie{about: about, kind: info.Type, seen: true, publishesNotReady: h.PublishesNotReady}
	if !tied && w.group(info.Group) == nil {
		look := w.lookAt(about, "target group "+info.Group.ARN, info.Group, w.began)
		if look == nil {
			return
		}
		if len(verdict.TargetsOf(look, w.addresses, nil)) == 0 {
			w.ruleOut(info.Group, t)
			return
		}
	}
	w.follow(info.Group, t)
}

// follow watches a group from now on. If the survey has found it already, both ties
// count.
func (w *wait) follow(id elb.Group, t tie) {
	i, followed := slices.BinarySearchFunc(w.groups, id, compareGroups)
	if !followed {
		g := &group{Group: id, tie: t}
		w.groups = slices.Insert(w.groups, i, g)
		g.sub = w.elb.Subscribe(id, w.addresses, w.planOf(g), w.lookWake)
	}
	g := w.groups[i]
	if g.surveyed == w.surveys {
		t = g.join(t)
	}
	g.tie, g.surveyed = t, w.surveys
}
