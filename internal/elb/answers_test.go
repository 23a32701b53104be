package elb

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
)

// canned answers every request with the same, whatever it asks; {} stands for
// the operation.
type canned struct {
	status int
	body   string
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	sent, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	form, err := url.ParseQuery(string(sent))
	if err != nil {
		return nil, err
	}
	return &http.Response{
		StatusCode: c.status, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Header: make(http.Header), Request: r,
		Body: io.NopCloser(strings.NewReader(strings.ReplaceAll(c.body, "{}", form.Get("Action")))),
	}, nil
}

// answered asks all three questions while every request is answered by that.
func answered(t *testing.T, c canned, check func(question string, known bool, look *Look, err error)) {
	synctest.Test(t, func(*testing.T) {
		w := New(DefaultConfig(), Clients(aws.Config{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""), HTTPClient: &http.Client{Transport: c},
		}, ""), slog.New(slog.DiscardHandler), nil)
		defer w.Close()
		g := Group{ARN: "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"}
		began := time.Now()
		for range 2 { // to ask, and to hear what came of it
			look, known, err := w.Look(g, began, true, newWake())
			check("look", known, look, err)
			_, known, err = w.Describe(g, began, newWake())
			check("describe", known, nil, err)
			_, known, err = w.GroupsByHostname("web-1.us-east-1.elb.amazonaws.com", began, newWake())
			check("behind", known, nil, err)
			time.Sleep(500 * ms)
		}
	})
}

const (
	start = "<{}Response><{}Result>"
	end   = "</{}Result></{}Response>"
)

// What is no answer of ELBv2 tells nothing: neither that a group is empty, nor
// that there is none.
func TestNoAnswerTellsNothing(t *testing.T) {
	for name, c := range map[string]canned{
		"empty":                 {200, ""},
		"no content":            {204, ""},
		"accepted":              {202, ""},
		"text":                  {200, "OK"},
		"JSON":                  {200, `{"TargetHealthDescriptions":[]}`},
		"declaration alone":     {200, `<?xml version="1.0" encoding="UTF-8"?>`},
		"HTML":                  {200, "<html><body>Sign in</body></html>"},
		"no result":             {200, "<{}Response/>"},
		"empty result":          {200, start + end},
		"empty result in short": {200, "<{}Response><{}Result/></{}Response>"},
		"another list":          {200, start + "<Listeners/>" + end},
		"no list of groups": {200, start + "<LoadBalancers><member><DNSName>web-1.us-east-1.elb.amazonaws.com</DNSName>" +
			"<LoadBalancerArn>arn</LoadBalancerArn></member></LoadBalancers>" + end},
		"cut short": {200, start + "<TargetHealthDescriptions><member>"},
		"nameless entries": {200, start + "<TargetHealthDescriptions><member><Target><Port>80</Port></Target></member></TargetHealthDescriptions>" +
			"<TargetGroups><member><TargetType>ip</TargetType></member></TargetGroups>" + end},
		"empty entries":                   {200, start + "<TargetHealthDescriptions><member/></TargetHealthDescriptions><TargetGroups><member/></TargetGroups>" + end},
		"error in the place of an answer": {200, "<ErrorResponse><Error><Code>TargetGroupNotFound</Code></Error></ErrorResponse>"},
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]int{}
			answered(t, c, func(question string, known bool, look *Look, err error) {
				if asked[question]++; known || look != nil || IsPermanent(err) || asked[question] == 2 && err == nil {
					t.Errorf("%s: known %v, look %+v, error %v", question, known, look, err)
				}
			})
		})
	}
}

// An IPv4 address that is listed in IPv6 is the IPv4 address.
func TestListedInIPv6(t *testing.T) {
	const list = "<TargetHealthDescriptions><member><Target><Id>::ffff:10.0.0.1</Id><Port>80</Port></Target></member></TargetHealthDescriptions>"
	answered(t, canned{200, start + list + end}, func(question string, known bool, look *Look, err error) {
		if want := netip.MustParseAddr("10.0.0.1"); question == "look" && known && (err != nil || len(look.At(want)) != 1 || look.At(want)[0].IP != want) {
			t.Errorf("look %+v, error %v", look, err)
		}
	})
}

// An empty list is an answer, in either way to write it.
func TestEmptyListIsAnAnswer(t *testing.T) {
	for name, list := range map[string]string{
		"short": "<TargetHealthDescriptions/><TargetGroups/><LoadBalancers/>",
		"long":  "<TargetHealthDescriptions></TargetHealthDescriptions><TargetGroups></TargetGroups><LoadBalancers>\n</LoadBalancers>",
	} {
		t.Run(name, func(t *testing.T) {
			asked := map[string]int{}
			answered(t, canned{200, start + list + end}, func(question string, known bool, look *Look, err error) {
				if asked[question]++; asked[question] == 1 {
					return
				}
				switch question {
				case "look":
					if !known || look == nil || look.Gone || len(look.targets) != 0 || err != nil {
						t.Errorf("look: %v, %+v, %v", known, look, err)
					}
				case "behind":
					if !known || !errors.Is(err, ErrNoLoadBalancer) {
						t.Errorf("behind: %v, %v", known, err)
					}
				case "describe": // AWS names what it does not find
					if known {
						t.Errorf("describe: %v, %v", known, err)
					}
				}
			})
		})
	}
}

// Another group is no answer, and neither is a load balancer without an ARN.
func TestAnotherGroupIsNoAnswer(t *testing.T) {
	answered(t, canned{200, start + "<TargetGroups><member><TargetGroupArn>other</TargetGroupArn></member></TargetGroups>" +
		"<LoadBalancers><member><DNSName>web-1.us-east-1.elb.amazonaws.com</DNSName></member></LoadBalancers>" + end},
		func(question string, known bool, _ *Look, err error) {
			if known && question == "describe" || known && err == nil {
				t.Errorf("%s: %v, %v", question, known, err)
			}
		})
}

// The largest group there can be is read; an answer without end is not.
func TestAnswersAreReadUpToASize(t *testing.T) {
	const member = "<member><HealthCheckPort>80</HealthCheckPort><Target><AvailabilityZone>us-east-1a</AvailabilityZone><Id>10.0.%d.%d</Id><Port>80</Port></Target>" +
		"<TargetHealth><Description>%s</Description><Reason>Target.FailedHealthChecks</Reason><State>unhealthy</State></TargetHealth></member>"
	list := func(n int, description string) canned {
		var b strings.Builder
		for i := range n {
			fmt.Fprintf(&b, member, i/256, i%256, description)
		}
		return canned{200, start + "<TargetHealthDescriptions>" + b.String() + "</TargetHealthDescriptions>" + end}
	}
	for _, tt := range []struct {
		c    canned
		read bool
	}{
		{list(3000, strings.Repeat("d", 100)), true},
		{list(3000, strings.Repeat("d", 3000)), false},
	} {
		asked := 0
		answered(t, tt.c, func(question string, known bool, look *Look, err error) {
			if question != "look" {
				return
			}
			if asked++; asked == 2 && (known != tt.read || known && len(look.targets) != 3000) {
				t.Errorf("%d bytes: known %v, error %v", len(tt.c.body), known, err)
			}
			if asked == 2 && !tt.read && (IsPermanent(err) || !strings.Contains(err.Error(), "not an answer from ELBv2: it cannot be read, or has more than 8 MiB")) {
				t.Errorf("%d bytes: error %v", len(tt.c.body), err)
			}
		})
	}
}
