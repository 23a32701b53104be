package service_test

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"testing"
	"time"

	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"drainwait/internal/service"
	"drainwait/internal/sim/aws"
)

// secret is what AWS says of us to us, and what no caller may read.
const secret = "User: arn:aws:sts::111122223333:assumed-role/secret/session is not authorized"

// noCredentials are credentials that cannot be had, for a reason that is nobody's business.
func noCredentials(err error) func(*service.Config) {
	return func(c *service.Config) {
		c.AWS.Credentials = awssdk.CredentialsProviderFunc(func(context.Context) (awssdk.Credentials, error) {
			return awssdk.Credentials{}, err
		})
	}
}

// TestTextsOfAWSAreForTheLog: what AWS says in an error goes to the log in full and to no
// caller, whether it comes in a refusal, as the last error or in a warning. The callers are
// told the code and what to do.
func TestTextsOfAWSAreForTheLog(t *testing.T) {
	denied := func(operation string) *aws.Fault {
		return &aws.Fault{Status: http.StatusForbidden, Code: "AccessDenied", Message: secret + " to perform " + operation}
	}
	failing := func(f aws.Fault) func(*scene) { return func(s *scene) { s.AWS.Fail(fault("", f)) } }
	assume := func(s *scene) {
		s.binding.Spec.IAMRoleARNToAssume = "arn:aws:iam::111122223333:role/secret"
		s.Kube.Apply(s.binding)
		s.AWS.Fail(fault("AssumeRole", *denied("sts:AssumeRole")))
	}
	passing := &smithy.GenericAPIError{Code: "Throttling", Message: "https://111122223333.example/session for the role secret"}
	for _, tt := range []struct {
		name   string
		change func(*service.Config)
		begin  func(*scene)
		later  bool // it begins when the wait is under way
		query  string
		status int
		says   []string
		log    string
	}{
		{
			name: "denied at the start", begin: failing(*denied("DescribeTargetHealth")), status: http.StatusBadGateway,
			says: []string{"AccessDenied", "grant elasticloadbalancing:DescribeTargetHealth", ":targetgroup/web/"}, log: secret,
		},
		{
			name: "denied later", begin: failing(*denied("DescribeTargetHealth")), later: true, status: http.StatusOK,
			says: []string{"AccessDenied", "grant elasticloadbalancing:DescribeTargetHealth"}, log: secret,
		},
		{
			name: "a failure that passes", begin: failing(aws.Fault{Status: 500, Code: "InternalFailure", Message: secret}), later: true, status: http.StatusOK,
			says: []string{"InternalFailure", "describe target health of"}, log: secret,
		},
		{
			name: "throttled", begin: failing(aws.Fault{Status: 400, Code: "Throttling", Message: secret}), later: true, status: http.StatusOK,
			says: []string{"turns requests away for their rate: Throttling"}, log: secret,
		},
		{
			name: "in a warning", query: "ip=10.9.9.9&namespace=default&max-delay=10", begin: failing(*denied("DescribeTargetHealth")), status: http.StatusBadGateway,
			says: []string{"AccessDenied", "warnings"}, log: secret,
		},
		{
			name: "a role that may not be assumed", begin: assume, status: http.StatusBadGateway,
			says: []string{"AccessDenied", "may the service assume the role"}, log: secret,
		},
		{
			name: "a code that is none", begin: failing(aws.Fault{Status: 403, Code: secret, Message: secret}), later: true, status: http.StatusOK,
			says: []string{"describe target health of"}, log: secret,
		},
		{
			name: "no credentials", change: noCredentials(errors.New("profile secret: https://session.example/111122223333")), status: http.StatusBadGateway,
			says: []string{"no credentials", "check the credentials of the service"}, log: "profile secret: https://session.example/111122223333",
		},
		{
			name: "no credentials for now", change: noCredentials(&smithyResponse{passing}), status: http.StatusOK,
			says: []string{"Throttling", "credentials"}, log: "https://111122223333.example/session for the role secret",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			log := new(lockedBuffer)
			change := func(c *service.Config) {
				c.Log = slog.New(slog.NewTextHandler(log, nil))
				if tt.change != nil {
					tt.change(c)
				}
			}
			inScene(t, change, func(s *scene) {
				if tt.begin != nil && !tt.later {
					tt.begin(s)
					s.Advance(time.Second)
				}
				s.LBC.Stop()
				_ = s.DeletePod(web, "web-1")
				if tt.query == "" {
					tt.query = "max-delay=10"
				}
				c := s.Ask(webIP, tt.query)
				if tt.later {
					s.Advance(3 * time.Second)
					tt.begin(s)
				}
				s.Await(c)
				if c.Status != tt.status {
					t.Errorf("got %d %s, want %d", c.Status, c.Body, tt.status)
				}
				for _, part := range []string{"111122223333", "secret", "session", "not authorized"} {
					if strings.Contains(string(c.Body), part) {
						t.Errorf("the caller reads %q:\n%s", part, c.Body)
					}
				}
				for _, words := range tt.says {
					if !strings.Contains(string(c.Body), words) {
						t.Errorf("the answer does not say %q:\n%s", words, c.Body)
					}
				}
				if n := strings.Count(log.String(), tt.log); n == 0 || n > 5 {
					t.Errorf("the log says it %d times:\n%s", n, log)
				}
			})
		})
	}
}

// smithyResponse is an error that came with an HTTP status.
type smithyResponse struct{ *smithy.GenericAPIError }

func (smithyResponse) HTTPStatusCode() int { return http.StatusTooManyRequests }
func (e smithyResponse) Unwrap() error     { return e.GenericAPIError }

// TestTroubleThatIsOver is not told as the last error of an answer.
func TestTroubleThatIsOver(t *testing.T) {
	inScene(t, nil, func(s *scene) {
		nameOnly(s)
		s.AWS.Fail(fault("DescribeTargetGroups", aws.Fault{Status: 500, Code: "InternalFailure", Message: "try again"}))
		_ = s.DeletePod(web, "web-1")
		c := s.Ask(webIP, "max-delay=60")
		s.Advance(5 * time.Second)
		s.AWS.Fail(nil)
		if a := s.Await(c).OK(t); a.Outcome != "drained" || a.LastError != "" {
			t.Errorf("%s, last error %q", a.Outcome, a.LastError)
		}
	})
}
