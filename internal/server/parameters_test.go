package server

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"drainwait/internal/drain"
)

func TestDurations(t *testing.T) {
	for value, want := range map[string]time.Duration{
		"0": 0, "1h": longest, " 60 ": time.Minute, "2h": longest, "inf": longest,
	} {
		req, err := parse(httptest.NewRequest("GET", "/drain-delay?max-delay="+strings.ReplaceAll(value, " ", "+"), nil))
		if err != nil || req.MaxDelay == nil || *req.MaxDelay != want {
			t.Errorf("%q: got %v, %v, want %s", value, req.MaxDelay, err, want)
		}
		if cut := len(req.Warnings) > 0; cut != (want == longest && value != "1h") {
			t.Errorf("%q: warnings are %q", value, req.Warnings)
		}
	}
}

func TestAddresses(t *testing.T) {
	for query, want := range map[string]string{
		"ip=10.0.0.1": "10.0.0.1", "ip=::ffff:10.0.0.1": "10.0.0.1", "ip=fd00::1": "fd00::1", "ip=[fd00::1]": "fd00::1",
		"ip=fe80::1%25eth0": "fe80::1", "": "192.0.2.1", "ip=": "192.0.2.1", "ip=&ip=10.0.0.2": "10.0.0.2",
		"pod=a&namespace=b": "invalid IP",
	} {
		req, err := parse(httptest.NewRequest("GET", "/drain-delay?"+query, nil)) // from 192.0.2.1
		if err != nil || req.IP.String() != want || req.Inferred != (want == "192.0.2.1") {
			t.Errorf("%q: got %s (inferred: %t), %v, want %s", query, req.IP, req.Inferred, err, want)
		}
	}
}

func TestBadParameters(t *testing.T) {
	for query, want := range map[string]string{
		"ip=10.0.0":                            "IPv4 or IPv6",
		"pod=a":                                "namespace= as well",
		"namespace=a/b":                        "name of a Kubernetes object",
		"namespace=a&pod=..":                   "name of a Kubernetes object",
		"ingress=ok&ingress=not+ok":            "name of a Kubernetes object",
		"pod=" + strings.Repeat("é", 300):      "…",
		"max-delay=%zz":                        "name=value pairs",
		"max-delay=5&max-wait=soon&settle=bad": `"soon" for parameter max-wait`,
	} {
		if _, err := parse(httptest.NewRequest("GET", "/drain-delay?"+query, nil)); err == nil || !strings.Contains(err.Error(), want) || len(err.Error()) > 400 {
			t.Errorf("%.40q: got %v, want %q", query, err, want)
		}
	}
}

func TestUnknownParameters(t *testing.T) {
	for name, meant := range map[string]string{
		"namespaace": "namespace", "maxdelay": "max-delay", "max_wait": "max-wait", "Pod": "pod", "ingres": "ingress", "IP": "ip", "setle": "settle",
	} {
		req, err := parse(httptest.NewRequest("GET", "/drain-delay?ip=10.0.0.1&"+name+"=x", nil))
		if err != nil || len(req.Warnings) != 1 || !strings.HasSuffix(req.Warnings[0], "did you mean "+meant+"?") {
			t.Errorf("%s: got %q, %v, want %s", name, req.Warnings, err, meant)
		}
	}
	if req, err := parse(httptest.NewRequest("GET", "/drain-delay?ingress=a&ingress=b&ingress=", nil)); err != nil || len(req.Warnings) != 1 {
		t.Errorf("a repeated ingress: %q, %v", req.Warnings, err)
	}
}

// TestForwarded: what a proxy has passed on comes from the proxy's address.
func TestForwarded(t *testing.T) {
	for _, c := range []struct {
		header, query string
		want          bool
	}{
		{"", "", false},
		{"Via", "", true},
		{"Forwarded", "", true},
		{"X-Forwarded-For", "", true},
		{"X-Request-Id", "", false},
		{"Via", "ip=10.0.0.9&namespace=default", true},
	} {
		r := httptest.NewRequest(http.MethodGet, "/drain-delay?"+c.query, http.NoBody)
		r.RemoteAddr = "10.0.0.1:1234"
		if c.header != "" {
			r.Header.Set(c.header, "something")
		}
		req, err := parse(r)
		if err != nil {
			t.Fatal(err)
		}
		if req.Forwarded != c.want || req.Caller.String() != "10.0.0.1" {
			t.Errorf("%s, %q: forwarded %t from %s, want %t", c.header, c.query, req.Forwarded, req.Caller, c.want)
		}
	}
}

// TestManyParameters: what a query can make the service do and say has a bound.
func TestManyParameters(t *testing.T) {
	many := func(format string, n int) (query string) {
		for i := range n {
			query += fmt.Sprintf(format, i)
		}
		return query
	}
	ask := func(query string) (drain.Request, error) {
		return parse(httptest.NewRequest(http.MethodGet, "/drain-delay?"+query, http.NoBody))
	}
	if req, err := ask(many("ingress=i%[1]d&ingress=i%[1]d&", 16)); err != nil || len(req.Ingresses) != 16 || len(req.Warnings) > 0 {
		t.Errorf("16 Ingresses, each twice: %q, %q, %v", req.Ingresses, req.Warnings, err)
	}
	if _, err := ask(many("ingress=i%d&", 17)); err == nil || !strings.Contains(err.Error(), "at most 16 Ingresses") {
		t.Errorf("17 Ingresses: %v", err)
	}
	for query, n := range map[string]int{many("x%d=&", 400): 400, strings.Repeat("ingress=&", 300): 300} {
		req, err := ask(query)
		if err != nil || len(req.Warnings) != 17 || req.Warnings[16] != fmt.Sprintf("and %d more", n-16) {
			t.Errorf("%.20q: %q, %v", query, req.Warnings, err)
		}
	}
	if req, err := ask(many("x%d=&", 16)); err != nil || len(req.Warnings) != 16 || strings.HasPrefix(req.Warnings[15], "and ") {
		t.Errorf("16 unknown parameters: %q, %v", req.Warnings, err)
	}
}
