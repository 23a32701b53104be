package aws

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	"drainwait/internal/sim/measured"
	"drainwait/internal/sim/memnet"
)

// nonAnswer is something that is not an answer. A machine between a client and AWS, or AWS
// itself on a bad day, sends it instead of one.
type nonAnswer struct {
	Name string
	Fault
}

// nonAnswers are all that the world knows. From most of them the SDK makes an empty
// output, without an error: measured with v1.63.8 of elasticloadbalancingv2.
func nonAnswers() []nonAnswer {
	always := func(body string) func([]byte) []byte { return func([]byte) []byte { return []byte(body) } }
	response := func(inner string) func([]byte) []byte {
		return always(`<DescribeTargetHealthResponse xmlns="` + elbService.namespace + `">` + inner +
			"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></DescribeTargetHealthResponse>")
	}
	return []nonAnswer{
		{"empty", Fault{Garble: always("")}},
		{"no content", Fault{Status: 204, Garble: always("")}},
		{"OK", Fault{Garble: always("OK"), ContentType: "text/plain"}},
		{"XML declaration alone", Fault{Garble: always(`<?xml version="1.0" encoding="UTF-8"?>`)}},
		{"JSON", Fault{Garble: always(`{"TargetHealthDescriptions":[]}`), ContentType: "application/json"}},
		{"page of a proxy", Fault{Garble: always("<html><body>Sign in</body></html>"), ContentType: "text/html"}},
		{"truncated", Fault{Garble: func(answer []byte) []byte { return answer[:len(answer)*2/3] }}},
		{"no result", Fault{Garble: response("")}},
		{"no list", Fault{Garble: response("<DescribeTargetHealthResult></DescribeTargetHealthResult>")}},
	}
}

// TestNonAnswers shows each to the real SDK and over HTTP. What the SDK makes of
// them is why they are here: most look like an empty list.
func TestNonAnswers(t *testing.T) {
	want := map[string]string{ // what the SDK makes of it
		"empty":                 "0 targets",
		"no content":            "0 targets",
		"OK":                    "0 targets",
		"XML declaration alone": "0 targets",
		"JSON":                  "0 targets",
		"page of a proxy":       "an error",
		"truncated":             "an error",
		"no result":             "an error",
		"no list":               "0 targets",
	}
	for _, n := range nonAnswers() {
		t.Run(n.Name, func(t *testing.T) {
			testAWS(t, nil, func(t *awsTest) {
				g := t.account.AddTargetGroup("web", 80, t.account.AddLoadBalancer("web", ALB))
				for _, id := range targetIDs("10.0.0.1:80", "10.0.0.2:80") {
					t.account.Register(g, id.IP, id.Port)
				}
				t.account.Fail(func(string, string) *Fault { return &n.Fault })
				got := ""
				_ = t.do(func(ctx context.Context) error {
					out, err := t.elb.DescribeTargetHealth(ctx, &elb.DescribeTargetHealthInput{TargetGroupArn: &g.arn})
					if got = "an error"; err == nil {
						got = fmt.Sprintf("%d targets", len(out.TargetHealthDescriptions))
					}
					return nil
				})
				if got != want[n.Name] {
					t.Errorf("the SDK makes %s of it, want %s; measured without a root element: %s", got, want[n.Name], measured.LBC().EmptyAnswer)
				}
				if calls := t.account.Calls()["DescribeTargetHealth Garbled"]; calls != 1 {
					t.Errorf("%d calls are counted", calls)
				}
			})
		})
	}
	if len(want) != len(nonAnswers()) {
		t.Errorf("%d non-answers, and %d are looked at", len(nonAnswers()), len(want))
	}
}

// TestGarbledAnswer: status, body and content type are the fault's, and the body
// can be made of the true one.
func TestGarbledAnswer(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		client := &http.Client{Transport: memnet.Transport(t.account.Handler())}
		ask := func() (answer string) {
			t.must(func(ctx context.Context) error {
				body := strings.NewReader("Action=GetCallerIdentity&Version=2011-06-15")
				req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://aws.invalid/", body)
				if err != nil {
					return err
				}
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				req.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+AccessKeyID+"/20260101/"+Region+"/sts/aws4_request")
				resp, err := client.Do(req)
				if err != nil {
					return err
				}
				defer resp.Body.Close()
				all, err := io.ReadAll(resp.Body)
				answer = fmt.Sprintf("%d %s %.30s", resp.StatusCode, resp.Header.Get("Content-Type"), all)
				return err
			})
			return answer
		}
		t.account.Fail(func(string, string) *Fault {
			return &Fault{Status: 299, ContentType: "a/b", Garble: func(b []byte) []byte { return append([]byte("so: "), b...) }}
		})
		if got, want := ask(), "299 a/b so: <GetCallerIdentityResponse"; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
		t.account.ExpireCredentials(true) // refused before any fault is asked for
		if got, want := ask(), "403 text/xml <ErrorResponse"; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
		t.account.ExpireCredentials(false)
		t.account.Fail(nil)
		if got, want := ask(), "200 text/xml <GetCallerIdentityResponse"; !strings.HasPrefix(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	})
}

func TestForeignARNs(t *testing.T) {
	testAWS(t, nil, func(t *awsTest) {
		lb := t.account.AddLoadBalancer("web", ALB)
		g := t.account.AddTargetGroup("web", 80, lb)
		groups := []string{
			strings.Replace(g.arn, Region, "eu-west-1", 1), strings.Replace(g.arn, AccountID, "999999999999", 1),
		}
		balancer := strings.Replace(lb.arn, Region, "eu-west-1", 1)
		for _, notFound := range []bool{false, true, false} {
			t.account.ForeignNotFound(notFound)
			wantGroup, wantBalancer := "ValidationError", "ValidationError"
			if notFound {
				wantGroup, wantBalancer = "TargetGroupNotFound", "LoadBalancerNotFound"
			}
			for _, arn := range groups {
				checkCode(t, t.do(t.health(&TargetGroup{arn: arn})), wantGroup)
			}
			checkCode(t, t.do(t.health(&TargetGroup{arn: "nonsense"})), "ValidationError")
			checkCode(t, t.do(func(ctx context.Context) error {
				_, err := t.elb.DescribeTargetGroups(ctx, &elb.DescribeTargetGroupsInput{LoadBalancerArn: &balancer})
				return err
			}), wantBalancer)
			t.must(t.health(g))
		}
	})
}
