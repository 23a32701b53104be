package main

import "slices"

// list is all mutants. Those of progress.go and verdict.go, and of what is pure
// in group.go, die by the tests beside them alone.
func list() []mutant {
	const (
		progress = "internal/drain/progress.go"
		verdict  = "internal/drain/verdict.go"
		group    = "internal/drain/group.go"
	)
	var all []mutant
	pure := func(file, from, to, why string) {
		all = append(all, mutant{group: "drain", file: file, from: from, to: to, why: why, pkg: "./internal/drain"})
	}

	// progress.go
	pure(progress, "p.looked, p.listed = true, o.listed", "p.listed = o.listed", "a group that was read counts as never read")
	pure(progress, "p.looked && o.listed && !p.listed", "false", "who is registered again in between has no settle time")
	pure(progress, "p.looked && o.listed && !p.listed", "p.looked && o.listed", "each look at a target that drains begins the settle time anew")
	pure(progress, "p.looked && o.listed && !p.listed", "p.looked && !p.listed", "each look at a target that is gone begins the settle time anew")
	pure(progress, "case p.leftAt.IsZero(), appeared:", "case p.leftAt.IsZero() && !o.listed, appeared:", "a target that drains has not left")
	pure(progress, "!o.began.Before(p.leftAt.Add(settle))", "!o.listed && !o.began.Before(p.leftAt.Add(settle))", "a target that still drains is never confirmed")
	pure(progress, "case o.inRotation:", "case o.inRotation && !p.confirmed:", "a return after the confirmation is overlooked: drained under fire")
	pure(progress, "case o.inRotation:", "case o.inRotation && p.leftAt.IsZero():", "a return while it settles is overlooked")
	pure(progress, "p.leftAt, p.confirmed = time.Time{}, false", "p.leftAt = time.Time{}", "a return to rotation does not reset the confirmation")
	pure(progress, "p.leftAt, p.confirmed = time.Time{}, false", "p.confirmed = false", "after a return the settle time counts from the first departure")
	pure(progress, "o.ended, settle == 0", "o.began, settle == 0", "the settle time counts from a look's beginning")
	pure(progress, "o.ended, settle == 0", "o.ended, true", "no settle time at all")
	pure(progress, "o.ended, settle == 0", "o.ended, false", "without a settle time one look is not enough")
	pure(progress, "!o.began.Before(p.leftAt.Add(settle))", "!o.ended.Before(p.leftAt.Add(settle))", "a look's end confirms, and not its beginning")
	pure(progress, "!o.began.Before(p.leftAt.Add(settle))", "o.began.After(p.leftAt.Add(settle))", "the look that comes just in time does not count")
	pure(progress, "!o.began.Before(p.leftAt.Add(settle))", "!o.began.Before(p.leftAt)", "any second look confirms")
	pure(progress, "!o.began.Before(p.leftAt.Add(settle))", "!o.began.Before(p.leftAt.Add(settle - time.Second))", "a second of the settle time is missing")
	pure(progress, "p.confirmed = true", "p.confirmed = false", "nothing is ever confirmed")
	pure(progress, "p.confirmed = true", "p.leftAt, p.confirmed = o.ended, true", "when it left is told wrong")
	pure(progress, "bool { return !p.leftAt.IsZero() }", "bool { return p.confirmed }", "left is told when it has settled")
	pure(progress, "bool { return !p.leftAt.IsZero() }", "bool { return p.looked }", "any look means left")
	pure(progress, "case p.left() && p.leftAt != before.leftAt:", "case p.left() && !before.left():", "that it left anew is not told")
	pure(progress, "case p.left() && p.leftAt != before.leftAt:", "case p.left():", "left is told with each look")
	pure(progress, "case p.left() && p.leftAt != before.leftAt:", "case p.left() && before.looked && p.leftAt != before.leftAt:", "left at the first look is not told")
	pure(progress, "case !p.left() && before.left():", "case !p.left() && before.confirmed:", "a return while it settles is not told")
	pure(progress, "case !p.left() && before.left():", "case !p.left() && before.looked:", "a return is told with each look")
	pure(progress, "case !p.left() && !before.looked:", "case !p.left():", "in rotation is told with each look")
	pure(progress, "if p.confirmed && !before.confirmed {", "if p.confirmed {", "settled is told with each look")
	pure(progress, "if p.confirmed && !before.confirmed {", "if p.confirmed && before.left() && !before.confirmed {", "settled at the first look is not told")
	pure(progress, "range addresses {", "range addresses[:1] {", "only the first address of a dual-stack pod is looked for")
	pure(progress, "range look.At(ip) {", "range look.At(ip)[:min(1, len(look.At(ip)))] {", "only the first port of an address is looked at")
	pure(progress, "if !slices.Contains(otherPorts, t.Port) {", "if true {", "a neighbour in the host network holds the pod up")
	pure(progress, "if !slices.Contains(otherPorts, t.Port) {", "if len(otherPorts) == 0 {", "one port of a neighbour hides the pod's own")
	pure(progress, "return slices.ContainsFunc(targets,", "return slices.ContainsFunc(targets[:min(1, len(targets))],", "only the first port counts")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnhealthyDraining &&", "unhealthy.draining counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnhealthy &&", "unhealthy counts as left, though a group fails open")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnavailable &&", "unavailable counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", `TargetHealthStateEnumDraining && t.State != "" &&`, "no state counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State == types.TargetHealthStateEnumHealthy &&", "whatever is not healthy counts as left")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "t.State != types.TargetHealthStateEnumUnused", "unused counts as left whatever the reason")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "!unusedForGood(t.Reason)", "a reason of unused counts with any state")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "true", "unused counts as in rotation")
	pure(progress, "types.TargetHealthReasonEnumNotRegistered, ", "", "not registered counts as in rotation")
	pure(progress, ", types.TargetHealthReasonEnumNotInUse,", ",", "not in use counts as in rotation")
	pure(progress, "types.TargetHealthReasonEnumInvalidState, ", "", "a stopped target counts as in rotation")
	pure(progress, ", types.TargetHealthReasonEnumIpUnusable:", ":", "an address that cannot be used counts as in rotation")
	pure(progress, "return false\n}", "return true\n}", "a reason of unused that AWS may add counts as left")

	// verdict.go
	pure(verdict, "known := f.live && !f.open && f.refused == nil", "known := !f.open && f.refused == nil", "go by a cache that is behind")
	pure(verdict, "known := f.live && !f.open && f.refused == nil", "known := f.live && f.refused == nil", "go with questions open")
	pure(verdict, "known := f.live && !f.open && f.refused == nil", "known := f.live && !f.open", "go though AWS refuses to show a group")
	pure(verdict, "nothing := known && f.followed == 0 && f.ingresses", "nothing := f.followed == 0 && f.ingresses", "not_registered before anything is known")
	pure(verdict, "nothing := known && f.followed == 0 && f.ingresses", "nothing := known && f.ingresses", "not_registered with groups to watch")
	pure(verdict, "nothing := known && f.followed == 0 && f.ingresses", "nothing := known && f.followed == 0", "not_registered without a look at the Ingresses")
	pure(verdict, "err != nil && f.early {", "err != nil {", "refused after a wait: the hook then waits again")
	pure(verdict, "err != nil && f.early {", "err != nil && f.last {", "a refusal comes two seconds late")
	pure(verdict, "err != nil && f.early {", "err != nil && f.early && f.followed == 0 {", "a refusal is withheld where another group is watched")
	pure(verdict, "case nothing && f.unable == nil:", "case nothing:", "not_registered for instance targets")
	pure(verdict, "case nothing && f.address:", "case nothing:", "a wait for unsupported targets ends at once")
	pure(verdict, "case nothing && f.address:", "case f.address:", "an address that is watched is given up")
	pure(verdict, "case known && f.followed > 0 && f.confirmed == f.followed:", "case f.followed > 0 && f.confirmed == f.followed:", "drained with questions open")
	pure(verdict, "case known && f.followed > 0 && f.confirmed == f.followed:", "case known && f.confirmed == f.followed:", "drained without a group")
	pure(verdict, "f.confirmed == f.followed:", "f.left == f.followed && f.confirmed > 0:", "drained when the first of two groups has settled")
	pure(verdict, "f.confirmed == f.followed:", "f.confirmed == f.looked:", "drained before a group was looked at")
	pure(verdict, "f.confirmed == f.followed:", "f.confirmed+f.stuck == f.followed && f.confirmed > 0:", "drained while a group keeps the pod")
	pure(verdict, "f.confirmed == f.followed:", "f.left == f.followed:", "drained without a settle time")
	pure(verdict, "case f.stays:", "case f.stays && known:", "a restart waits for AWS")
	pure(verdict, "case f.stays:", "case f.stays && f.over:", "a restart waits for the whole budget")
	pure(verdict, "case known && f.stuck > 0 &&", "case f.stuck > 0 &&", "will_not_leave by a cache that is behind")
	pure(verdict, "case known && f.stuck > 0 &&", "case known &&", "will_not_leave without a group that keeps the pod")
	pure(verdict, "f.confirmed+f.stuck == f.followed:", "f.left+f.stuck == f.followed:", "will_not_leave before another group has settled")
	pure(verdict, "f.confirmed+f.stuck == f.followed:", "f.confirmed+f.stuck == f.looked:", "will_not_leave before a group was looked at")
	pure(verdict, "f.confirmed+f.stuck == f.followed:", "true:", "will_not_leave while other groups send")
	pure(verdict, "case !f.over:", "case !f.over && f.left < f.followed:", "settle_cut as soon as all have left")
	pure(verdict, "case !f.over:", "case !f.over || f.open:", "a wait with questions open outlives its budget")
	pure(verdict, "case known && f.followed > 0 && f.left == f.followed:", "case f.followed > 0 && f.left == f.followed:", "settle_cut with questions open")
	pure(verdict, "case known && f.followed > 0 && f.left == f.followed:", "case known && f.left == f.followed:", "settle_cut without a group")
	pure(verdict, "f.left == f.followed:", "f.left > 0:", "settle_cut while a group sends")
	pure(verdict, "f.left == f.followed:", "f.left == f.looked:", "settle_cut before a group was looked at")
	pure(verdict, "return f.unable", "return nil", "why a wait cannot be done is not said")
	pure(verdict, "case f.last && ", "case ", "refused before the API server can answer")
	pure(verdict, "(!f.live || !f.ingresses) && ", "", "refused while AWS is slow")
	pure(verdict, "|| !f.ingresses) &&", ") &&", "without the Ingresses a caller is kept for the whole budget")
	pure(verdict, "f.followed == 0 && !f.over:", "!f.over:", "refused with a group to watch")
	pure(verdict, "f.followed == 0 && !f.over:", "f.followed == 0:", "refused when the kill time has passed")
	pure(verdict, "refuseWithin = 2 * time.Second", "refuseWithin = 20 * time.Second", "a refusal comes twenty seconds late")
	pure(verdict, "max(*t.maxDelay, c.OneLook)", "*t.maxDelay", "max-delay=0 leaves no time for a look")
	pure(verdict, "maxDelay = max(*t.maxDelay, c.OneLook)", "maxDelay = min(*t.maxDelay, c.MaxDelay)", "max-delay is cut to a minute")
	pure(verdict, "|| t.pod.Grace == 0 {", "{", "an address that no pod has gets no time")
	pure(verdict, "case kill.IsZero():", "case kill.IsZero() && t.live:", "a pod that is not being deleted in the cache has no grace period")
	pure(verdict, "kill = t.began.Add(t.pod.Grace)", "kill = at", "the grace period does not count until the deletion shows")
	pure(verdict, "case !kill.After(t.began) && !t.live:", "case !kill.After(t.began):", "a kill time that has passed leaves a minute")
	pure(verdict, "case !kill.After(t.began) && !t.live:", "case !t.live:", "the grace period does not count until the pod was read")
	pure(verdict, "case !kill.After(t.began) && !t.live:", "case false:", "a stale record ends the wait at once")
	pure(verdict, "!kill.After(t.began) &&", "kill.Before(t.began) &&", "a stale record of this very moment ends the wait")
	pure(verdict, "kill.Add(-c.reserve(t.pod))", "kill", "no time is left for the application to shut down")
	pure(verdict, "t.maxDelay == nil || grace.Before(at)", "grace.Before(at)", "a long grace period is not used")
	pure(verdict, "t.maxDelay == nil || grace.Before(at)", "t.maxDelay == nil", "max-delay outlives the pod")
	pure(verdict, "t.maxDelay == nil || grace.Before(at)", "true", "max-delay does not count")
	pure(verdict, "return grace, byGrace", "return grace, byMaxDelay", "the wrong thing is told to be raised")
	pure(verdict, "min(c.Reserve, p.Grace/5)", "c.Reserve", "a short grace period is all reserve")
	pure(verdict, "min(c.Reserve, p.Grace/5)", "p.Grace / 5", "a long grace period loses minutes")

	// group.go
	pure(group, "cmp.Or(t.kind, other.kind)", "t.kind", "the type that another tie knows is lost: the longer settle time counts")
	pure(group, "t.former = t.former && other.former", "t.former = t.former || other.former", "a group that is bound may be gone")
	pure(group, "t.former = t.former && other.former", "t.former = other.former", "the last tie alone says whether a group may be gone")
	pure(group, "t.seen = t.seen || other.seen", "t.seen = t.seen && other.seen", "that a group was read is forgotten")
	pure(group, "t.publishesNotReady && other.publishesNotReady", "t.publishesNotReady || other.publishesNotReady", "publishNotReady joined with or: will_not_leave for a pod that leaves")
	pure(group, "t.publishesNotReady && other.publishesNotReady", "other.publishesNotReady", "the last tie alone says whether the pod is kept")
	pure(group, "t.otherPorts = intersect(t.otherPorts, other.otherPorts)", "", "host ports are not kept open when ties are joined")
	pure(group, "t.otherPorts = intersect(t.otherPorts, other.otherPorts)", "t.otherPorts = append(t.otherPorts, other.otherPorts...)", "a port that one tie leaves to a neighbour hides the pod")
	pure(group, "look.Began.Before(since)", "false", "a look from before the wait counts")
	pure(group, "look.Began.Before(since)", "look.Ended.Before(since)", "a look that began before the wait counts")
	pure(group, "look.Gone && !g.mayBeGone()", "look.Gone", "a group that was deleted is in another account")
	pure(group, "look.Gone && !g.mayBeGone()", "false", "a group of another account counts as deleted: drained")
	pure(group, "g.err = err\n", "\n", "the trouble with AWS is not told")
	pure(group, "g.look == nil && elb.IsPermanent(err)", "g.look == nil && err != nil", "a try that fails in passing refuses the wait")
	pure(group, "began: look.Began,", "began: look.Ended,", "a look confirms by its end")
	pure(group, "ended: look.Ended,", "ended: look.Began,", "the settle time counts from a look's beginning")
	pure(group, "inRotation: inRotation(targets)}", "inRotation: len(targets) > 0}", "a target that drains counts as in rotation")
	pure(group, "targetsOf(look, addresses, g.otherPorts)\n\to", "targetsOf(look, addresses, nil)\n\to", "a neighbour in the host network holds the pod up")
	pure(group, "return g.former || g.seen || g.progress.looked", "return g.seen || g.progress.looked", "a group that went with its binding is a refusal")
	pure(group, "return g.former || g.seen || g.progress.looked", "return g.former || g.progress.looked", "a group that was read before the wait and is deleted is a refusal")
	pure(group, "return g.former || g.seen || g.progress.looked", "return g.former || g.seen", "a group that is deleted in the middle of a wait is a refusal")
	pure(group, "return elb.Plan{Done: true}", "return elb.Plan{}", "who has settled is looked at on and on")
	pure(group, "ConfirmAt: p.leftAt.Add(settle)", "ConfirmAt: p.leftAt", "the confirming look comes at once, and the next one late")
	pure(group, "if plan.ConfirmAt.After(deadline) {", "if !plan.ConfirmAt.Before(deadline) {", "who can settle in the last moment gives way to others")
	pure(group, "if plan.ConfirmAt.After(deadline) {", "if false {", "a look that is of no use takes the rate from others")
	pure(group, "Latest: deadline}", "Latest: deadline.Add(-settle)}", "a look that confirms gives way too early")
	pure(group, "Latest: deadline.Add(-settle)", "Latest: deadline", "who cannot settle any more is looked at before who can")
	pure(group, "DeletionSeen: deletionSeen, ", "", "the first look does not wait for the controller: the rate is used up")
	pure(group, "range targetsOf(g.look, addresses, g.otherPorts) {", "range targetsOf(g.look, addresses, nil) {", "the state told is a neighbour's")
	pure(group, `if t.Reason != "" {`, `if false {`, "the reason of a state is not told")
	pure(group, `strings.Join(states, ", "), "absent")`, `strings.Join(states, ", "), "")`, "absent is not told from not read")
	pure(group, "if boundedBy != byMaxDelay {", "if boundedBy == byMaxDelay {", "the wrong thing is told to be raised")
	pure(group, "max(settle-done, 0) + time.Second", "max(settle-done, 0)", "raising by what is told is too little by a moment")
	pure(group, "max(settle-done, 0) + time.Second", "settle + time.Second", "more is told to be raised than is missing")
	pure(group, "seconds(min(done, settle))", "seconds(done)", "more seconds of settle are told than there are")
	pure(group, "case p.confirmed:\n\t\treturn \"\"", "case false:\n\t\treturn \"\"", "a group that has settled is told to be cut")

	return slices.Concat(all, waits(), controls())
}

// waits are those of the rest of the package: some die by the tests beside them,
// others in worlds.
func waits() []mutant {
	const (
		identity    = "internal/drain/identity.go"
		survey      = "internal/drain/survey.go"
		sweep       = "internal/drain/sweep.go"
		termination = "internal/drain/termination.go"
		wait        = "internal/drain/wait.go"
	)
	var all []mutant
	pure := func(file, from, to, why string) {
		all = append(all, mutant{group: "drain", file: file, from: from, to: to, why: why, pkg: "./internal/drain"})
	}
	world := func(file, from, to, why, run string) {
		all = append(all, mutant{group: "drain", file: file, from: from, to: to, why: why, pkg: ".", run: run})
	}

	pure(wait, "w.pod != nil && w.pod.KillAt.IsZero() &&", "w.pod != nil &&", "not_terminating while deleted")
	pure(wait, "open:  w.pod == nil || len(w.survey.open) > 0", "open:  w.pod == nil", "drained, and settle_cut, with questions open")
	pure(wait, "f.live = w.identified && w.survey.live", "f.live = w.identified", "go by lists that are behind")
	pure(wait, "f.live = w.identified && w.survey.live", "f.live = w.survey.live", "go by another pod that the cache shows")
	pure(wait, "!w.pastRefusal,\n", "true,\n", "refused after a wait")
	pure(wait, "w.pastRefusal = w.pastRefusal || f.last", "", "refused after a wait, as soon as there is a reason")
	pure(wait, "cmp.Or(w.unknown, f.refused, refused)", "cmp.Or(f.refused, w.unknown, refused)", "the caller is not told what it got wrong")
	pure(wait, "|| w.oneLookIsDone(f)", "", "max-delay=0 waits for a second")
	pure(wait, "*m == 0 && f.live &&", "*m == 0 &&", "one look by a cache that is behind")
	pure(wait, "f.live && !f.open && f.followed", "f.live && f.followed", "one look, and not all groups are known")
	pure(wait, "f.looked == f.followed\n", "f.looked > 0\n", "one look at one of two groups")
	pure(wait, "case g.publishesNotReady:", "default:", "a group in rotation counts as one that keeps the pod")
	pure(wait, "sooner(w.began.Add(refuseWithin), !w.pastRefusal)", "", "a refusal comes never")
	pure(wait, "sooner(w.termination.next(w))", "", "a restart waits for the whole budget")
	pure(wait, "*m <= w.cfg.OneLook {", "false {", "one look waits for the controller")
	pure(wait, "old.err.Error() != err.Error()", "old.err != nil", "an old trouble is told as the newest")
	pure(wait, "t.at.After(newest.at)", "t.at.Before(newest.at)", "the oldest trouble is told as the newest")
	pure(wait, "w.untyped || !w.identified {", "!w.identified {", "a warning of a settle time that is not the group's")
	pure(wait, "case budget >= settle:", "case budget > settle:", "a warning of a budget that is enough")
	pure(termination, "if w.pod == nil || w.pod.UID == \"\" ||", "if w.pod == nil ||", "an address that no pod has is asked for as a pod")
	pure(termination, "|| t.asking ||", "||", "each wake asks the API server again")
	pure(termination, "if !same {", "if false {", "what is known of another pod counts")
	pure(termination, "stays, !stays\n", "stays, false\n", "the API server is asked again and again about who leaves")
	pure(survey, "case len(s.unsupported) > 0:", "case false:", "not_registered for instance targets")
	pure(survey, "case s.hidden != nil:", "case false:", "not_registered though AWS hides a group that may hold the pod")
	pure(survey, "case len(s.noAddress) > 0:", "case false:", "not_registered behind a load balancer that cannot be told")
	pure(survey, "case len(s.missing) > 0:", "case false:", "not_registered for a mistyped ingress=")
	pure(survey, "t = other.join(t)", "_ = other", "the last tie alone counts")
	pure(survey, "g.tie = t\n}", "}", "the first tie alone counts")
	pure(survey, "if w.pod.UID == \"\" {\n\t\tw.ruledOut", "if true {\n\t\tw.ruledOut", "a group that was ruled out comes back")
	pure(survey, "if len(w.groups) == 0 {\n\t\treturn", "if false {\n\t\treturn", "a mistyped address follows all groups that do not list it")
	pure(survey, "targetType == \"instance\" && tied {", "targetType == \"instance\" {", "another application's instance targets are a refusal")
	pure(survey, "if g.ARN == \"\" {", "if true {", "one group is watched twice")
	pure(identity, "|| w.pod.UID != p.UID ||", "||", "what was seen of another pod of the same name counts")
	pure(identity, "w.addresses, w.termination = nil, termination{}", "w.termination = termination{}", "the addresses of another pod are looked for: a wait for a stranger's targets")
	pure(identity, "w.addresses, w.termination = nil, termination{}", "w.addresses = nil", "another pod that stays means that this one does")
	pure(identity, "append(slices.Clip(w.addresses), ip)", "[]netip.Addr{ip}", "an address that the pod had is not looked for any more")
	pure(sweep, "err != nil && elb.IsPermanent(err) &&", "err != nil &&", "a try that fails in passing is told as a refusal")
	pure(sweep, "delete(s.refused, a)", "", "an account counts as refused for good")

	world(survey, "w.followRuledOut()\n", "\n", "an address that no pod has is not looked for where it was", "^TestFailClosed$/^identity$/^an_address_that_no_pod_has,")
	world(survey, "!c.Tied && !followed {", "!followed {", "a tied group is ruled out where a look does not list the pod", "^TestWaits$/^ordinary$/^never_ready$")
	world(survey, "if lists {", "if !lists {", "a group is ruled out though it lists the pod", "^TestWaits$/^discovery$/^an_address_that_no_pod_has$")
	world(survey, "publishesNotReady: c.PublishesNotReady, otherPorts", "publishesNotReady: true, otherPorts", "will_not_leave for a pod that leaves", "^TestWaits$/^trouble$/^throttling$")
	world(survey, "otherPorts: c.OtherPorts,", "", "a neighbour in the host network holds the pod up", "^TestWaits$/^discovery$/^neighbours")
	world(survey, "w.openFor(\"%s: its target group has not been found yet\", about)", "", "go before a group was found by its name", "^TestWaits$/^discovery$/^a_binding_with_a_name_only$")
	world(survey, "w.openFor(\"%s: %s has not been looked at yet\", about, what)", "", "go before a group was looked at", "^TestFailClosed$/^refusals$/^an_address_is_found")
	world(survey, "w.openFor(\"%s: its load balancer has not been found yet\", about)", "", "go before a load balancer was found", "^TestWaits$/^hostnames$/^of_an_Ingress$")
	world(survey, "if h.Tied {", "if false {", "not_registered behind a load balancer that is none of ours", "^TestWaits$/^hostnames$/^of_a_load_balancer")
	world(survey, "h.Tied && (!h.Ingress || info.Type != elb.NLB)", "h.Tied", "an ingress controller's NLB holds the pod up", "^TestWaits$/^hostnames$/^of_an_ingress_controller")
	world(identity, "if r.Forwarded && r.Inferred && r.Pod == \"\" {", "if false {", "a proxied caller is answered for the proxy's pod", "^TestForwardedCaller$")
	world(identity, "w.identifiedAs(pod)", "if w.pod != nil {\n pod = w.pod\n}\nw.identifiedAs(pod)", "the pod that the cache shows is believed", "^TestFailClosed$/^(identity|clock_and_proxies)$")
	world(identity, "who.Namespace != \"\":", "true:", "an address without a namespace is looked for nowhere", "^TestWaits$/^discovery$/^an_address_that_no_pod_has,_without")
	world(identity, "w.groups, w.ruledOut = make(map[elb.Group]*group), make(map[elb.Group]tie)", "if w.groups == nil || w.ruledOut == nil {\n w.groups, w.ruledOut = make(map[elb.Group]*group), make(map[elb.Group]tie)\n}", "another pod's groups are followed", "^TestFailClosed$/^clock_and_proxies$/^a_record_of_a_deletion")
	all = append(all, mutant{
		group: "drain", file: "internal/cluster/pod.go", from: "known.UID == p.UID && ", to: "", why: "no UID check when the pod is read again",
		pkg: "./internal/cluster", run: "^TestRefresh$",
	})
	world(wait, "w.setPod(w.cluster.Refresh(w.pod))", "", "a grace period that is shortened does not count", "^TestWaits$/^budget$/^the_grace_period_is_short")
	world(wait, "cmp.Or(w.unknown, f.refused, refused)", "cmp.Or(w.unknown, f.refused, refused)\n\tf.refused = w.unknown", "who is denied waits for the whole budget", "^TestWaits$/^trouble$/^access_denied_at_the_start$")
	world(wait, "w.trouble(g.ARN, g.err)", "", "the trouble with AWS is not told", "^TestWaits$/^trouble$/^throttling_for_good$")
	world(wait, "live: w.identified})", "live: true})", "a stale record ends the wait at once", "^TestFailClosed$/^clock_and_proxies$/^a_record_of_a_deletion")
	world(wait, "if o == SettleCut || o == BudgetSpent {", "if o == BudgetSpent {", "settle_cut does not say what was missing", "^TestFailClosed$/^a_budget_that_is_too_short$/^a_minute")
	world(wait, "if o == BudgetSpent {\n\t\tw.warnOfOpen", "if o == SettleCut {\n\t\tw.warnOfOpen", "budget_spent does not say what could not be told", "^TestFailClosed$/^API_server$/^the_API_server_is_away_for_all")
	world(sweep, "case err == nil && (!look.Gone || c.Former):", "case err == nil && look == nil:", "nothing is swept: each wait looks at all groups", "^TestOnePodAmongManyGroups$")
	return all
}

// controls are the negative controls of the worlds in which too little is shown:
// that they find each of these faults shows that they look. Those that random
// worlds find have their seed; the other has a world made for it.
func controls() []mutant {
	var all []mutant
	control := func(file, from, to, why, run, args string) {
		all = append(all, mutant{group: "controls", file: file, from: from, to: to, why: why, pkg: ".", run: run, args: args})
	}
	const survey = "internal/cluster/ties/survey.go"
	const random = "^TestPromises$"
	control(survey, "range v.candidates() {", "range v.candidates() {\nif r.former() {\ncontinue\n}", "former bindings are forgotten", random, "-seed 79")
	control("internal/cluster/ties.go", "h.Tie(x.records.ServicesOf(p.raw)...)", "h.Services = nil\nh.Tie(x.records.ServicesOf(p.raw)...)", "former Services are forgotten: a pod is tied by what there is now", random, "-seed 3")
	control("internal/cluster/lists.go", "if l.covers(since, ingresses) {", "if true {", "no live lists: what the cache shows of ties counts", random, "-seed 2")
	control("internal/elb/elb.go", "if out.TargetHealthDescriptions == nil {", "if false {", "any answer of ELBv2 counts: a missing list is an empty one", random, "-seed 117")
	control("internal/cluster/identify.go", "if err == nil && !cached.HostNetwork {", "if err == nil {\nreturn cached, nil\n}\nif err == nil && !cached.HostNetwork {", "whom the cache shows at the caller's address is taken for the pod", "^TestFailClosed$/^identity$", "")
	control(survey, "s.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()", "if !slices.ContainsFunc(v.records, func(r *record) bool { return r.binding != nil }) {\ns.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()\n}", "host names do not count where the namespace has bindings", random, "-seed 2")
	return all
}
