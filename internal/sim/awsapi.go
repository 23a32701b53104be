package sim

import (
	"bytes"
	"cmp"
	"context"
	"encoding/xml"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"drainwait/internal/sim/timeline"
)

// The key of the account's own user. It opens nothing but a simulated world.
const (
	AccessKeyID     = "AKIDSIMULATED"
	SecretAccessKey = "simulated-and-good-for-nothing"
)

// iam is who may call the AWS face, and what they may see.
type iam struct {
	roles    map[string]string     // external ID by role ARN
	sessions map[string]iamSession // what AssumeRole handed out, by access key
	owners   map[string]string     // role ARN by target group ARN, for groups that only this role may use
	expired  bool
}

type iamSession struct {
	role  string // ARN; "" for the account's own user
	arn   string // of the session itself
	token string
	until time.Duration
}

func newIAM() iam {
	return iam{
		roles:    make(map[string]string),
		sessions: make(map[string]iamSession),
		owners:   make(map[string]string),
	}
}

// AddRole makes a role that may be assumed by who knows its external ID, which
// may be empty.
func (w *World) AddRole(arn, externalID string) { w.aws.iam.roles[arn] = externalID }

// RequireRole gives a target group to a role: with any other credentials calls
// about it are denied, and lists do not show it.
func (w *World) RequireRole(groupARN, roleARN string) { w.aws.iam.owners[groupARN] = roleARN }

// ExpireCredentials decides whether all credentials count as expired.
func (w *World) ExpireCredentials(on bool) { w.aws.iam.expired = on }

// awsService is one AWS API that speaks the Query protocol.
type awsService struct {
	name      string // as in the scope of a signature
	version   string
	namespace string // of its XML
}

var (
	elbService = awsService{"elasticloadbalancing", "2015-12-01", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"}
	stsService = awsService{"sts", "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"}
)

type awsOperation struct {
	service awsService
	bucket  func(*account) *bucket // what pays for a call
	run     func(*awsCall) (any, error)
}

var awsOperations = map[string]awsOperation{
	"DescribeTargetHealth":  {elbService, describeBucket, (*awsCall).describeTargetHealth},
	"DescribeTargetGroups":  {elbService, describeBucket, (*awsCall).describeTargetGroups},
	"DescribeLoadBalancers": {elbService, describeBucket, (*awsCall).describeLoadBalancers},
	"RegisterTargets":       {elbService, mutateBucket, (*awsCall).registerTargets},
	"DeregisterTargets":     {elbService, mutateBucket, (*awsCall).deregisterTargets},
	"AssumeRole":            {stsService, unlimited, (*awsCall).assumeRole},
	"GetCallerIdentity":     {stsService, unlimited, (*awsCall).getCallerIdentity},
}

func describeBucket(a *account) *bucket { return &a.describe }
func mutateBucket(a *account) *bucket   { return &a.mutate }
func unlimited(*account) *bucket        { return nil }

// AWSHandler is the AWS face of the world: the Query APIs of ELBv2 and STS, as
// far as drain-wait and LBC need them. It wants signed requests but does not
// check the signature itself.
func (w *World) AWSHandler() http.Handler { return http.HandlerFunc(w.serveAWS) }

func (w *World) serveAWS(rw http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // what cannot be read is missing, and the operation says so
	c := &awsCall{
		w:             w,
		form:          r.Form,
		authorization: r.Header.Get("Authorization"),
		token:         r.Header.Get("X-Amz-Security-Token"),
	}
	c.action, c.resource = c.form.Get("Action"), c.subject()
	var a awsAnswer
	err := w.Exchange(r.Context(), c.action+" "+c.resource, w.cfg.Assumptions.APILatency, func() { a = c.answer() })
	if err == nil && a.hang {
		err = w.hang(r.Context())
	}
	if err != nil {
		// The caller is gone, or the world is closed. An empty 200 would read
		// as an empty list.
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", cmp.Or(a.contentType, "text/xml"))
	h.Set("X-Amzn-RequestId", a.requestID)
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat)) // a recorder sets none, and the SDK measures its skew by it
	rw.WriteHeader(a.status)
	_, _ = rw.Write(a.body)
}

func (w *World) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-w.Lifetime().Done():
		return timeline.ErrClosed
	}
}

// awsCall is one request to the AWS face. From answer on it is the world's
// owner who works on it, maybe after the HTTP handler has given up; so it holds
// a copy of what it needs of the HTTP request.
type awsCall struct {
	w                    *World
	form                 url.Values
	authorization, token string
	action               string
	resource             string     // the first ARN or name that the call is about
	caller               iamSession // who signed it
}

// subject is what the call is about.
func (c *awsCall) subject() string {
	for _, p := range []string{
		"TargetGroupArn", "TargetGroupArns.member.1", "LoadBalancerArn", "LoadBalancerArns.member.1", "Names.member.1", "RoleArn",
	} {
		if v := c.form.Get(p); v != "" {
			return v
		}
	}
	return ""
}

type awsAnswer struct {
	status    int
	requestID string
	body      []byte
	// Where empty, text/xml.
	contentType string
	hang        bool // never answer
}

var errHang = &apiError{code: "Hang"}

// answer carries the call out, renders what comes of it and counts it. Like
// everything below it is for the owner of the world.
func (c *awsCall) answer() awsAnswer {
	fault, result, err := c.run()
	if fault != nil && fault.Garble != nil {
		c.w.aws.calls[c.action+" Garbled"]++
		return c.garbled(fault, result, err)
	}
	if err == nil {
		c.w.aws.calls[c.action+" OK"]++
		return c.success(result)
	}
	e := asAPIError(err)
	c.w.aws.calls[c.action+" "+e.code]++
	if e == errHang {
		return awsAnswer{hang: true}
	}
	return c.failure(e)
}

func asAPIError(err error) *apiError {
	if e, ok := errors.AsType[*apiError](err); ok {
		return e
	}
	return &apiError{500, "InternalFailure", err.Error()}
}

// garbled is what a fault makes of the answer that there would be.
func (c *awsCall) garbled(f *Fault, result any, err error) awsAnswer {
	var a awsAnswer
	if err == nil {
		a = c.success(result)
	} else {
		a = c.failure(asAPIError(err))
	}
	a.status, a.body, a.contentType = cmp.Or(f.Status, http.StatusOK), f.Garble(a.body), f.ContentType
	return a
}

// run carries the call out. It also returns the fault that was asked for, if any.
func (c *awsCall) run() (*Fault, any, error) {
	op, known := awsOperations[c.action]
	if !known || op.service.version != c.form.Get("Version") {
		return nil, nil, &apiError{400, "InvalidAction",
			fmt.Sprintf("Could not find operation %s for version %s", c.action, c.form.Get("Version"))}
	}
	if err := c.authenticate(op.service.name); err != nil {
		return nil, nil, err
	}
	var f *Fault
	if ask := c.w.aws.fault; ask != nil {
		f = ask(c.action, c.resource)
	}
	switch {
	case f == nil, f.Garble != nil:
	case f.Hang:
		return f, nil, errHang
	default:
		return f, nil, &apiError{f.Status, f.Code, f.Message}
	}
	if b := op.bucket(&c.w.aws); b != nil && !b.take(c.w.Present()) {
		return f, nil, errThrottled
	}
	result, err := op.run(c)
	return f, result, err
}

// success renders <ActionResponse><ActionResult>. The result of an operation is
// a struct for encoding/xml, or the finished inner XML.
func (c *awsCall) success(result any) awsAnswer {
	id, name := c.requestID(), c.action+"Result"
	var b bytes.Buffer
	fmt.Fprintf(&b, `<%sResponse xmlns="%s">`, c.action, awsOperations[c.action].service.namespace)
	if inner, done := result.([]byte); done {
		b.Grow(len(inner) + 256)
		b.WriteString("<" + name + ">")
		b.Write(inner)
		b.WriteString("</" + name + ">")
	} else if err := xml.NewEncoder(&b).EncodeElement(result, xml.StartElement{Name: xml.Name{Local: name}}); err != nil {
		panic(err) // a result that cannot be XML is a mistake in this file
	}
	fmt.Fprintf(&b, "<ResponseMetadata><RequestId>%s</RequestId></ResponseMetadata></%sResponse>", id, c.action)
	return awsAnswer{status: http.StatusOK, requestID: id, body: b.Bytes()}
}

type xmlError struct {
	XMLName   xml.Name
	Type      string `xml:"Error>Type"`
	Code      string `xml:"Error>Code"`
	Message   string `xml:"Error>Message"`
	RequestID string `xml:"RequestId"`
}

func (c *awsCall) failure(e *apiError) awsAnswer {
	kind := "Sender"
	if e.status >= 500 {
		kind = "Receiver"
	}
	id := c.requestID()
	name := xml.Name{Space: awsOperations[c.action].service.namespace, Local: "ErrorResponse"}
	body, err := xml.Marshal(xmlError{name, kind, e.code, e.message, id})
	if err != nil {
		panic(err)
	}
	return awsAnswer{status: e.status, requestID: id, body: body}
}

func (c *awsCall) requestID() string {
	r := c.w.Random("request", c.action+" "+c.resource)
	hi, lo := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}

// authenticate finds out who signed the call.
func (c *awsCall) authenticate(service string) error {
	credential, signed := strings.CutPrefix(c.authorization, "AWS4-HMAC-SHA256 Credential=")
	credential, _, _ = strings.Cut(credential, ",")
	scope := strings.Split(credential, "/") // key, date, Region, service, "aws4_request"
	if !signed || len(scope) != 5 || scope[4] != "aws4_request" {
		return &apiError{403, "MissingAuthenticationToken", "Request is missing Authentication Token"}
	}
	ids := &c.w.aws.iam
	if s, ok := ids.sessions[scope[0]]; ok && s.token == c.token {
		c.caller = s
	} else if scope[0] == AccessKeyID {
		c.caller = iamSession{arn: "arn:aws:iam::" + AccountID + ":user/simulated"}
	} else {
		return &apiError{403, "InvalidClientTokenId", "The security token included in the request is invalid."}
	}
	if scope[2] != Region {
		return &apiError{403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region."}
	}
	if scope[3] != service {
		return &apiError{403, "SignatureDoesNotMatch", fmt.Sprintf("Credential should be scoped to correct service: '%s'.", service)}
	}
	if ids.expired || c.caller.role != "" && c.w.Present() >= c.caller.until {
		return &apiError{403, "ExpiredToken", "The security token included in the request is expired"}
	}
	return nil
}

func (c *awsCall) denied(action, resource string) error {
	return &apiError{403, "AccessDenied",
		fmt.Sprintf("User: %s is not authorized to perform: %s on resource: %s", c.caller.arn, action, resource)}
}

func invalid(format string, args ...any) error {
	return &apiError{400, "ValidationError", fmt.Sprintf(format, args...)}
}

func missing(member string) error {
	return invalid("1 validation error detected: Value null at '%s' failed to satisfy constraint: Member must not be null", member)
}

// list reads name.member.1, name.member.2 and so on.
func (c *awsCall) list(name string) []string {
	var vs []string
	for {
		v := c.form.Get(name + ".member." + strconv.Itoa(len(vs)+1))
		if v == "" {
			return vs
		}
		vs = append(vs, v)
	}
}

// number reads a number between low and high, or the fallback where there is none.
func (c *awsCall) number(name string, low, high, fallback int) (int, error) {
	v := c.form.Get(name)
	if v == "" {
		return fallback, nil
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		return 0, invalid("Value '%s' at '%s' failed to satisfy constraint: Member must have value between %d and %d", v, name, low, high)
	}
	return n, nil
}

// page cuts the page that Marker and PageSize ask for out of all results. A
// marker is the index of the first result of a page.
func page[T any](c *awsCall, all []T) (results []T, next string, err error) {
	size, err := c.number("PageSize", 1, 400, 400)
	if err != nil {
		return nil, "", err
	}
	from, err := c.number("Marker", 0, len(all), 0)
	if err != nil {
		return nil, "", err
	}
	to := min(from+size, len(all))
	if to < len(all) {
		next = strconv.Itoa(to)
	}
	return all[from:to], next, nil
}

type xmlAssumedRole struct {
	Arn             string `xml:"AssumedRoleUser>Arn"`
	AssumedRoleId   string `xml:"AssumedRoleUser>AssumedRoleId"`
	AccessKeyId     string `xml:"Credentials>AccessKeyId"`
	SecretAccessKey string `xml:"Credentials>SecretAccessKey"`
	SessionToken    string `xml:"Credentials>SessionToken"`
	Expiration      string `xml:"Credentials>Expiration"`
}

func (c *awsCall) assumeRole() (any, error) {
	role, name := c.form.Get("RoleArn"), c.form.Get("RoleSessionName")
	if role == "" {
		return nil, missing("roleArn")
	}
	if name == "" {
		return nil, missing("roleSessionName")
	}
	seconds, err := c.number("DurationSeconds", 900, 43200, 3600)
	if err != nil {
		return nil, err
	}
	ids := &c.w.aws.iam
	if externalID, known := ids.roles[role]; !known || externalID != c.form.Get("ExternalId") {
		return nil, c.denied("sts:AssumeRole", role)
	}
	n := len(ids.sessions) + 1
	key := fmt.Sprintf("ASIDSIMULATED%d", n)
	s := iamSession{
		role:  role,
		arn:   fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", AccountID, role[strings.LastIndex(role, "/")+1:], name),
		token: fmt.Sprintf("simulated-session-%d", n),
		until: c.w.Present() + time.Duration(seconds)*time.Second,
	}
	ids.sessions[key] = s
	return xmlAssumedRole{
		Arn: s.arn, AssumedRoleId: "AROASIMULATED:" + name,
		AccessKeyId: key, SecretAccessKey: SecretAccessKey, SessionToken: s.token, Expiration: awsTime(c.w.Wall(s.until)),
	}, nil
}

func (c *awsCall) getCallerIdentity() (any, error) {
	return struct{ Arn, UserId, Account string }{c.caller.arn, "AIDASIMULATED", AccountID}, nil
}

func awsTime(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05.000Z") }
