package server

import (
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/apimachinery/pkg/util/validation"

	"drainwait/internal/api"
	"drainwait/internal/drain"
)

var fuzzedQueries = []string{
	"", "ip=10.0.0.1&namespace=default&max-delay=60&settle=1m30s&ingress=a&ingress=b", "pod=web-1&namespace=default", "pod=web-1", "ip=&ip=::ffff:10.0.0.1", "ip=[fd00::1%25eth0]", "ip=10.0.0",
	"namespaace=x&max_wait=5", "max-delay=1e300&max-wait=-1", "max-delay=&max-wait=inf", "settle=9999999h", "settle=nan", "settle=\x00", "pod=..&namespace=default", "pod=a%25b&namespace=a", "namespace=a/b", "namespace=A",
	"ingress=%20a%20&ingress=&ingress=a%0ab", "pod=%zz", "pod=a;b=c", strings.Repeat("ingress=&", 300), strings.Repeat("%ff", 100) + "=x", "pod=" + strings.Repeat("é", 300) + "&namespace=a", strings.Repeat("a&", 3000),
	"reason=unreachable&namespace=default&pod=web-1&ip=10.0.0.1", "reason=broken&ip=x", "reason=", "reason=refused&reason=x", "REASON=refused",
}

func requestOf(method, path, query string) *http.Request {
	r := httptest.NewRequest(method, path, http.NoBody) // from 192.0.2.1
	r.URL.RawQuery = query
	return r
}

// Whatever is asked, it is refused as a bad request or is a request that makes sense:
// each value that was given counts or is refused, and it comes back as the same from its
// own query. What there is to say is short.
func FuzzParse(f *testing.F) {
	for _, query := range fuzzedQueries {
		f.Add(query)
	}
	f.Fuzz(func(t *testing.T, query string) {
		req, err := parse(requestOf(http.MethodGet, api.DrainDelayPath, query))
		said := strings.Join(req.Warnings, "")
		if len(req.Warnings) > mostWarnings+1 || len(said) > 512*len(req.Warnings) || strings.ContainsFunc(said, unicode.IsControl) || !utf8.ValidString(said) {
			t.Errorf("%d warnings: %q", len(req.Warnings), said)
		}
		if err != nil {
			checkRefused(t, err)
			return
		}
		given := func(name string) string {
			vs, _ := url.ParseQuery(query)
			for _, v := range vs[name] {
				if v = strings.TrimSpace(v); v != "" {
					return v
				}
			}
			return ""
		}
		ip, _ := netip.ParseAddr(strings.Trim(given(api.IP), "[]"))
		if want := ip.Unmap().WithZone(""); req.Inferred && (given(api.IP)+req.Pod != "" || req.IP != req.Caller) || !req.Inferred && req.IP != want || !req.IP.IsValid() && req.Pod == "" {
			t.Errorf("address %s (inferred: %t), want %s", req.IP, req.Inferred, want)
		}
		if req.Pod != given(api.Pod) || req.Namespace != given(api.Namespace) || len(req.Ingresses) > mostIngresses {
			t.Errorf("pod %q, namespace %q, Ingresses %q", req.Pod, req.Namespace, req.Ingresses)
		}
		again := url.Values{api.Ingress: req.Ingresses, api.Pod: {req.Pod}, api.Namespace: {req.Namespace}}
		for _, name := range append([]string{req.Pod, req.Namespace}, req.Ingresses...) {
			if name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
				t.Errorf("%q is no name in Kubernetes", name)
			}
		}
		for name, d := range map[string]*api.Duration{api.MaxDelay: (*api.Duration)(req.MaxDelay), api.Settle: (*api.Duration)(req.Settle)} {
			if anyGiven := given(name) + map[string]string{api.MaxDelay: given(api.MaxWait)}[name]; (d != nil) != (anyGiven != "") || d != nil && (*d < 0 || *d > api.Duration(longest)) {
				t.Errorf("%s of %q is %v", name, anyGiven, d)
			}
			if d != nil {
				again.Set(name, d.String())
			}
		}
		if !req.Inferred && req.IP.IsValid() {
			again.Set(api.IP, req.IP.String())
		}
		got, err := parse(requestOf(http.MethodGet, api.DrainDelayPath, again.Encode()))
		got.Warnings, req.Warnings = nil, nil
		if d := cmp.Diff(req, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("asked again, error %v (-first +second):\n%s", err, d)
		}
	})
}

func checkRefused(t *testing.T, err error) {
	t.Helper()
	status, _ := statusOf(err)
	if text := err.Error(); status != http.StatusBadRequest || len(text) > 512 || !utf8.ValidString(text) || strings.ContainsFunc(text, unicode.IsControl) {
		t.Errorf("status %d: %q", status, text)
	}
}

// A report of a fallback is counted under one of the known reasons, or is a bad request;
// and its line in the log is short.
func FuzzFallback(f *testing.F) {
	for _, query := range fuzzedQueries {
		f.Add(query)
	}
	var log strings.Builder
	metrics := prometheus.NewRegistry()
	s := New(Config{Settings: DefaultSettings(), Drainer: new(drain.Drainer), Log: slog.New(slog.NewTextHandler(&log, nil)), Metrics: metrics})
	counted := func() (sum float64, series int) {
		families, _ := metrics.Gather()
		for _, family := range families {
			if family.GetName() != "drain_wait_fallbacks_total" {
				continue
			}
			for _, m := range family.GetMetric() {
				sum, series = sum+m.GetCounter().GetValue(), series+1
			}
		}
		return sum, series
	}
	f.Fuzz(func(t *testing.T, query string) {
		log.Reset()
		before, _ := counted()
		rw := httptest.NewRecorder()
		s.fallback(rw, requestOf(http.MethodPost, api.FallbackPath, query))
		after, series := counted()
		reason, _ := url.ParseQuery(query)
		known := slices.ContainsFunc(reason[api.Reason], func(r string) bool { return slices.Contains(api.Reasons, strings.TrimSpace(r)) })
		accepted := rw.Code == http.StatusNoContent
		if accepted && !known || !accepted && rw.Code != http.StatusBadRequest || rw.Body.Len() > 2048 {
			t.Errorf("status %d, %s", rw.Code, rw.Body)
		}
		if want := map[bool]float64{true: 1}[accepted]; after-before != want || series > len(api.Reasons) {
			t.Errorf("counted %v, in %d series", after-before, series)
		}
		if line, end := strings.CutSuffix(log.String(), "\n"); end != accepted || len(line) > 4096 || strings.ContainsFunc(line, unicode.IsControl) {
			t.Errorf("logged %q", log.String())
		}
	})
}
