package elb

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"drainwait/internal/sim"
	simaws "drainwait/internal/sim/aws"
	"drainwait/internal/sim/memnet"
	"drainwait/internal/sim/timeline"
)

const ms = time.Millisecond

// env is a Watcher in front of a simulated world, with the real SDK between
// them. A call takes 100 ms and acts in the middle.
type env struct {
	*testing.T
	world   *sim.World
	cfg     aws.Config
	elb     *elbv2.Client // of somebody else, such as the controller
	watcher *Watcher
	began   time.Time

	metrics *prometheus.Registry

	mu      sync.Mutex // guards what follows
	arrived []arrival
	fault   func(operation, resource string) *simaws.Fault
}

// arrival is a call of the Watcher or of e.elb, by when it was sent.
type arrival struct {
	sent                time.Duration
	operation, resource string
}

// run runs script in a bubble while the world goes on. The Watcher is closed
// after it; a goroutine that is left then fails the test.
func run(t *testing.T, change func(*Config, *sim.Assumptions), script func(*env)) {
	synctest.Test(t, func(t *testing.T) {
		cfg, as := DefaultConfig(), sim.DefaultAssumptions()
		as.AWS.APILatency = timeline.Range{Min: 100 * ms, Max: 100 * ms}
		as.AWS.RegistrationTime = timeline.Range{Min: time.Second, Max: time.Second}
		if change != nil {
			change(&cfg, &as)
		}
		world := sim.New(sim.Config{Seed: 1, Assumptions: as, Quiesce: synctest.Wait})
		defer world.Close()
		sdk := aws.Config{
			Region:       simaws.Region,
			Credentials:  credentials.NewStaticCredentialsProvider(simaws.AccessKeyID, simaws.SecretAccessKey, ""),
			HTTPClient:   &http.Client{Transport: memnet.Transport(world.AWS.Handler())},
			BaseEndpoint: aws.String("http://aws.invalid"),
			Retryer:      func() aws.Retryer { return aws.NopRetryer{} },
		}
		e := &env{T: t, world: world, cfg: sdk, elb: elbv2.NewFromConfig(sdk), began: time.Now(), metrics: prometheus.NewRegistry()}
		world.AWS.Fail(e.arrive)
		e.watcher = New(cfg, Clients(sdk, ""), slog.New(slog.DiscardHandler), e.metrics)
		running, stop := context.WithCancel(t.Context())
		defer stop()
		go func() {
			defer stop()
			defer e.watcher.Close()
			script(e)
		}()
		world.Run(running, 24*time.Hour)
		if running.Err() == nil {
			t.Fatal("the script did not end within a day")
		}
	})
}

// arrive hears of each call when it acts.
func (e *env) arrive(operation, resource string) *simaws.Fault {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.arrived = append(e.arrived, arrival{(e.now() - 50*ms).Truncate(ms), operation, resource})
	if e.fault == nil {
		return nil
	}
	return e.fault(operation, resource)
}

// now is the time since the test began.
func (e *env) now() time.Duration { return time.Since(e.began) }

func (e *env) sleepUntil(at time.Duration) { time.Sleep(at - e.now()) }

// fail makes all calls fail from now on; nil ends it.
func (e *env) fail(f *simaws.Fault) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.fault = nil
	if f != nil {
		e.fault = func(string, string) *simaws.Fault { return f }
	}
}

// inWorld runs f as the owner of the world.
func (e *env) inWorld(f func()) {
	e.Helper()
	if err := e.world.Do(e.Context(), "test", f); err != nil {
		e.Fatal(err)
	}
}

// looks is when the looks at a group were sent so far. A call that was aborted
// before it acted is not among them.
func (e *env) looks(g Group) []time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	var sent []time.Duration
	for _, a := range e.arrived {
		if a.operation == "DescribeTargetHealth" && a.resource == g.ARN {
			sent = append(sent, a.sent)
		}
	}
	return sent
}

// calls is what the Watcher's metrics have counted so far, by operation and code.
func (e *env) calls() map[string]int {
	e.Helper()
	families, err := e.metrics.Gather()
	if err != nil {
		e.Fatal(err)
	}
	calls := make(map[string]int)
	for _, f := range families {
		if f.GetName() == "drain_wait_aws_calls_total" {
			for _, m := range f.GetMetric() {
				code, operation := m.GetLabel()[0], m.GetLabel()[1] // in order of name
				calls[operation.GetValue()+" "+code.GetValue()] = int(m.GetCounter().GetValue())
			}
		}
	}
	return calls
}

func (e *env) checkCalls(what string, want map[string]int) {
	e.Helper()
	if diff := cmp.Diff(want, e.calls()); diff != "" {
		e.Errorf("%s: calls (-want +got):\n%s", what, diff)
	}
}

// group makes a target group behind a load balancer of its own.
func (e *env) group(name string) (g Group) {
	e.inWorld(func() {
		g.ARN = e.world.AWS.AddTargetGroup(name, 80, e.world.AWS.AddLoadBalancer(name, simaws.ALB)).ARN()
	})
	return g
}

func targets(addresses []string) []types.TargetDescription {
	var ts []types.TargetDescription
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		ts = append(ts, types.TargetDescription{Id: aws.String(ap.Addr().String()), Port: aws.Int32(int32(ap.Port()))})
	}
	return ts
}

func (e *env) register(g Group, addresses ...string) {
	e.Helper()
	if _, err := e.elb.RegisterTargets(e.Context(), &elbv2.RegisterTargetsInput{TargetGroupArn: &g.ARN, Targets: targets(addresses)}); err != nil {
		e.Fatal(err)
	}
}

func (e *env) deregister(g Group, addresses ...string) {
	e.Helper()
	if _, err := e.elb.DeregisterTargets(e.Context(), &elbv2.DeregisterTargetsInput{TargetGroupArn: &g.ARN, Targets: targets(addresses)}); err != nil {
		e.Fatal(err)
	}
}

// await waits on wake until the subscription is in a state that ok likes.
func (e *env) await(what string, s *Subscription, wake <-chan struct{}, limit time.Duration, ok func(*Look, error) bool) {
	e.Helper()
	deadline := time.After(limit)
	for {
		if ok(s.Latest()) {
			return
		}
		select {
		case <-wake:
		case <-deadline:
			look, err := s.Latest()
			e.Fatalf("%s: not within %v: %+v, %v", what, limit, look, err)
		}
	}
}

// join subscribes to a group for some hours.
func (e *env) join(g Group, wake chan<- struct{}, addrs ...netip.Addr) *Subscription {
	return e.watcher.Subscribe(g, addrs, Plan{Latest: time.Now().Add(12 * time.Hour)}, wake)
}

// confirm asks for a look that begins now or later, of use for an hour.
func (s *Subscription) confirm() {
	s.Update(s.addrs, Plan{ConfirmAt: time.Now(), Latest: time.Now().Add(time.Hour)})
}

// ask asks until the answer is known, or until limit is over.
func (e *env) ask(limit time.Duration, question func(since time.Time, wake chan<- struct{}) (known bool, err error)) error {
	since, wake, over := time.Now(), newWake(), time.After(limit)
	for {
		known, err := question(since, wake)
		if known {
			return err
		}
		select {
		case <-wake:
		case <-over:
			return fmt.Errorf("%w: %w", errOpen, err)
		}
	}
}

var errOpen = errors.New("the question is still open")

func anyLook(l *Look, _ error) bool  { return l != nil }
func anyError(_ *Look, e error) bool { return e != nil }

func newWake() chan struct{} { return make(chan struct{}, 1) }

func TestLook(t *testing.T) {
	run(t, nil, func(e *env) {
		g := e.group("web")
		e.register(g, "10.0.0.1:80", "10.0.0.1:8080", "10.0.0.2:80", "[2001:db8::5]:80")
		e.deregister(g, "10.0.0.1:8080")
		before := time.Now()
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		if look, err := s.Latest(); look != nil || err != nil {
			e.Errorf("before the first look: %v, %v", look, err)
		}
		e.await("first look", s, wake, time.Second, anyLook)
		look, err := s.Latest()
		if err != nil || look.Began.Before(before) || look.Ended.Sub(look.Began).Truncate(ms) != 100*ms {
			e.Errorf("look from %v to %v, begun before %v; error %v", look.Began, look.Ended, before, err)
		}
		const initial, registering = types.TargetHealthStateEnumInitial, types.TargetHealthReasonEnumRegistrationInProgress
		const draining, deregistering = types.TargetHealthStateEnumDraining, types.TargetHealthReasonEnumDeregistrationInProgress
		addr := netip.MustParseAddr
		for ip, want := range map[netip.Addr][]Target{
			addr("10.0.0.1"):        {{addr("10.0.0.1"), 80, initial, registering}, {addr("10.0.0.1"), 8080, draining, deregistering}},
			addr("::ffff:10.0.0.2"): {{addr("10.0.0.2"), 80, initial, registering}},
			addr("2001:db8:0::5"):   {{addr("2001:db8::5"), 80, initial, registering}},
			addr("10.0.0.3"):        nil,
		} {
			if got := look.At(ip); !slices.Equal(got, want) {
				e.Errorf("at %v: %v, want %v", ip, got, want)
			}
		}
	})
}

// TestErrors checks what the error of a look is taken for. It comes from the
// sim in the AWS wire format through the SDK.
func TestErrors(t *testing.T) {
	const arnOf = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/"
	for _, tt := range []struct {
		name    string
		arn     string // of a group that exists where empty
		prepare func(*env)
		decides error
		code    string
		hint    string
	}{
		{name: "no group's ARN", arn: strings.Replace(arnOf, "targetgroup/", "loadbalancer/app/none/01", 1), decides: ErrRefused, code: "ValidationError", hint: "--aws-region"},
		{name: "denied", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 403, Code: "AccessDenied"}) }, decides: ErrRefused, code: "AccessDenied", hint: "grant elasticloadbalancing:DescribeTargetHealth"},
		{name: "unknown key", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 403, Code: "InvalidClientTokenId"}) }, decides: ErrRefused, code: "InvalidClientTokenId", hint: "IRSA"},
		{name: "throttled", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 400, Code: "Throttling"}) }, code: "Throttling"},
		{name: "throttled in other words", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 400, Code: "ThrottlingException"}) }, code: "ThrottlingException"},
		{name: "health unavailable", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 500, Code: "HealthUnavailable"}) }, code: "HealthUnavailable"},
		{name: "out of order", prepare: func(e *env) { e.fail(&simaws.Fault{Status: 503, Code: "ServiceUnavailable"}) }, code: "ServiceUnavailable"},
		{name: "no answer", prepare: func(e *env) { e.fail(&simaws.Fault{Hang: true}) }, code: "timeout"},
		{name: "expired", prepare: func(e *env) { e.inWorld(func() { e.world.AWS.ExpireCredentials(true) }) }, code: "ExpiredToken"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run(t, nil, func(e *env) {
				g := e.group("web")
				if tt.arn != "" {
					g.ARN = tt.arn
				}
				if tt.prepare != nil {
					tt.prepare(e)
				}
				wake := newWake()
				s := e.join(g, wake)
				defer s.Close()
				e.await("error", s, wake, 6*time.Second, anyError)
				look, err := s.Latest()
				for _, d := range []error{ErrRefused, ErrNoGroup, ErrNoLoadBalancer, ErrClosed} {
					if errors.Is(err, d) != errors.Is(tt.decides, d) {
						e.Errorf("%v: is it %q? want %v", err, d, tt.decides)
					}
				}
				if look != nil || !strings.Contains(err.Error(), tt.hint) || !strings.Contains(err.Error(), g.ARN) {
					e.Errorf("look %v, error %v, want hint %q", look, err, tt.hint)
				}
				e.checkCalls("after one try", map[string]int{"DescribeTargetHealth " + tt.code: 1})
			})
		})
	}
}

func TestTypeOfProtocol(t *testing.T) {
	for protocol, want := range map[string]Type{"": "", "HTTP": ALB, "HTTPS": ALB, "TCP": NLB, "TCP_UDP": NLB, "QUIC": NLB} {
		if got := TypeOfProtocol(protocol); got != want {
			t.Errorf("%q is of type %q, want %q", protocol, got, want)
		}
	}
}

// TestLookOf: what a wait keeps of a look is the targets at its addresses and no other.
func TestLookOf(t *testing.T) {
	addr := netip.MustParseAddr
	whole := &Look{Ended: time.Now(), targets: []Target{{IP: addr("10.0.0.1"), Port: 80}, {IP: addr("10.0.0.2"), Port: 80}, {IP: addr("10.0.0.2"), Port: 81}, {IP: addr("fd00::1"), Port: 80}}}
	part := whole.Of([]netip.Addr{addr("fd00::1"), addr("10.0.0.2"), addr("10.0.0.3")})
	if got, want := slices.Collect(part.Targets()), whole.targets[1:]; !slices.Equal(got, want) || part.Ended != whole.Ended {
		t.Errorf("got %v, want %v", got, want)
	}
	for ip, want := range map[string]int{"10.0.0.1": 0, "10.0.0.2": 2, "10.0.0.3": 0, "fd00::1": 1} {
		if got := part.At(addr(ip)); len(got) != want {
			t.Errorf("at %s: %v, want %d", ip, got, want)
		}
	}
}
