package api

import (
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSeconds(t *testing.T) {
	for d, want := range map[time.Duration]Seconds{0: 0, 1100 * time.Millisecond: 1.1, 1499 * time.Microsecond: 0.001, -time.Second: -1} {
		if got := InSeconds(d); got != want {
			t.Errorf("%s: got %v, want %v", d, got, want)
		}
	}
	for s, want := range map[Seconds]time.Duration{0: 0, 1.5: 1500 * time.Millisecond, -9: -9 * time.Second, 1e300: 1e9 * time.Second, Seconds(math.Inf(1)): 1e9 * time.Second} {
		if got := s.Duration(); got != want {
			t.Errorf("%v: got %s, want %s", s, got, want)
		}
	}
}

// TestAdditionsOnly: what callers of v1 may use stays. A new name may be added here, but
// none may go.
func TestAdditionsOnly(t *testing.T) {
	names := func(v any) (names []string) {
		for _, f := range reflect.VisibleFields(reflect.TypeOf(v)) {
			name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
			names = append(names, name+" "+f.Type.Kind().String())
		}
		return names
	}
	var outcomes []string
	for _, o := range Outcomes {
		outcomes = append(outcomes, string(o))
	}
	for _, c := range []struct {
		what     string
		has, had []string
	}{
		{"Answer", names(Answer{}), []string{
			"apiVersion string", "outcome string", "namespace string", "pod string", "waitedSeconds float64", "budgetSeconds float64",
			"boundedBy string", "targets slice", "warnings slice", "lastError string",
		}},
		{"TargetAnswer", names(TargetAnswer{}), []string{"targetGroupArn string", "loadBalancerType string", "settleSeconds float64", "state string", "timeline slice"}},
		{"StepAnswer", names(StepAnswer{}), []string{"afterSeconds float64", "event string"}},
		{"Failure", names(Failure{}), []string{"apiVersion string", "error string", "message string", "budgetSeconds float64", "warnings slice"}},
		{"outcomes", outcomes, []string{"drained", "not_registered", "not_terminating", "will_not_leave", "budget_spent", "settle_cut"}},
		{"reasons", Reasons, []string{"unreachable", "broken", "unavailable", "refused"}},
		{"paths and parameters", []string{DrainDelayPath, FallbackPath, IP, Pod, Namespace, Ingress, MaxDelay, MaxWait, Settle, Reason, Version}, []string{
			"/drain-delay", "/fallback", "ip", "pod", "namespace", "ingress", "max-delay", "max-wait", "settle", "reason", "v1",
		}},
	} {
		for _, name := range c.had {
			if !slices.Contains(c.has, name) {
				t.Errorf("%s: %q is gone from %q", c.what, name, c.has)
			}
		}
	}
}
