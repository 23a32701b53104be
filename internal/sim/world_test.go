package sim

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/memnet"
)

// inWorldWith runs f beside a new world whose hooks reach a service. f's
// goroutine is the one that may call Run and touch the world's state.
func inWorldWith(t *testing.T, service http.Handler, f func(t *testing.T, w *World)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		l := memnet.NewListener()
		srv := &http.Server{Handler: service}
		served := make(chan error)
		go func() { served <- srv.Serve(l) }()
		w := New(Config{Seed: 1, Assumptions: DefaultAssumptions(), HookClient: l.Client, Quiesce: synctest.Wait})
		f(t, w)
		w.Close()
		_ = srv.Close()
		if err := <-served; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
}

// answering is a service that answers each hook after a delay.
func answering(after time.Duration, status int, outcome string) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(after):
			rw.WriteHeader(status)
			fmt.Fprintf(rw, `{"outcome":%q}`, outcome)
		case <-r.Context().Done():
		}
	})
}

// tell notes each change of the world's objects, and when it happened.
func tell(w *World) *[]string {
	log := new([]string)
	w.Kube.OnChange(func(eventType string, obj metav1.Object) {
		*log = append(*log, fmt.Sprintf("%v %s %T %s/%s %s", w.Present(), eventType, obj, obj.GetNamespace(), obj.GetName(), obj.GetResourceVersion()))
	})
	return log
}

// rolled rolls an application of three pods under load for 80 s, while a client
// of the real SDK looks at its group each second.
func rolled(tb testing.TB, service http.Handler, kind aws.Kind, log func(*World) *[]string) (w *World, events *[]string, looks []string) {
	tb.Helper()
	l := memnet.NewListener()
	srv := &http.Server{Handler: service}
	served := make(chan error)
	go func() { served <- srv.Serve(l) }()
	w = New(Config{Seed: 7, Assumptions: DefaultAssumptions(), HookClient: l.Client, Quiesce: synctest.Wait})
	if log != nil {
		events = log(w)
	}
	d, g := w.AddApp(App{
		Namespace: "shop", Name: "web", Kind: kind, Replicas: 3, Port: 8080, Grace: 90 * time.Second,
		Hook: Hook{URL: "http://service", MaxDelay: time.Minute, Fallback: time.Second},
	})
	w.WhenUp(d, nil, func() {
		w.AddClients(g, 50)
		w.Rollout(d, nil, nil)
	})
	client := elb.NewFromConfig(sdkConfig("http://aws.invalid", &http.Client{Transport: memnet.Transport(w.AWS.Handler())}))
	ctx, cancel := context.WithCancel(tb.Context())
	looked := make(chan []string)
	go func() {
		var rows []string
		for ctx.Err() == nil {
			out, err := client.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: new(g.ARN())})
			if err == nil {
				rows = append(rows, fmt.Sprint(w.Now(), healthRows(out)))
			}
			time.Sleep(time.Second)
		}
		looked <- rows
	}()
	w.Run(tb.Context(), 140*time.Second)
	w.Close()
	cancel()
	looks = <-looked
	_ = srv.Close()
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		tb.Error(err)
	}
	return w, events, looks
}

func TestSameSeedSameWorld(t *testing.T) {
	run := func() (truth string) {
		synctest.Test(t, func(t *testing.T) {
			w, events, looks := rolled(t, answering(20*time.Second, http.StatusOK, "drained"), aws.ALB, tell)
			reports, err := json.Marshal(w.Pods())
			if err != nil {
				t.Fatal(err)
			}
			truth = fmt.Sprintf("%s\n%s\n%s\n%+v", strings.Join(*events, "\n"), strings.Join(looks, "\n"), reports, w.Stats())
		})
		return truth
	}
	first := run()
	if !strings.Contains(first, "draining") || strings.Count(first, "DELETED *v1.Pod") < 3 {
		t.Fatal("the pods were not rolled")
	}
	for i := range 19 {
		if d := cmp.Diff(strings.Split(first, "\n"), strings.Split(run(), "\n")); d != "" {
			t.Fatalf("run %d differs (-first +now):\n%s", i+2, d)
		}
	}
}

// The world compares what the clients of each kind of load balancer saw with what the
// service had said, and when.
func TestGroundTruth(t *testing.T) {
	for _, tt := range []struct {
		name      string
		service   http.Handler
		kind      aws.Kind
		premature bool
	}{
		{"ALB, 1 s", answering(time.Second, http.StatusOK, "drained"), aws.ALB, true},
		{"ALB, 20 s", answering(20*time.Second, http.StatusOK, "drained"), aws.ALB, false},
		{"ALB, another word", answering(time.Second, http.StatusOK, "budget_spent"), aws.ALB, false},
		{"ALB, an error", answering(time.Second, http.StatusBadGateway, "drained?"), aws.ALB, false},
		{"NLB, 20 s", answering(20*time.Second, http.StatusOK, "drained"), aws.NLB, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, _, _ := rolled(t, tt.service, tt.kind, nil)
				p := w.Pods()[0]
				if p.Stopped == 0 || len(p.Calls) != 1 || p.HookCall.Asked != p.Calls[0].Asked || p.Deregistered == 0 {
					t.Errorf("report %+v, want a hook's one call, a deregistration and a stop", p)
				}
				if string(p.Answer) != fmt.Sprintf(`{"outcome":%q}`, p.Outcome) {
					t.Errorf("answer %q of outcome %q", p.Answer, p.Outcome)
				}
				if p.LastArrivals[tt.kind] != p.LastArrival || len(p.LastArrivals) != 1 {
					t.Errorf("last arrival at %v, by kind %v", p.LastArrival, p.LastArrivals)
				}
				late := p.Outcome == "drained" && p.LastArrival > p.Answered
				if late != tt.premature || (p.Late > 0) != late || (p.Premature > 0) != late || w.Late() < p.Late {
					t.Errorf("report %+v, want a late request: %v", p, tt.premature)
				}
				if (w.Stats().Failed > 0) != (p.LastArrival > p.Stopped) {
					t.Errorf("stats %+v, pod stopped at %v, last request at %v", w.Stats(), p.Stopped, p.LastArrival)
				}
			})
		})
	}
}
