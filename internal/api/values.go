package api

import (
	"cmp"
	"errors"
	"math"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Duration is a flag's value that [ParseDuration] reads.
type Duration time.Duration

// String implements [flag.Value].
func (d *Duration) String() string { return time.Duration(*d).String() }

// Set implements [flag.Value].
func (d *Duration) Set(v string) error {
	parsed, err := ParseDuration(v)
	if err == nil {
		*d = Duration(parsed)
	}
	return err
}

// Type is the word for such a value in the help.
func (*Duration) Type() string { return "duration" }

// ParseDuration reads a time as every parameter, flag and variable takes it:
// whole seconds or a Go duration, 0 or more. Some thirty years are the most: what is
// longer is cut to them. The error says what it wants.
func ParseDuration(v string) (time.Duration, error) {
	d, err := time.ParseDuration(v)
	if s, notNumber := strconv.ParseFloat(v, 64); err != nil && notNumber == nil && s == math.Trunc(s) {
		d, err = Seconds(max(-1, s)).Duration(), nil
	}
	if err != nil && isDuration(v) {
		d, err = math.MaxInt64, nil
		if strings.HasPrefix(v, "-") {
			d = -1
		}
	}
	switch {
	case err != nil:
		return 0, errors.New("want whole seconds, as in 60, or a duration with a unit, as in 90s or 1m30s")
	case d < 0:
		return 0, errors.New("want 0 or more")
	}
	return min(d, Seconds(math.Inf(1)).Duration()), nil
}

// isDuration says whether a text would be a Go duration if its numbers were smaller:
// [time.ParseDuration] has one error for all that it refuses.
func isDuration(v string) bool {
	zeros := strings.Map(func(r rune) rune {
		if '0' <= r && r <= '9' {
			return '0'
		}
		return r
	}, v)
	_, err := time.ParseDuration(zeros)
	return err == nil
}

// VariablePrefix begins the name of each environment variable that sets a flag.
const VariablePrefix = "DRAIN_WAIT_"

// Variable is the environment variable that sets a flag.
func Variable(flag string) string {
	return VariablePrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// ParseService reads the URL of a service, which may have a path before those of
// the API. The scheme may be left out; http is the only one. The error says what it wants.
func ParseService(v string) (*url.URL, error) {
	if !strings.Contains(v, "://") {
		v = "http://" + v
	}
	u, err := url.Parse(v)
	if err != nil || u.Scheme != "http" || !canDial(u) || u.RawQuery != "" || u.User != nil {
		return nil, errors.New("want http://host:port")
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	return u, nil
}

// canDial says whether a URL names an address or what can be a host's name, and a port
// that there is, if any. [url.Parse] lets more pass.
func canDial(u *url.URL) bool {
	if _, err := strconv.ParseUint(cmp.Or(u.Port(), "80"), 10, 16); err != nil {
		return false
	}
	name := u.Hostname()
	if ip, err := netip.ParseAddr(name); err == nil {
		name = cmp.Or(ip.Zone(), "none")
	}
	return name != "" && strings.Trim(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == ""
}

// Nearest is which of the known names was probably meant; empty where none is
// like it.
func Nearest(name string, known []string) (nearest string) {
	least := (len(name)+1)/2 + 1
	for _, k := range known {
		if d := editDistance(strings.ToLower(name), strings.ToLower(k)); d < least {
			nearest, least = k, d
		}
	}
	return nearest
}

// editDistance is how many characters must be inserted, deleted or replaced to
// make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := 1
			if a[i] == b[j] {
				cost = 0
			}
			diagonal, row[j+1] = row[j+1], min(row[j]+1, row[j+1]+1, diagonal+cost)
		}
	}
	return row[len(b)]
}
