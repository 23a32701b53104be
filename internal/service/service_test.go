package service_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/getkin/kin-openapi/openapi3"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/service/servicetest"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
)

// inScene runs f in the scene of an ordinary wait whose pod, web-1, is up. The pod's hook
// lasts for the whole grace period: the test asks in its place.
func inScene(t *testing.T, change func(*service.Config), f func(s *scene)) {
	t.Helper()
	servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, change, func(b *servicetest.Bubble) {
		s := &scene{Bubble: b}
		ordinary(aws.ALB)(s)
		s.pod = s.AddPod(sim.PodSpec{
			Namespace: web, Name: "web-1", Labels: map[string]string{"app": "web"}, Port: webPort,
			Grace: 10 * time.Minute, Hook: sim.Hook{Hold: true}, Addresses: []netip.Addr{addr(webIP)},
		})
		s.Advance(time.Minute)
		f(s)
	})
}

// TestManyWaitsCostOnePoll holds a hundred waits on one group.
func TestManyWaitsCostOnePoll(t *testing.T) {
	calls := func(n int) (calls map[string]int) {
		inScene(t, nil, func(s *scene) {
			_ = s.DeletePod(web, "web-1")
			var waits []*servicetest.Call
			for i := range n {
				waits = append(waits, s.Ask(webIP, fmt.Sprintf("max-delay=60&settle=%d", 20+i%2))) // not equal, so not shared
			}
			s.Advance(5 * time.Second)
			if got := s.Service.Watcher.Pollers(); got != 1 {
				t.Errorf("%d waits have %d pollers, want 1", n, got)
			}
			for _, c := range waits {
				if a := s.Await(c).OK(t); a.Outcome != "drained" {
					t.Errorf("got %s", c.Body)
				}
			}
			if got := s.Service.Watcher.Pollers(); got != 0 {
				t.Errorf("%d pollers are left", got)
			}
			calls = s.AWS.Calls()
		})
		return calls
	}
	one, many := calls(2)["DescribeTargetHealth OK"], calls(100)["DescribeTargetHealth OK"]
	if one == 0 || many != one {
		t.Errorf("100 waits cost %d looks, and 2 cost %d", many, one)
	}
}

func TestHangUp(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		first := s.Ask(webIP, "max-delay=60")
		second := s.Ask(webIP, "max-delay=60&settle=20s")
		alike := s.Ask(webIP, "max-delay=60")
		s.Advance(3 * time.Second)
		first.HangUp()
		s.Advance(time.Second)
		if !servicetest.IsClosed(first.Done) || first.Err == nil {
			t.Errorf("the first call is not over: %+v", first)
		}
		for _, c := range []*servicetest.Call{second, alike} {
			if a := s.Await(c).OK(t); a.Outcome != "drained" {
				t.Errorf("got %s after another caller's hang-up", c.Body)
			}
		}
		third := s.Ask(webIP, "max-delay=300&settle=200")
		s.Advance(time.Second)
		third.HangUp()
		s.Advance(time.Second)
		if got := s.Service.Watcher.Pollers(); got != 0 {
			t.Errorf("%d pollers outlive the last caller", got)
		}
		if body := s.metrics(t); !strings.Contains(body, `drain_wait_waits_total{outcome="hung_up"} 2`) {
			t.Errorf("the metrics do not count two hung-up callers:\n%s", body)
		}
	})
}

// TestEqualCallsCountOnce is what the hooks of a pod's containers do.
func TestEqualCallsCountOnce(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.WaitsPerSource = 2 }, func(s *scene) {
		_ = s.DeletePod(web, "web-1")
		var equal []*servicetest.Call
		for range 5 {
			equal = append(equal, s.Ask(webIP, "max-delay=60"))
			s.Advance(100 * time.Millisecond)
		}
		other := s.Ask(webIP, "max-delay=61")
		s.Advance(100 * time.Millisecond)
		tooMany := s.Await(s.Ask(webIP, "max-delay=62"))
		if f := tooMany.Failed(t); tooMany.Status != http.StatusTooManyRequests || f.Error != "too_many_waits" || tooMany.Took > time.Second {
			t.Errorf("got %d %s after %s", tooMany.Status, tooMany.Body, tooMany.Took)
		}
		elsewhere := s.Ask("10.0.99.99", "pod=web-1&namespace=default")
		for _, c := range append(equal, other, elsewhere) {
			if a := s.Await(c).OK(t); a.Outcome != "drained" || float64(a.WaitedSeconds) > c.Took.Seconds()+0.01 {
				t.Errorf("got %s after %s", c.Body, c.Took)
			}
		}
		if c := s.Await(s.Ask(webIP, "max-delay=0")); c.Status != http.StatusOK {
			t.Errorf("got %d when all waits were over", c.Status)
		}
	})
}

// TestEachCallHasItsBudget: an equal call that comes late, as from another pod with the
// same address, does not get the end of the first call as its answer.
func TestEachCallHasItsBudget(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		s.LBC.Stop()
		_ = s.DeletePod(web, "web-1")
		first := s.Ask(webIP, "max-delay=25")
		s.Advance(9 * time.Second)
		s.AWS.Deregister(s.group, s.pod.IP, webPort)
		second := s.Ask(webIP, "max-delay=25")
		if a := s.Await(first).OK(t); a.Outcome != "settle_cut" || first.Took > 25*time.Second+oneLook {
			t.Errorf("the first got %s after %s", first.Body, first.Took)
		}
		if a := s.Await(second).OK(t); a.Outcome != "drained" || second.Took < settleALB {
			t.Errorf("the second got %s after %s", second.Body, second.Took)
		}
	})
}

// TestCallerThatIsNoPod: the service does not look in the groups for an address that
// nobody named. It can be the address of a proxy.
func TestCallerThatIsNoPod(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		s.LBC.Stop()
		s.AWS.Register(s.group, addr("10.9.9.9"), webPort)
		s.Advance(time.Minute)
		c := s.Await(s.Ask("10.9.9.9", "namespace=default"))
		if f := c.Failed(t); c.Status != http.StatusNotFound || !strings.Contains(f.Message, "ip=, or with pod= and namespace=") {
			t.Errorf("got %d %s", c.Status, c.Body)
		}
	})
}

func (s *scene) metrics(t *testing.T) string {
	t.Helper()
	c := s.Await(s.Get(s.Admin.Client(netip.Addr{}), "http://admin/metrics"))
	if c.Status != http.StatusOK {
		t.Fatalf("GET /metrics: %d %s", c.Status, c.Body)
	}
	return string(c.Body)
}

func TestMetrics(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		s.AWS.Fail(fault("DescribeTargetHealth", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}))
		_ = s.DeletePod(web, "web-1")
		c := s.Ask(webIP, "max-delay=60")
		s.Advance(3 * time.Second)
		for _, want := range []string{"drain_wait_waits_in_flight 1", "drain_wait_pollers 1"} {
			if body := s.metrics(t); !strings.Contains(body, want+"\n") {
				t.Errorf("the metrics lack %s:\n%s", want, body)
			}
		}
		s.AWS.Fail(nil)
		s.Await(c)
		s.Await(s.Ask(webIP, "ip=nonsense"))
		body := s.metrics(t)
		for _, want := range []string{
			`drain_wait_waits_total{outcome="drained"} 1`,
			`drain_wait_waits_total{outcome="settle_cut"} 0`,
			`drain_wait_waits_total{outcome="bad_request"} 1`,
			`drain_wait_wait_duration_seconds_count{outcome="drained"} 1`,
			`drain_wait_aws_calls_total{code="OK",operation="DescribeTargetHealth"}`,
			`drain_wait_aws_calls_total{code="Throttling",operation="DescribeTargetHealth"}`,
			"drain_wait_aws_throttled_total",
			"drain_wait_waits_in_flight 0",
			"drain_wait_pollers 0",
			"drain_wait_aws_rate_budget ",
			"drain_wait_build_info{",
			"go_goroutines",
		} {
			if !strings.Contains(body, want) {
				t.Errorf("the metrics lack %s:\n%s", want, body)
			}
		}
		if strings.Contains(body, "drain_wait_aws_throttled_total 0") || strings.Contains(body, "drain_wait_aws_rate_budget 5\n") {
			t.Errorf("throttling left no trace:\n%s", body)
		}
	})
}

// TestFallbackReport is a hook that reports that it took its fallback.
func TestFallbackReport(t *testing.T) {
	var log strings.Builder
	inScene(t, func(c *service.Config) { c.Log = slog.New(slog.NewTextHandler(&log, nil)) }, func(s *scene) {
		report := func(query string) *servicetest.Call {
			return s.Await(s.Request(s.Hooks.Client(addr(webIP)), http.MethodPost, servicetest.URL+"/fallback?"+query))
		}
		reasons := contract(t, s).Paths.Find("/fallback").Post.Parameters.GetByInAndName("query", "reason").Schema.Value.Enum
		for _, reason := range reasons {
			if want := fmt.Sprintf("drain_wait_fallbacks_total{reason=%q} 0\n", reason); !strings.Contains(s.metrics(t), want) {
				t.Errorf("before the first one the metrics lack %s", want)
			}
			if c := report(fmt.Sprintf("reason=%s&namespace=default&pod=web-1", reason)); c.Status != http.StatusNoContent {
				t.Errorf("%s: got %d %s", reason, c.Status, c.Body)
			}
			if want := fmt.Sprintf("drain_wait_fallbacks_total{reason=%q} 1\n", reason); !strings.Contains(s.metrics(t), want) {
				t.Errorf("the metrics lack %s", want)
			}
		}
		for _, query := range []string{"", "reason=", "reason=boredom", "reason=refused&ip=nobody", "reason=refused&pod=a/b"} {
			c := report(query)
			if f := c.Failed(t); c.Status != http.StatusBadRequest || f.Error != "bad_request" {
				t.Errorf("%q: got %d %s", query, c.Status, c.Body)
			}
		}
		if got := strings.Count(s.metrics(t), "drain_wait_fallbacks_total{"); got != len(reasons) {
			t.Errorf("the metrics count %d reasons, want %d", got, len(reasons))
		}
	})
	if got := strings.Count(log.String(), `msg="hook fell back" caller=`); got != 4 || !strings.Contains(log.String(), "reason=refused namespace=default pod=web-1") {
		t.Errorf("the log tells of %d fallbacks:\n%s", got, log.String())
	}
}

// TestGoingAway sends the service SIGTERM while waits are in flight.
func TestGoingAway(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.Grace = 40 * time.Second }, func(s *scene) {
		ready := func() int { return s.Await(s.Get(s.Admin.Client(netip.Addr{}), "http://admin/readyz")).Status }
		if got := ready(); got != http.StatusOK {
			t.Errorf("readyz is %d before", got)
		}
		_ = s.DeletePod(web, "web-1")
		early := s.Ask(webIP, "max-delay=60")
		endless := s.Ask(webIP, "max-delay=300&settle=250")
		s.Advance(2 * time.Second)
		s.SIGTERM()
		s.Advance(2 * time.Second)
		if got := ready(); got != http.StatusServiceUnavailable {
			t.Errorf("readyz is %d after SIGTERM", got)
		}
		late := s.Ask(webIP, "max-delay=59") // kube-proxy lags: a new wait is still taken
		for _, c := range []*servicetest.Call{early, late} {
			if a := s.Await(c).OK(t); a.Outcome != "drained" {
				t.Errorf("got %s", c.Body)
			}
		}
		refused := s.Ask(webIP, "max-delay=58")
		s.Advance(time.Second)
		if !servicetest.IsClosed(refused.Done) || refused.Err == nil {
			t.Errorf("a wait was taken long after SIGTERM: %+v", refused)
		}
		f := s.Await(endless).Failed(t)
		if endless.Status != http.StatusServiceUnavailable || f.Error != "unavailable" || endless.Header.Get("Retry-After") == "" {
			t.Errorf("the wait that was cut got %d %s, %v", endless.Status, endless.Body, endless.Header)
		}
		if got := endless.Took; got < 41*time.Second || got > 43*time.Second {
			t.Errorf("it was cut after %s", got)
		}
		s.Advance(2 * time.Second)
		if !servicetest.IsClosed(s.Over) {
			t.Error("the service is still there")
		}
	})
}

// TestNotReadyYet: before the service has read the cluster it tells nobody to stop.
func TestNotReadyYet(t *testing.T) {
	servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, nil, func(b *servicetest.Bubble) {
		b.Kube.Fail(func(r *http.Request) bool { return strings.Contains(r.URL.Path, "targetgroupbindings") }, http.StatusForbidden)
		b.Advance(10 * time.Second)
		c := b.Await(b.Ask("10.0.0.1", ""))
		if f := c.Failed(t); c.Status != http.StatusServiceUnavailable || f.Error != "unavailable" || c.Header.Get("Retry-After") == "" {
			t.Errorf("got %d %s, %v", c.Status, c.Body, c.Header)
		}
		if c := b.Await(b.Get(b.Admin.Client(netip.Addr{}), "http://admin/readyz")); c.Status != http.StatusServiceUnavailable {
			t.Errorf("readyz is %d", c.Status)
		}
		if c := b.Await(b.Get(b.Admin.Client(netip.Addr{}), "http://admin/healthz")); c.Status != http.StatusOK {
			t.Errorf("healthz is %d", c.Status)
		}
		b.Kube.Fail(nil, 0)
	})
}

// TestReplicasShareTheRate counts our own ready replicas.
func TestReplicasShareTheRate(t *testing.T) {
	servicetest.Run(t, sim.Config{Seed: 1, Assumptions: sim.DefaultAssumptions()}, func(c *service.Config) { c.OwnService = "drain-wait/drain-wait" }, func(b *servicetest.Bubble) {
		labels := map[string]string{"app": "drain-wait"}
		b.Kube.AddService("drain-wait", "drain-wait", labels, 8080)
		for i := range 2 {
			b.AddPod(sim.PodSpec{Namespace: "drain-wait", Name: fmt.Sprint("drain-wait-", i), Labels: labels, Port: 8080})
		}
		b.Advance(time.Minute)
		if got := b.Service.Watcher.Rate(); got != 2.5 {
			t.Errorf("with two replicas the rate is %v, want 2.5", got)
		}
		if err := b.DeletePod("drain-wait", "drain-wait-1"); err != nil {
			t.Fatal(err)
		}
		b.Advance(time.Minute)
		if got := b.Service.Watcher.Rate(); got != 5 {
			t.Errorf("with one replica the rate is %v, want 5", got)
		}
	})
}

// contract is the OpenAPI document that the service serves.
func contract(t *testing.T, s *scene) *openapi3.T {
	t.Helper()
	c := s.Await(s.Get(s.Admin.Client(netip.Addr{}), "http://admin/openapi.yaml"))
	doc, err := openapi3.NewLoader().LoadFromData(c.Body)
	if err != nil {
		t.Fatal(err)
	}
	if err := doc.Validate(t.Context()); err != nil {
		t.Fatal(err)
	}
	return doc
}

// TestContract checks real answers against the OpenAPI document.
func TestContract(t *testing.T) {
	inScene(t, func(c *service.Config) { c.Server.WaitsPerSource = 1 }, func(s *scene) {
		doc := contract(t, s)
		responses := doc.Paths.Find("/drain-delay").Get.Responses
		check := func(c *servicetest.Call) {
			t.Helper()
			r := responses.Status(c.Status)
			if r == nil {
				t.Fatalf("the contract has no status %d", c.Status)
			}
			media := r.Value.Content.Get(c.Header.Get("Content-Type"))
			if media == nil {
				t.Fatalf("the contract has no %s for %d", c.Header.Get("Content-Type"), c.Status)
			}
			if err := media.Schema.Value.VisitJSON(decode(t, c.Body)); err != nil {
				t.Errorf("%d %s: %v", c.Status, c.Body, err)
			}
		}
		check(s.Await(s.Ask(webIP, "max-delay=abc&what=1"))) // 400
		check(s.Await(s.Ask("10.9.9.9", "")))                // 404
		check(s.Await(s.Ask(webIP, "max-delay=0")))          // 200 budget_spent
		_ = s.DeletePod(web, "web-1")
		wait := s.Ask(webIP, "max-delay=60&what=1")
		s.Advance(time.Second)
		check(s.Await(s.Ask(webIP, "max-delay=0&"))) // joins nobody: 429
		check(s.Await(wait))                         // 200 drained
		s.AWS.Fail(refuse("DescribeTargetHealth"))
		check(s.Await(s.Ask(webIP, ""))) // 502
		s.AWS.Fail(nil)
		s.Kube.Remove(s.binding)
		instances(s)
		s.Advance(time.Second)
		check(s.Await(s.Ask(webIP, ""))) // 422
	})
}

// TestContractKnowsAllAnswers compares the enumerations of the OpenAPI document with
// those of the code.
func TestContractKnowsAllAnswers(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		schemas := contract(t, s).Components.Schemas
		enum := func(schema, property string) string {
			return fmt.Sprint(schemas[schema].Value.Properties[property].Value.Enum)
		}
		if got, want := enum("Answer", "outcome"), fmt.Sprint(api.Outcomes); got != want {
			t.Errorf("outcomes are %s in the contract and %s in the code", got, want)
		}
	})
}

func decode(t *testing.T, body []byte) (v any) {
	t.Helper()
	if err := json.Unmarshal(body, &v); err != nil {
		t.Fatalf("%s: %v", body, err)
	}
	return v
}
