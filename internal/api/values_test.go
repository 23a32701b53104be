package api

import (
	"testing"
	"time"
)

func TestParseDuration(t *testing.T) {
	for v, want := range map[string]time.Duration{
		"0": 0, "20": 20 * time.Second, "20s": 20 * time.Second, "1m30s": 90 * time.Second, "1e3": 1000 * time.Second,
		"1e300": Seconds(1e9).Duration(), "+Inf": Seconds(1e9).Duration(),
		"9999999h": Seconds(1e9).Duration(), "2562047h": Seconds(1e9).Duration(), "99999999999999999999999.5m": Seconds(1e9).Duration(),
	} {
		if got, err := ParseDuration(v); err != nil || got != want {
			t.Errorf("%q is %s, %v", v, got, err)
		}
	}
	for v, want := range map[string]string{
		"": "want whole seconds, as in 60, or a duration with a unit, as in 90s or 1m30s", "soon": "", "1.5": "", "NaN": "", "-1": "want 0 or more", "-1s": "want 0 or more", "-Inf": "want 0 or more", "-9999999h": "want 0 or more",
		"9999999x": "want whole seconds, as in 60, or a duration with a unit, as in 90s or 1m30s",
	} {
		got, err := ParseDuration(v)
		if err == nil || want != "" && err.Error() != want {
			t.Errorf("%q is %s, %v", v, got, err)
		}
	}
}

func TestParseService(t *testing.T) {
	for v, want := range map[string]string{
		"http://drain-wait.drain-wait:8080": "http://drain-wait.drain-wait:8080",
		"drain-wait.drain-wait:8080/":       "http://drain-wait.drain-wait:8080",
		"[::1]:8080":                        "http://[::1]:8080",
		"localhost":                         "http://localhost",
		"http://proxy/drain-wait/":          "http://proxy/drain-wait",
	} {
		if u, err := ParseService(v); err != nil || u.String() != want {
			t.Errorf("%q is %v, %v", v, u, err)
		}
	}
	for _, v := range []string{"", "https://drain-wait:8443", "http://", "http://a?ip=1", "http://me@a", "a b", "http://]", "drain-wait:80800", `http://a"b`} {
		if u, err := ParseService(v); err == nil {
			t.Errorf("%q is %v", v, u)
		}
	}
}

func TestNearest(t *testing.T) {
	known := []string{"ip", "pod", "namespace", "max-delay"}
	for name, want := range map[string]string{
		"namespaace": "namespace", "max_delay": "max-delay", "maxdelay": "max-delay", "ipp": "ip", "IP": "ip", "i": "ip", "zz": "", "zzz": "", "sev": "", "zebra": "", "": "", "pods": "pod",
	} {
		if got := Nearest(name, known); got != want {
			t.Errorf("nearest to %q is %q, want %q", name, got, want)
		}
	}
}
