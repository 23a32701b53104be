package service_test

import (
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

func budgetCases() []waitCase {
	stuck := func(c waitCase) waitCase { // LBC does nothing
		c.up = func(s *scene) { s.LBC.Stop() }
		return c
	}
	const minute = time.Minute
	return []waitCase{
		{
			name: "the controller dies before it deregisters the pod",
			stop: func(s *scene) { s.LBC.Stop(); _ = s.DeletePod(web, "web-1") },

			outcome: "budget_spent", after: time.Minute, // the hook's max-delay
		},
		stuck(waitCase{name: "max-delay", query: "max-delay=90", outcome: "budget_spent", after: 90 * time.Second, early: 10 * time.Millisecond}),
		stuck(waitCase{name: "max-delay as a duration", query: "max-delay=90s", outcome: "budget_spent", after: 90 * time.Second}),
		stuck(waitCase{name: "max-wait", query: "max-wait=90", outcome: "budget_spent", after: 90 * time.Second}),
		stuck(waitCase{
			name: "max-delay of 0 is one look", query: "max-delay=0", outcome: "budget_spent", after: 0,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if a.WaitedSeconds > 0.5 || a.Targets[0].State != "healthy" {
					t.Errorf("one look took %v s and saw %q", a.WaitedSeconds, a.Targets[0].State)
				}
			},
		}),
		stuck(waitCase{
			name: "an enormous max-delay is cut", query: "max-delay=1e9", outcome: "budget_spent", event: deleted, after: 5*minute - 5*time.Second, early: time.Second,
			also: warned("max-delay=1e9 was cut to 1h0m0s"),
		}),
		stuck(waitCase{
			name: "the grace period", query: "max-delay=600", outcome: "budget_spent", event: deleted, after: 5*minute - 5*time.Second, early: time.Second,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if a.BoundedBy != "grace period" {
					t.Errorf("bounded by %s", a.BoundedBy)
				}
			},
		}),
		stuck(waitCase{
			name: "a short grace period, of which a fifth is left", query: "namespace=default", outcome: "budget_spent",
			pod:   func(p *sim.PodSpec) { p.Grace = 10 * time.Second },
			event: deleted, after: 8 * time.Second, early: time.Second,
			also: warned("raise terminationGracePeriodSeconds"),
		}),
		{
			name: "the grace period is shortened in the middle", query: "max-delay=600", outcome: "budget_spent", event: deleted, after: 16 * time.Second, early: time.Second, // 20 s from the first deletion, less a fifth
			up: func(s *scene) { s.LBC.Stop() },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() { _ = s.DeletePodIn(web, "web-1", 20*time.Second) })
			},
		},
		{
			name: "cut while it settles", query: "max-delay=10", outcome: "settle_cut", after: 10 * time.Second,
		},
		stuck(waitCase{
			name: "the API server's clock is ahead", query: "namespace=default", outcome: "budget_spent",
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.Kube.SkewClock(10 * minute) },
			event:   deleted, after: 5*minute - 5*time.Second, early: 2 * time.Second,
		}),
		stuck(waitCase{
			name: "the API server's clock is behind", query: "namespace=default", outcome: "budget_spent",
			prepare: func(s *scene) { ordinary(aws.ALB)(s); s.Kube.SkewClock(-10 * minute) },
			event:   deleted, after: 5*minute - 5*time.Second, early: 2 * time.Second,
		}),
		{
			name: "a hook that comes when the budget is over", query: "namespace=default", outcome: "budget_spent", after: 0,
			pod: func(p *sim.PodSpec) { p.Grace, p.Hook.Delay = 30*time.Second, 27*time.Second },
		},
		{name: "max-delay of -1", query: "max-delay=-1", status: http.StatusBadRequest, after: 0, also: says("max-delay", "-1", "0 or more")},
		{name: "max-delay of abc", query: "max-delay=abc", status: http.StatusBadRequest, after: 0, also: says("max-delay", "abc", "whole seconds")},
		{name: "an empty ip", query: "ip=&namespace=default", outcome: "drained", event: deregistered, after: settleALB, also: warned("parameter ip is empty")},
		{
			name: "a misspelt parameter", query: "ip=IP&namespaace=default&max-wait=60", outcome: "drained", event: deregistered, after: settleALB,
			also: warned(`unknown parameter "namespaace" was ignored; did you mean namespace?`),
		},
		{
			name: "parameters of a newer client", query: "ip=IP&namespace=default&max-delay=60&quiet-for=5&client=v9", outcome: "drained", event: deregistered, after: settleALB,
			also: warned(`unknown parameter "quiet-for" was ignored`),
		},
		{name: "a value of 4,000 characters", query: "namespace=" + strings.Repeat("x", 4000), status: http.StatusBadRequest, after: 0, also: says("namespace", "…")},
		{name: "an address of 4,000 characters", query: "ip=" + strings.Repeat("1", 4000), status: http.StatusBadRequest, after: 0, also: says("ip", "IPv4 or IPv6")},
	}
}

func deleted(s *scene) time.Duration { return s.pod.Deleted }

// shortCases are budgets that cannot hold the settle time. A warning says so to the
// caller, and in the log at the start.
func shortCases() []waitCase {
	logged := func(words string) (func(*service.Config), func(*testing.T, *scene, api.Answer)) {
		log := new(lockedBuffer)
		early := -1
		return func(c *service.Config) { c.Log = slog.New(slog.NewTextHandler(log, nil)) },
			func(t *testing.T, s *scene, a api.Answer) {
				t.Helper()
				warned(words)(t, s, a)
				warned("requests may fail")(t, s, a)
				if early = strings.Index(log.String(), words); early < 0 || early > strings.Index(log.String(), "wait over") {
					t.Errorf("the log does not say %q before the end of the wait:\n%s", words, log)
				}
				if !strings.Contains(log.String(), `level=WARN msg="wait over"`) {
					t.Errorf("the end of the wait is not logged as a warning:\n%s", log)
				}
			}
	}
	nlb := waitCase{name: "a minute behind an NLB", kind: aws.NLB, query: "max-delay=60", outcome: "settle_cut", after: time.Minute}
	nlb.serve, nlb.also = logged("max-delay is 60.0 s, too short to settle for 2m0s")
	grace := waitCase{
		name: "a grace period of 22 s behind an ALB", query: "namespace=default", outcome: "settle_cut", event: deleted, after: 17600 * time.Millisecond, early: time.Second,
		pod: func(p *sim.PodSpec) { p.Grace = 22 * time.Second },
	}
	grace.serve, grace.also = logged("raise terminationGracePeriodSeconds to 55 or more")
	return []waitCase{nlb, grace, {
		name: "a grace period that is short by a moment", query: "namespace=default", outcome: "settle_cut", event: deleted, after: 20 * time.Second, early: time.Second,
		pod:  func(p *sim.PodSpec) { p.Grace = 25 * time.Second },
		also: warned("Raise terminationGracePeriodSeconds by"),
	}}
}
