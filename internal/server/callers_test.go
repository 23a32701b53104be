package server

import (
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"
)

// TestCallersAddress: a dual-stack listener shows IPv4 callers in IPv6, and an address of
// a link has a zone; a pod has neither.
func TestCallersAddress(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:1234": "10.0.0.1", "[::ffff:10.0.0.1]:1234": "10.0.0.1", "[fd00::1]:1234": "fd00::1", "[fe80::1%eth0]:1234": "fe80::1",
	} {
		r := httptest.NewRequest(http.MethodGet, "/drain-delay", http.NoBody)
		r.RemoteAddr = remote
		if req, err := parse(r); err != nil || req.Caller.String() != want || req.IP != req.Caller || !req.Inferred {
			t.Errorf("%s: called by %s, for %s (inferred: %t), error %v; want %s", remote, req.Caller, req.IP, req.Inferred, err, want)
		}
	}
}

// TestAllParameters: each of them reaches the wait.
func TestAllParameters(t *testing.T) {
	req, err := parse(httptest.NewRequest(http.MethodGet, "/drain-delay?ip=10.0.0.9&pod=web-1&namespace=shop&ingress=a&ingress=b&max-wait=50&settle=5", nil))
	if err != nil || len(req.Warnings) > 0 {
		t.Fatalf("error %v, warnings %q", err, req.Warnings)
	}
	if req.IP.String() != "10.0.0.9" || req.Pod != "web-1" || req.Namespace != "shop" || !slices.Equal(req.Ingresses, []string{"a", "b"}) {
		t.Errorf("got %+v", req)
	}
	if req.MaxDelay == nil || *req.MaxDelay != 50*time.Second || req.Settle == nil || *req.Settle != 5*time.Second {
		t.Errorf("max-delay is %v, settle is %v", req.MaxDelay, req.Settle)
	}
}

// TestEmptyParameters: a script's variable that is not set costs no hook its answer, and
// the warning names it.
func TestEmptyParameters(t *testing.T) {
	for _, name := range known {
		req, err := parse(httptest.NewRequest(http.MethodGet, "/drain-delay?"+name+"=+", nil))
		if want := []string{"parameter " + name + " is empty and was ignored"}; err != nil || !slices.Equal(req.Warnings, want) {
			t.Errorf("%s: warnings %q, error %v; want %q", name, req.Warnings, err, want)
		}
	}
}
