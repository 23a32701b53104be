package elb

import (
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"

	simaws "drainwait/internal/sim/aws"
	"drainwait/internal/sim/memnet"
)

func TestAssumedRole(t *testing.T) {
	const role, externalID = "arn:aws:iam::210987654321:role/drain", "external"
	run(t, nil, func(e *env) {
		g := e.group("owned")
		e.inWorld(func() {
			e.world.AWS.AddRole(role, externalID)
			e.world.AWS.RequireRole(g.ARN, role)
		})
		for _, tt := range []struct {
			group Group
			hint  string // of ErrRefused; empty for success
		}{
			{g, "grant elasticloadbalancing:DescribeTargetHealth"},
			{Group{ARN: g.ARN, RoleARN: role}, "may the service assume the role"},
			{Group{ARN: g.ARN, RoleARN: role, ExternalID: "wrong"}, "external ID"},
			{Group{ARN: g.ARN, RoleARN: role + "-none"}, "trust policy"},
			{Group{ARN: g.ARN, RoleARN: role, ExternalID: externalID}, ""},
		} {
			wake := newWake()
			s := e.join(tt.group, wake)
			defer s.Close()
			e.await("first try", s, wake, 300*ms, func(l *Look, err error) bool { return l != nil || err != nil })
			look, err := s.Latest()
			if tt.hint == "" && (look == nil || err != nil) {
				e.Errorf("%+v: %v", tt.group, err)
			}
			if tt.hint != "" && (!errors.Is(err, ErrRefused) || !strings.Contains(err.Error(), tt.hint)) {
				e.Errorf("%+v: %v, want ErrRefused with %q", tt.group, err, tt.hint)
			}
		}
		if n := e.watcher.Pollers(); n != 5 {
			e.Errorf("%d pollers, want one for each way to ask", n)
		}
	})
}

// A session of a role is taken again when it ends, and a failure of STS passes.
func TestRoleSessionIsRenewed(t *testing.T) {
	const role = "arn:aws:iam::210987654321:role/drain"
	run(t, nil, func(e *env) {
		g := e.group("web")
		g.RoleARN = role
		e.inWorld(func() { e.world.AWS.AddRole(role, "") })
		for _, fault := range []*simaws.Fault{{Hang: true}, {Status: 503, Code: "ServiceUnavailable"}, {Status: 400, Code: "Throttling"}, {Status: 400, Code: "ExpiredTokenException"}} {
			e.fault = func(operation, _ string) *simaws.Fault {
				if operation == "AssumeRole" {
					return fault
				}
				return nil
			}
			wake := newWake()
			s := e.join(g, wake)
			e.await("error", s, wake, 11*time.Second, anyError)
			if _, err := s.Latest(); IsPermanent(err) {
				e.Errorf("%+v: %v", fault, err)
			}
			s.Close()
			time.Sleep(credentialsTimeout) // the try itself is shared and ends by itself
		}
		e.fail(nil)
		wake := newWake()
		s := e.join(g, wake)
		defer s.Close()
		e.await("look", s, wake, 3*time.Second, anyLook)
		for range 60 {
			time.Sleep(time.Minute) // a session ends after 15
			if _, err := s.Latest(); err != nil {
				e.Error(err)
			}
		}
	})
}

// TestNoCredentials runs the SDK's own credential chain against what answers in
// its place: the metadata service of the machine, the Pod Identity agent, STS.
func TestNoCredentials(t *testing.T) {
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("token"), 0o600); err != nil {
		t.Fatal(err)
	}
	answer := func(status int, body string) http.Handler {
		return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.WriteHeader(status)
			fmt.Fprint(rw, body)
		})
	}
	hang := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	stsError := func(status int, code string) http.Handler {
		return answer(status, "<ErrorResponse><Error><Code>"+code+"</Code><Message>m</Message></Error></ErrorResponse>")
	}
	agent := map[string]string{"AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://169.254.170.23/v1/credentials"}
	irsa := map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token, "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/drain"}
	for _, tt := range []struct {
		name   string
		env    map[string]string
		answer http.Handler // nil where nobody can be reached
		denied bool
	}{
		{"nothing, metadata service off", map[string]string{"AWS_EC2_METADATA_DISABLED": "true"}, nil, true},
		{"nothing, metadata service out of reach", nil, nil, true},
		{"nothing, metadata service silent", nil, hang, true},
		{"machine without a role", nil, answer(404, ""), true},
		{"metadata service out of order, which looks like silence", nil, answer(503, ""), true},
		{"agent knows no role", agent, answer(404, "no association"), true},
		{"agent denies", agent, answer(403, `{"code":"AccessDeniedException"}`), true},
		{"agent out of order", agent, answer(500, ""), false},
		{"agent throttles", agent, answer(429, ""), false},
		{"agent out of reach", agent, nil, false},
		{"no token file", map[string]string{"AWS_WEB_IDENTITY_TOKEN_FILE": token + "-none", "AWS_ROLE_ARN": "arn:aws:iam::123456789012:role/drain"}, nil, true},
		{"role does not trust the service account", irsa, stsError(403, "AccessDenied"), true},
		{"no OIDC provider", irsa, stsError(400, "InvalidIdentityToken"), true},
		{"token expired", irsa, stsError(400, "ExpiredTokenException"), false},
		{"STS cannot ask the OIDC provider", irsa, stsError(400, "IDPCommunicationError"), false},
		{"STS throttles", irsa, stsError(400, "Throttling"), false},
		{"STS out of order", irsa, stsError(503, "ServiceUnavailable"), false},
		{"STS out of reach", irsa, nil, false},
		{"STS silent", irsa, hang, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{
				"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_ROLE_ARN",
				"AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
				"AWS_EC2_METADATA_DISABLED", "AWS_EC2_METADATA_SERVICE_ENDPOINT", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE",
			} {
				t.Setenv(name, "")
			}
			t.Setenv("AWS_CONFIG_FILE", token+"-none")
			t.Setenv("AWS_SHARED_CREDENTIALS_FILE", token+"-none")
			for name, value := range tt.env {
				t.Setenv(name, value)
			}
			synctest.Test(t, func(t *testing.T) {
				transport := http.RoundTripper(unreachable{})
				if tt.answer != nil {
					transport = memnet.Transport(tt.answer)
				}
				client := &http.Client{Transport: transport, Timeout: 10 * time.Second} // see Clients
				cfg, err := config.LoadDefaultConfig(t.Context(), config.WithRegion("us-east-1"), config.WithHTTPClient(client),
					config.WithEndpointCredentialOptions(func(o *endpointcreds.Options) { o.HTTPClient = client }))
				if err != nil {
					t.Fatal(err)
				}
				w := New(DefaultConfig(), Clients(cfg, ""), slog.New(slog.DiscardHandler), nil)
				wake := newWake()
				s := w.Subscribe(Group{ARN: "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"}, nil, Plan{}, wake)
				// The SDK's own retries can last longer than a call, so that the first
				// tries may end with a time-out where a later one knows better.
				over := time.After(30 * time.Second)
				for denied := false; !denied; {
					select {
					case <-wake:
						_, err := s.Latest()
						if denied = errors.Is(err, ErrRefused); err == nil || denied && !tt.denied {
							t.Errorf("error %v", err)
						}
						if denied && !strings.Contains(err.Error(), "profile, IRSA or Pod Identity") {
							t.Errorf("no hint in %v", err)
						}
						continue
					case <-over:
					}
					if _, err := s.Latest(); tt.denied || err == nil {
						t.Errorf("after half a minute: %v", err)
					}
					break
				}
				s.Close()
				w.Close()
				time.Sleep(time.Minute) // the SDK ends a shared try by itself
			})
		})
	}
}

type unreachable struct{}

func (unreachable) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connect: connection refused")
}

func TestEmptyCredentials(t *testing.T) {
	for _, p := range []aws.CredentialsProvider{
		credentials.NewStaticCredentialsProvider("", "", ""),
		aws.AnonymousCredentials{},
	} {
		if _, err := newCredentialSource(p).Retrieve(t.Context()); !errors.Is(err, ErrRefused) {
			t.Errorf("%T: %v", p, err)
		}
	}
	// Without any provider the request goes out unsigned, and AWS refuses it.
	run(t, nil, func(e *env) {
		e.cfg.Credentials = nil
		_, err := targetsOf(e.Context(), Clients(e.cfg, "")(Group{}), e.group("web").ARN)
		if err = classify("DescribeTargetHealth", err); !errors.Is(err, ErrRefused) {
			e.Error(err)
		}
	})
}

// The Region of a call is that of the flag, of the group or of the
// configuration, in this order, and there is one client for each way to ask.
func TestClients(t *testing.T) {
	euGroup := Group{ARN: "arn:aws:elasticloadbalancing:eu-west-1:123456789012:targetgroup/web/01"}
	for _, tt := range []struct {
		flag  string
		group Group
		want  string
	}{
		{"", euGroup, "eu-west-1"},
		{"", Group{Name: "web"}, "us-east-1"},
		{"ap-south-1", euGroup, "ap-south-1"},
	} {
		got := Clients(aws.Config{Region: "us-east-1"}, tt.flag)(tt.group).(*elbv2.Client).Options().Region
		if got != tt.want {
			t.Errorf("with %q, %v is read in %s, want %s", tt.flag, tt.group, got, tt.want)
		}
	}
	c := Clients(aws.Config{Region: "us-east-1"}, "")
	role := Group{ARN: euGroup.ARN, RoleARN: "r", ExternalID: "x"}
	distinct := map[API]bool{}
	for _, g := range []Group{euGroup, {}, role, {ARN: euGroup.ARN, RoleARN: "r"}, euGroup, role, {ARN: euGroup.ARN + "2"}} {
		distinct[c(g)] = true
	}
	if len(distinct) != 4 {
		t.Errorf("%d clients, want 4", len(distinct))
	}
	for i := range maxAnswers {
		c(Group{RoleARN: fmt.Sprint("r", i)})
	}
	if distinct[c(euGroup)] {
		t.Error("no client is ever given up, however many roles are named")
	}
}

func TestBehindGoesToTheRegionOfTheHostName(t *testing.T) {
	for hostname, want := range map[string]string{
		"web-1.eu-west-1.elb.amazonaws.com":         "eu-west-1",
		"web-1.elb.cn-northwest-1.amazonaws.com.cn": "cn-northwest-1",
		"www.example.com":                           "us-east-1",
	} {
		synctest.Test(t, func(t *testing.T) {
			clients := Clients(aws.Config{Region: "us-east-1", HTTPClient: &http.Client{Transport: unreachable{}}}, "")
			var region string
			w := New(DefaultConfig(), func(g Group) API {
				api := clients(g)
				region = api.(*elbv2.Client).Options().Region
				return api
			}, slog.New(slog.DiscardHandler), nil)
			if _, known, err := w.GroupsByHostname(hostname, time.Now(), newWake()); known || err != nil {
				t.Error(known, err)
			}
			time.Sleep(500 * ms)
			w.Close()
			if region != want {
				t.Errorf("%s is looked for in %s, want %s", hostname, region, want)
			}
		})
	}
}
