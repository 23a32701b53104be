package api

import (
	"bufio"
	"bytes"
	"cmp"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A time that is accepted is 0 or more and comes back as the same from what it is
// shown as; digits are seconds; an error is short and says what is wanted.
func FuzzParseDuration(f *testing.F) {
	for _, v := range []string{"0", "60", "90s", "1m30s", "6e1", "1e300", "inf", "-1", "1.5", "nan", "0x1p4", "1_0", "2562047h", "9999999h", " 60", "٣", "-0", "60 s"} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		d, err := ParseDuration(v)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "want ") || len(err.Error()) > 100 {
				t.Errorf("the error does not say what is wanted: %v", err)
			}
			if _, plain := strconv.ParseUint(v, 10, 64); plain == nil {
				t.Errorf("digits are refused: %v", err)
			}
			return
		}
		var shown Duration
		if err := shown.Set((*Duration)(&d).String()); d < 0 || err != nil || time.Duration(shown) != d {
			t.Errorf("%s comes back as %s, %v", d, time.Duration(shown), err)
		}
		whole := d.Truncate(time.Second)
		if again, err := ParseDuration(strconv.FormatInt(int64(whole/time.Second), 10)); err != nil || again != min(whole, Seconds(1e9).Duration()) {
			t.Errorf("%s in seconds is %s, %v", whole, again, err)
		}
		if n, err := strconv.ParseUint(v, 10, 32); err == nil && d != min(time.Duration(n)*time.Second, Seconds(1e9).Duration()) {
			t.Errorf("%d seconds are %s", n, d)
		}
	})
}

// A URL that is accepted can be asked: the request that goes out arrives with the
// path and the query as they are.
func FuzzParseService(f *testing.F) {
	for _, v := range []string{
		"http://drain-wait.drain-wait:8080", "drain-wait:8080/", "[::1]:8080", "localhost", "http://proxy/drain-wait/", "HTTP://a", "http://[fe80::1%25eth0]",
		"https://a:8443", "http://", "http://a?ip=1", "http://me@a", "a b", "http://a#part", "http://a/%2f/../b", "http://a:99999", "http://%41", "http://ä", "http://a?", "http:a://b",
	} {
		f.Add(v)
	}
	f.Fuzz(func(t *testing.T, v string) {
		u, err := ParseService(v)
		if err != nil {
			return
		}
		to := u.JoinPath(DrainDelayPath)
		if again, err := ParseService(u.String()); err != nil || again.JoinPath(DrainDelayPath).String() != to.String() {
			t.Errorf("%s comes back as %v, %v", u, again, err)
		}
		address := net.JoinHostPort(u.Hostname(), cmp.Or(u.Port(), "80"))
		host, port, err := net.SplitHostPort(address)
		if _, noPort := netip.ParseAddrPort("127.0.0.1:" + port); err != nil || noPort != nil || host != u.Hostname() {
			t.Errorf("cannot dial %s: %v, %v", address, err, noPort)
		}
		to.RawQuery = "ip=10.0.0.1"
		out, err := http.NewRequest(http.MethodGet, to.String(), http.NoBody)
		if err != nil {
			t.Fatalf("no request can be made: %v", err)
		}
		var wire bytes.Buffer
		if err := out.Write(&wire); err != nil {
			t.Fatalf("no request can be sent: %v", err)
		}
		in, err := http.ReadRequest(bufio.NewReader(&wire))
		if err != nil || in.URL.Path != out.URL.Path || !strings.HasSuffix(in.URL.Path, DrainDelayPath) || in.URL.RawQuery != to.RawQuery {
			t.Errorf("of %s came %+v, %v", to, in, err)
		}
	})
}

// The nearest name is a known one that takes fewest changes; a known name is its own
// nearest, however it is written.
func FuzzNearest(f *testing.F) {
	known := []string{IP, Pod, Namespace, Ingress, MaxDelay, MaxWait, Settle}
	for _, name := range []string{"", "namespaace", "max_delay", "MAXDELAY", "ipp", "i", "zebra", "pods", "\xff", "ſettle", "ingres"} {
		f.Add(name)
	}
	f.Fuzz(func(t *testing.T, name string) {
		name = name[:min(len(name), 64)] // as the server cuts it
		got := Nearest(name, known)
		if lower := strings.ToLower(name); slices.Contains(known, lower) && got != lower {
			t.Errorf("the nearest to %s is %s", name, got)
		}
		least := (len(name) + 1) / 2
		if got != "" {
			if !slices.Contains(known, got) {
				t.Fatalf("%q is not known", got)
			}
			least = changes(strings.ToLower(name), got)
		}
		for _, k := range known {
			if d := changes(strings.ToLower(name), k); d < least || got == "" && d == least {
				t.Errorf("%s is nearer than %q: %d changes", k, got, d)
			}
		}
	})
}

// changes is [editDistance] by its definition, with a whole table.
func changes(a, b string) int {
	d := make([][]int, len(a)+1)
	for i := range d {
		d[i] = make([]int, len(b)+1)
		for j := range d[i] {
			switch {
			case i == 0 || j == 0:
				d[i][j] = i + j
			case a[i-1] == b[j-1]:
				d[i][j] = d[i-1][j-1]
			default:
				d[i][j] = 1 + min(d[i-1][j-1], d[i-1][j], d[i][j-1])
			}
		}
	}
	return d[len(a)][len(b)]
}
