// Package rollout is the experiment: it rolls a deployment under load in a simulated
// world, with one way to delay the stop of its pods, and measures what happens.
package rollout

import (
	"fmt"
	"time"

	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/timeline"
)

// Load is the rate of the clients' requests, in requests per second of the world.
const Load = 50

// Policy is a way to delay the stop of a pod.
type Policy struct {
	Name  string
	Sleep time.Duration // of preStop
	// DrainWait asks the service; its hook sleeps for [Fallback] where the service
	// does not answer.
	DrainWait bool
}

// Fallback is how long a hook waits by itself if drain-wait does not answer.
const Fallback = 25 * time.Second

// Policies are the policies that are compared: nothing, two sleeps, and drain-wait.
func Policies() []Policy {
	return []Policy{{Name: "no hook"}, sleep(60), sleep(150), {Name: "drain-wait", DrainWait: true}}
}

func sleep(seconds int) Policy {
	return Policy{Name: fmt.Sprintf("sleep %d", seconds), Sleep: time.Duration(seconds) * time.Second}
}

// Scenario is the load balancer in front of the deployment, and what else happens in
// its world.
type Scenario struct {
	Name string
	kind aws.Kind
	tail aws.Tail
	// away is how long the AWS Load Balancer Controller does nothing, from the
	// deletion of the second pod on.
	away time.Duration
	// Covered says that the default settle times cover the tail: drain-wait must not
	// fail.
	Covered bool
}

// Scenarios are the worlds in which the policies are compared. LBC's
// docs/deploy/scaling.md says up to two minutes without a leader.
func Scenarios() []Scenario {
	return []Scenario{
		{Name: "ALB", kind: aws.ALB, tail: aws.TypicalTail, Covered: true},
		{Name: "ALB, controller away 90 s", kind: aws.ALB, tail: aws.TypicalTail, away: 90 * time.Second, Covered: true},
		{Name: "NLB", kind: aws.NLB, tail: aws.TypicalTail, Covered: true},
		{Name: "ALB, worst tail", kind: aws.ALB, tail: aws.WorstTail},
		{Name: "NLB, worst tail", kind: aws.NLB, tail: aws.WorstTail},
	}
}

// Rollout is one run of the experiment: a policy in a world.
type Rollout struct {
	Scenario Scenario
	Policy   Policy
}

// All is every policy in every scenario.
func All() (all []Rollout) {
	for _, s := range Scenarios() {
		for _, p := range Policies() {
			all = append(all, Rollout{s, p})
		}
	}
	return all
}

func (r Rollout) String() string { return r.Scenario.Name + ", " + r.Policy.Name }

// The deployment that is rolled. Its grace period is long enough for every policy.
const (
	namespace = "default"
	app       = "web"
	replicas  = 2
	grace     = 180 * time.Second
)

// aftermath is how long the clients go on after the last pod is gone, since a load
// balancer can still send to it.
const aftermath = 2 * time.Minute

// Result is the result of a rollout. Times are world times, in seconds.
type Result struct {
	Scenario       string         `json:"scenario"`
	Policy         string         `json:"policy"`
	Requests       int            `json:"requests"`
	Failed         int            `json:"failed"`
	Reasons        map[string]int `json:"reasons"`
	Pods           int            `json:"pods"` // how many were replaced
	HeldMean       float64        `json:"heldMeanSeconds"`
	HeldMax        float64        `json:"heldMaxSeconds"`
	RolloutSeconds float64        `json:"rolloutSeconds"`
	AWSCalls       int            `json:"awsCalls"`
	Outcomes       map[string]int `json:"outcomes,omitempty"`
	Verdict        string         `json:"verdict"` // ok, or FAILS if a request failed
}

// Check says what is wrong with a result. With drain-wait nothing may fail if the settle
// times cover the tail, and a world in which nothing happened proves nothing.
func (r Rollout) Check(m Result) error {
	switch {
	case m.Requests == 0 || m.Pods != replicas:
		return fmt.Errorf("%s: nothing was measured (%d requests, %d of %d pods rolled)", r, m.Requests, m.Pods, replicas)
	case r.Policy.DrainWait && r.Scenario.Covered && m.Failed > 0:
		return fmt.Errorf("%s: %d requests failed", r, m.Failed)
	default:
		return nil
	}
}

// Assumptions are the numbers of the rollout's world.
func (r Rollout) Assumptions() sim.Assumptions {
	a := sim.DefaultAssumptions()
	a.AWS.Tail = r.Scenario.tail
	a.LBC.LeaderGap = timeline.Range{Min: r.Scenario.away, Max: r.Scenario.away}
	return a
}

// Plan puts the deployment into w, and plans its rollout for when it is up and ready
// returns true. ready may be nil. Hooks of drain-wait ask url. done gets the result.
func (r Rollout) Plan(w *sim.World, url string, ready func() bool, done func(Result)) {
	hook := sim.Hook{Sleep: r.Policy.Sleep}
	if r.Policy.DrainWait {
		hook = sim.Hook{URL: url, Fallback: Fallback}
	}
	deployment, group := w.AddApp(sim.App{
		Namespace: namespace, Name: app, Kind: r.Scenario.kind, Replicas: replicas, Port: 8080, Grace: grace, Hook: hook,
	})
	w.WhenUp(deployment, ready, func() {
		old := len(w.Pods())
		began := w.Now()
		w.AddClients(group, Load)
		onDelete := func(nth int) {
			if r.Scenario.away > 0 && nth == 2 {
				w.LBC.ChangeLeader()
			}
		}
		w.Rollout(deployment, onDelete, func() {
			took := w.Now() - began
			w.After(aftermath, func() {
				w.StopClients()
				w.After(time.Second, func() { done(r.measure(w, old, took)) }) // the last requests are over by then
			})
		})
	})
}

// measure makes the result. The first old pods are the ones that were replaced.
func (r Rollout) measure(w *sim.World, old int, took time.Duration) Result {
	stats := w.Stats()
	m := Result{
		Scenario: r.Scenario.Name, Policy: r.Policy.Name,
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
