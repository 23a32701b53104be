package main

import (
	"path"
	"slices"
)

// list is all mutants: of each, what it would do to somebody who has the service in his
// deploys. Most die by the tests beside the code; those of drain and server that need a
// whole service die by the tests of internal/service. Where the tests of a package take
// long, those to run are named.
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
	pure(group, "look.Of(addresses)", "look", "each wait holds the targets of its whole group: memory grows")
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

	return slices.Concat(all, waits(), pods(), memory(), copies(), rate(), pace(), questions(), answers(), server(), hooks(), controls())
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

	pure(wait, "!now.Before(w.began.Add(refuseWithin)),", "!now.Before(w.began.Add(10 * refuseWithin)),", "a refusal comes twenty seconds late")
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
	pure(wait, "old.err.Error() == e.err.Error()", "false", "an old error is reported as the newest")
	pure(wait, "a.at.Compare(b.at)", "b.at.Compare(a.at)", "the oldest error is reported as the newest")
	pure(wait, "e.survey != 0 && e.survey != w.surveys", "false", "an error that is over is reported as the last one")
	pure(wait, "e.survey != 0 && e.survey != w.surveys", "e.survey != w.surveys", "why the pod cannot be read is forgotten with each survey")
	pure(wait, "if v := recover(); v != nil {", "if v := any(nil); v != nil {", "a bug in one wait ends the service, with all other waits")
	pure(wait, "panicked != nil {\n\t\t\tapply =", "panicked != nil && false {\n\t\t\tapply =", "the log does not say where a question has panicked")
	pure(wait, "if panicked := <-done; panicked != nil {", "if panicked := <-done; panicked != nil && false {", "a wait with a bug goes on as if nothing had happened")
	pure(wait, "if len(w.warnings) > maxWarnings {", "if false {", "an answer with warnings without end")
	pure(wait, "if len(w.warnings) == maxWarnings {", "if false {", "nobody learns that warnings are left out")
	pure(wait, "case p.Confirmed && !w.isStale(g):", "case p.Confirmed:", "drained by a look that is minutes old: the pod is registered again")
	pure(wait, "if w.isStale(g) {", "if false {", "nobody takes the last look that a wait needs: budget_spent")
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
	pure(survey, "t = g.join(t)", "", "the last tie alone counts")
	pure(survey, "g.tie, g.surveyed = t, w.surveys", "g.surveyed = w.surveys", "the first tie alone counts")
	pure(survey, "if w.pod.UID != \"\" {\n\t\treturn", "if false {\n\t\treturn", "a group that was ruled out comes back")
	pure(survey, "if len(w.survey.open) < maxOpen {", "if true {", "a wait keeps and tells open questions without end")
	pure(survey, "w.survey.openInAll++\n", "\n", "nobody learns that open questions are left out")
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
	world(survey, "!c.Tied && w.group(id) == nil {", "w.group(id) == nil {", "a tied group is ruled out if a look does not list the pod", "^TestWaits$/^ordinary$/^never_ready$")
	world(survey, "if lists {", "if !lists {", "a group is ruled out though it lists the pod", "^TestWaits$/^discovery$/^an_address_that_no_pod_has$")
	world(survey, "publishesNotReady: c.PublishesNotReady, otherPorts", "publishesNotReady: true, otherPorts", "will_not_leave for a pod that leaves", "^TestWaits$/^aws$/^throttling$")
	world(survey, "otherPorts: c.OtherPorts,", "", "a neighbour in the host network holds the pod", "^TestWaits$/^discovery$/^neighbours")
	world(survey, "w.noteOpen(\"%s: its target group has not been found yet\", about)", "", "go before a group was found by its name", "^TestWaits$/^discovery$/^a_binding_with_a_name_only,_and_nobody")
	world(survey, "w.noteOpen(\"%s: %s has not been looked at yet\", about, what)", "", "go before a group was looked at", "^TestWaits$/^aws$/^an_address_is_found")
	world(survey, "w.noteOpen(\"%s: its load balancer has not been found yet\", about)", "", "go before a load balancer was found", "^TestWaits$/^hostnames$/^the_load_balancer_cannot_be_asked_for$")
	world(survey, "if h.Tied {", "if false {", "not_registered behind a load balancer that is none of ours", "^TestWaits$/^hostnames$/^of_a_load_balancer")
	world(survey, "h.Tied && (!h.Ingress || info.Type != elb.NLB)", "h.Tied", "an ingress controller's NLB holds the pod", "^TestWaits$/^hostnames$/^of_an_ingress_controller")
	world(identity, "if r.Forwarded && r.Inferred && r.Pod == \"\" {", "if false {", "a proxied caller is answered for the proxy's pod", "^TestForwardedCaller$")
	world(identity, "w.identifiedAs(pod)", "if w.pod != nil {\n pod = w.pod\n}\nw.identifiedAs(pod)", "the pod that the cache shows is believed", "^TestWaits$/^(identity|apiserver)$")
	world(identity, "who.Namespace != \"\":", "true:", "an address without a namespace is looked for nowhere", "^TestWaits$/^discovery$/^an_address_that_no_pod_has,_without")
	pure(identity, "w.groups, w.ruledOut, w.lookupErrors = nil, nil, nil", "w.ruledOut, w.lookupErrors = nil, nil", "another pod's groups are followed")
	all = append(all, mutant{
		group: "drain", file: "internal/cluster/pod.go", from: "known.UID == p.UID && ", to: "", why: "no UID check when the pod is read again",
		pkg: "./internal/cluster", run: "^TestRefresh$",
	})
	world(wait, "w.setPod(w.cluster.Refresh(w.pod))", "", "a grace period that is shortened does not count", "^TestWaits$/^budget$/^the_grace_period_is_short")
	world(wait, "cmp.Or(w.unknown, f.Refused, refused)", "cmp.Or(w.unknown, f.Refused, refused)\n\tf.Refused = w.unknown", "a caller that is denied waits for the whole budget", "^TestWaits$/^aws$/^access_denied_at_the_start$")
	world(wait, "w.setLookupError(g.ARN, g.err)", "", "an error of AWS is not reported", "^TestWaits$/^aws$/^throttling_for_good$")
	world(wait, "<-w.turns\n", "", "after two turns no wait is ever answered", "^TestHangUp$")
	world(survey, "w.dropSurveyErrors()\n", "", "an error that is over is reported as the last one", "^TestTroubleThatIsOver$")
	world(wait, "Live: w.identified}", "Live: true}", "a stale record ends the wait at once", "^TestWaits$/^apiserver$/^a_record_of_a_deletion")
	world(wait, "if o == api.SettleCut || o == api.BudgetSpent {", "if o == api.BudgetSpent {", "settle_cut does not say what was missing", "^TestWaits$/^budget$/^a_minute")
	world(wait, "if o == api.BudgetSpent {\n\t\tw.warnOfOpen", "if o == api.SettleCut {\n\t\tw.warnOfOpen", "budget_spent does not say what was unknown", "^TestWaits$/^apiserver$/^the_API_server_is_away_for_all")
	world("internal/drain/drain.go", "if !d.cluster.Synced() {", "if false {", "a hook that comes before the cluster was read is 404 and not retried", "^TestNotReadyYet$")
	world(sweep, "s.denied.Set(float64(len(s.refused)))", "", "no alert that AWS refuses us", "^TestNoCredentials$")
	world(sweep, "s.check(ctx, a, retry, false)", "", "the alert stays when a look finds out first that AWS answers again", "^TestRefusalEnds$")
	world(termination, "w.termination.again = time.Now().Add(time.Second)", "", "an API server that fails is asked without a pause", "^TestNobodySaysWhetherThePodStays$")
	world(termination, "w.setLookupError(about, fmt.Errorf(\"check", "_ = (fmt.Errorf(\"check", "nobody learns that the API server does not tell whether the pod stays", "^TestNobodySaysWhetherThePodStays$")
	world(sweep, "case err == nil && (!look.Gone || c.Former):", "case err == nil && look == nil:", "nothing is swept: each wait looks at all groups", "^TestOnePodAmongManyGroups$")
	return all
}

// pods are the mutants of who a pod is and what the watches and lists show.
func pods() []mutant {
	const (
		histories = "internal/cluster/histories.go"
		identify  = "internal/cluster/identify.go"
		lists     = "internal/cluster/lists.go"
		pod       = "internal/cluster/pod.go"
		search    = "internal/cluster/search.go"
		turns     = "internal/cluster/turns.go"
		events    = "internal/cluster/ties.go"
		wake      = "internal/cluster/wake.go"
		index     = "internal/cluster/cluster.go"
	)
	tests := map[string]string{ // to be quick; all where none are named
		histories: "Identify|Refresh|Deletion|Skew|Pod|History|Predecessor|Hostnames",
		identify:  "Identify|NotTerminating",
		lists:     "List|OldEvent|Ingress",
		pod:       "Pod|Identify|Refresh|Skew|Deletion",
		search:    "Search|Identify",
		turns:     "Search|TurnThatIsNotNeeded",
	}
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "cluster", file: file, from: from, to: to, why: why, pkg: "./internal/cluster", run: tests[file]})
	}
	turn := func(file, from, to, why, run string) {
		all = append(all, mutant{group: "cluster", file: file, from: from, to: to, why: why, pkg: "./internal/cluster", run: run})
	}
	add(histories, "laterVersion(p.ResourceVersion, known.ResourceVersion) }", "false }", "a live read that is newer than the watch is forgotten: the wait goes by a stale pod")
	add(histories, "x.wake(p.Namespace, p.Name)\n\treturn p", "return p", "a wait does not hear what another one read of its pod")
	add(histories, "!laterVersion(read.ResourceVersion, p.ResourceVersion) {", "false {", "what a read showed once is kept beside the watch for good")
	add(histories, "if h == nil || slices.ContainsFunc(x.watchers[h.Namespace][h.Name], func(w *watcher) bool { return w.pod.id() == id }) {", "if h == nil {", "the ties of a pod that is gone are forgotten while its wait goes on")
	add(histories, "if cached != nil && cached.UID == id ||", "if cached != nil && cached.UID != id ||", "the ties of a running pod are forgotten after a minute")
	add(histories, "cached != nil && cached.UID == id ||", "cached != nil ||", "what is known of each pod of a StatefulSet is kept for good: memory grows")
	add(histories, "isRead && time.Since(h.read) <= keepRead", "isRead", "pods that only live reads showed are kept for good: memory grows")
	add(histories, "isRead && time.Since(h.read) <= keepRead", "false", "a pod that a live read has just shown is forgotten")
	add(histories, "if p.DeletionTimestamp == nil {\n\t\treturn", "if p.DeletionTimestamp == nil {\n\t\t*d = deletion{}\n\t\treturn", "a watch that is behind takes a deletion back: the wait outlives its pod")
	add(histories, "d.kill = stamp.Add(-skew)", "d.kill = stamp.Add(skew)", "the skew of the clocks counts twice")
	add(histories, "d.kill = stamp.Add(-skew)", "d.kill = stamp.Add(0 * skew)", "the kubelet's clock is taken for ours: killed in mid-wait")
	add(histories, "now.Add(grace), grace}", "stamp, grace}", "a broken clock ends waits at once")
	add(histories, "if stamp.Before(d.stamp) {", "if !stamp.Equal(d.stamp) {", "a kill time that a stale record shows counts")
	add(histories, "if stamp.Before(d.stamp) {", "if false {", "a grace period that is cut short is overlooked: killed in mid-wait")
	add(histories, "d.kill.Add(stamp.Sub(d.stamp)), stamp", "stamp, stamp", "a shorter grace period brings back the API server's clock")
	add(histories, "d.grace = min(d.grace, grace)", "d.grace = grace", "the longer grace period of a stale record counts")
	add(histories, "{p.DeletionGracePeriodSeconds, p.Spec.TerminationGracePeriodSeconds}", "{p.Spec.TerminationGracePeriodSeconds}", "kubectl delete --grace-period is not honoured")
	add(histories, "return 30 * time.Second // the", "return 300 * time.Second // the", "a pod without a grace period gets five minutes")

	add(identify, "ref.IP.IsValid() && !ref.Inferred && !slices", "ref.IP.IsValid() && !slices", "a pod that is asked for by its node, or through a proxy, is not found")
	add(identify, "ref.IP.IsValid() && !ref.Inferred && !slices.Contains(pod.IPs, ref.IP.Unmap())", "false", "an address that is not the pod's goes unnoticed")
	add(identify, "slices.Contains(pod.IPs, ref.IP.Unmap()) {\n", "slices.Contains(pod.IPs, ref.IP) {\n", "an address that is written as IPv6 is not the pod's")
	add(identify, `return nil, fmt.Errorf("%w: %s/%s", ErrNoPod, namespace, name)`, `return nil, fmt.Errorf("no pod %s/%s", namespace, name)`, "a mistyped pod= is tried for the whole budget, not refused")
	add(identify, "if err != nil && !errors.Is(err, ErrNoPod) {", "if err != nil {", "an address that has just got another pod is nobody's")
	add(identify, "p.UID == cached.UID && !completed(p) && slices", "!completed(p) && slices", "a pod of the same name takes the answer of the one that asks")
	add(identify, "p.UID == cached.UID && !completed(p) && slices", "p.UID == cached.UID && slices", "a completed pod answers for its successor at the address")
	add(identify, "&& slices.Contains(ties.Addresses(p), ref.IP.Unmap()) {", "{", "the pod that the cache shows at an address is believed after it has moved")
	add(identify, "ready, err = x.nodeReady(ctx, p, node)", "_, err = x.nodeReady(ctx, p, node)", "not_terminating on a node that shuts down: the controller deregisters its pods")
	add(identify, "_, ready, err = x.isReady(ctx, caller, p)\n", "", "a pod that is deleted in between is not terminating")
	add(identify, "case errors.Is(err, ErrNoPod):\n\t\treturn \"\", false, nil", "case errors.Is(err, ErrNoPod):\n\t\treturn \"\", true, nil", "a pod that is gone is not terminating")
	add(identify, "ready = pod.UID == p.UID && pod.Del", "ready = pod.Del", "the successor of the same name says that the pod stays")
	add(identify, "pod.DeletionTimestamp == nil && slices", "slices", "not_terminating for a pod that is deleted")
	add(identify, "c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue", "c.Type == corev1.PodReady", "not_terminating for a pod that is unready: the controller deregisters it")
	add(identify, "case apierrors.IsNotFound(err):\n\t\treturn false, nil\n", "", "the node is gone: a wait asks for it again and again")
	add(identify, "c.Type == corev1.NodeReady && c.Status == corev1.ConditionTrue", "c.Type == corev1.NodeReady && c.Status != corev1.ConditionFalse", "not_terminating on a node that does not answer")
	turn(identify, "if err := x.reading.wait(ctx, caller); err != nil {", "if err := ctx.Err(); err != nil {", "made-up names flood the API server", "^TestLiveReadsGoInTurn$")
	turn(identify, "x.reading.wait(ctx, caller)", "x.reading.wait(ctx, netip.Addr{})", "a stranger who asks a lot keeps the hooks of others waiting", "^TestLiveReadsGoInTurn$")

	add(lists, "!began.IsZero() && !began.Before(since)", "!began.IsZero()", "a list from before the wait counts as live")
	add(lists, "&& (!ingresses || has(l.newest.ingressesBegan))", "", "not_registered by lists without Ingresses")
	add(lists, "l.wantIngresses = l.wantIngresses || ingresses", "l.wantIngresses = ingresses", "a wait that needs Ingresses never gets them while others ask")
	add(lists, "l.wakes[wake] = true\n", "", "a wait does not hear that the lists are there")
	add(lists, "if !l.running {", "if true {", "each wait lists the namespace for itself: the API server is flooded")
	add(lists, "return false, l.err\n", "return false, nil\n", "nobody learns why the API server cannot be read")
	add(lists, "l.err = err\n", "\n", "the error of a list is lost")
	add(lists, "kube.Pause(ctx, listAgain)", "", "an API server that refuses is asked without a pause")
	add(lists, "l.running = false\n", "", "after one list the namespace is never read again")
	add(lists, "clear(l.wakes)", "", "waits are woken for lists that they did not ask for")
	add(lists, "kube.Pause(ctx, time.Until(began.Add(listEvery)))", "_ = began", "live lists follow each other without a pause: the API server is flooded")
	add(lists, "x.tie(s.Namespace+\"/\"+s.Name, ties.Selected(x.seenPods, s))\n\t}\n\tfor", "_ = s\n\t}\n\tfor", "a Service that only a live list shows ties nothing: drained too early")
	add(lists, "x.tie(ties.ServiceOf(s), ties.Named(x.seenPods, s))", "_ = s", "an EndpointSlice that only a live list shows ties nothing: drained too early")
	add(lists, "list.ingressesBegan.IsZero() {", "false {", "a list without Ingresses makes those of the last one worthless")
	add(lists, "l.newest, l.err = list, nil", "l.newest = list", "an error of the API server that is over is still reported")
	add(lists, "if x.records.Listed(namespace, list.Objects, x.lists[namespace] == l) {", "if x.records.Listed(namespace, list.Objects, x.lists[namespace] == l); false {", "waits do not hear of what a live list shows first")
	add(lists, "|| !laterVersion(b.ResourceVersion, l.newest.versions[i]):", ":", "an old event takes a binding away that a live list shows")
	add(lists, "case gone:\n\t\t_ = l.newest.Bindings[i].Delete(b)", "case gone:", "a binding that is deleted counts as present by an old list")
	add(lists, "_ = l.newest.Bindings[i].Update(b)", "", "a binding that is switched counts as it was by an old list")
	add(lists, "x.records.DropList(namespace)", "", "an old list counts for all later waits")

	add(pod, "Unmap().String()), ip, namespace)", "String()), ip, namespace)", "a caller over IPv4-mapped IPv6 has no pod")
	add(pod, "len(here) == 1 {", "len(here) > 0 {", "one of two pods at an address is chosen at random")
	add(pod, "len(pods) > 1 || pods[0].Spec.HostNetwork {", "len(pods) > 1 {", "whoever calls from a node is answered for a pod in its network")
	add(pod, "len(pods) > 1 || pods[0].Spec.HostNetwork {", "pods[0].Spec.HostNetwork {", "one of two pods at an address is chosen, of any namespace")
	add(pod, "laterVersion(known.ResourceVersion, newest.ResourceVersion)", "true", "an older state of the pod is taken for the newest")
	add(pod, "out.DeletionSeen, out.Grace, out.KillAt = d.seen, d.grace, d.kill", "out.DeletionSeen, out.Grace, out.KillAt = d.seen, d.grace, d.stamp", "the kill time is the API server's: killed in mid-wait if the clocks differ")
	add(pod, "if completed(p) {\n\t\treturn nil", "if false {\n\t\treturn nil", "a Job that is over makes its successor's address ambiguous")
	add(pod, "p.Status.Phase == corev1.PodSucceeded || p", "p", "a Job that has succeeded counts as running")
	add(pod, "|| p.Status.Phase == corev1.PodFailed", "", "an evicted pod counts as running")
	add(pod, "range ties.Addresses(p) {\n\t\tkeys", "range ties.Addresses(p)[:min(1, len(p.Status.PodIPs))] {\n\t\tkeys", "a dual-stack pod is not found by its second address")

	add(search, "if s == nil {\n\t\ts = &search", "if true {\n\t\ts = &search", "equal searches are made twice: the API server is flooded")
	add(turns, "if len(t.queues[caller]) == 0 {", "if true {", "a caller that asks a lot keeps the others waiting")
	add(turns, "t.left--\n", "", "searches flood the API server")
	add(turns, "min(t.most, t.left+t.rate*now.Sub(t.since).Seconds())", "t.left + t.rate*now.Sub(t.since).Seconds()", "after a quiet hour thousands of searches go at once")
	add(turns, "if i < 0 {\n\t\tt.left++", "if i < 0 {", "a turn that is not needed is lost")
	add(search, "case <-ctx.Done():\n\t\t\tx.searches.turns.giveUp(t)", "case <-ctx.Done():", "callers that are gone use up the turns of others")
	add(search, "s.waiting--\n", "", "callers that are gone keep others waiting")
	add(turns, "if len(q) > 1 {\n\t\t\tt.order = append(t.order, caller)", "if len(q) > 1 {\n\t\t\tt.order = append([]netip.Addr{caller}, t.order...)", "one caller's searches all go first")
	add(turns, "if len(t.order) > 0 {\n\t\tt.timer", "if false {\n\t\tt.timer", "who does not get a turn at once never gets one")
	add(search, "if s.err == nil {", "if true {", "an error is the answer to others for a second")
	add(search, "kube.Pause(ctx, keepFound)", "", "each hook of a node searches anew")
	add(search, "delete(x.searches.byIP, ip)\n}", "}", "an address has for good the pod that it had once")
	add(search, "!completed(p) {\n\t\t\t\tfound", "true {\n\t\t\t\tfound", "a completed pod that keeps its address hides the running one")

	add(events, "h.Since(x.kube.Gap())", "time.Time{}", "ties from before the start or a gap are overlooked: drained too early")
	add(events, "if watched := x.histories[p.id()]; watched != nil {", "if watched := x.histories[p.id()]; false {", "what looks showed of an address is forgotten")
	add(events, "x.wake(h.Namespace, h.Name)\n\t}\n}\n\n// Unswept", "_ = h\n\t}\n}\n\n// Unswept", "a wait does not hear that a look listed its pod")
	add(events, "(after == nil || before.UID != after.UID)", "(after == nil)", "the deletion of a pod counts for its successor of the same name")
	add(events, "x.forget(before.UID)\n\t\tx.wake(before.Namespace, before.Name)", "x.forget(before.UID)", "a wait does not hear that its pod is gone")
	add(events, "h.Tie(x.records.ServicesOf(before)...) // a", "// a", "a pod that is relabelled first is tied to nothing: blue is stopped under fire")
	add(events, "h.Tie(x.records.ServicesOf(after)...)\n\t}", "}", "what selected the pod before it came counts for nothing")
	add(events, "x.wake(after.Namespace, after.Name)\n}\n\nfunc (x *Index) serviceChanged", "}\n\nfunc (x *Index) serviceChanged", "a wait does not hear that its pod is deleted")
	add(events, "x.tie(after.Namespace+\"/\"+after.Name, ties.Selected(x.seenPods, after))", "", "a Service that selects the pod later does not tie it")
	add(events, "x.wakeNamespace(cmp.Or(after, before).Namespace)\n\t}\n}\n\nfunc (x *Index) sliceChanged", "}\n}\n\nfunc (x *Index) sliceChanged", "a wait does not hear of a Service that changes")
	add(events, "x.tie(ties.ServiceOf(after), ties.Named(x.seenPods, after))", "", "an EndpointSlice does not tie: the pod was deleted before its Service was read")
	add(events, "w.pod.Namespace == namespace && w.pod.HostNetwork", "w.pod.Namespace == namespace && false", "a neighbour that leaves the node's ports is not noticed")
	add(events, "w.pod.Namespace == namespace && w.pod.HostNetwork", "w.pod.Namespace == namespace", "each change of a slice wakes all waits of a namespace")
	add(events, "!maps.Equal(before.Annotations, after.Annotations) {\n\t\tx.wakeN", "false {\n\t\tx.wakeN", "a wait does not hear that an Ingress moves to another load balancer")
	add(events, "x.cfg.OnCheckpoint(after.TargetGroupARN, value, ok)", "x.cfg.OnCheckpoint(after.TargetGroupARN, value, ok || true)", "a binding without checkpoints looks busy: four times the calls")
	add(events, "x.cfg.OnCheckpoint(before.TargetGroupARN, \"\", false)", "", "the checkpoint of a binding that is gone sets the pace for good")
	add(events, "x.updateList(newest, after == nil)", "", "a live list is not brought up to date: a binding counts after it is gone")
	add(events, "before.BindingSpec != after.BindingSpec || !maps", "!maps", "a wait does not hear that its binding was switched")
	add(events, "|| before.BindingSpec != after.BindingSpec ||", "|| true ||", "each checkpoint wakes all waits of the namespace")
	add(events, "if h.Tie(service) {", "if h.Tie(service); false {", "a wait does not hear of a Service that selects its pod now")

	add(wake, "x.histories[p.id()] = &history{History: ties.NewAddress(p.Namespace, p.IPs)}", "", "what a look shows of a watched address is not remembered")
	add(wake, "x.dropLists(ns)\n", "", "live lists of namespaces without waits fill the memory")
	add(wake, "if len(x.watchers[ns]) == 0 {", "if true {", "a wait that ends takes the lists away from all others")
	add(wake, "for _, w := range x.watchers[namespace][name] {\n\t\tsignal(w.wake)\n\t}", "x.wakeAll(func(w *watcher) bool { return w.pod.Namespace == namespace })\n_ = name", "each pod's changes wake all waits of the namespace")
	add(wake, "|| h != nil && slices.ContainsFunc(h.Services, ofNamespace)", "|| h == nil && slices.ContainsFunc(h.Services, ofNamespace)", "a wait does not hear of bindings in the namespace of its slice")
	add(wake, "delete(x.watchers[ns], name)\n", "", "waits that are over are kept for good: memory grows")

	add(index, "x.forget(id)\n\t}\n\tfor ns", "_ = id\n\t}\n\tfor ns", "what addresses and reads showed is kept for good: memory grows")
	add(index, "x.records.Tidy(x.eachHistory)", "", "former bindings are kept for good: memory grows")
	return all
}

// memory are the mutants of what ties a pod to a group.
func memory() []mutant {
	const (
		history   = "internal/cluster/ties/history.go"
		hostnames = "internal/cluster/ties/hostnames.go"
		objects   = "internal/cluster/ties/objects.go"
		records   = "internal/cluster/ties/records.go"
		survey    = "internal/cluster/ties/survey.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "cluster", file: file, from: from, to: to, why: why, pkg: "./internal/cluster"})
	}
	add(history, "late: live || len(Addresses(p)) > 0,", "late: len(Addresses(p)) > 0,", "a pod that no watch told of counts as well watched")
	add(history, "late: live || len(Addresses(p)) > 0,", "late: live,", "a pod from before the start counts as well watched: drained too early")
	add(history, "late: live || len(Addresses(p)) > 0,", "late: true,", "each wait looks at all groups of the namespace")
	add(history, "append(h.ips, ip), time.Now()", "[]netip.Addr{ip}, time.Now()", "an address that the pod had is not looked for any more")
	add(history, "h.gates = addNew(h.gates, name)", "_ = name", "a readiness gate does not tie the pod")
	add(history, "return len(h.Services) > before", "return len(h.Services) < before", "a wait does not hear of a new tie")
	add(history, "ns, _, _ := strings.Cut(s, \"/\")\n\t\tall[ns] = true", "_ = s", "a binding of the Service in another namespace is not followed")
	add(history, "if h.late {", "if false {", "ties from before the start are overlooked: drained too early")
	add(history, "!h.seen.After(gap) && since.Before(gap) {", "false {", "ties from a gap in a watch are overlooked: drained too early")
	add(history, "!h.seen.After(gap) && since.Before(gap) {", "since.Before(gap) {", "after a gap each later pod is looked for everywhere")
	add(history, "!since.IsZero() && since.Before(h.addressed) {", "false {", "a look from before the pod's address was known counts")
	add(history, "!since.IsZero() && since.Before(h.addressed) {", "since.Before(h.addressed) {", "each pod that gets its address is looked for everywhere")
	add(history, "if h.seen.Before(born) {", "if false {", "a clock that was set makes a pod younger than its ties")
	add(history, "ips = append(ips, ip.Unmap())", "ips = append(ips, ip)", "an IPv4-mapped address of a pod is not found")
	add(history, "strings.CutPrefix(string(t), prefix); ok {", "strings.CutPrefix(string(t), prefix); ok && prefix == gatePrefixes[0] {", "readiness gates of EKS Auto Mode do not tie")

	add(hostnames, "hostnames = addNew(hostnames, a.Hostname)\n\t}\n\tfor _, name := range backends(i)", "hostnames = []string{a.Hostname}\n\t}\n\tfor _, name := range backends(i)", "only the last address of an Ingress is followed")
	add(hostnames, "s.Spec.Type != corev1.ServiceTypeLoadBalancer {", "false {", "each ClusterIP Service is a load balancer without an address: refused")
	add(hostnames, "if noAddress {\n\t\thostnames", "if false {\n\t\thostnames", "not_registered behind an Ingress that has no address yet")
	add(hostnames, "l[serviceStackName] == r.from.name && l[serviceStackNamespace] == r.from.namespace", "l[serviceStackNamespace] == r.from.namespace", "the binding of another Service hides a load balancer: drained too early")
	add(hostnames, "l[ingressStackName] == r.from.name && l[ingressStackNamespace] == r.from.namespace", "l[ingressStackNamespace] == r.from.namespace", "the binding of another Ingress hides a load balancer: drained too early")
	add(hostnames, "case r.ingressGroup != \"\":", "case false:", "an IngressGroup's bindings are not known as its own: questions without end")
	add(hostnames, "return l[ingressStack] == r.ingressGroup", "return l[ingressStack] != \"\"", "the binding of another IngressGroup hides a load balancer: drained too early")
	add(hostnames, "b.binding != nil && b.everywhere && b", "b.binding != nil && b", "a former binding hides a load balancer: drained too early")
	add(hostnames, "(anyService || b.service == r.service)", "true", "the binding of another Service hides a load balancer: drained too early")
	add(hostnames, "if isNamed || v.follows(rs, tied) {", "if v.follows(rs, tied) {", "ingress= does not count")
	add(hostnames, "Tied: isNamed || len(tied) > 0,", "Tied: len(tied) > 0,", "ingress= is a hint only: its load balancer need not be known")
	add(hostnames, "len(tied) > 0 && !slices.ContainsFunc(tied, hidesUnready)", "!slices.ContainsFunc(tied, hidesUnready)", "will_not_leave behind a load balancer that nothing ties")
	add(hostnames, "return !v.since.IsZero() && leads", "return leads", "each wait asks for all load balancers of the namespace")
	add(hostnames, "return slices.ContainsFunc(tied, func(r *record) bool { return !v.accountsFor(r, false) })", "return slices.ContainsFunc(tied, func(r *record) bool { return !v.accountsFor(r, true) })", "a backend without a binding is overlooked: drained too early")
	add(hostnames, "if r.binding != nil || r.former() {\n\t\t\tcontinue", "if r.binding != nil {\n\t\t\tcontinue", "an Ingress that was deleted without an address is a refusal")
	add(hostnames, "known[from] = known[from] || !r.noAddress ||", "known[from] = known[from] ||", "an Ingress with an address is refused as one without")
	add(hostnames, "|| isTied && v.accountsFor(r, false)", "", "an Ingress whose binding is there is refused for want of an address")

	add(objects, "if have, ok := podLabels[k]; !ok || have != v {", "if have, ok := podLabels[k]; ok && have != v {", "a Service selects pods without its labels")
	add(objects, "return len(s.Spec.Selector) > 0", "return true", "a Service without a selector ties all pods")
	add(objects, "PublishNotReadyAddresses: s.Spec.PublishNotReadyAddresses,", "", "will_not_leave is never said: a wait for the whole budget")
	add(objects, "e.TargetRef.Kind != \"Pod\" {", "false {", "a node of the same name is taken for the pod")
	add(objects, "cmp.Or(e.TargetRef.Namespace, s.Namespace)", "s.Namespace", "a slice that names a pod elsewhere does not tie it")
	add(objects, "e.TargetRef.UID == \"\" || e.TargetRef.UID == p.UID", "e.TargetRef.UID == p.UID", "a slice that something else wrote does not tie")
	add(objects, "e.TargetRef.UID == \"\" || e.TargetRef.UID == p.UID", "true", "the slice of a predecessor ties")
	add(objects, "Conditions: discoveryv1.EndpointConditions{Ready: e.Conditions.Ready},", "", "a neighbour that is not ready takes the node's port")
	add(objects, "addBackend(i.Spec.DefaultBackend)", "", "the default backend of an Ingress does not tie")
	add(objects, "addBackend(&p.Backend)", "_ = p", "the rules of an Ingress do not tie")
	add(objects, "if b != nil && b.Service != nil {", "if b != nil {", "an Ingress with a resource as its backend ends the program")
	add(objects, "}, bindingKeys...),", "}),", "checkpoints are never seen: four times the calls")
	add(objects, "s.TargetType == \"\" || s.TargetType == TypeIP", "s.TargetType == TypeIP", "a binding that does not tell its type is not looked at")

	add(records, "ended.Add(tolerance).Before(born)", "ended.Before(born)", "a binding that ended in the second of the pod's creation does not tie")
	add(records, "&& !before(r.ended, born) {", "{", "what ended before the pod was born is waited for")
	add(records, "slices.Contains(h.gates, r.from.name) ||", "", "a readiness gate does not tie the pod")
	add(records, "|| slices.Contains(h.listed, r.spec.group()))", ")", "a group that lists the pod is not followed: drained under fire")
	add(records, "return []Objects{watched, listed}", "return []Objects{watched, watched}[:len(listed.Services[:1])]", "a live list counts for nothing")
	add(records, "os.Ingresses = rs.listed[namespace].Ingresses", "", "Ingresses of a live list are forgotten with the next list")
	add(records, "rs.reconcile(o)\n\treturn news", "return news", "a binding that a live list lacks counts as present")
	add(records, "delete(rs.listed, namespace)", "", "an old list counts for ever")
	add(records, "rs.remember(after...) //", "//", "bindings that the watch shows are not followed")
	add(records, "old.binding, old.ingressGroup = r.binding, r.ingressGroup", "", "new labels of a binding do not count")
	add(records, "known[r.link], news = r, true", "known[r.link] = r", "a wait does not hear of what a live list shows")
	add(records, "if o.name != \"\" && r.from != o {", "if false {", "one event ends all other records of a namespace")
	add(records, "r.everywhere = n == len(all)", "r.everywhere = n > 0", "will_not_leave by a watch that is behind")
	add(records, "r.ended, r.cleared = time.Time{}, false", "", "a binding that comes back counts as deleted")
	add(records, "case !r.former():\n\t\t\tr.ended, ended = time.Now(), true", "case true:\n\t\t\tr.ended, ended = time.Now(), true", "a former binding never gets old")
	add(records, "if len(formers) <= maxFormers {", "if true {", "former bindings without end fill the memory")
	add(records, "if a.cleared == b.cleared {\n\t\t\treturn a.ended", "if true {\n\t\t\treturn a.ended", "a former binding that still sends is dropped before one that does not")
	add(records, "return a.ended.Compare(b.ended)\n\t\t}\n\t\tif", "return b.ended.Compare(a.ended)\n\t\t}\n\t\tif", "the newest former bindings are dropped first")
	add(records, "rs.forgotten[r.from.namespace] = time.Now()", "", "not_registered though a former binding had to be dropped")
	add(records, "if !r.cleared {\n\t\t\trs.forgotten", "if true {\n\t\t\trs.forgotten", "after many switches nothing is ever not_registered")
	add(records, "time.Since(r.ended) >= keepFormer && (", "(", "a former binding is forgotten within a minute: drained too early")
	add(records, "(r.cleared || r.binding == nil)", "true", "a former binding that still sends is forgotten after ten minutes")
	add(records, "over && !slices.ContainsFunc(pods[ns], func(h *History) bool { return r.ties(h, h.born(rs.clock)) })", "over && len(ns) > 0", "a former binding is forgotten while its pods live")
	add(records, "delete(rs.forgotten, ns)", "", "a namespace gets no not_registered for good")
	add(records, "if r.spec.group() == group {", "if r.binding == b {", "one look per binding and not per group: more calls")
	add(records, "if r.swept.Before(began) {", "if false {", "the sweep looks at the same groups for ever")
	add(records, "if h.Namespace != r.from.namespace && !r.ties(h, h.born(rs.clock)) {", "if h.Namespace != r.from.namespace {", "a former binding elsewhere is cleared though the pod is in rotation")
	add(records, "h.Namespace == r.from.namespace && !slices.Contains(h.listed, group)", "h.Namespace == r.from.namespace", "waits are woken again and again by the same look")
	add(records, "h.listed = append(h.listed, group)", "", "a look that lists the pod does not tie it: drained under fire")
	add(records, "began.After(r.ended) && !anyInRotation", "!anyInRotation", "a look from before a binding's end clears it")
	add(records, "began.After(r.ended) && !anyInRotation", "began.After(r.ended)", "a former binding is cleared while its pods are in rotation")
	add(records, "pods[h] = pods[h] || inRotation", "pods[h] = inRotation", "one address of a dual-stack pod clears its former binding")
	add(records, "if since.Before(r.ended) {\n\t\tsince", "if false {\n\t\tsince", "a look from before a binding's end clears it")
	add(records, "case !r.spec.registers():\n\t\treturn time.Time{}, false", "case false:", "the sweep spends its calls on instance targets")
	add(records, "return r.swept.Add(lookAgain), true", "return time.Time{}, false", "a former binding is never cleared")
	add(records, "time.Since(r.swept) >= lookAgain:", "true:", "the sweep looks at a former binding without a pause")
	add(records, "known || order(other, c) < 0", "known || order(other, c) > 0", "a group is looked at for any of its bindings, not the newest")

	add(survey, "s.Forgotten = !before(at, v.born)", "s.Forgotten = before(at, v.born)", "not_registered though a former binding was dropped")
	add(survey, "r.from == o && !r.former() })", "r.from == o })", "ingress= of one that was deleted draws no warning")
	add(survey, "s.MissingIngresses = append(s.MissingIngresses, name)", "", "a mistyped ingress= draws no warning")
	add(survey, "ServiceOf(s); service != \"\" && namesPod(s, p)", "ServiceOf(s); service != \"\"", "the slice of a predecessor of the same name ties")
	add(survey, "(r.swept.Before(v.since) || v.pod == nil)", "v.pod == nil", "groups that were not swept are overlooked: drained too early")
	add(survey, "(r.swept.Before(v.since) || v.pod == nil)", "r.swept.Before(v.since)", "an address that no pod has is not looked for in swept groups")
	add(survey, "r.binding == nil || !unknown && !v.ties(r)", "r.binding == nil || unknown && !v.ties(r) || !v.ties(r)", "groups that were not swept are overlooked: drained too early")
	add(survey, "if c.Tied = v.ties(r); !c.Tied {", "if c.Tied = v.ties(r); c.Tied {", "an old look rules a group out")
	add(survey, "r.everywhere && r.binding.DeletionTimestamp == nil && v", "r.everywhere && v", "will_not_leave though the binding goes, and with it the target")
	add(survey, "r.everywhere && r.binding.DeletionTimestamp == nil && v", "r.binding.DeletionTimestamp == nil && v", "will_not_leave though the binding is gone, and with it the target")
	add(survey, "if v.pod != nil && v.pod.Spec.HostNetwork {\n", "if v.pod != nil {\n", "ports are left to neighbours that do not share the address")
	add(survey, "s == nil || s.DeletionTimestamp != nil || !s", "s == nil || !s", "will_not_leave though the Service goes, and with it the target")
	add(survey, "|| !s.Spec.PublishNotReadyAddresses || !selects(s, v.pod.Labels) {", "|| !selects(s, v.pod.Labels) {", "will_not_leave for each Service: stopped under fire")
	add(survey, "|| !s.Spec.PublishNotReadyAddresses || !selects(s, v.pod.Labels) {", "|| !s.Spec.PublishNotReadyAddresses {", "will_not_leave though the pod was relabelled, and leaves")
	add(survey, "maps.DeleteFunc(ports, func(port int, _ bool) bool { return !others[port] })", "", "a port is left to a neighbour that a stale watch shows")
	add(survey, "!hasAddress(p, e.Addresses[0])", "false", "a neighbour at another address takes the pod's port")
	add(survey, "continue // it may be", "// it may be", "a neighbour that waits for the port takes it")
	add(survey, "maps.DeleteFunc(others, func(port int, _ bool) bool { return own[port] })", "", "a port that two pods share is left to the other one: drained under fire")
	return all
}

// copies are the mutants of how the API server is read.
func copies() []mutant {
	const (
		ages      = "internal/cluster/kube/ages.go"
		bindings  = "internal/cluster/kube/bindings.go"
		client    = "internal/cluster/kube/client.go"
		clock     = "internal/cluster/kube/clock.go"
		pace      = "internal/cluster/kube/pace.go"
		replicas  = "internal/cluster/kube/replicas.go"
		stores    = "internal/cluster/kube/stores.go"
		transport = "internal/cluster/kube/transport.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "cluster", file: file, from: from, to: to, why: why, pkg: "./internal/cluster"})
	}
	timed := func(from, to, why string) {
		all = append(all, mutant{group: "cluster", file: clock, from: from, to: to, why: why, pkg: "./internal/cluster/kube"})
	}
	watching := func(file, from, to, why string) {
		all = append(all, mutant{group: "cluster", file: file, from: from, to: to, why: why, pkg: "./internal/cluster", run: "^TestWatchesThatExpireForEver$"})
	}
	add(ages, "path == \"\" || d > age || d == age && p < path", "path == \"\" || d < age", "one watch that works hides those that do not")
	add(ages, "if req.URL.Query().Get(\"labelSelector\") != \"\" {", "if false {", "the watch of our own replicas hides that of the slices")
	add(ages, "b.heard()\n", "", "a watch that works gets old: not ready after three minutes")
	add(ages, "o.AllowWatchBookmarks && o.SendInitialEvents == nil", "true", "a gap in a watch is not noticed: ties in it are missed")
	add(ages, "o.AllowWatchBookmarks && o.SendInitialEvents == nil", "false", "each end of a watch is a gap: all groups are swept again and again")

	add(bindings, "case err == nil && has:\n\t\treturn served", "case err == nil && (has || true):\n\t\treturn served", "a group without bindings is waited for")
	add(bindings, "case !apierrors.IsNotFound(err):\n\t\treturn absent, err", "case !apierrors.IsNotFound(err):\n\t\treturn absent, nil", "a refusal or a time-out says that there are no bindings: not_registered under fire")
	add(bindings, "case err != nil:\n\t\treturn absent, err\n", "case err != nil:\n\t\treturn absent, nil\n", "a time-out of discovery says that there are no bindings")
	add(bindings, "case w.wasServed.Load(), w.gvr", "case w.gvr", "bindings of Auto Mode that vanish count as none")
	add(bindings, "if has {\n\t\t\treturn versionGone", "if has && false {\n\t\t\treturn versionGone", "bindings of a version that we do not know count as none: not_registered under fire")
	add(bindings, "w.c.ages.heard(w.c.paths(w.gvr)...)\n\t\tw.known", "w.known", "a cluster without one kind of bindings is not ready after three minutes")
	add(bindings, "w.known.Store(true)\n\t\tPause(ctx, absentRetry)", "Pause(ctx, absentRetry)", "a cluster without one kind of bindings is never ready")
	add(bindings, "Pause(ctx, absentRetry)", "return", "bindings whose kind is installed later are never seen")
	add(bindings, "Pause(ctx, errorRetry)\n\t\t\tcontinue", "return", "one error of discovery, and bindings are never seen")
	add(bindings, "if state != versionGone {", "if true {", "a version that is gone counts as none after a while")
	add(bindings, "case suspect <- struct{}{}:\n", "", "bindings of a group that is gone count for good")
	add(bindings, "if cache.WaitForCacheSync(ctx.Done(), r.hasSynced) {", "if true {", "ready before the bindings were read: not_registered under fire")
	add(bindings, "w.handler.OnDelete(binding) // it", "_ = binding // it", "bindings of a group that is gone count as present")
	add(bindings, "err == nil && state != served {\n\t\t\t\treturn", "err != nil || state != served {\n\t\t\t\treturn", "a 404 and an error of discovery drop all bindings: not_registered under fire")
	add(bindings, "discoverErr == nil && state == absent {", "discoverErr == nil && state != served {", "a live list that gets 404 shows no bindings: not_registered under fire")
	add(bindings, "discoverErr == nil && state == absent {", "discoverErr == nil && state == absent && false {", "no wait ends in a cluster without one kind of bindings")

	add(client, "return fmt.Errorf(\"list %s of namespace %s: %w\", k.Resource.GroupResource(), namespace, err)", "return nil", "a live list that fails counts: drained too early")
	add(client, "if serving(w.state.Load()) == versionGone {", "if false {", "ready without a way to read the bindings")
	add(client, "age > maxAge {", "false {", "ready with watches that are dead")
	add(client, "if !r.hasSynced() {", "if false {", "ready before the pods were read")
	add(client, "if !w.known.Load() {", "if false {", "ready before the bindings were read: not_registered under fire")
	add(client, "c.ages.heard(r.paths...)", "_ = r", "watches that never work do not count as old")
	add(client, "cfg.QPS = -1", "cfg.QPS = 0.1", "the informers are slowed down")

	timed("max(c.least, min(c.most, 0))", "c.least", "clocks that agree are corrected all the same")
	add(clock, "return skew, skew.Abs() <= maxSkew", "return skew, true", "a broken clock ends waits at once")
	timed("date.Add(time.Second).Sub(sent.Round(0))", "date.Sub(sent.Round(0))", "whole seconds of the Date header count as a skew")
	timed("if least > most {", "if false {", "our own clock, set in mid-request, gives an impossible skew")
	timed("!c.known || max(c.least, least) > min(c.most, most)", "!c.known", "a clock that is set is never noticed")
	add(clock, "!ok && !c.warned.Swap(true)", "!ok", "a wrong clock fills the log")

	add(replicas, "n != last {", "n >= 0 || n != last {", "each heartbeat of a slice sets the rate anew")
	add(replicas, "var name string\n", "if e.Conditions.Ready != nil && !*e.Conditions.Ready {\ncontinue\n}\nvar name string\n", "a replica that goes away has no share of the rate: AWS throttles the controller")
	add(replicas, "running[cmp.Or(name, e.Addresses[0])] = true", "running[cmp.Or(e.Addresses[0], name)] = true", "a dual-stack Service halves the rate")

	add(stores, "if unknown, ok := obj.(cache.DeletedFinalStateUnknown); ok {", "if unknown, ok := obj.(cache.DeletedFinalStateUnknown); false && ok {", "a deletion that the watch missed goes unnoticed")
	add(stores, "Labels: pick(m.Labels, keys), Annotations: pick(m.Annotations, keys),", "Labels: m.Labels, Annotations: m.Annotations,", "all annotations of all objects are kept: memory grows")
	add(stores, "DeletionTimestamp: m.DeletionTimestamp,", "", "no deletion is ever seen")

	add(transport, "!t.c.lost.Swap(true) {", "true {", "an API server that is away fills the log")
	add(transport, "if t.c.lost.Swap(false) {", "if false {", "only the first outage of the API server is logged")
	add(transport, "t.c.Clock.answered(sent, time.Now(), date)", "_, _ = sent, date", "clocks that differ are not corrected: killed in mid-wait")
	add(transport, "resp.Body = t.c.listen(resp.Body, what, t.c.ages.expected(req), sent)", "", "working watches get old: not ready after three minutes")

	watching(pace, "min(max(2*p.pauses[watched].length, firstPause), longestPause)", "firstPause", "a watch that ends with 410 for ever floods the API server")
	watching(pace, "min(max(2*p.pauses[watched].length, firstPause), longestPause)", "max(2*p.pauses[watched].length, firstPause)", "after an outage a watch comes back minutes late")
	watching(pace, "delete(p.pauses, watched)\n", "", "a good watch that ends begins anew late")
	watching(pace, "return !pauses || time.Since(began) >= steadyAfter", "return !pauses || true", "ready with watches that end as soon as they begin")
	watching(transport, "t.c.pacer.ended(what, sent)\n\tdefault", "default", "watches that are refused with 410 for ever flood the API server")
	return all
}

// rate are the mutants of how the rate of requests to AWS is spent.
func rate() []mutant {
	var all []mutant
	add := func(from, to, why string) {
		all = append(all, mutant{group: "elb", file: "internal/elb/limiter/limiter.go", from: from, to: to, why: why, pkg: "./internal/elb/limiter"})
	}
	add("cmp.Or(cmp.Compare(u.Class, v.Class), u.By.Compare(v.By))", "u.By.Compare(v.By)", "the sweep takes the rate from waits")
	add("cmp.Or(cmp.Compare(u.Class, v.Class), u.By.Compare(v.By))", "cmp.Compare(u.Class, v.Class)", "in a crowd the latest deadline goes first")
	add("t.urgency = u\n", "", "a look that becomes urgent keeps waiting")
	add("return time.Unix(1<<40, 0) // never", "return t.Arrived", "the sweep takes the turns of those that have waited longest")
	add("return t.Arrived.Add(patience)", "return t.Arrived", "looks that nobody waits for take all fair turns")
	add("case <-ctx.Done():\n\t\tt.Cancel()", "case <-ctx.Done():", "who has given up still costs a token")
	add("if !l.remove(t) {", "if l.remove(t) {", "a token that was paid and not used is lost")
	add("l.tokens++\n", "", "a token that was paid and not used is lost")
	add("l.tokens >= 1 && len", "l.tokens >= 0 && len", "more requests than the rate allows: AWS throttles the controller")
	add("if len(l.waiting) > 1 {", "if true {", "whoever is alone uses up the fair turns")
	add("if l.turns%fairTurn == 0 {", "if false {", "a look may wait for ever behind urgent ones")
	add("a.since().Compare(b.since())", "b.since().Compare(a.since())", "a fair turn goes to the last who came")
	add("l.tokens--", "", "no bound on requests to AWS")
	add("l.tokens = min(l.burst, l.tokens+seconds*l.rate)", "l.tokens = l.tokens + seconds*l.rate", "after a quiet hour thousands of requests go at once")
	add("l.rate = min(l.full, l.rate+seconds*l.full/recovery.Seconds())", "l.rate = min(l.full, l.rate)", "after one throttling the rate stays halved for good")
	add("l.rate = min(l.full, l.rate+seconds*l.full/recovery.Seconds())", "l.rate += seconds * l.full / recovery.Seconds()", "the rate grows without end")
	add("l.rate+seconds*l.full/recovery.Seconds()", "l.rate+seconds*l.full", "the rate recovers at once: AWS throttles again and again")
	add("now.Sub(l.cut) >= time.Second {", "true {", "one burst of throttlings cuts the rate to the least")
	add("l.rate = max(l.rate/2, l.least())", "l.rate /= 2", "throttling stops all looks")
	add("l.rate = max(l.rate/2, l.least())", "_ = l.rate", "throttling does not slow us down: the controller cannot deregister")
	add("l.tokens = 0", "", "after throttling the burst goes on")
	add("l.rate *= full / l.full", "l.rate = full", "a new replica ends the back-off")
	add("l.full, l.burst = full, burst", "l.full = full", "replicas each keep the whole burst")
	add("l.rate = max(l.rate, l.least())\n", "", "a share of a rate that was cut is too small to look at all")
	add("l.rate = max(l.rate, l.least())\n\tl.grant()", "l.rate = max(l.rate, l.least())", "a larger share counts only from the next request on")
	return all
}

// slowInELB are tests that take a second or more, and kill no mutant that others let
// live.
const slowInELB = "-test.skip=^Test(AnswersAreReadUpToASize|Latency|RoleSessionIsRenewed|ManyGroupsShareTheBudget)$"

// pace are the mutants of how the pollers look at groups.
func pace() []mutant {
	const (
		poller  = "internal/elb/poller.go"
		watcher = "internal/elb/watcher.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "elb", file: file, from: from, to: to, why: why, pkg: "./internal/elb", args: slowInELB})
	}
	add(poller, "if by.Equal(forever) {", "if false {", "a look that comes too late for all goes first")
	add(poller, "case next.at.After(time.Now()):\n\t\t\tt.Cancel()", "case false:\n\t\t\tt.Cancel()", "looks go out before they are due: the rate is used up")
	add(poller, "case next.at.After(time.Now()):\n\t\t\tt.Cancel()", "case next.at.After(time.Now()):", "a look that was put off still costs a token")
	add(poller, "t.Set(next.Urgency)", "", "a look that becomes urgent keeps waiting")
	add(poller, "defer func() { t.Cancel() }()", "", "waits that are over keep taking tokens")
	add(poller, "case <-time.After(time.Until(changes)):", "case <-time.After(max(time.Until(changes), 20*time.Second)):", "nothing is looked at unless something happens")
	add(poller, "case <-p.kick:\n\t\tcase <-p.ctx.Done():\n\t\t\treturn due, false", "case <-p.ctx.Done():\n\t\t\treturn due, false", "a new wait or a new hash is noticed at the next routine look")
	add(poller, "consider(s.afterHash(now))", "", "a hash of the controller asks for no look: seconds later")
	add(poller, "consider(s.firstLook(now))", "", "a new wait waits for the next routine look")
	add(poller, "consider(p.routine(confirm, settling))", "", "without checkpoints nothing is looked at")
	add(poller, "t := s.confirming(now)", "t := turn{at: forever}", "the look that confirms comes by chance: waits are cut")
	add(poller, "settling && s.plan.settling()", "s.plan.settling()", "one wait that settles slows the looks for all others")
	add(poller, "return next, earlier(changes, upcoming(now, next.By))", "return next, changes", "an urgent look that is of no use any more stays urgent")
	add(poller, "p.look.Began.Before(t))", "p.look.Ended.Before(t))", "a look that began before the wait serves it")
	add(poller, "return !hashed.Before(p.born) && p.lacks(hashed)", "return p.lacks(hashed)", "each new poller looks for an old hash")
	add(poller, "return later(at, later(p.retry, p.began.Add(p.w.cfg.Spacing)))", "return later(at, p.retry)", "waits that come one by one each cost a look")
	add(poller, "return later(at, later(p.retry, p.began.Add(p.w.cfg.Spacing)))", "return later(at, p.began.Add(p.w.cfg.Spacing))", "a group that refuses is asked without a pause")
	add(poller, "at = s.p.retry // it", "// it", "a look that confirms and fails is tried without a pause")
	add(poller, "s.p.began.Add(s.p.w.cfg.Spacing/5)", "s.p.began.Add(s.p.w.cfg.Spacing)", "a look that confirms comes late: waits are cut")
	add(poller, "s.p.began.Add(s.p.w.cfg.Spacing/5)", "s.p.began", "each of a hundred waits has a confirming look of its own")
	add(poller, "by := upcoming(now, s.plan.Latest)\n\tif", "by := forever\n\tif", "a look for a hash gives way to the routine of others")
	add(poller, "if s.plan.settling() {\n\t\tby = forever", "if false {\n\t\tby = forever", "waits that have seen their target leave take the rate from others")
	add(poller, "later(p.retry, p.hashBegan.Add(p.w.cfg.Spacing))", "p.retry", "a controller that writes many hashes uses up the rate")
	add(poller, "later(p.retry, p.hashBegan.Add(p.w.cfg.Spacing))", "later(p.retry, p.began.Add(p.w.cfg.Spacing))", "a look just before a hash delays the one that sees the target leave")
	add(poller, "case c.awaits(s.plan.DeletionSeen):", "case false:", "the first look of each wait comes before the controller has acted: wasted")
	add(poller, "case c.awaits(s.plan.DeletionSeen):", "case c.value != \"\":", "the first look waits for a hash that has been written")
	add(poller, "later(s.joined, c.changed).Add(p.w.cfg.Busy)", "later(s.joined, c.changed).Add(p.w.cfg.Steady)", "without a new hash the first look is late")
	add(poller, "wanted(p.spaced(s.joined), upcoming(now, s.plan.Latest))", "wanted(p.spaced(s.joined), forever)", "a first look gives way to the routine of others")
	add(poller, "case c.value == \"\" && c.changed.After(last):\n\t\tlast = c.changed", "case false:", "a change that begins does not put the look off: wasted")
	add(poller, "case p.look != nil && p.look.Gone:\n\t\treturn turn{at: forever}\n\tcase settling", "case settling", "a group that is gone is looked at for ever")
	add(poller, "2*p.w.cfg.Steady, limiter.Calm", "p.w.cfg.Busy, limiter.Calm", "groups whose targets have left take the rate from others")
	add(poller, "case c.value != \"\":\n\t\tevery, class = p.w.cfg.Steady, limiter.Calm", "", "a hash does not calm the looks: five times the calls")
	add(poller, "every, class = p.w.cfg.Steady, limiter.Calm", "every, class = 20*p.w.cfg.Steady, limiter.Calm", "a target that leaves without a hash is seen minutes later")
	add(poller, "if p.err != nil {\n\t\tat = p.retry", "if false {\n\t\tat = p.retry", "after an error the next look waits for the cadence")
	add(poller, "at.After(confirm.Add(-every/2)) && at.Before(confirm)", "false", "a routine look comes just before the one that confirms: wasted")
	add(poller, "if p.lacksHashed() {\n\t\tp.hashBegan = p.began", "if true {\n\t\tp.hashBegan = p.began", "a look just before a hash delays the one that sees the target leave")
	add(poller, "p.began = time.Now()\n", "", "looks go out without a pause")
	add(poller, "return // nobody listens any more", "// nobody listens any more", "a poller whose last wait has gone counts an error")
	add(poller, "turned := (p.err == nil) != (err == nil) ||", "turned :=", "a wait is not told that looks fail, or succeed again")
	add(poller, "|| IsPermanent(p.err) != IsPermanent(err)", "", "a wait is not told that AWS refuses now")
	add(poller, "if turned || look != nil && s.concerns(look) {", "if turned || look != nil {", "each look wakes all waits")
	add(poller, "p.err, p.retry = err, time.Time{}", "p.retry = time.Time{}", "a wait does not learn why looks fail")
	add(poller, "case err == nil:\n\t\tp.look = look", "case err == nil:", "no wait ever sees a look")
	add(poller, "p.retry = time.Now().Add(refusedFor)", "p.retry = p.began.Add(p.w.cfg.Busy)", "a group that AWS refuses to show takes the rate from others")
	add(poller, "case refused(err): // it was allowed before, and may be so again\n\t\tp.retry = p.began.Add(p.w.cfg.Steady)", "", "a group that AWS refuses to show in mid-wait takes the rate from others")
	add(poller, "p.retry = p.began.Add(p.w.cfg.Busy)", "p.retry = p.began.Add(10 * p.w.cfg.Busy)", "after a time-out the next try is late")
	add(poller, "p.w.request(question{group: p.group, look: true}).end(answer{sent: p.began, look: look, err: err})", "", "what a poller sees serves nobody else: twice the calls")
	add(poller, "return !s.plan.Done && s.p.lacks(s.plan.ConfirmAt)", "return s.p.lacks(s.plan.ConfirmAt)", "a group that has settled is confirmed again")
	add(poller, "s.p.lacks(s.joined) && !look.Began.Before(s.joined) ||", "false ||", "a wait does not hear of its first look")
	add(poller, "s.lacksConfirmation() && !look.Began.Before(s.plan.ConfirmAt) ||", "false ||", "a wait does not hear of the look that confirms: it is cut")
	add(poller, "old != nil && look.differs(old, s.addrs)", "old == nil && look.differs(old, s.addrs)", "a wait does not hear that its target leaves")

	add(watcher, "c.changed.Before(t) == (c.value != \"\")", "c.changed.Before(t)", "a change that is under way is not waited for")
	add(watcher, "return !t.IsZero() && c.changed", "return c.changed", "a pod that is not deleted waits for the controller")
	add(watcher, "for _, r := range w.requests {\n\t\tr.wakeAll()\n\t}\n", "", "waits that ask something hang when the service stops")
	add(watcher, "p.err = ErrClosed\n\t\tfor s := range p.subs {", "for s := range p.subs {", "waits do not learn that the service stops")
	add(watcher, "w.SetShare(unknownReplicas)\n", "", "a replica that starts takes the whole rate until it knows of the others")
	add(watcher, "w.limit.Resize(cfg.Rate, 0)", "", "a replica that starts has a burst of its own: AWS throttles the controller")
	add(watcher, "float64(max(1, replicas))", "float64(max(2, replicas))", "one replica alone has half of the rate")
	add(watcher, "w.limit.Resize(w.cfg.Rate/n, max(1, float64(w.cfg.Burst)/n))", "w.limit.Resize(w.cfg.Rate, max(1, float64(w.cfg.Burst)/n))", "each replica takes the whole rate: the controller is throttled")
	add(watcher, "max(1, float64(w.cfg.Burst)/n)", "float64(w.cfg.Burst)/n", "with many replicas nothing is ever looked at")
	add(watcher, "return p.Done || !p.ConfirmAt.IsZero()", "return !p.ConfirmAt.IsZero()", "groups that have settled are looked at as before")
	add(watcher, "if !p.Latest.After(now) {\n\t\treturn forever", "if false {\n\t\treturn forever", "a look that is of no use goes before those that are")
	add(watcher, "p.Latest.Sub(p.ConfirmAt) / 3", "p.Latest.Sub(p.ConfirmAt)", "in a crowd looks that confirm come too late")
	add(watcher, "if p.err != nil {\n\t\twakeUp(wake)", "if false {\n\t\twakeUp(wake)", "a wait that joins does not hear that AWS refuses")
	add(watcher, "wakeUp(p.kick)\n\treturn s", "return s", "a wait that joins gets its look at the next routine one")
	add(watcher, "p.err, p.retry = r.err, r.until", "_ = r", "each wait asks anew what AWS has just refused")
	add(watcher, "delete(p.w.pollers, p.group)", "", "a group that nobody watches has a poller for good: no later wait gets a look")
	add(watcher, "p.stop()\n", "", "pollers never end: the rate is used up")
	add(watcher, "len(p.subs) == 0 && p.w.pollers[p.group] == p", "len(p.subs) == 0", "a wait that leaves twice stops the looks of another")
	add(watcher, "if moved || !plan.ConfirmAt", "if !plan.ConfirmAt", "a new address of the pod is looked up at the next change")
	add(watcher, "&& !s.p.lacks(plan.ConfirmAt) {", "{", "a wait is woken for nothing")
	add(watcher, "|| !plan.ConfirmAt.IsZero() && plan.ConfirmAt != s.plan.ConfirmAt && !s.p.lacks(plan.ConfirmAt) {", "{", "a look that confirms already is not noticed: the wait goes on")
	add(watcher, "wakeUp(s.p.kick)\n}", "}", "the look that confirms is not planned until the next routine one")
	add(watcher, "case !ok:\n\t\tdelete(w.checkpoints, groupARN)", "case !ok:", "an old hash calms the looks for good: targets are seen late")
	add(watcher, "case heard && c.value == value:\n\t\treturn\n", "case heard && c.value == value && false:\n\t\treturn\n", "a checkpoint that is read again asks for a look")
	add(watcher, "if value != \"\" {\n\t\t\tc.hashed", "if true {\n\t\t\tc.hashed", "a change that only begins asks for a look: wasted")
	add(watcher, "if g.ARN == groupARN {\n\t\t\twakeUp(p.kick)", "if g.ARN != groupARN {\n\t\t\twakeUp(p.kick)", "a hash is noticed at the next routine look")
	return all
}

// questions are the mutants of what is asked of AWS, and of answers that are remembered.
func questions() []mutant {
	const lookup = "internal/elb/lookup.go"
	var all []mutant
	add := func(from, to, why string) {
		all = append(all, mutant{group: "elb", file: lookup, from: from, to: to, why: why, pkg: "./internal/elb", args: slowInELB})
	}
	logged := func(from, to, why string) {
		all = append(all, mutant{group: "elb", file: lookup, from: from, to: to, why: why, pkg: "./internal/service", run: "^TestTextsOfAWSAreForTheLog$"})
	}
	name := func(from, to, why string) {
		all = append(all, mutant{group: "elb", file: "internal/elb/names/names.go", from: from, to: to, why: why, pkg: "./internal/elb/names"})
	}
	add("(refused(a.err) || !a.sent.Before(since)) && time", "time", "an answer from before the wait counts: drained too early")
	add("(refused(a.err) || !a.sent.Before(since)) && time", "!a.sent.Before(since) && time", "a slow refusal is paid for by every pod")
	add("&& time.Now().Before(a.until)", "", "an answer counts for ever")
	add("g.Name, since = \"\", time.Time{}", "g.Name = \"\"", "each wait asks for the type of its group: more calls")
	add("return GroupInfo{}, true, fmt.Errorf(\"%w: it has neither", "return GroupInfo{}, false, fmt.Errorf(\"%w: it has neither", "a binding without a group is waited for")
	add("strings.TrimSuffix(strings.ToLower(hostname), \".\")", "hostname", "a host name in capitals is not found")
	add("strings.TrimPrefix(hostname, \"dualstack.\")", "hostname", "a dual-stack host name is not found: 502")
	add("c = limiter.Question\n\t}\n\ta, known := w.ask(question{group: g, look: true}", "}\n\ta, known := w.ask(question{group: g, look: true}", "a wait for a look gives way to the routine of others")
	add("c := limiter.Sweep\n", "c := limiter.Question\n", "the sweep takes the rate from waits")
	add("if w.ctx.Err() != nil {\n\t\treturn answer{err: ErrClosed}, true", "if w.ctx.Err() != nil {\n\t\treturn answer{}, false", "a question to a service that stops is never answered")
	add("if !known || refused(r.err) {", "if refused(r.err) {", "a wait does not hear of an answer")
	add("r.ticket.Set(limiter.Urgency{Class: c})", "", "a question that becomes urgent waits behind the sweep")
	add("&& !time.Now().Before(r.again):", ":", "each wake of a wait asks AWS again after an error")
	add("return answer{err: r.lastErr}, false", "return answer{}, false", "a wait does not learn why AWS does not answer")
	add("r.expired() || !r.running && len(w.requests) >= maxAnswers", "r.expired()", "answers fill the memory")
	add("r.expired() || !r.running && len(w.requests) >= maxAnswers", "!r.running && len(w.requests) >= maxAnswers", "old answers fill the memory")
	add("r.wakeAll()\n\t\t\tdelete(w.requests, q)", "delete(w.requests, q)", "a wait whose question was forgotten is never answered")
	add("&& time.Since(r.again) > failedFor", "&& false", "questions without an answer fill the memory")
	add("time.Since(r.again) > failedFor", "true", "the pause after an error is forgotten: AWS is asked at once")
	add("r.lastErr, r.again = a.err, time.Now().Add(failedFor)", "r.lastErr = a.err", "after an error AWS is asked without a pause")
	add("time.AfterFunc(failedFor, r.wakeLater)", "", "after an error a wait does not ask again")
	add("lasts = refusedFor\n", "", "a right that is granted now helps after five minutes only")
	add("time.AfterFunc(refusedFor, r.wakeLater)", "", "a wait does not hear that a refusal is over")
	add("lasts = lookFor\n", "", "what a look showed counts for five minutes")
	add("r.answer, r.lastErr = a, nil\n\tr.wakeAll()", "r.answer, r.lastErr = a, nil", "waits do not hear of an answer")
	add("r.answer, r.lastErr = a, nil", "r.answer = a", "an error that is over is still reported")
	add("in = &elbv2.DescribeTargetGroupsInput{Names: []string{g.Name}}", "in = &elbv2.DescribeTargetGroupsInput{}", "a binding with a name gets any group")
	add("len(groups) != 1 || g.ARN != \"\" && groups[0].Group.ARN != g.ARN", "len(groups) != 1", "the answer for another group counts")
	add("len(groups) != 1 || g.ARN", "g.ARN", "an answer without groups ends the program")
	add("RoleARN: g.RoleARN, ExternalID: g.ExternalID},\n\t\t\t\tTargetType", "},\n\t\t\t\tTargetType", "a group of another account is read without its role")
	add("out.TargetGroups == nil || slices", "slices", "an answer without a list says that there are no groups: drained too early")
	add("known := time.Since(r.resolved) < foundFor", "known := !r.resolved.IsZero()", "a load balancer that takes over a host name is never found")
	add("known := time.Since(r.resolved) < foundFor", "known := false", "each wait lists all load balancers")
	add("if known && errors.Is(err, ErrNoLoadBalancer) { // it", "if false && known && errors.Is(err, ErrNoLoadBalancer) { // it", "a load balancer that is made anew is a 502")
	add("!errors.Is(err, ErrNoLoadBalancer) && !errors.Is(err, errInvalid) {", "!errors.Is(err, errInvalid) {", "a load balancer whose name has an unknown form is not found")
	add("!errors.Is(err, ErrNoLoadBalancer) && !errors.Is(err, errInvalid) {", "!errors.Is(err, ErrNoLoadBalancer) {", "a host name that cannot be a name is a 502")
	logged("w.logFailure(operation, about, err)", "_ = about", "nobody learns what AWS says of a failure")
	logged("if time.Since(w.said[said]) < sayAgain {", "if false {", "each call that AWS refuses is a line in the log")
	add("if err == nil && out.LoadBalancers == nil {", "if false {", "an answer without a list says that there is no such load balancer: 502")
	add("strings.EqualFold(aws.ToString(lb.DNSName), hostname) && lb", "lb", "the groups of another load balancer are watched: drained too early")
	add("strings.EqualFold(aws.ToString(lb.DNSName), hostname)", "aws.ToString(lb.DNSName) == hostname", "a load balancer with capitals in its name is not found")
	name("return m[2] + m[3], m[1]", "return m[2], m[1]", "an NLB of another Region is not found")
	name("m == nil || !isRegion(m[2]+m[3]) {", "m == nil {", "who writes an Ingress says where our requests go")
	name("err == nil && isRegion(a.Region) {", "err == nil {", "who writes a TargetGroupBinding says where our requests go")
	add("if r.began.IsZero() {\n\t\tr.began", "if true {\n\t\tr.began", "a list whose first page is old counts as new")
	add("Class: r.class})\n\tr.ticket = t", "Class: limiter.Question})\n\tr.ticket = t", "the sweep takes the rate from waits")
	add("context.WithTimeout(ctx, w.cfg.Timeout)", "context.WithCancel(ctx)", "a call that hangs is waited for: no more looks")
	add("w.calls.WithLabelValues(operation, errorCode(err)).Inc()", "", "the calls to AWS are not counted")
	add("w.throttles.Inc()\n\t\tw.limit.Throttle()", "w.throttles.Inc()", "throttling does not slow us down: the controller cannot deregister")
	all = append(all, mutant{
		group: "elb", file: lookup, from: "w.throttles.Inc()\n", to: "\n", why: "throttling is not counted",
		pkg: "./internal/service", run: "^TestMetrics$",
	})
	add("case w.ctx.Err() != nil:\n\t\treturn out, ErrClosed", "case w.ctx.Err() != nil:\n\t\treturn out, err", "waits that are cut report an error of AWS")
	add("look.Gone = errors.Is(err, ErrNoGroup)", "", "a group that is deleted in mid-wait is an error for good")
	add("if err != nil && !look.Gone {", "if false {", "an error is a look without targets: drained under fire")
	add("look := &Look{Began: time.Now(),", "look := &Look{Began: due,", "a look counts from before it was sent")
	add("Queued: time.Since(due)}", "Queued: 0}", "nobody learns that the rate is too small")
	return all
}

// answers are the mutants of how answers of AWS and credentials are read.
func answers() []mutant {
	const (
		elb         = "internal/elb/elb.go"
		clients     = "internal/elb/clients.go"
		credentials = "internal/elb/credentials.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "elb", file: file, from: from, to: to, why: why, pkg: "./internal/elb", args: slowInELB})
	}
	large := func(file, from, to, why string) {
		all = append(all, mutant{group: "elb", file: file, from: from, to: to, why: why, pkg: "./internal/elb", run: "^TestAnswersAreReadUpToASize$"})
	}
	texts := func(from, to, why string) {
		all = append(all, mutant{group: "elb", file: elb, from: from, to: to, why: why, pkg: "./internal/service", run: "^TestTextsOfAWSAreForTheLog$"})
	}
	add(elb, "case \"HTTP\", \"HTTPS\":", "case \"HTTP\":", "an ALB with HTTPS waits as long as an NLB")
	add(elb, "case \"\":\n\t\treturn \"\"", "case \"\":\n\t\treturn ALB", "a group of an unknown type has the short settle time: drained too early")
	add(elb, "default:\n\t\treturn NLB", "default:\n\t\treturn ALB", "an NLB has the settle time of an ALB: drained under fire")
	add(elb, "ip = ip.Unmap()\n", "", "an IPv4-mapped address is not found: drained under fire")
	add(elb, "for to < len(l.targets) && l.targets[to].IP == ip {\n\t\tto++\n\t}", "", "only the first port of an address is looked at: drained under fire")
	add(elb, "l.Gone != older.Gone ||", "", "waits do not hear that their group was deleted")
	add(elb, "!slices.Equal(l.At(ip), older.At(ip))", "len(l.At(ip)) != len(older.At(ip))", "waits do not hear that their target drains")
	add(elb, "errors.Is(err, ErrRefused) || errors.Is(err, ErrNoGroup)", "errors.Is(err, ErrRefused)", "a group of another account is waited for for the whole budget")
	add(elb, "errors.Is(err, ErrRefused) || errors.Is(err, ErrNoGroup)", "errors.Is(err, ErrNoGroup)", "access that is denied is waited for for the whole budget")
	add(elb, "refused(err) || errors.Is(err, ErrNoLoadBalancer) ||", "refused(err) ||", "a load balancer of another account is waited for for the whole budget")
	add(elb, "if out.TargetHealthDescriptions == nil {", "if false {", "the page of a proxy is a look without targets: drained under fire")
	add(elb, "return nil, errNoAnswer // it could be anyone", "continue", "a target without a name is skipped: drained under fire")
	add(elb, "continue // an instance", "return nil, err // an instance", "a group with an instance in it is an error")
	add(elb, "IP: ip.Unmap(), Port", "IP: ip, Port", "a target that is listed in IPv6 is not found: drained under fire")
	add(elb, "t.State, t.Reason = d.TargetHealth.State, d.TargetHealth.Reason", "t.State = d.TargetHealth.State", "the reason of a state is lost: unused counts as in rotation")
	add(elb, "slices.SortStableFunc(targets, compareTargets)", "", "a target is not found in the list: drained under fire")
	add(elb, "part.targets = nil\n", "", "each wait holds the targets of its whole group: memory grows")
	add(elb, "range addrs {\n\t\tpart", "range addrs[:1] {\n\t\tpart", "the state at the second address of a pod is not told")
	add(elb, "slices.SortStableFunc(part.targets, compareTargets)", "", "a target is not found among those of its wait")
	add(elb, "cmp.Or(a.IP.Compare(b.IP), a.Port-b.Port)", "a.IP.Compare(b.IP)", "ports in another order look like a change: waits are woken by each look")
	add(elb, "kind, hint = ErrNoGroup, elsewhere", "return passing(code, err)", "a group that is deleted is asked for for ever")
	add(elb, "return fmt.Errorf(\"%w: %s\", ErrNoLoadBalancer, code)", "return passing(code, err)", "a load balancer that is not there is asked for for ever")
	add(elb, "kind, hint = errInvalid, elsewhere", "return passing(code, err)", "an ARN of another Region is waited for for the whole budget")
	add(elb, "case \"AccessDenied\", \"AccessDeniedException\", \"UnauthorizedOperation\":", "case \"AccessDenied\":", "a refusal by another name is waited for for the whole budget")
	add(elb, "hint = fmt.Sprintf(\"grant elasticloadbalancing:%s; see deploy/iam-policy.json\", operation)", "_ = operation", "a refusal does not say which right is missing")
	texts("fmt.Errorf(\"%w: %s (%s)\", kind, code, hint)", "fmt.Errorf(\"%w: %w (%s)\", kind, err, hint)", "any caller reads the account and the role of the service")
	texts("fmt.Errorf(\"%w: %s (%s)\", c.kind, code, c.hint)", "fmt.Errorf(\"%w: %w (%s)\", c.kind, err, c.hint)", "any caller reads why the service has no credentials")
	texts("fmt.Errorf(\"AWS turns requests away for their rate: %s\", code)", "fmt.Errorf(\"AWS turns requests away for their rate: %w\", err)", "any caller reads the request of an error that passes")
	texts("ok && properCode.MatchString(api.ErrorCode()) {", "ok {", "what answers in place of AWS writes to metrics and callers")
	add(elb, "\"UnrecognizedClientException\", \"SignatureDoesNotMatch\", \"MissingAuthenticationToken\",", "", "wrong credentials are waited for for the whole budget")
	add(elb, "case errors.Is(err, context.DeadlineExceeded), ok && network.Timeout():", "case errors.Is(err, context.DeadlineExceeded) && network == nil && ok:", "time-outs are counted as any error")
	add(elb, "_, ok := retry.DefaultThrottleErrorCodes[errorCode(err)]\n\treturn ok", "return errorCode(err) == \"Throttling\"", "throttling by another name does not slow us down")

	add(clients, "cmp.Or(region, g.Region(), cfg.Region)", "cmp.Or(region, cfg.Region)", "a group of another Region is not found")
	add(clients, "cmp.Or(region, g.Region(), cfg.Region)", "cmp.Or(g.Region(), region, cfg.Region)", "--aws-region does not count")
	add(clients, "if clients[a] == nil {", "if true {", "each call assumes the role anew: STS throttles")
	add(clients, "if len(clients) >= maxAnswers {", "if false {", "roles that people make up fill the memory")
	add(clients, "if a.roleARN != \"\" {", "if false {", "a group of another account is read without its role")
	add(clients, "if a.externalID != \"\" {", "if false {", "a role that asks for an external ID is not assumed")
	add(clients, "return aws.NopRetryer{} }", "return aws.NopRetryer{} }\n\tcfg.Retryer = nil", "the SDK retries by itself: more calls than the rate allows")
	add(clients, "credentialSource{CredentialsProvider: role, hint: checkRole}", "credentialSource{CredentialsProvider: role, hint: checkRole}.CredentialsProvider", "a role that may not be assumed is waited for for the whole budget")
	large(clients, "http.MaxBytesReader(nil, resp.Body, maxAnswer)", "http.MaxBytesReader(nil, resp.Body, 1<<40)", "an answer without end fills the memory")
	large(clients, "http.MaxBytesReader(nil, resp.Body, maxAnswer)", "http.MaxBytesReader(nil, resp.Body, 1<<20)", "a group with 3,000 targets cannot be read")
	large(clients, "cfg.APIOptions = append(slices.Clip(cfg.APIOptions), LimitAnswers)", "", "no answer of AWS has a bound: memory")

	add(credentials, "context.WithTimeout(ctx, credentialsTimeout)", "context.WithCancel(ctx)", "credentials that hang once hang for all waits")
	add(credentials, "if s.passes(err) {", "if false {", "a time-out of STS is a 502")
	add(credentials, "if s.passes(err) {", "if true {", "without credentials all waits last for the whole budget")
	add(credentials, "if errors.Is(err, context.Canceled) {\n\t\treturn true", "if errors.Is(err, context.Canceled) {\n\t\treturn false", "a wait that is given up is a refusal to the others")
	add(credentials, "status >= 500 || status", "status", "a failure of STS is a 502")
	add(credentials, "|| status == http.StatusTooManyRequests || throttled(err) ||", "|| status == http.StatusTooManyRequests ||", "throttling by STS is a 502")
	add(credentials, "strings.Contains(code, \"Expired\") ||", "", "a token that is about to be renewed is a 502")
	add(credentials, "|| code == \"IDPCommunicationError\"", "", "a passing failure of the identity provider is a 502")
	add(credentials, "(unsent || errorCode(err) == \"timeout\") && !s.lastResort", "unsent || errorCode(err) == \"timeout\"", "without credentials all waits last for the whole budget")
	add(credentials, "(unsent || errorCode(err) == \"timeout\") && !s.lastResort", "errorCode(err) == \"timeout\" && !s.lastResort && !unsent", "an STS that cannot be reached for a moment is a 502")
	return all
}

// server are the mutants of the HTTP face.
func server() []mutant {
	const (
		connections = "internal/server/connections.go"
		loglimit    = "internal/service/loglimit.go"
		metrics     = "internal/server/metrics.go"
		parameters  = "internal/server/parameters.go"
		server      = "internal/server/server.go"
		sources     = "internal/server/sources.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "server", file: file, from: from, to: to, why: why, pkg: "./internal/server"})
	}
	whole := func(file, from, to, why, run string) {
		all = append(all, mutant{group: "server", file: file, from: from, to: to, why: why, pkg: "./internal/service", run: run})
	}
	add(parameters, "caller.Addr().Unmap().WithZone(\"\"), forwarded(r.Header)", "caller.Addr(), forwarded(r.Header)", "a caller over IPv4-mapped IPv6 has no pod")
	add(parameters, "caller.Addr().Unmap().WithZone(\"\"), forwarded(r.Header)", "caller.Addr().Unmap().WithZone(\"\"), false", "a caller behind a proxy is answered for the proxy's pod")
	add(parameters, "err != nil || req.Pod != \"\" || req.IP.IsValid() {", "err != nil || req.IP.IsValid() {", "the address of a kubelet or a proxy goes with pod=: 404")
	add(parameters, "err != nil || req.Pod != \"\" || req.IP.IsValid() {", "err != nil || req.Pod != \"\" {", "ip= does not count")
	add(parameters, "req.IP, req.Inferred = req.Caller, true", "req.IP, req.Inferred = req.Caller, false", "an address that nobody named is looked for in all groups")
	add(parameters, "h.Get(\"Via\") != \"\" ||", "", "a caller behind a proxy is answered for the proxy's pod")
	add(parameters, "|| h.Get(\"X-Forwarded-For\") != \"\"", "", "a caller behind an old proxy is answered for the proxy's pod")
	add(parameters, "p.findUnknown()\n", "", "a misspelt parameter draws no warning")
	add(parameters, "cmp.Or(p.duration(api.MaxDelay), p.duration(api.MaxWait))", "p.duration(api.MaxDelay)", "max-wait= of the original script does not count")
	add(parameters, "req.Settle = p.duration(api.Settle)", "p.duration(api.Settle)", "settle= does not count")
	add(parameters, "req.Ingresses = p.ingresses()", "p.ingresses()", "ingress= does not count")
	add(parameters, "p.err == nil && req.Pod != \"\" && req.Namespace == \"\"", "false", "pod= without namespace= is looked for nowhere: 404")
	add(parameters, "if p.err == nil {\n\t\tp.err = &bad", "if true {\n\t\tp.err = &bad", "a caller learns of the last mistake and not the first")
	add(parameters, "if v = strings.TrimSpace(v); v != \"\" {", "if v != \"\" {", "a blank in a script's variable is a 400")
	add(parameters, "p.warnEmpty(name)\n\t}\n\treturn \"\"", "}\n\treturn \"\"", "an empty variable in a script draws no warning")
	add(parameters, "p.checkName(name, v)\n\treturn v", "return v", "a namespace with a slash is asked of the API server")
	add(parameters, "p.checkName(api.Ingress, v)\n", "", "an Ingress with a blank is looked for")
	add(parameters, "netip.ParseAddr(strings.Trim(v, \"[]\"))", "netip.ParseAddr(v)", "an IPv6 address in brackets is a 400")
	add(parameters, "p.fail(api.IP, v, \"an IPv4 or IPv6 address\")", "_ = v", "a mistyped ip= is taken for the caller's address")
	add(parameters, "return ip.Unmap().WithZone(\"\")", "return ip", "an address with a zone or in IPv6 is no pod's")
	add(parameters, "p.fail(name, v, strings.TrimPrefix(err.Error(), \"want \"))", "_ = err", "a mistyped time counts as none: a minute and not the pod's grace")
	add(parameters, "if d > longest {", "if false {", "a caller is held for days")
	add(parameters, "p.warn(\"%s=%.64s was cut to %s\", name, v, longest)", "", "nobody learns that a time was cut")
	add(parameters, "nearest != \"\" {", "false {", "a misspelt parameter draws no suggestion")
	add(parameters, "case len(names) == mostIngresses:", "case false:", "thousands of ingress= hold up all other callers")
	add(parameters, "if len(p.warnings) == mostWarnings {\n\t\tp.unsaid++", "if false {\n\t\tp.unsaid++", "thousands of parameters make thousands of warnings")
	whole(parameters, "n > longestQuery {", "n > 1<<30 {", "a query of any size is read", "^TestQueryBounds$")

	add(connections, "state != http.StateNew || len(c.all) <= c.limit", "true", "idle connections use up the memory and the file descriptors")
	add(connections, "c.all[conn] = nil\n\tdefault", "c.all[conn] = c.idle.PushBack(conn)\n\tdefault", "strangers that connect cut waits off")
	add(connections, "c.idle.Front()", "c.idle.Back()", "strangers that only connect keep hooks out")
	add(connections, "ReadHeaderTimeout: 5 * time.Second,", "", "slow headers hold connections")
	add(connections, "IdleTimeout:       time.Minute,", "", "connections that nobody uses are kept for good")
	add(connections, "WriteTimeout:      taking,", "", "callers that do not read hold answers in memory")
	add(connections, "if r.ContentLength != 0 {", "if false {", "a body that does not come holds up the answer")
	whole(connections, "MaxHeaderBytes:    16 << 10,", "", "headers of a megabyte are read", "^TestQueryBounds$")

	add(sources, "different >= s.limit && from.equal[query] == 0 ||", "different >= s.limit ||", "the hooks of one pod's containers refuse each other")
	add(sources, "different >= s.limit && from.equal[query] == 0 || ", "", "one address holds four times as many waits as it may")
	add(sources, "different >= s.limit", "different > s.limit", "one address holds one wait more than it may")
	whole(sources, " || from.all >= mostEqual*s.limit", "", "one address takes all waits that there may be", "^TestOneSourceCannotTakeAllWaits$")
	add(sources, "if from.equal[query]--; from.equal[query] == 0 {", "if from.equal[query]--; true {", "the end of one of a pod's hooks frees the place of the others")
	add(sources, "if from.equal[query]--; from.equal[query] == 0 {", "if from.equal[query]--; false {", "waits that are over count: after 256 an address is refused for good")
	add(sources, "delete(s.calls, address)\n", "", "each address that ever called is kept for good: memory grows")

	status := func(from, to, why string) {
		all = append(all, mutant{group: "server", file: server, from: from, to: to, why: why, pkg: "./internal/server", run: "^TestStatusOf$"})
	}
	status("return http.StatusBadRequest, \"bad_request\"", "return http.StatusInternalServerError, \"internal\"", "a mistake of the caller looks like one of the service")
	status("return http.StatusNotFound, \"not_found\"", "return http.StatusServiceUnavailable, \"unavailable\"", "a hook asks again and again for a pod that is not there")
	status("return http.StatusNotFound, \"not_found\"", "return http.StatusOK, \"not_found\"", "a pod that is not found stops at once: requests fail")
	status("return http.StatusUnprocessableEntity, \"unsupported_targets\"", "return http.StatusOK, \"unsupported_targets\"", "a pod behind instance targets stops at once: requests fail")
	status("return http.StatusTooManyRequests, \"too_many_waits\"", "return http.StatusServiceUnavailable, \"unavailable\"", "a proxy's callers ask again and again")
	status("return http.StatusBadGateway, \"refused_by_aws\"", "return http.StatusServiceUnavailable, \"unavailable\"", "a hook asks again and again for what AWS refuses")
	status("return http.StatusServiceUnavailable, \"unavailable\"", "return http.StatusBadGateway, \"refused_by_aws\"", "a hook does not ask another replica")
	status("return http.StatusInternalServerError, \"internal\"", "return http.StatusOK, \"internal\"", "a pod stops at once for an error that nobody knows: requests fail")

	whole(server, "err = errors.New(\"shutting down\")", "", "new callers come to a replica that goes away", "^TestGoingAway$")
	whole(server, "if err != nil {\n\t\thttp.Error", "if false {\n\t\thttp.Error", "ready before the cluster was read", "^TestNotReadyYet$")
	whole(server, "defer s.callers.Add(-1)", "", "waits that are over count: after 7,000 a replica refuses all", "^TestMetrics$")
	whole(server, "if c.err = err; err == nil {", "if err == nil {", "no bound on the waits of one address", "^TestEqualCallsCountOnce$")
	whole(server, "c.callers.Load() > int64(limit)", "false", "no bound on all waits: the service runs out of memory", "^TestMaxWaits$")
	whole(server, "c.callers.Load() > int64(limit)", "c.callers.Load() >= int64(limit)", "a replica holds fewer waits than --max-waits", "^TestMaxWaits$")
	whole(server, "limit > 0 && c.callers", "c.callers", "--max-waits=0 refuses all", "^TestOneSourceCannotTakeAllWaits$")
	whole(server, "or raise --max-waits\", drain.ErrUnavailable, limit)", "or raise --max-waits\", errTooMany, limit)", "who calls a full replica does not ask another one", "^TestMaxWaits$")
	whole(server, "case errors.Is(c.err, context.Canceled):", "case false:", "callers that hang up count as errors of the service", "^TestHangUp$")
	whole(server, "c.sources.acquire(c.request.Caller.String(), r", "c.sources.acquire(\"\", r", "all callers share one bound", "^TestEqualCallsCountOnce$")
	whole(server, "r.URL.RawQuery)\n", "fmt.Sprint(time.Now()))\n", "the hooks of one pod's containers refuse each other", "^TestEqualCallsCountOnce$")
	whole(server, "c.done()\n}", "}", "waits that are over count: after 256 an address is refused for good", "^TestEqualCallsCountOnce$")
	whole(server, "if p := recover(); p != nil {", "if p := any(nil); p != nil {", "a bug in one wait breaks off its connection, and nothing counts it", "^TestPanic$")
	whole(server, "c.metrics.panics.Inc()", "", "a bug in the service raises no alert", "^TestPanic$")
	whole(server, "c.cfg.Drainer.Wait(r.Context(),", "c.cfg.Drainer.Wait(context.WithoutCancel(r.Context()),", "the waits of callers that are gone go on", "^TestHangUp$")
	whole(server, "hookServer.BaseContext = func(net.Listener) context.Context { return s.base }", "", "a wait outlives its replica's end: no answer", "^TestGoingAway$")
	whole(server, "c.metrics.countWait(string(a.Outcome), took)", "", "waits are not counted", "^TestMetrics$")
	whole(server, "c.metrics.countWait(name, took)", "", "refusals are not counted", "^TestMetrics$")
	whole(server, "rw.Header().Set(\"Retry-After\", \"1\")", "", "a client does not know when to ask again", "^TestNotReadyYet$")
	whole(server, "append([]string{}, c.request.Warnings...)}\n", "nil}\n", "a refusal does not say which parameter was misspelt", "^TestContract$")
	whole(server, "f.BudgetSeconds = api.InSeconds(cut.Budget)", "_ = cut", "a wait that is cut starts anew elsewhere: waits twice", "^TestCutWaitSaysItsBudget$")
	whole(server, "if !slices.Contains(api.Reasons, reason) {", "if !slices.Contains(api.Reasons, reason) && reason == \"\" {", "anybody makes up names of metrics: memory grows", "^TestFallbackReport$")
	whole(server, "s.metrics.fallbacks.WithLabelValues(reason).Inc()", "s.metrics.fallbacks.WithLabelValues(reason)", "fallbacks are not counted", "^TestFallbackReport$")
	whole(server, "rw.Header().Set(\"Content-Type\", \"application/json\")", "", "the answer is no JSON to its reader", "^TestContract$")
	whole(server, "s.lastHook.Store(time.Now().UnixNano())\n\ts.callers", "s.callers", "a replica that goes away turns new callers down at once", "^TestQuietIsCountedFromTheLastHook$")
	whole(server, "s.lastHook.Store(time.Now().UnixNano())\n\tquery", "query", "a replica that goes away turns down the reports of hooks", "^TestHooksCount$")
	whole(server, "\"GET /health\", ok)", "\"GET /health\", func(rw http.ResponseWriter, r *http.Request) {\ns.lastHook.Store(time.Now().UnixNano())\nok(rw, r)\n})", "a monitor keeps a replica that goes away", "^TestMonitorsDoNotCount$")
	whole(server, "3 * s.cfg.Quiet", "300 * s.cfg.Quiet", "a replica that is called still does not go away", "^TestHooksCount$")
	whole(server, "SetWriteDeadline(time.Now().Add(takeAnswer))", "SetReadDeadline(time.Time{})", "an answer after ten seconds is never sent: waits twice", "^TestMaxWaits$")
	whole(server, "s.lastHook.Store(time.Now().UnixNano()) // the quiet", "// the quiet", "a replica that was idle turns callers down at once when it goes away", "^TestQuietIsCountedFromTheLastHook$")
	whole(server, "s.closing.Store(true)", "", "a replica that goes away stays ready", "^TestGoingAway$")
	whole(server, "s.awaitQuiet(end)", "", "a replica that goes away turns new callers down at once", "^TestGoingAway$")
	whole(server, "s.cut(fmt.Errorf(\"%w: shutting down; retry\", drain.ErrUnavailable))", "", "waits that are cut get no answer", "^TestGoingAway$")
	whole(server, "end := time.Now().Add(s.cfg.Grace)", "end := time.Now().Add(s.cfg.Quiet)", "a replica that goes away cuts all waits", "^TestGoingAway$")
	whole(server, "if wait <= 0 {", "if true {", "a replica that goes away turns new callers down at once", "^TestGoingAway$")
	whole(metrics, "m.waits.WithLabelValues(string(outcome))", "_ = outcome", "the first wait that is cut is no increase", "^TestMetrics$")
	whole(metrics, "m.fallbacks.WithLabelValues(reason)", "_ = reason", "the first fallback raises no alert", "^TestFallbackReport$")
	whole(metrics, "m.waited.WithLabelValues(outcome).Observe(took.Seconds())", "", "nobody learns how long waits take", "^TestMetrics$")

	whole(loglimit, "if a.TokensAt(now) < 1 {", "if false {", "strangers fill the log", "^TestLogLimit")
	whole(loglimit, "a.ReserveN(now, weight)", "a.ReserveN(now, 1)", "large records fill the log", "^TestLogLimit")
	whole(loglimit, "if leftOut > 0 {", "if false {", "nobody learns that the log lacks lines", "^TestLogLimit")
	whole(loglimit, "kind = logKind{}\n", "", "messages that are never the same fill log and memory", "^TestLogLimit")
	whole(loglimit, "rate.NewLimiter(logRate, logBurst)", "rate.NewLimiter(0, logBurst)", "after a flood the log is silent for good", "^TestLogLimit")
	return all
}

// hooks are the mutants of the hook client.
func hooks() []mutant {
	const (
		hook     = "cmd/prestop/hook.go"
		program  = "cmd/prestop/main.go"
		patience = "cmd/prestop/patience.go"
		say      = "cmd/prestop/say.go"
	)
	var all []mutant
	add := func(file, from, to, why string) {
		all = append(all, mutant{group: "prestop", file: file, from: from, to: to, why: why, pkg: "./cmd/prestop", run: "^Test[^B]"}) // TestBinary builds a program of its own
	}
	add(hook, "pause = min(2*pause, longestPause)", "pause = min(pause, longestPause)", "hooks of a cluster ask twice a second while the service is away")
	add(hook, "pause = min(2*pause, longestPause)", "pause = 2 * pause", "a hook does not notice for minutes that the service is back")
	add(hook, "dangers[a.Outcome],", "\"\",", "nobody learns that requests may fail")
	add(hook, "remarks(a.LastError, a.Warnings))", "remarks(\"\", a.Warnings))", "nobody learns which error of AWS it was")
	add(hook, "if f.reason == api.Refused {", "if false {", "a refusal is asked again until the fallback is over")
	add(hook, "if f.reason == api.Refused {", "if f.reason != api.Unreachable {", "a replica that goes away ends the hook's tries")
	add(hook, "h.report(f.reason, p.limit.at)\n\t\t\ttime", "time", "fallbacks after a refusal are not counted")
	add(hook, "time.Sleep(time.Until(end))\n\t\t\treturn false", "return false", "a refusal stops the pod at once: requests fail")
	add(hook, "if p.renew(f, h.fallback) {\n\t\t\tpause = firstPause", "if p.renew(f, h.fallback) {", "a hook whose replica dies asks the next one late")
	add(hook, "pause/2+rand.N(pause/2)", "pause", "the hooks of a node ask in step")
	add(hook, "max(pause/2+rand.N(pause/2), min(f.retryAfter, longestPause))", "pause/2+rand.N(pause/2)", "Retry-After is not honoured")
	add(hook, "min(f.retryAfter, longestPause))", "f.retryAfter)", "a long Retry-After costs the whole fallback")
	add(hook, "time.Until(end.giveUp()) <= wait {", "time.Until(end.at) <= 0 {", "a hook takes longer than it may")
	add(hook, "if pause == firstPause {\n\t\t\th.say", "if true {\n\t\t\th.say", "each try is a line in the log")
	add(hook, "if pause == firstPause {\n\t\t\th.say", "if false {\n\t\t\th.say", "the log does not say why a pod lingers")
	add(hook, "time.Sleep(wait)\n", "", "a hook asks without a pause")
	add(hook, "time.Sleep(time.Until(end.giveUp()))", "", "a hook that nobody answers stops its pod early")
	add(hook, "by = p.limit.at // who", "// who", "a fallback after a hold is not counted")
	add(hook, "h.report(f.reason, by)", "_ = by", "fallbacks are not counted")
	add(hook, "time.Sleep(time.Until(end.at))\n", "", "a hook ends a second before its fallback is over")
	add(hook, "p.answerBy())\n", "time.Now().Add(30*time.Second))\n", "a wait of more than half a minute is broken off")
	add(hook, "context.WithDeadline(ctx, p.connectBy())", "context.WithCancel(ctx)", "a connection that hangs uses up the whole grace period")
	add(hook, "if h.maxDelay != unlimited {", "if false {", "--max-delay is not passed on: the service holds the pod for longer")
	add(hook, "left := max(0, time.Until(p.limit.giveUp())-500*time.Millisecond)", "left := max(0, time.Until(p.limit.at))", "the service's answer comes when the hook has given up")
	add(hook, "max(0, time.Until(p.limit.giveUp())-500*time.Millisecond)", "h.maxDelay", "after a retry the service takes the whole max-delay again")
	add(hook, "err != nil || a.Outcome == \"\" {", "err != nil {", "any JSON with a 200 stops the pod at once")
	add(hook, "err != nil || refusal.Error == \"\" {", "err != nil {", "a 404 of a proxy counts as a refusal of the service")
	add(hook, "resp.StatusCode == http.StatusServiceUnavailable {\n\t\ts", "resp.StatusCode >= 500 {\n\t\ts", "a refusal of AWS is asked again until the fallback is over")
	add(hook, "refusal.BudgetSeconds.Duration()", "0", "a wait that was cut starts anew: waits twice")
	add(hook, "time.Duration(s)*time.Second, refusal", "time.Duration(s), refusal", "Retry-After is not honoured")
	add(hook, "context.WithTimeout(ctx, dialTimeout)", "context.WithCancel(ctx)", "a replica that does not answer a connect uses up the fallback")
	add(hook, "if query.Has(api.IP) || query.Has(api.Pod) {", "if query.Has(api.IP) {", "the address of a proxy or a node goes with the pod's name")
	add(hook, "at.Addr().IsGlobalUnicast() {", "true {", "a sidecar proxy's loopback address is sent as the pod's")
	add(hook, "Unmap().WithZone(\"\").String())", "String())", "an address with a zone is refused")
	add(hook, "conn.Close() // where", "// where", "connections leak")
	add(hook, "min(time.Second, time.Until(end))", "time.Until(end)", "a service that hangs holds the hook to its end")
	add(hook, "name == api.IP || name == api.Namespace || name == api.Pod {", "false {", "a report does not say which pod it was")
	add(hook, "out.WriteString(\"; warning: \" + w)", "_ = w", "nobody learns what to change")

	add(patience, "case f.budget > 0 && p.cut:\n\t\tp.noAnswer = earlier(p.noAnswer, newDeadline(f.sent, f.budget))", "case f.budget > 0 && p.cut:\n\t\tp.noAnswer = newDeadline(f.sent, f.budget)", "a second cut gives the whole budget again: waits twice")
	add(patience, "time.Since(f.sent) > longestRefusal", "true", "a proxy that answers 502 keeps the hook for ever")
	add(patience, "time.Since(f.sent) > longestRefusal", "false", "a replica that dies uses up the fallback before it died")
	add(patience, "p.noAnswer, p.cut = newDeadline(f.sent, f.budget), true", "p.noAnswer, p.cut = newDeadline(time.Now(), f.budget), true", "a wait that was cut starts anew: waits twice")
	add(patience, "p.noAnswer, p.cut = newDeadline(f.sent, f.budget), true\n\t\treturn true", "p.cut = true\n\t\treturn true", "a wait that was cut gets no more than the fallback")
	add(patience, "case held && !p.cut:", "case held:", "after a cut each hold starts the fallback again")
	add(patience, "p.noAnswer = newDeadline(time.Now(), fallback)", "", "a replica that dies late leaves no time to find another")
	add(patience, "return earlier(p.limit, p.noAnswer)", "return p.noAnswer", "--max-delay does not bound the tries")
	add(patience, "end := earlier(p.limit, newDeadline(time.Now(), fallback))", "end := newDeadline(time.Now(), fallback)", "the fallback outlasts --max-delay")
	add(patience, "if p.cut {\n\t\tend", "if false {\n\t\tend", "a refusal after a cut waits twice")
	add(patience, "by.Before(least) {", "false {", "with a short fallback nothing is ever asked")
	add(patience, "p.cut && late.Before(by) {", "late.Before(by) {", "a wait is broken off when the fallback is over")
	add(patience, "p.cut && late.Before(by) {", "false {", "after a cut the next replica holds the pod beyond the first one's budget")
	add(patience, "min(time.Second, d/10)", "0", "there is no time left for the report")

	add(program, "wait := min(h.fallback, h.maxDelay)", "wait := time.Duration(0)", "a hook with a mistyped flag stops its pod at once")
	add(program, "wait := min(h.fallback, h.maxDelay)", "wait := h.fallback", "a hook with a mistyped flag outlasts --max-delay")
	add(program, "case !h.run() && h.strict:", "case !h.run():", "a fallback is a failure of the hook without --strict")
	add(program, "case !h.run() && h.strict:", "case h.run() && h.strict:", "--strict fails the wrong way round")
	add(program, "if value == \"\" || given[fl.Name] {", "if given[fl.Name] {", "an empty variable is a mistake")
	add(program, "if value == \"\" || given[fl.Name] {", "if value == \"\" {", "the environment adds to --ingress of the command line")
	add(program, "f.NArg() > 0 {", "false {", "a flag without its dashes goes unnoticed")
	add(program, "failed = cmp.Or(failed,", "_ = cmp.Or(failed,", "a bad variable goes unnoticed")
	add(program, "name = \"\" // the", "// the", "a pod name without its namespace is refused")
	add(program, "fallback: 25 * time.Second,", "fallback: 0,", "without the service the pod stops at once")
	add(program, "if v != \"\" {\n\t\t\th.query", "if true {\n\t\t\th.query", "empty parameters are sent: warnings in each log")
	add(program, "cmp.Or(err, to.Chmod(0o755))", "err", "the installed program cannot be run")
	add(program, "os.Rename(to.Name(), filepath.Join(dir, \"prestop\"))", "nil", "nothing is installed")

	all = append(all, mutant{
		group: "prestop", file: say, from: "|syscall.O_NONBLOCK|", to: "|", why: "a full log pipe hangs the hook",
		pkg: "./cmd/prestop", run: "^TestSayIntoPipe$", args: "-test.timeout=5s",
	})
	add(say, "strings.Join(strings.Fields(text), \" \")", "text", "one message is several lines")
	add(say, "line[:min(len(line), longestLine-1)]", "line", "lines of several writers mix")
	add(say, "fmt.Fprint(other, line)", "", "without the container's log nothing is said")
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
