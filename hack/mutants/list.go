package main

import (
	"path"
	"slices"
)

// list is all mutants. The tests beside the code kill the mutants of the verdict and of
// the pure parts of group.go, except a few that the tests of drain kill.
func list() []mutant {
	const (
		progress = "internal/drain/verdict/progress.go"
		verdict  = "internal/drain/verdict/verdict.go"
		budget   = "internal/drain/verdict/budget.go"
		group    = "internal/drain/group.go"
	)
	var all []mutant
	by := func(pkg, file, from, to, why string) {
		all = append(all, mutant{group: "drain", file: file, from: from, to: to, why: why, pkg: pkg})
	}
	pure := func(file, from, to, why string) { by("./"+path.Dir(file), file, from, to, why) }

	// progress.go
	pure(progress, "p.Looked, p.Listed = true, o.Listed", "p.Listed = o.Listed", "a group that was read counts as never read")
	pure(progress, "p.Looked && o.Listed && !p.Listed", "false", "a pod that is registered again in between has no settle time")
	pure(progress, "p.Looked && o.Listed && !p.Listed", "p.Looked && o.Listed", "each look at a target that drains starts the settle time again")
	pure(progress, "p.Looked && o.Listed && !p.Listed", "p.Looked && !p.Listed", "each look at a target that is gone starts the settle time again")
	pure(progress, "case p.LeftAt.IsZero(), appeared:", "case p.LeftAt.IsZero() && !o.Listed, appeared:", "a target that drains has not left")
	pure(progress, "!o.Began.Before(p.LeftAt.Add(settle))", "!o.Listed && !o.Began.Before(p.LeftAt.Add(settle))", "a target that still drains is never confirmed")
	pure(progress, "case o.InRotation:", "case o.InRotation && !p.Confirmed:", "a return after the confirmation is overlooked: drained under fire")
	pure(progress, "case o.InRotation:", "case o.InRotation && p.LeftAt.IsZero():", "a return while it settles is overlooked")
	pure(progress, "p.LeftAt, p.Confirmed = time.Time{}, false", "p.LeftAt = time.Time{}", "a return to rotation does not reset the confirmation")
	pure(progress, "p.LeftAt, p.Confirmed = time.Time{}, false", "p.Confirmed = false", "after a return the settle time counts from the first departure")
	pure(progress, "o.Ended, settle == 0", "o.Began, settle == 0", "the settle time counts from a look's beginning")
	pure(progress, "o.Ended, settle == 0", "o.Ended, true", "no settle time at all")
	pure(progress, "o.Ended, settle == 0", "o.Ended, false", "without a settle time one look is not enough")
	pure(progress, "!o.Began.Before(p.LeftAt.Add(settle))", "!o.Ended.Before(p.LeftAt.Add(settle))", "a look's end confirms, and not its beginning")
	pure(progress, "!o.Began.Before(p.LeftAt.Add(settle))", "o.Began.After(p.LeftAt.Add(settle))", "the look that comes just in time does not count")
	pure(progress, "!o.Began.Before(p.LeftAt.Add(settle))", "!o.Began.Before(p.LeftAt)", "any second look confirms")
	pure(progress, "!o.Began.Before(p.LeftAt.Add(settle))", "!o.Began.Before(p.LeftAt.Add(settle - time.Second))", "a second of the settle time is missing")
	pure(progress, "p.Confirmed = true", "p.Confirmed = false", "nothing is ever confirmed")
	pure(progress, "p.Confirmed = true", "p.LeftAt, p.Confirmed = o.Ended, true", "the time when it left is wrong")
	pure(progress, "bool { return !p.LeftAt.IsZero() }", "bool { return p.Confirmed }", "left is reported only when it has settled")
	pure(progress, "bool { return !p.LeftAt.IsZero() }", "bool { return p.Looked }", "any look means left")
	pure(progress, "case p.Left() && p.LeftAt != before.LeftAt:", "case p.Left() && !before.Left():", "that it left again is not reported")
	pure(progress, "case p.Left() && p.LeftAt != before.LeftAt:", "case p.Left():", "left is reported with each look")
	pure(progress, "case p.Left() && p.LeftAt != before.LeftAt:", "case p.Left() && before.Looked && p.LeftAt != before.LeftAt:", "left at the first look is not reported")
	pure(progress, "case !p.Left() && before.Left():", "case !p.Left() && before.Confirmed:", "a return while it settles is not reported")
	pure(progress, "case !p.Left() && before.Left():", "case !p.Left() && before.Looked:", "a return is reported with each look")
	pure(progress, "case !p.Left() && !before.Looked:", "case !p.Left():", "in rotation is reported with each look")
	pure(progress, "if p.Confirmed && !before.Confirmed {", "if p.Confirmed {", "settled is reported with each look")
	pure(progress, "if p.Confirmed && !before.Confirmed {", "if p.Confirmed && before.Left() && !before.Confirmed {", "settled at the first look is not reported")
	by("./internal/drain", progress, "range addresses {", "range addresses[:1] {", "only the first address of a dual-stack pod is looked for")
	by("./internal/drain", progress, "range look.At(ip) {", "range look.At(ip)[:min(1, len(look.At(ip)))] {", "only the first port of an address is looked at")
	by("./internal/drain", progress, "if !slices.Contains(otherPorts, t.Port) {", "if true {", "a neighbour in the host network holds the pod")
	by("./internal/drain", progress, "if !slices.Contains(otherPorts, t.Port) {", "if len(otherPorts) == 0 {", "one port of a neighbour hides the pod's own")
	pure(progress, "return slices.ContainsFunc(targets,", "return slices.ContainsFunc(targets[:min(1, len(targets))],", "only the first port counts")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnhealthyDraining &&", "unhealthy.draining counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnhealthy &&", "unhealthy counts as left, though a group fails open")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State != types.TargetHealthStateEnumUnavailable &&", "unavailable counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", `TargetHealthStateEnumDraining && t.State != "" &&`, "no state counts as left")
	pure(progress, "TargetHealthStateEnumDraining &&", "TargetHealthStateEnumDraining && t.State == types.TargetHealthStateEnumHealthy &&", "whatever is not healthy counts as left")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "t.State != types.TargetHealthStateEnumUnused", "unused counts as left for any reason")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "!unusedForGood(t.Reason)", "a reason of unused counts with any state")
	pure(progress, "(t.State != types.TargetHealthStateEnumUnused || !unusedForGood(t.Reason))", "true", "unused counts as in rotation")
	pure(progress, "types.TargetHealthReasonEnumNotRegistered, ", "", "not registered counts as in rotation")
	pure(progress, ", types.TargetHealthReasonEnumNotInUse,", ",", "not in use counts as in rotation")
	pure(progress, "types.TargetHealthReasonEnumInvalidState, ", "", "a stopped target counts as in rotation")
	pure(progress, ", types.TargetHealthReasonEnumIpUnusable:", ":", "an address that cannot be used counts as in rotation")
	pure(progress, "return false\n}", "return true\n}", "a reason of unused that AWS may add counts as left")

	// verdict.go
	pure(verdict, "known := f.Live && !f.Open && f.Refused == nil", "known := !f.Open && f.Refused == nil", "go by a cache that is behind")
	pure(verdict, "known := f.Live && !f.Open && f.Refused == nil", "known := f.Live && f.Refused == nil", "go with questions open")
	pure(verdict, "known := f.Live && !f.Open && f.Refused == nil", "known := f.Live && !f.Open", "go though AWS refuses to show a group")
	pure(verdict, "nothing := known && f.Followed == 0 && f.Ingresses", "nothing := f.Followed == 0 && f.Ingresses", "not_registered before anything is known")
	pure(verdict, "nothing := known && f.Followed == 0 && f.Ingresses", "nothing := known && f.Ingresses", "not_registered with groups to watch")
	pure(verdict, "nothing := known && f.Followed == 0 && f.Ingresses", "nothing := known && f.Followed == 0", "not_registered without a look at the Ingresses")
	pure(verdict, "err != nil && f.Early {", "err != nil {", "refused after a wait: the hook then waits again")
	pure(verdict, "err != nil && f.Early {", "err != nil && f.Last {", "a refusal comes two seconds late")
	pure(verdict, "err != nil && f.Early {", "err != nil && f.Early && f.Followed == 0 {", "a refusal is withheld if another group is watched")
	pure(verdict, "case nothing && f.Unable == nil:", "case nothing:", "not_registered for instance targets")
	pure(verdict, "case nothing && f.Address:", "case nothing:", "a wait for unsupported targets ends at once")
	pure(verdict, "case nothing && f.Address:", "case f.Address:", "an address that is watched is given up")
	pure(verdict, "case known && f.Followed > 0 && f.Confirmed == f.Followed:", "case f.Followed > 0 && f.Confirmed == f.Followed:", "drained with questions open")
	pure(verdict, "case known && f.Followed > 0 && f.Confirmed == f.Followed:", "case known && f.Confirmed == f.Followed:", "drained without a group")
	pure(verdict, "f.Confirmed == f.Followed:", "f.Left == f.Followed && f.Confirmed > 0:", "drained when the first of two groups has settled")
	pure(verdict, "f.Confirmed == f.Followed:", "f.Confirmed == f.Looked:", "drained before a group was looked at")
	pure(verdict, "f.Confirmed == f.Followed:", "f.Confirmed+f.Stuck == f.Followed && f.Confirmed > 0:", "drained while a group keeps the pod")
	pure(verdict, "f.Confirmed == f.Followed:", "f.Left == f.Followed:", "drained without a settle time")
	pure(verdict, "case f.Stays:", "case f.Stays && known:", "a restart waits for AWS")
	pure(verdict, "case f.Stays:", "case f.Stays && f.Over:", "a restart waits for the whole budget")
	pure(verdict, "case known && f.Stuck > 0 &&", "case f.Stuck > 0 &&", "will_not_leave by a cache that is behind")
	pure(verdict, "case known && f.Stuck > 0 &&", "case known &&", "will_not_leave without a group that keeps the pod")
	pure(verdict, "f.Confirmed+f.Stuck == f.Followed:", "f.Left+f.Stuck == f.Followed:", "will_not_leave before another group has settled")
	pure(verdict, "f.Confirmed+f.Stuck == f.Followed:", "f.Confirmed+f.Stuck == f.Looked:", "will_not_leave before a group was looked at")
	pure(verdict, "f.Confirmed+f.Stuck == f.Followed:", "true:", "will_not_leave while other groups send")
	pure(verdict, "case !f.Over:", "case !f.Over && f.Left < f.Followed:", "settle_cut as soon as all have left")
	pure(verdict, "case !f.Over:", "case !f.Over || f.Open:", "a wait with open questions goes on after its budget")
	pure(verdict, "case known && f.Followed > 0 && f.Left == f.Followed:", "case f.Followed > 0 && f.Left == f.Followed:", "settle_cut with questions open")
	pure(verdict, "case known && f.Followed > 0 && f.Left == f.Followed:", "case known && f.Left == f.Followed:", "settle_cut without a group")
	pure(verdict, "f.Left == f.Followed:", "f.Left > 0:", "settle_cut while a group sends")
	pure(verdict, "f.Left == f.Followed:", "f.Left == f.Looked:", "settle_cut before a group was looked at")
	pure(verdict, "return f.Unable", "return nil", "the reason why a wait is impossible is lost")
	pure(verdict, "case f.Last && ", "case ", "refused before the API server can answer")
	pure(verdict, "(!f.Live || !f.Ingresses) && ", "", "refused while AWS is slow")
	pure(verdict, "|| !f.Ingresses) &&", ") &&", "without the Ingresses a caller is kept for the whole budget")
	pure(verdict, "f.Followed == 0 && !f.Over:", "!f.Over:", "refused with a group to watch")
	pure(verdict, "f.Followed == 0 && !f.Over:", "f.Followed == 0:", "refused when the kill time has passed")

	// budget.go
	pure(budget, "max(*t.MaxDelay, l.OneLook)", "*t.MaxDelay", "max-delay=0 leaves no time for a look")
	pure(budget, "maxDelay = max(*t.MaxDelay, l.OneLook)", "maxDelay = min(*t.MaxDelay, l.MaxDelay)", "max-delay is cut to a minute")
	pure(budget, "if t.Grace == 0 {", "if false {", "an address that no pod has gets no time")
	pure(budget, "case kill.IsZero():", "case kill.IsZero() && t.Live:", "a pod that is not being deleted in the cache has no grace period")
	pure(budget, "kill = t.Began.Add(t.Grace)", "kill = at", "the grace period does not count until the deletion shows")
	pure(budget, "case !kill.After(t.Began) && !t.Live:", "case !kill.After(t.Began):", "a kill time that has passed leaves a minute")
	pure(budget, "case !kill.After(t.Began) && !t.Live:", "case !t.Live:", "the grace period does not count until the pod was read")
	pure(budget, "case !kill.After(t.Began) && !t.Live:", "case false:", "a stale record ends the wait at once")
	pure(budget, "!kill.After(t.Began) &&", "kill.Before(t.Began) &&", "a stale record of this very moment ends the wait")
	pure(budget, "kill.Add(-min(l.Reserve, t.Grace/5))", "kill", "no time is left for the application to shut down")
	pure(budget, "t.MaxDelay == nil || grace.Before(at)", "grace.Before(at)", "a long grace period is not used")
	pure(budget, "t.MaxDelay == nil || grace.Before(at)", "t.MaxDelay == nil", "max-delay outlives the pod")
	pure(budget, "t.MaxDelay == nil || grace.Before(at)", "true", "max-delay does not count")
	pure(budget, "return grace, ByGrace", "return grace, ByMaxDelay", "the warning names the wrong setting to raise")
	pure(budget, "min(l.Reserve, t.Grace/5)", "l.Reserve", "a short grace period is all reserve")
	pure(budget, "min(l.Reserve, t.Grace/5)", "t.Grace / 5", "a long grace period loses minutes")

	// group.go
	pure(group, "cmp.Or(t.kind, other.kind)", "t.kind", "the type that another tie knows is lost: the longer settle time counts")
	pure(group, "t.former = t.former && other.former", "t.former = t.former || other.former", "a group that is bound may be gone")
	pure(group, "t.former = t.former && other.former", "t.former = other.former", "only the last tie decides whether a group may be gone")
	pure(group, "t.seen = t.seen || other.seen", "t.seen = t.seen && other.seen", "it is forgotten that a group was read")
	pure(group, "t.publishesNotReady && other.publishesNotReady", "t.publishesNotReady || other.publishesNotReady", "publishNotReady joined with or: will_not_leave for a pod that leaves")
	pure(group, "t.publishesNotReady && other.publishesNotReady", "other.publishesNotReady", "the last tie alone says whether the pod is kept")
	pure(group, "!slices.Contains(other.otherPorts, port)", "false", "host ports are not kept open when ties are joined")
	pure(group, "slices.DeleteFunc(slices.Clone(t.otherPorts), func(port int) bool { return !slices.Contains(other.otherPorts, port) })", "append(slices.Clone(t.otherPorts), other.otherPorts...)", "a port that one tie leaves to a neighbour hides the pod")
	pure(group, "look.Began.Before(since)", "false", "a look from before the wait counts")
	pure(group, "look.Began.Before(since)", "look.Ended.Before(since)", "a look that began before the wait counts")
	pure(group, "look.Gone && !g.mayBeGone()", "look.Gone", "a group that was deleted is in another account")
	pure(group, "look.Gone && !g.mayBeGone()", "false", "a group of another account counts as deleted: drained")
	pure(group, "g.err = err\n", "\n", "an error of AWS is not reported")
	pure(group, "g.look == nil && elb.IsPermanent(err)", "g.look == nil && err != nil", "a passing failure refuses the wait")
	pure(group, "Began: look.Began,", "Began: look.Ended,", "a look confirms by its end")
	pure(group, "Ended: look.Ended,", "Ended: look.Began,", "the settle time counts from a look's beginning")
	pure(group, "InRotation: verdict.InRotation(targets)}", "InRotation: len(targets) > 0}", "a target that drains counts as in rotation")
	pure(group, "verdict.TargetsOf(look, addresses, g.otherPorts)\n\to", "verdict.TargetsOf(look, addresses, nil)\n\to", "a neighbour in the host network holds the pod")
	pure(group, "return g.former || g.seen || g.progress.Looked", "return g.seen || g.progress.Looked", "a group that went with its binding is a refusal")
	pure(group, "return g.former || g.seen || g.progress.Looked", "return g.former || g.progress.Looked", "a group that was read before the wait and is deleted is a refusal")
	pure(group, "return g.former || g.seen || g.progress.Looked", "return g.former || g.seen", "a group that is deleted in the middle of a wait is a refusal")
	pure(group, "return elb.Plan{Done: true}", "return elb.Plan{}", "looks go on at a group whose pods have settled")
	pure(group, "ConfirmAt: p.LeftAt.Add(settle)", "ConfirmAt: p.LeftAt", "the confirming look comes at once, and the next one late")
	pure(group, "if plan.ConfirmAt.After(deadline) {", "if !plan.ConfirmAt.Before(deadline) {", "a wait that can settle at the last moment gives way to others")
	pure(group, "if plan.ConfirmAt.After(deadline) {", "if false {", "a look that is of no use takes the rate from others")
	pure(group, "Latest: deadline}", "Latest: deadline.Add(-settle)}", "a look that confirms gives way too early")
	pure(group, "Latest: deadline.Add(-settle)", "Latest: deadline", "a wait that cannot settle any more goes before one that can")
	pure(group, "DeletionSeen: deletionSeen, ", "", "the first look does not wait for the controller: the rate is used up")
	pure(group, "range verdict.TargetsOf(g.look, addresses, g.otherPorts) {", "range verdict.TargetsOf(g.look, addresses, nil) {", "the reported state is a neighbour's")
	pure(group, `if t.Reason != "" {`, `if false {`, "the reason of a state is not reported")
	pure(group, `strings.Join(states, ", "), "absent")`, `strings.Join(states, ", "), "")`, "absent and not read look the same")
	pure(group, "if boundedBy != verdict.ByMaxDelay {", "if boundedBy == verdict.ByMaxDelay {", "the warning names the wrong setting to raise")
	pure(group, "max(settle-done, 0) + time.Second", "max(settle-done, 0)", "the warning asks for slightly too little")
	pure(group, "max(settle-done, 0) + time.Second", "settle + time.Second", "the warning asks for more than is missing")
	pure(group, "seconds(min(done, settle))", "seconds(done)", "the warning reports too many seconds of settling")
	pure(group, "case p.Confirmed:\n\t\treturn \"\"", "case false:\n\t\treturn \"\"", "a settled group is reported as cut")

	return slices.Concat(all, waits(), controls())
}

// waits are the mutants of the rest of the package. The tests beside the code kill some of
// them, and worlds kill the others.
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
		all = append(all, mutant{group: "drain", file: file, from: from, to: to, why: why, pkg: "./internal/service", run: run})
	}

	pure(wait, "refuseWithin = 2 * time.Second", "refuseWithin = 20 * time.Second", "a refusal comes twenty seconds late")
	pure(wait, "w.pod != nil && w.pod.KillAt.IsZero() &&", "w.pod != nil &&", "not_terminating while deleted")
	pure(wait, "Open:  w.pod == nil || len(w.survey.open) > 0", "Open:  w.pod == nil", "drained, and settle_cut, with questions open")
	pure(wait, "f.Live = w.identified && w.survey.live", "f.Live = w.identified", "go by lists that are behind")
	pure(wait, "f.Live = w.identified && w.survey.live", "f.Live = w.survey.live", "go by another pod that the cache shows")
	pure(wait, "!w.pastRefusal,\n", "true,\n", "refused after a wait")
	pure(wait, "w.pastRefusal = w.pastRefusal || f.Last", "", "refused after a wait, as soon as there is a reason")
	pure(wait, "cmp.Or(w.unknown, f.Refused, refused)", "cmp.Or(f.Refused, w.unknown, refused)", "the caller does not learn what it got wrong")
	pure(wait, "|| w.oneLookIsDone(f)", "", "max-delay=0 waits for a second")
	pure(wait, "*m == 0 && f.Live &&", "*m == 0 &&", "one look by a cache that is behind")
	pure(wait, "f.Live && !f.Open && f.Followed", "f.Live && f.Followed", "one look, and not all groups are known")
	pure(wait, "f.Looked == f.Followed\n", "f.Looked > 0\n", "one look at one of two groups")
	pure(wait, "case g.publishesNotReady:", "default:", "a group in rotation counts as one that keeps the pod")
	pure(wait, "sooner(w.began.Add(refuseWithin), !w.pastRefusal)", "", "a refusal never comes")
	pure(wait, "sooner(w.termination.next(w))", "", "a restart waits for the whole budget")
	pure(wait, "*m <= w.cfg.OneLook {", "false {", "one look waits for the controller")
	pure(wait, "old.err.Error() != err.Error()", "old.err != nil", "an old error is reported as the newest")
	pure(wait, "e.at.After(newest.at)", "e.at.Before(newest.at)", "the oldest error is reported as the newest")
	pure(wait, "w.untyped || !w.identified {", "!w.identified {", "a warning of a settle time that is not the group's")
	pure(wait, "case budget >= settle:", "case budget > settle:", "a warning of a budget that is enough")
	pure(termination, "if w.pod == nil || w.pod.UID == \"\" ||", "if w.pod == nil ||", "an address that no pod has is asked for as a pod")
	pure(termination, "|| t.running ||", "||", "each wake asks the API server again")
	pure(termination, "if !same {", "if false {", "what is known of another pod counts")
	pure(termination, "stays, !stays\n", "stays, false\n", "the API server is asked again and again about a pod that leaves")
	pure(survey, "case len(s.unsupported) > 0:", "case false:", "not_registered for instance targets")
	pure(survey, "case s.hidden != nil:", "case false:", "not_registered though AWS hides a group that may hold the pod")
	pure(survey, "case len(s.noAddress) > 0:", "case false:", "not_registered behind a load balancer that is not known")
	pure(survey, "case len(s.missing) > 0:", "case false:", "not_registered for a mistyped ingress=")
	pure(survey, "t = other.join(t)", "_ = other", "the last tie alone counts")
	pure(survey, "g.tie = t\n}", "}", "the first tie alone counts")
	pure(survey, "if w.pod.UID == \"\" {\n\t\tw.ruledOut", "if true {\n\t\tw.ruledOut", "a group that was ruled out comes back")
	pure(survey, "if len(w.groups) == 0 {\n\t\treturn", "if false {\n\t\treturn", "a mistyped address follows all groups that do not list it")
	pure(survey, "targetType == \"instance\" && tied {", "targetType == \"instance\" {", "another application's instance targets are a refusal")
	pure(survey, "if g.ARN == \"\" {", "if true {", "one group is watched twice")
	pure(identity, "|| w.pod.UID != p.UID ||", "||", "what was seen of another pod of the same name counts")
	pure(identity, "w.addresses, w.termination = nil, terminationCheck{}", "w.termination = terminationCheck{}", "the addresses of another pod are looked for: a wait for a stranger's targets")
	pure(identity, "w.addresses, w.termination = nil, terminationCheck{}", "w.addresses = nil", "another pod that stays means that this one does")
	pure(identity, "append(slices.Clip(w.addresses), ip)", "[]netip.Addr{ip}", "an address that the pod had is not looked for any more")
	pure(sweep, "err != nil && elb.IsPermanent(err) &&", "err != nil &&", "a passing failure is reported as a refusal")
	pure(sweep, "delete(s.refused, a)", "", "an account counts as refused for good")

	world(survey, "w.followRuledOut()\n", "\n", "an address that no pod has is not looked for where it was", "^TestWaits$/^identity$/^an_address_that_no_pod_has,")
	world(survey, "!c.Tied && !followed {", "!followed {", "a tied group is ruled out if a look does not list the pod", "^TestWaits$/^ordinary$/^never_ready$")
	world(survey, "if lists {", "if !lists {", "a group is ruled out though it lists the pod", "^TestWaits$/^discovery$/^an_address_that_no_pod_has$")
	world(survey, "publishesNotReady: c.PublishesNotReady, otherPorts", "publishesNotReady: true, otherPorts", "will_not_leave for a pod that leaves", "^TestWaits$/^aws$/^throttling$")
	world(survey, "otherPorts: c.OtherPorts,", "", "a neighbour in the host network holds the pod", "^TestWaits$/^discovery$/^neighbours")
	world(survey, "w.noteOpen(\"%s: its target group has not been found yet\", about)", "", "go before a group was found by its name", "^TestWaits$/^discovery$/^a_binding_with_a_name_only$")
	world(survey, "w.noteOpen(\"%s: %s has not been looked at yet\", about, what)", "", "go before a group was looked at", "^TestWaits$/^aws$/^an_address_is_found")
	world(survey, "w.noteOpen(\"%s: its load balancer has not been found yet\", about)", "", "go before a load balancer was found", "^TestWaits$/^hostnames$/^of_an_Ingress$")
	world(survey, "if h.Tied {", "if false {", "not_registered behind a load balancer that is none of ours", "^TestWaits$/^hostnames$/^of_a_load_balancer")
	world(survey, "h.Tied && (!h.Ingress || info.Type != elb.NLB)", "h.Tied", "an ingress controller's NLB holds the pod", "^TestWaits$/^hostnames$/^of_an_ingress_controller")
	world(identity, "if r.Forwarded && r.Inferred && r.Pod == \"\" {", "if false {", "a proxied caller is answered for the proxy's pod", "^TestForwardedCaller$")
	world(identity, "w.identifiedAs(pod)", "if w.pod != nil {\n pod = w.pod\n}\nw.identifiedAs(pod)", "the pod that the cache shows is believed", "^TestWaits$/^(identity|apiserver)$")
	world(identity, "who.Namespace != \"\":", "true:", "an address without a namespace is looked for nowhere", "^TestWaits$/^discovery$/^an_address_that_no_pod_has,_without")
	world(identity, "w.groups, w.ruledOut = make(map[elb.Group]*group), make(map[elb.Group]tie)", "if w.groups == nil || w.ruledOut == nil {\n w.groups, w.ruledOut = make(map[elb.Group]*group), make(map[elb.Group]tie)\n}", "another pod's groups are followed", "^TestWaits$/^apiserver$/^a_record_of_a_deletion")
	all = append(all, mutant{
		group: "drain", file: "internal/cluster/pod.go", from: "known.UID == p.UID && ", to: "", why: "no UID check when the pod is read again",
		pkg: "./internal/cluster", run: "^TestRefresh$",
	})
	world(wait, "w.setPod(w.cluster.Refresh(w.pod))", "", "a grace period that is shortened does not count", "^TestWaits$/^budget$/^the_grace_period_is_short")
	world(wait, "cmp.Or(w.unknown, f.Refused, refused)", "cmp.Or(w.unknown, f.Refused, refused)\n\tf.Refused = w.unknown", "a caller that is denied waits for the whole budget", "^TestWaits$/^aws$/^access_denied_at_the_start$")
	world(wait, "w.setLookupError(g.ARN, g.err)", "", "an error of AWS is not reported", "^TestWaits$/^aws$/^throttling_for_good$")
	world(wait, "Live: w.identified}", "Live: true}", "a stale record ends the wait at once", "^TestWaits$/^apiserver$/^a_record_of_a_deletion")
	world(wait, "if o == api.SettleCut || o == api.BudgetSpent {", "if o == api.BudgetSpent {", "settle_cut does not say what was missing", "^TestWaits$/^budget$/^a_minute")
	world(wait, "if o == api.BudgetSpent {\n\t\tw.warnOfOpen", "if o == api.SettleCut {\n\t\tw.warnOfOpen", "budget_spent does not say what was unknown", "^TestWaits$/^apiserver$/^the_API_server_is_away_for_all")
	world(sweep, "case err == nil && (!look.Gone || c.Former):", "case err == nil && look == nil:", "nothing is swept: each wait looks at all groups", "^TestOnePodAmongManyGroups$")
	return all
}

// controls are the negative controls of the worlds that show too little: if the worlds
// find each of these faults, they really check. A fault that random worlds find has a
// seed; the other one has its own world.
func controls() []mutant {
	var all []mutant
	control := func(file, from, to, why, run, args string) {
		all = append(all, mutant{group: "controls", file: file, from: from, to: to, why: why, pkg: "./internal/service", run: run, args: args})
	}
	const survey = "internal/cluster/ties/survey.go"
	const random = "^TestPromises$"
	control(survey, "range v.candidates() {", "range v.candidates() {\nif r.former() {\ncontinue\n}", "former bindings are forgotten", random, "-seed 79")
	control("internal/cluster/ties.go", "h.Tie(x.records.ServicesOf(p.raw)...)", "h.Services = nil\nh.Tie(x.records.ServicesOf(p.raw)...)", "former Services are forgotten: only present ones tie a pod", random, "-seed 3")
	control("internal/cluster/lists.go", "if l.covers(since, ingresses) {", "if true {", "no live lists: the ties in the cache count", random, "-seed 2")
	control("internal/elb/elb.go", "if out.TargetHealthDescriptions == nil {", "if false {", "any answer of ELBv2 counts: a missing list is an empty one", random, "-seed 117")
	control("internal/cluster/identify.go", "if err == nil && !cached.HostNetwork {", "if err == nil {\nreturn cached, nil\n}\nif err == nil && !cached.HostNetwork {", "the pod that the cache shows at the caller's address is believed", "^TestWaits$/^identity$", "")
	control(survey, "s.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()", "if !slices.ContainsFunc(v.records, func(r *record) bool { return r.binding != nil }) {\ns.Hostnames, s.NoAddress = v.hostnames(named), v.noAddress()\n}", "host names do not count if the namespace has bindings", random, "-seed 2")
	return all
}
