package elb

import (
	"encoding/xml"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"

	"drainwait/internal/elb/names"
)

const fuzzedARN = "arn:aws:elasticloadbalancing:us-east-1:123456789012:targetgroup/web/0123456789abcdef"

var fuzzedAnswers = []string{
	start + "<TargetHealthDescriptions><member><Target><Id>10.0.0.1</Id><Port>80</Port></Target><TargetHealth><State>draining</State></TargetHealth></member>" +
		"<member><Target><Id>::ffff:10.0.0.2</Id></Target></member><member><Target><Id>i-0</Id></Target></member></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions/><TargetGroups/><LoadBalancers/>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id>\n 10.0.0.1 </Id></Target></member></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id/></Target></member></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id>10.0.0.1:80</Id></Target></member></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id>10.0<!-- -->.0.1</Id></Target></member><entry/></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id><![CDATA[10.0.0.1]]></Id></Target></member></TargetHealthDescriptions>" + end,
	start + "<TargetHealthDescriptions><member><Target><Id>10.0.0.1</Id></Target></member></TargetHealthDescriptions><TargetHealthDescriptions/>" + end,
	start + "<TargetHealthDescriptions><member>", "<{}Response><{}Result/></{}Response>", `{"TargetHealthDescriptions":[]}`, "",
	start + "<TargetGroups><member><TargetGroupArn>" + fuzzedARN + "</TargetGroupArn><Protocol>TCP</Protocol><TargetType>ip</TargetType></member></TargetGroups>" +
		"<LoadBalancers><member><DNSName>WEB-1.us-east-1.elb.amazonaws.com</DNSName><LoadBalancerArn>lb</LoadBalancerArn></member></LoadBalancers><NextMarker>x</NextMarker>" + end,
	start + "<TargetGroups><member><TargetGroupArn>" + fuzzedARN + "</TargetGroupArn></member></TargetGroups>" +
		"<LoadBalancers><member><DNSName>web-1.us-east-1.elb.amazonaws.com</DNSName><LoadBalancerArn>lb</LoadBalancerArn></member></LoadBalancers>" + end,
	start + "<LoadBalancers><member><DNSName>web-1.us-east-1.elb.amazonaws.com</DNSName><LoadBalancerArn>lb</LoadBalancerArn></member></LoadBalancers>" + end,
	"<ErrorResponse><Error><Code>TargetGroupNotFound</Code><Message>no</Message></Error></ErrorResponse>",
	"<ErrorResponse><Error><Code>LoadBalancerNotFound</Code></Error></ErrorResponse>", "<ErrorResponse><Error><Code>AccessDenied</Code></Error></ErrorResponse>",
	"<ErrorResponse><Error><Code>Throttling</Code></Error></ErrorResponse>", "<Response><Errors><Error><Code>ValidationError</Code></Error></Errors></Response>", "<html><body>Forbidden</body></html>",
}

// What counts as a list of targets has the list, and in it each target that a plain
// reading finds, and no other.
func FuzzTargets(f *testing.F) {
	for _, body := range fuzzedAnswers {
		f.Add(strings.ReplaceAll(body, "{}", "DescribeTargetHealth"))
	}
	var body string // of the answer
	client := Clients(aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""),
		HTTPClient: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) { return canned{200, body}.RoundTrip(r) })},
	}, "")(Group{ARN: fuzzedARN})
	f.Fuzz(func(t *testing.T, answer string) {
		body = answer
		targets, err := targetsOf(t.Context(), client, fuzzedARN)
		if err != nil {
			return
		}
		ids, whole := listed(answer)
		if !whole {
			t.Fatalf("%d targets of an answer without a list", len(targets))
		}
		var want, got []netip.Addr
		for _, id := range ids {
			if ip, err := netip.ParseAddr(id); err == nil {
				want = append(want, ip.Unmap())
			} else if !strings.HasPrefix(id, "i-") && !strings.HasPrefix(id, "arn:") {
				t.Errorf("%q could be anyone", id)
			}
		}
		for _, target := range targets {
			got = append(got, target.IP)
		}
		slices.SortFunc(want, netip.Addr.Compare)
		if !slices.Equal(got, want) {
			t.Errorf("listed are %v, read were %v", want, got)
		}
	})
}

type answers func(*http.Request) (*http.Response, error)

func (f answers) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// listed is a plain reading of the IDs in a list of targets; whole says that there is
// such a list, and that it ends.
func listed(answer string) (ids []string, whole bool) {
	path := []string{"response", "describetargethealthresult", "targethealthdescriptions", "member", "target", "id"}
	d := xml.NewDecoder(strings.NewReader(answer))
	depth, on := 0, 0 // how deep we are, and how far of that on the path
	for {
		token, err := d.Token()
		if err != nil {
			return ids, whole
		}
		switch token := token.(type) {
		case xml.StartElement:
			if on == depth && (depth == 0 || depth < len(path) && strings.EqualFold(token.Name.Local, path[depth])) {
				if on++; on == 4 {
					ids = append(ids, "")
				}
			}
			depth++
		case xml.CharData:
			if on == len(path) && depth == on {
				ids[len(ids)-1] = strings.TrimSpace(string(token))
			}
		case xml.EndElement:
			if depth--; on > depth {
				if whole = whole || on == 3; on == 2 {
					return ids, whole // there is one result
				}
				on = depth
			}
		}
	}
}

// Only what is an answer of ELBv2 answers a question; only its own code says that a
// group is gone, that a load balancer is not there or that AWS refuses.
func FuzzAnswers(f *testing.F) {
	for _, body := range fuzzedAnswers {
		for _, status := range []int{200, 400, 503} {
			f.Add(status, body)
		}
	}
	f.Fuzz(func(t *testing.T, status int, body string) {
		status = 200 + (status%400+400)%400
		good := status < 300
		has := func(text string) bool { return strings.Contains(strings.ToLower(body), text) }
		answered(t, canned{status, body}, func(question string, known bool, look *Look, err error) {
			if !known {
				return
			}
			listAsked := map[string]string{"look": "targethealthdescriptions", "describe": "targetgrouparn", "behind": "targetgrouparn"}[question]
			switch {
			case look != nil && look.Gone || errors.Is(err, ErrNoGroup):
				if good || !has("targetgroupnotfound") {
					t.Errorf("%s: gone by status %d", question, status)
				}
			case errors.Is(err, ErrNoLoadBalancer):
				if good && (question != "behind" || !has("loadbalancers")) || !good && !has("loadbalancernotfound") {
					t.Errorf("%s: no load balancer by status %d: %v", question, status, err)
				}
			case err != nil:
				if !errors.Is(err, ErrRefused) || good || !has("code") {
					t.Errorf("%s: an error that is neither passing nor a refusal, by status %d: %v", question, status, err)
				}
			case !good || !has(listAsked) && (question != "behind" || !has("targetgroups")) || question == "look" && look == nil:
				t.Errorf("%s: answered by status %d", question, status)
			}
		})
	})
}

// A Region comes only from the host name of a load balancer, however it is written: with
// any case, and with a dot at the end. So does a name, which the host name begins with.
func FuzzHostnames(f *testing.F) {
	for _, h := range []string{
		"k8s-a-b-0a1b2c-123.eu-west-1.elb.amazonaws.com", "internal-k8s-a-b-123.eu-west-1.elb.amazonaws.com", "k8s-a-b-0123456789abcdef.elb.us-gov-west-1.amazonaws.com",
		"web-1.cn-north-1.elb.amazonaws.com.cn", "web-1.elb.cn-northwest-1.amazonaws.com.cn", "dualstack.web-1.us-east-1.elb.amazonaws.com", "web-1.elb.us-iso-east-1.c2s.ic.gov",
		"web.us-east-1.elb.amazonaws.com", "a.awsglobalaccelerator.com", "web-1.evil.elb.example.com", "web-1.eu west/.elb.amazonaws.com", "a-1.elb.x:y@z.amazonaws.com", "-.elb.x.y.", "a..elb.b.c", "", ".", "dualstack.",
		"internal-.elb.a.b.c", "\xff-1.elb.é.amazonaws.com", "WEB-1.US-EAST-1.ELB.AMAZONAWS.COM.",
	} {
		f.Add(h)
	}
	client := Clients(aws.Config{Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""), HTTPClient: &http.Client{Transport: canned{500, ""}}}, "")
	f.Fuzz(func(t *testing.T, hostname string) {
		region, name := names.OfHostname(hostname)
		if region != "" && (!isLabel(region) || !slices.ContainsFunc(awsDomains, func(d string) bool { return strings.HasSuffix(hostname, d) })) {
			t.Errorf("Region %q", region)
		}
		if name != "" && (region == "" || !strings.HasPrefix(strings.TrimPrefix(hostname, "internal-"), name+"-")) {
			t.Errorf("name %q in Region %q", name, region)
		}
		if strings.HasSuffix(hostname, ".") || strings.ContainsFunc(hostname, func(r rune) bool { return r >= utf8.RuneSelf }) {
			return // it is no host name, or no other way to write it means the same
		}
		synctest.Test(t, func(t *testing.T) {
			w := New(DefaultConfig(), client, slog.New(slog.DiscardHandler), nil)
			defer w.Close()
			for _, h := range []string{hostname, hostname + ".", strings.ToUpper(hostname), strings.ToUpper(hostname) + ".", strings.ToLower(hostname)} {
				_, known, err := w.GroupsByHostname(h, time.Now(), newWake())
				if known != (hostname == "" || strings.EqualFold(hostname, "dualstack.")) || known && !errors.Is(err, ErrNoLoadBalancer) {
					t.Errorf("%q is known to be %v", h, err)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if len(w.requests) > 1 {
				t.Errorf("%d questions instead of one", len(w.requests))
			}
		})
	})
}

var awsDomains = []string{".amazonaws.com", ".amazonaws.com.cn", ".amazonaws.eu", ".c2s.ic.gov", ".sc2s.sgov.gov", ".cloud.adc-e.uk", ".csp.hci.ic.gov"}

func isLabel(s string) bool {
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-") == "" && len(s) < 64 && strings.Trim(s, "-") == s
}

// A Region of an ARN is a label of a host name, and calls go to a host of AWS whatever
// an ARN says.
func FuzzRegion(f *testing.F) {
	for _, arn := range []string{
		fuzzedARN, "arn:aws-cn:elasticloadbalancing:cn-north-1:1:targetgroup/a/b", "arn:aws:elasticloadbalancing::1:x", "arn", "", "arn:aws:elasticloadbalancing:evil.com/:1:x",
		"arn:aws:elasticloadbalancing:x@10.0.0.1#:1:x", "arn:aws:s3:EU WEST:1:x", "arn:::-a-:::", "arn:aws:e:fips-us-east-1:1:x", "arn:aws:e:us-east-1.evil.com:1:x",
	} {
		f.Add(arn)
	}
	f.Fuzz(func(t *testing.T, arn string) {
		g := Group{ARN: arn}
		region := g.Region()
		if region != "" && (!isLabel(region) || !strings.Contains(arn, ":"+region+":")) {
			t.Errorf("Region %q", region)
		}
		asked := ""
		_, err := targetsOf(t.Context(), Clients(aws.Config{
			Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider("a", "s", ""),
			HTTPClient: &http.Client{Transport: answers(func(r *http.Request) (*http.Response, error) {
				asked = r.URL.Scheme + "://" + r.URL.Host
				return nil, io.ErrUnexpectedEOF
			})},
		}, "")(g), arn)
		host, ok := strings.CutPrefix(asked, "https://elasticloadbalancing")
		if err == nil || !ok || strings.ContainsAny(host, ":/@#?% ") || !slices.ContainsFunc(awsDomains, func(d string) bool { return strings.HasSuffix(host, d) }) {
			t.Errorf("Region %q: asked %q, error %v", region, asked, err)
		}
	})
}
