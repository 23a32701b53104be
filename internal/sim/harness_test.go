package sim

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/kube"
	"drainwait/internal/sim/memnet"
	"drainwait/internal/sim/timeline"
)

// bindings is LBC's custom resource.
var bindings = schema.GroupVersionResource{Group: kube.GroupELBv2, Version: "v1beta1", Resource: "targetgroupbindings"}

// checkpointAnnotation is where LBC writes its checkpoint.
const checkpointAnnotation = "elbv2.k8s.aws/checkpoint"

// worldTest is a world in a bubble, with the real SDK on its AWS API. A call takes 100 ms:
// it acts 50 ms after it was made.
type worldTest struct {
	*testing.T
	w   *World
	elb *elb.Client
}

// testWorld runs f on the root goroutine of a bubble. The clients do not retry.
func testWorld(t *testing.T, change func(*Assumptions), f func(*worldTest)) {
	testSeed(t, 1, change, f)
}

// testSeed is testWorld with another seed.
func testSeed(t *testing.T, seed uint64, change func(*Assumptions), f func(*worldTest)) {
	synctest.Test(t, func(t *testing.T) {
		as := DefaultAssumptions()
		as.AWS.APILatency = timeline.Between(100*time.Millisecond, 100*time.Millisecond)
		as.AWS.RegistrationTime = timeline.Between(10*time.Second, 10*time.Second)
		if change != nil {
			change(&as)
		}
		w := New(Config{Seed: seed, Assumptions: as, Quiesce: synctest.Wait})
		defer w.Close()
		cfg := sdkConfig("http://aws.invalid", &http.Client{Transport: memnet.Transport(w.AWS.Handler())})
		f(&worldTest{t, w, elb.NewFromConfig(cfg)})
	})
}

func sdkConfig(endpoint string, client *http.Client) sdk.Config {
	return sdk.Config{
		Region:       aws.Region,
		Credentials:  credentials.NewStaticCredentialsProvider(aws.AccessKeyID, aws.SecretAccessKey, ""),
		HTTPClient:   client,
		BaseEndpoint: &endpoint,
		Retryer:      func() sdk.Retryer { return sdk.NopRetryer{} },
	}
}

// do runs the world until f has returned.
func (t *worldTest) do(f func(context.Context) error) error {
	t.Helper()
	running, stop := context.WithCancel(t.Context())
	defer stop()
	var err error
	go func() {
		defer stop()
		err = f(t.Context())
	}()
	t.w.Run(running, t.w.Now()+24*time.Hour)
	if running.Err() == nil {
		t.Fatal("a call did not return within a day")
	}
	return err
}

// must is do for what has to succeed.
func (t *worldTest) must(f func(context.Context) error) {
	t.Helper()
	if err := t.do(f); err != nil {
		t.Fatal(err)
	}
}

// health asks for the health of some or all targets of a group.
func (t *worldTest) health(g *aws.TargetGroup, ts ...types.TargetDescription) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: new(g.ARN()), Targets: ts})
		return err
	}
}

// serve puts an application at each of the addresses, so that health checks
// succeed.
func (t *worldTest) serve(addresses ...string) {
	for _, id := range targetIDs(addresses...) {
		t.w.outside[id] = true
	}
}

func targetIDs(addresses ...string) []aws.TargetID {
	var ts []aws.TargetID
	for _, a := range addresses {
		ap := netip.MustParseAddrPort(a)
		ts = append(ts, aws.TargetID{IP: ap.Addr(), Port: int(ap.Port())})
	}
	return ts
}

// healthRows shows an answer of DescribeTargetHealth in short.
func healthRows(out *elb.DescribeTargetHealthOutput) []string {
	rows := []string{}
	for _, d := range out.TargetHealthDescriptions {
		rows = append(rows, strings.TrimSpace(fmt.Sprintf("%s:%d %s %s %s", sdk.ToString(d.Target.Id), sdk.ToInt32(d.Target.Port),
			sdk.ToString(d.Target.AvailabilityZone), d.TargetHealth.State, d.TargetHealth.Reason)))
	}
	return rows
}

// rows are the targets of a group as the SDK sees them.
func (t *worldTest) rows(g *aws.TargetGroup) []string {
	t.Helper()
	var rows []string
	t.must(func(ctx context.Context) error {
		out, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: new(g.ARN())})
		if err == nil {
			rows = healthRows(out)
		}
		return err
	})
	return rows
}

func (t *worldTest) want(what string, g *aws.TargetGroup, want ...string) {
	t.Helper()
	if d := cmp.Diff(append([]string{}, want...), t.rows(g)); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// run carries the world on.
func (t *worldTest) run(d time.Duration) { t.w.Run(t.Context(), t.w.Now()+d) }

// kube is the real client-go on the world's cluster.
func (t *worldTest) kube() *kubernetes.Clientset {
	return kubernetes.NewForConfigOrDie(&rest.Config{Host: "http://cluster", QPS: -1, Transport: memnet.Transport(t.w.Kube.Handler())})
}

func (t *worldTest) pod(name string) *corev1.Pod {
	t.Helper()
	var p *corev1.Pod
	t.must(func(ctx context.Context) (err error) {
		p, err = t.kube().CoreV1().Pods("shop").Get(ctx, name, metav1.GetOptions{})
		return err
	})
	return p
}

func checkCode(t *worldTest, err error, want string) {
	t.Helper()
	if e, ok := errors.AsType[smithy.APIError](err); !ok || e.ErrorCode() != want {
		t.Errorf("error %v, want code %s", err, want)
	}
}

// bound is the binding of that name as it is now, nil if there is none.
func (t *worldTest) bound(group, name string) *kube.TargetGroupBinding {
	for _, b := range kube.List[kube.TargetGroupBinding](t.w.Kube, "shop") {
		if b.GroupVersionKind().Group == group && b.Name == name {
			return b
		}
	}
	return nil
}
