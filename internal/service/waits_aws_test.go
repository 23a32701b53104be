package service_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"drainwait/internal/api"
	"drainwait/internal/service"
	"drainwait/internal/sim"
	"drainwait/internal/sim/aws"
	"drainwait/internal/sim/lbc"
	"drainwait/internal/sim/timeline"
)

func troubleCases() []waitCase {
	// mid lets something go wrong with AWS from 2 s to 32 s after the call, so
	// that the wait sees neither the pod leave nor the end of its settle time.
	mid := func(name string, on, off func(*scene)) waitCase {
		return waitCase{
			name: name, outcome: "drained", after: 32 * time.Second, pod: longer,
			stop: func(s *scene) {
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(2*time.Second, func() { on(s) })
				s.After(3*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
				s.After(32*time.Second, func() { off(s) })
			},
			// The settle time begins with the first look that shows it gone.
			event: func(s *scene) time.Duration { return s.pod.Asked + settleALB },
		}
	}
	failing := func(name string, f aws.Fault) waitCase {
		return mid(name, func(s *scene) { s.AWS.Fail(fault("", f)) }, func(s *scene) { s.AWS.Fail(nil) })
	}
	slow := failing("a connection that hangs", aws.Fault{Hang: true})
	slow.after += 5 * time.Second // the last look that hangs has to time out
	slow.early = 5 * time.Second
	denied := failing("access denied in the middle", aws.Fault{Status: 403, Code: "AccessDenied", Message: "no"})
	denied.after += 5 * time.Second // what is refused is asked for at the cadence
	denied.early = 5 * time.Second
	forGood := func(c waitCase) waitCase {
		c.stop = func(s *scene) {
			_ = s.DeletePod(web, "web-1")
			s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
			s.After(2*time.Second, func() {
				s.AWS.Fail(fault("", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}))
			})
		}
		return c
	}
	return []waitCase{
		failing("throttling", aws.Fault{Status: 400, Code: "Throttling", Message: "Rate exceeded"}),
		failing("internal failures", aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}),
		failing("a group whose health is not available", aws.Fault{Status: 500, Code: "HealthUnavailable", Message: "try again"}),
		denied,
		mid("expired credentials", func(s *scene) { s.AWS.ExpireCredentials(true) }, func(s *scene) { s.AWS.ExpireCredentials(false) }),
		slow,
		forGood(waitCase{
			name: "throttling for good", outcome: "budget_spent", query: "max-delay=60",
			world: func(c *sim.Config) { c.Assumptions.LBC.LeaderGap = timeline.Range{Min: time.Hour, Max: time.Hour} },
			up:    func(s *scene) { s.LBC.ChangeLeader() },
			after: time.Minute,
			also: func(t *testing.T, _ *scene, a api.Answer) {
				if !strings.Contains(a.LastError, "Throttling") {
					t.Errorf("the last error is %q", a.LastError)
				}
			},
		}),
		{
			name: "access denied at the start", status: http.StatusBadGateway, after: 0,
			up:   func(s *scene) { s.AWS.Fail(refuse("DescribeTargetHealth")) },
			also: says("refused_by_aws", "grant elasticloadbalancing:DescribeTargetHealth"),
		},
		{
			name: "no role to assume", status: http.StatusBadGateway, after: 0,
			prepare: func(s *scene) {
				ordinary(aws.ALB)(s)
				s.binding.Spec.IAMRoleARNToAssume = "arn:aws:iam::" + aws.AccountID + ":role/none"
				s.Kube.Apply(s.binding)
			},
			also: says("refused_by_aws"),
		},
		{
			name: "the watches are cut and expire in the middle", outcome: "drained", event: deregistered, after: settleALB,
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(time.Second, func() { s.Kube.CutWatches() })
				s.After(6*time.Second, func() { s.Kube.ExpireWatches() })
			},
		},
	}
}

// answerCases are answers of AWS that say nothing, for half a minute from the first look
// on. Until then the target is healthy all the time.
func answerCases() (cases []waitCase) {
	for _, a := range []struct {
		name string
		aws.Fault
	}{
		{"an empty body", aws.Fault{Status: 200, Garble: garble("")}},
		{"OK", aws.Fault{Status: 200, Garble: garble("OK")}},
		{"an XML declaration", aws.Fault{Status: 200, Garble: garble(`<?xml version="1.0"?>`)}},
		{"JSON", aws.Fault{Status: 200, Garble: garble(`{"message": "hello"}`)}},
		{"204", aws.Fault{Status: 204, Garble: garble("")}},
		{"no result", aws.Fault{Status: 200, Garble: garble(`<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"></DescribeTargetHealthResponse>`)}},
		{"no list", aws.Fault{Status: 200, Garble: garble(`<DescribeTargetHealthResponse xmlns="http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"><DescribeTargetHealthResult></DescribeTargetHealthResult></DescribeTargetHealthResponse>`)}},
		{"half of the answer", aws.Fault{Garble: func(answer []byte) []byte { return answer[:len(answer)/2] }}},
		{"a validation error after a good look", aws.Fault{Status: 400, Code: "ValidationError", Message: "not valid"}},
	} {
		good, after := a.Code != "", 30*time.Second
		if good {
			after += 5 * time.Second // what is refused is asked for at the cadence
		}
		cases = append(cases, waitCase{
			name: a.name, pod: patient, outcome: "drained", after: after + settleALB, early: after - 29*time.Second,
			world: func(c *sim.Config) { c.NoCheckpoint = true }, // so that looks are frequent
			stop: func(s *scene) {
				s.LBC.Stop()
				if !good {
					s.AWS.Fail(fault("DescribeTargetHealth", a.Fault))
				}
				_ = s.DeletePod(web, "web-1")
				s.AdvanceUntil(time.Minute, func() bool { return s.pod.Asked > 0 })
				s.After(2*time.Second, func() { s.AWS.Fail(fault("DescribeTargetHealth", a.Fault)) })
				s.After(29*time.Second, func() { s.AWS.Fail(nil) })
				s.After(30*time.Second, func() { s.AWS.Deregister(s.group, s.pod.IP, webPort) })
			},
		})
	}
	return cases
}

// refusalCases are reasons to refuse a wait that appear too late: the caller has waited
// already, and would wait again.
func refusalCases() []waitCase {
	spent := func(words string) func(*testing.T, *scene, api.Answer) {
		return func(t *testing.T, _ *scene, a api.Answer) {
			t.Helper()
			if !strings.Contains(a.LastError, words) {
				t.Errorf("the last error is %q, want %q in it", a.LastError, words)
			}
		}
	}
	return []waitCase{
		{
			name: "a group that AWS refuses is bound in the middle of the wait", outcome: "budget_spent", after: time.Minute, also: spent("another account or Region"),
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(10*time.Second, func() {
					b := lbc.NewBinding(web, "foreign", "web", s.group)
					b.Spec.TargetGroupARN = strings.Replace(s.group.ARN(), aws.AccountID, "999999999999", 1)
					s.Kube.Apply(b)
				})
			},
		},
		{
			name: "AWS is slow to refuse", outcome: "budget_spent", after: time.Minute, also: spent("AccessDenied"),
			up: func(s *scene) { s.AWS.Fail(fault("", aws.Fault{Hang: true})) },
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(4*time.Second, func() { s.AWS.Fail(refuse("DescribeTargetHealth")) })
			},
		},
		{
			name: "what AWS refused a moment ago is refused at once", status: http.StatusBadGateway, also: says("AccessDenied"),
			up: func(s *scene) {
				s.AWS.Fail(refuse("DescribeTargetHealth"))
				s.Await(s.Ask(webIP, "max-delay=10"))
				s.AWS.Fail(fault("", aws.Fault{Hang: true}))
				s.Advance(15 * time.Second)
			},
		},
		{
			name: "and is asked again after half a minute", pod: patient, outcome: "drained", event: deregistered, after: settleALB,
			up: func(s *scene) {
				s.AWS.Fail(refuse("DescribeTargetHealth"))
				s.Await(s.Ask(webIP, "max-delay=10"))
				s.AWS.Fail(nil)
				s.Advance(31 * time.Second)
			},
		},
		{
			name: "an address is found in no group, late", query: "ip=10.9.9.9&namespace=default&max-delay=60", outcome: "budget_spent", after: 12 * time.Second, early: 2 * time.Second,
			up: func(s *scene) {
				s.AWS.Fail(fault("", aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}))
			},
			stop: func(s *scene) {
				_ = s.DeletePod(web, "web-1")
				s.After(12*time.Second, func() { s.AWS.Fail(nil) })
			},
		},
	}
}

// TestDeletedGroup: the service asks once more for a group that is gone, to confirm it,
// and does not report that as an error.
func TestDeletedGroup(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		s.LBC.Stop()
		_ = s.DeletePod(web, "web-1")
		c := s.Ask(webIP, "max-delay=60")
		s.Advance(5 * time.Second)
		s.AWS.DeleteTargetGroup(s.group)
		a := s.Await(c).OK(t)
		if gone := s.AWS.Calls()["DescribeTargetHealth TargetGroupNotFound"]; a.Outcome != "drained" || a.LastError != "" || gone > 2 {
			t.Errorf("%s, last error %q, asked for %d times when it was gone", a.Outcome, a.LastError, gone)
		}
	})
}

// TestNoCredentials: a refusal by AWS shows at the start, not with the first hook.
func TestNoCredentials(t *testing.T) {
	log := new(lockedBuffer)
	change := func(c *service.Config) {
		c.Log = slog.New(slog.NewTextHandler(log, nil))
		c.AWS.Credentials = credentials.NewStaticCredentialsProvider("AKIDUNKNOWN", "nothing", "")
	}
	inScene(t, change, func(s *scene) {
		if text := log.String(); !strings.Contains(text, "level=ERROR") || !strings.Contains(text, "check the credentials of the service") {
			t.Errorf("the log does not tell:\n%s", text)
		}
		if body := s.metrics(t); !strings.Contains(body, "drain_wait_aws_accounts_denied 1\n") {
			t.Errorf("the metrics do not tell:\n%s", body)
		}
	})
}

// TestRefusalEnds: when the service gets its rights, the metric of refusals falls to 0,
// also where another look finds that out first.
func TestRefusalEnds(t *testing.T) {
	for _, pause := range []time.Duration{10 * time.Second, 40 * time.Second, 2 * time.Minute} {
		t.Run(pause.String(), func(t *testing.T) {
			var allowed atomic.Bool
			change := func(c *service.Config) {
				own := c.AWS.Credentials
				c.AWS.Credentials = awssdk.CredentialsProviderFunc(func(ctx context.Context) (awssdk.Credentials, error) {
					soon := awssdk.Credentials{AccessKeyID: "AKIDUNKNOWN", SecretAccessKey: "nothing", CanExpire: true, Expires: time.Now().Add(time.Second)}
					if allowed.Load() {
						return own.Retrieve(ctx)
					}
					return soon, nil
				})
			}
			inScene(t, change, func(s *scene) {
				s.Advance(pause)
				if body := s.metrics(t); !strings.Contains(body, "drain_wait_aws_accounts_denied 1\n") {
					t.Errorf("the metrics do not tell:\n%s", body)
				}
				allowed.Store(true)
				s.Advance(5 * time.Minute)
				if body := s.metrics(t); !strings.Contains(body, "drain_wait_aws_accounts_denied 0\n") {
					t.Error("the metric still says that AWS refuses")
				}
			})
		})
	}
}

// garble replaces every answer with a body.
func garble(body string) func([]byte) []byte { return func([]byte) []byte { return []byte(body) } }
