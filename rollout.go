package main

import (
	"fmt"
	"time"

	"drainwait/internal/drain"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// rollout is one world of the demo: a deployment that is rolled under load, with
// one way to delay the stop of a pod, in one scenario.
type rollout struct {
	policy
	scenario scenario
}

// policy is a way to delay the stop of a pod.
type policy struct {
	name    string
	sleep   time.Duration
	service bool           // ask drain-wait
	settle  *time.Duration // of drain-wait, where it is not the one that ships
}

// scenario is the application that is rolled, and what happens in its world
// besides.
type scenario struct {
	name         string
	kind         aws.Kind
	replicas     int
	grace        time.Duration
	maxDelay     time.Duration // what hooks ask drain-wait for
	tail         aws.Tail
	leaderChange bool // the controller's leader changes as the second pod is deleted
	covered      bool // the settle times that ship cover the tail: drain-wait must not fail
}

// fallback is how long a hook waits itself where drain-wait does not answer.
const fallback = 25 * time.Second

// mustHold says whether the rollout is one in which no request may fail.
func (r rollout) mustHold() bool { return r.service && r.settle == nil && r.scenario.covered }

// rollouts are the worlds of the demo.
func rollouts() (all []rollout) {
	var (
		noHook    = policy{name: "no hook"}
		sleep10   = sleeping(10)
		sleep60   = sleeping(60)
		sleep150  = sleeping(150)
		drainWait = policy{name: "drain-wait", service: true}
		noSettle  = policy{name: "drain-wait, settle=0", service: true, settle: new(time.Duration)}
	)
	alb := scenario{
		name: "ALB", kind: aws.ALB, replicas: 3, grace: 90 * time.Second, maxDelay: 60 * time.Second,
		tail: aws.TypicalTail, covered: true,
	}
	leader := alb
	leader.name, leader.leaderChange = "ALB, leader change", true
	nlb := scenario{
		name: "NLB", kind: aws.NLB, replicas: 2, grace: 180 * time.Second, maxDelay: 180 * time.Second,
		tail: aws.TypicalTail, covered: true,
	}
	for _, world := range []struct {
		scenario
		policies []policy
	}{
		{alb, []policy{noHook, sleep10, sleep60, drainWait, noSettle}},
		{leader, []policy{noHook, sleep10, sleep60, drainWait}},
		{alb.worst(), []policy{noHook, sleep10, sleep60, drainWait}},
		{nlb, []policy{noHook, sleep60, sleep150, drainWait}},
		{nlb.worst(), []policy{drainWait}},
	} {
		for _, p := range world.policies {
			all = append(all, rollout{p, world.scenario})
		}
	}
	return all
}

func sleeping(seconds int) policy {
	return policy{name: fmt.Sprintf("sleep %d", seconds), sleep: time.Duration(seconds) * time.Second}
}

// worst is the scenario with a tail that the settle times do not cover.
func (s scenario) worst() scenario {
	s.name, s.tail, s.covered = s.name+", worst tail", aws.WorstTail, false
	return s
}

// row is one line of the table: what came of a rollout.
type row struct {
	Scenario       string         `json:"scenario"`
	Policy         string         `json:"policy"`
	Requests       int            `json:"requests"`
	Failed         int            `json:"failed"`
	Reasons        map[string]int `json:"reasons"`
	Pods           int            `json:"pods"`
	HeldMean       float64        `json:"heldMeanSeconds"`
	HeldMax        float64        `json:"heldMaxSeconds"`
	RolloutSeconds float64        `json:"rolloutSeconds"`
	AWSCalls       int            `json:"awsCalls"`
	Outcomes       map[string]int `json:"outcomes,omitempty"`
	Verdict        string         `json:"verdict"`
}

// assumptions are the numbers of the rollout's world.
func (r rollout) assumptions() sim.Assumptions {
	a := sim.DefaultAssumptions()
	a.AWS.Tail = r.scenario.tail
	return a
}

// drainConfig is what a drain-wait in the rollout's world goes by.
func (r rollout) drainConfig() drain.Config {
	c := drain.DefaultConfig()
	if r.settle != nil {
		c.SettleALB, c.SettleNLB = *r.settle, *r.settle
	}
	return c
}

// plan puts the application into w and plans its rollout for when it is up and
// ready, which may be nil, returns true. Hooks of drain-wait ask url. done hears
// what came of it.
func (r rollout) plan(w *sim.World, url string, ready func() bool, done func(row)) {
	hook := sim.Hook{Sleep: r.sleep}
	if r.service {
		hook = sim.Hook{URL: url, MaxDelay: r.scenario.maxDelay, Fallback: fallback}
	}
	deployment, group := w.AddApp(sim.App{
		Namespace: simNamespace, Name: simApp, Kind: r.scenario.kind,
		Replicas: r.scenario.replicas, Port: 8080, Grace: r.scenario.grace, Hook: hook,
	})
	w.WhenUp(deployment, ready, func() {
		old := len(w.Pods())
		began := w.Now()
		w.AddClients(group, simLoad)
		onDelete := func(nth int) {
			if r.scenario.leaderChange && nth == 2 {
				w.LBC.ChangeLeader()
			}
		}
		w.Rollout(deployment, onDelete, func() {
			took := w.Now() - began
			w.StopClients()
			w.After(time.Second, func() { done(r.measure(w, old, took)) }) // the last requests are over by then
		})
	})
}

// measure makes the row; the first old pods are those that were rolled.
func (r rollout) measure(w *sim.World, old int, took time.Duration) row {
	stats := w.Stats()
	m := row{
		Scenario: r.scenario.name, Policy: r.name,
		Requests: stats.Requests, Failed: stats.Failed, Reasons: stats.Reasons,
		RolloutSeconds: took.Seconds(),
		Outcomes:       make(map[string]int),
		Verdict:        "ok",
	}
	if m.Failed > 0 {
		m.Verdict = "FAILS"
	}
	for _, n := range w.AWS.Calls() {
		m.AWSCalls += n
	}
	var sum float64
	for _, p := range w.Pods()[:old] {
		if p.Stopped == 0 {
			continue
		}
		m.Pods++
		held := p.Held().Seconds()
		sum += held
		m.HeldMax = max(m.HeldMax, held)
		if p.Outcome != "" {
			m.Outcomes[p.Outcome]++
		}
	}
	if m.Pods > 0 {
		m.HeldMean = sum / float64(m.Pods)
	}
	return m
}
