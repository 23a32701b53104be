package server

import (
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/util/validation"

	"drainwait/internal/api"
	"drainwait/internal/drain"
)

// Limits of a query. Anyone in the cluster can send one.
const (
	longest       = time.Hour // of max-delay and settle; more is cut to it
	longestQuery  = 4 << 10   // bytes
	mostIngresses = 16        // that are not equal
	mostWarnings  = 16        // about parameters
)

// known are the parameters of GET /drain-delay.
var known = []string{api.IP, api.Pod, api.Namespace, api.Ingress, api.MaxDelay, api.MaxWait, api.Settle}

// badParameter is a known parameter with a bad value.
type badParameter struct{ name, value, want string }

func (e *badParameter) Error() string {
	value := e.value
	if len(value) > 64 {
		value = value[:64] + "…"
	}
	return fmt.Sprintf("bad value %q for parameter %s: want %s", value, e.name, e.want)
}

// queryOf is the query of a request.
func queryOf(r *http.Request) (url.Values, error) {
	if n := len(r.URL.RawQuery); n > longestQuery {
		return nil, &badParameter{"query", r.URL.RawQuery, fmt.Sprintf("at most %d bytes, and there are %d", longestQuery, n)}
	}
	query, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return nil, &badParameter{"query", r.URL.RawQuery, "name=value pairs joined by &, with special characters escaped"}
	}
	return query, nil
}

// parse reads the parameters of a hook's request. If they name neither an address nor a
// pod, the address of the caller counts.
func parse(r *http.Request) (req drain.Request, err error) {
	query, err := queryOf(r)
	if err != nil {
		return req, err
	}
	req, err = ParseQuery(query)
	caller, _ := netip.ParseAddrPort(r.RemoteAddr) // no error: the listener is of TCP
	req.Caller, req.Forwarded = caller.Addr().Unmap().WithZone(""), forwarded(r.Header)
	if err != nil || req.Pod != "" || req.IP.IsValid() {
		return req, err
	}
	req.IP, req.Inferred = req.Caller, true
	return req, nil
}

// forwarded says whether a request came through a proxy that says so: RFC 9110, section
// 7.6.3, RFC 7239, and what was used before that.
func forwarded(h http.Header) bool {
	return h.Get("Via") != "" || h.Get("Forwarded") != "" || h.Get("X-Forwarded-For") != ""
}

// ParseQuery reads the parameters of GET /drain-delay. It fails only for a known
// parameter with a bad value: an unknown one must not cost a hook its answer, so that
// a warning names it.
func ParseQuery(query url.Values) (req drain.Request, err error) {
	p := parameters{query: query}
	p.findUnknown()
	req.Namespace, req.Pod = p.name(api.Namespace), p.name(api.Pod)
	req.MaxDelay = cmp.Or(p.duration(api.MaxDelay), p.duration(api.MaxWait))
	req.Settle = p.duration(api.Settle)
	req.Ingresses = p.ingresses()
	req.IP = p.address()
	if p.err == nil && req.Pod != "" && req.Namespace == "" {
		p.fail(api.Pod, req.Pod, "namespace= as well")
	}
	if p.unsaid > 0 {
		p.warnings = append(p.warnings, fmt.Sprintf("and %d more", p.unsaid))
	}
	req.Warnings = p.warnings
	return req, p.err
}

// parameters reads one query. The first failure stays in err.
type parameters struct {
	query    url.Values
	warnings []string
	unsaid   int // warnings for which there was no room
	err      error
}

// warn keeps the first of many warnings.
func (p *parameters) warn(format string, args ...any) {
	if len(p.warnings) == mostWarnings {
		p.unsaid++
		return
	}
	p.warnings = append(p.warnings, fmt.Sprintf(format, args...))
}

func (p *parameters) fail(name, value, want string) {
	if p.err == nil {
		p.err = &badParameter{name, value, want}
	}
}

// get is the first non-empty value of a parameter. A script whose variable is not set
// sends an empty one.
func (p *parameters) get(name string) string {
	for _, v := range p.query[name] {
		if v = strings.TrimSpace(v); v != "" {
			return v
		}
		p.warnEmpty(name)
	}
	return ""
}

func (p *parameters) warnEmpty(name string) {
	p.warn("parameter %s is empty and was ignored", name)
}

// name reads the name of a Kubernetes object.
func (p *parameters) name(name string) string {
	v := p.get(name)
	p.checkName(name, v)
	return v
}

// ingresses reads the one parameter that may be repeated. Equal ones count once.
func (p *parameters) ingresses() (names []string) {
	for _, v := range p.query[api.Ingress] {
		v = strings.TrimSpace(v)
		switch {
		case v == "":
			p.warnEmpty(api.Ingress)
		case slices.Contains(names, v):
		case len(names) == mostIngresses:
			p.fail(api.Ingress, v, fmt.Sprintf("at most %d Ingresses", mostIngresses))
			return nil
		default:
			p.checkName(api.Ingress, v)
			names = append(names, v)
		}
	}
	return names
}

func (p *parameters) checkName(name, v string) {
	if v != "" && len(validation.IsDNS1123Subdomain(v)) > 0 {
		p.fail(name, v, "the name of a Kubernetes object")
	}
}

func (p *parameters) address() netip.Addr {
	v := p.get(api.IP)
	if v == "" {
		return netip.Addr{}
	}
	ip, err := netip.ParseAddr(strings.Trim(v, "[]"))
	if err != nil {
		p.fail(api.IP, v, "an IPv4 or IPv6 address")
	}
	return ip.Unmap().WithZone("")
}

// duration reads whole seconds or a Go duration; nil if there is none.
func (p *parameters) duration(name string) *time.Duration {
	v := p.get(name)
	if v == "" {
		return nil
	}
	d, err := api.ParseDuration(v)
	if err != nil {
		p.fail(name, v, strings.TrimPrefix(err.Error(), "want "))
		return nil
	}
	if d > longest {
		p.warn("%s=%.64s was cut to %s", name, v, longest)
		d = longest
	}
	return &d
}

// findUnknown warns of each unknown parameter, with the one that was probably meant.
func (p *parameters) findUnknown() {
	for _, name := range slices.Sorted(maps.Keys(p.query)) {
		if slices.Contains(known, name) {
			continue
		}
		if name = name[:min(len(name), 64)]; len(p.warnings) == mostWarnings {
			p.unsaid++ // without a search for what was meant
			continue
		}
		meant := ""
		if nearest := api.Nearest(name, known); nearest != "" {
			meant = "; did you mean " + nearest + "?"
		}
		p.warn("unknown parameter %q was ignored%s", name, meant)
	}
}
