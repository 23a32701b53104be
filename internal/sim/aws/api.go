package aws

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"drainwait/internal/sim/aws/query"
	"drainwait/internal/sim/timeline"
)

// The key of the account's own user. It opens nothing but a simulated world.
const (
	AccessKeyID     = "AKIDSIMULATED"
	SecretAccessKey = "simulated-and-good-for-nothing"
)

// iam says who may call the API, and what they may see.
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

// AddRole makes a role. Whoever knows its external ID, which may be empty, may assume
// it.
func (a *Account) AddRole(arn, externalID string) { a.iam.roles[arn] = externalID }

// RequireRole gives a target group to a role. With any other credentials, calls about
// the group are denied, and lists do not show it.
func (a *Account) RequireRole(groupARN, roleARN string) { a.iam.owners[groupARN] = roleARN }

// ExpireCredentials decides whether all credentials count as expired.
func (a *Account) ExpireCredentials(on bool) { a.iam.expired = on }

// service is one AWS API that speaks the Query protocol.
type service struct {
	name      string // as in the scope of a signature
	version   string
	namespace string // of its XML
}

var (
	elbService = service{"elasticloadbalancing", "2015-12-01", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"}
	stsService = service{"sts", "2011-06-15", "https://sts.amazonaws.com/doc/2011-06-15/"}
)

type operation struct {
	service service
	bucket  func(*Account) *Bucket // what pays for a call
	run     func(*call) (any, error)
}

var operations = map[string]operation{
	"DescribeTargetHealth":  {elbService, describeBucket, (*call).describeTargetHealth},
	"DescribeTargetGroups":  {elbService, describeBucket, (*call).describeTargetGroups},
	"DescribeLoadBalancers": {elbService, describeBucket, (*call).describeLoadBalancers},
	"RegisterTargets":       {elbService, mutateBucket, (*call).registerTargets},
	"DeregisterTargets":     {elbService, mutateBucket, (*call).deregisterTargets},
	"AssumeRole":            {stsService, unlimited, (*call).assumeRole},
	"GetCallerIdentity":     {stsService, unlimited, (*call).getCallerIdentity},
}

func describeBucket(a *Account) *Bucket { return &a.describe }
func mutateBucket(a *Account) *Bucket   { return &a.mutate }
func unlimited(*Account) *Bucket        { return nil }

// Handler is the HTTP API of the account: the Query APIs of ELBv2 and STS, as far as
// drain-wait and LBC need them. It wants signed requests, but does not check the
// signature itself.
func (a *Account) Handler() http.Handler { return http.HandlerFunc(a.serve) }

func (a *Account) serve(rw http.ResponseWriter, r *http.Request) {
	_ = r.ParseForm() // if it cannot be read, it is missing, and the operation says so
	c := &call{
		a:             a,
		form:          query.Form{Values: r.Form},
		authorization: r.Header.Get("Authorization"),
		token:         r.Header.Get("X-Amz-Security-Token"),
	}
	c.action, c.resource = c.form.Get("Action"), c.subject()
	var got answer
	err := a.line.Exchange(r.Context(), c.action+" "+c.resource, a.Assumptions.APILatency, func() { got = c.answer() })
	if err == nil && got.hang {
		err = a.hang(r.Context())
	}
	if err != nil {
		// The caller is gone, or the world is closed. An empty 200 would read
		// as an empty list.
		http.Error(rw, err.Error(), http.StatusServiceUnavailable)
		return
	}
	h := rw.Header()
	h.Set("Content-Type", cmp.Or(got.contentType, "text/xml"))
	h.Set("X-Amzn-RequestId", got.requestID)
	h.Set("Date", time.Now().UTC().Format(http.TimeFormat)) // a recorder sets none, and the SDK measures clock skew by it
	rw.WriteHeader(got.status)
	_, _ = rw.Write(got.body)
}

func (a *Account) hang(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-a.line.Lifetime().Done():
		return timeline.ErrClosed
	}
}

// call is one request to the API. From answer on, the world's owner works on it, maybe
// after the HTTP handler has given up. So the call holds a copy of what it needs from
// the HTTP request.
type call struct {
	a                    *Account
	form                 query.Form
	authorization, token string
	action               string
	resource             string     // the first ARN or name that the call is about
	caller               iamSession // who signed it
}

// subject is what the call is about.
func (c *call) subject() string {
	for _, p := range []string{
		"TargetGroupArn", "TargetGroupArns.member.1", "LoadBalancerArn", "LoadBalancerArns.member.1", "Names.member.1", "RoleArn",
	} {
		if v := c.form.Get(p); v != "" {
			return v
		}
	}
	return ""
}

type answer struct {
	status    int
	requestID string
	body      []byte
	// If empty, text/xml.
	contentType string
	hang        bool // never answer
}

var errHang = &query.Error{Code: "Hang"}

// answer carries the call out, renders the result and counts it. Like everything below,
// it is for the owner of the world.
func (c *call) answer() answer {
	fault, result, err := c.run()
	if fault != nil && fault.Garble != nil {
		c.a.calls[c.action+" Garbled"]++
		return c.garbled(fault, result, err)
	}
	if err == nil {
		c.a.calls[c.action+" OK"]++
		return c.success(result)
	}
	e := query.AsError(err)
	c.a.calls[c.action+" "+e.Code]++
	if e == errHang {
		return answer{hang: true}
	}
	return c.failure(e)
}

// garbled is what a fault makes of the answer that the call would have had.
func (c *call) garbled(f *Fault, result any, err error) answer {
	var a answer
	if err == nil {
		a = c.success(result)
	} else {
		a = c.failure(query.AsError(err))
	}
	a.status, a.body, a.contentType = cmp.Or(f.Status, http.StatusOK), f.Garble(a.body), f.ContentType
	return a
}

// run carries the call out. It also returns the fault for this call, if any.
func (c *call) run() (*Fault, any, error) {
	op, known := operations[c.action]
	if !known || op.service.version != c.form.Get("Version") {
		return nil, nil, query.Errorf(400, "InvalidAction",
			"Could not find operation %s for version %s", c.action, c.form.Get("Version"))
	}
	if err := c.authenticate(op.service.name); err != nil {
		return nil, nil, err
	}
	var f *Fault
	if ask := c.a.fault; ask != nil {
		f = ask(c.action, c.resource)
	}
	switch {
	case f == nil, f.Garble != nil:
	case f.Hang:
		return f, nil, errHang
	default:
		return f, nil, &query.Error{Status: f.Status, Code: f.Code, Message: f.Message}
	}
	if b := op.bucket(c.a); b != nil && !b.Take(c.a.line.Present()) {
		return f, nil, errThrottled
	}
	result, err := op.run(c)
	return f, result, err
}

func (c *call) success(result any) answer {
	id := c.requestID()
	return answer{status: http.StatusOK, requestID: id, body: query.Success(c.action, operations[c.action].service.namespace, id, result)}
}

func (c *call) failure(e *query.Error) answer {
	id := c.requestID()
	return answer{status: e.Status, requestID: id, body: query.Failure(e, operations[c.action].service.namespace, id)}
}

func (c *call) requestID() string {
	r := c.a.line.Random("request", c.action+" "+c.resource)
	hi, lo := r.Uint64(), r.Uint64()
	return fmt.Sprintf("%08x-%04x-%04x-%04x-%012x", hi>>32, hi>>16&0xffff, hi&0xffff, lo>>48, lo&0xffffffffffff)
}

// authenticate finds out who signed the call.
func (c *call) authenticate(service string) error {
	credential, signed := strings.CutPrefix(c.authorization, "AWS4-HMAC-SHA256 Credential=")
	credential, _, _ = strings.Cut(credential, ",")
	scope := strings.Split(credential, "/") // key, date, Region, service, "aws4_request"
	if !signed || len(scope) != 5 || scope[4] != "aws4_request" {
		return query.Errorf(403, "MissingAuthenticationToken", "Request is missing Authentication Token")
	}
	ids := &c.a.iam
	if s, ok := ids.sessions[scope[0]]; ok && s.token == c.token {
		c.caller = s
	} else if scope[0] == AccessKeyID {
		c.caller = iamSession{arn: "arn:aws:iam::" + AccountID + ":user/simulated"}
	} else {
		return query.Errorf(403, "InvalidClientTokenId", "The security token included in the request is invalid.")
	}
	if scope[2] != Region {
		return query.Errorf(403, "SignatureDoesNotMatch", "Credential should be scoped to a valid region.")
	}
	if scope[3] != service {
		return query.Errorf(403, "SignatureDoesNotMatch", "Credential should be scoped to correct service: '%s'.", service)
	}
	if ids.expired || c.caller.role != "" && c.a.line.Present() >= c.caller.until {
		return query.Errorf(403, "ExpiredToken", "The security token included in the request is expired")
	}
	return nil
}

func (c *call) denied(action, resource string) error {
	return query.Errorf(403, "AccessDenied",
		"User: %s is not authorized to perform: %s on resource: %s", c.caller.arn, action, resource)
}

type xmlAssumedRole struct {
	Arn             string `xml:"AssumedRoleUser>Arn"`
	AssumedRoleId   string `xml:"AssumedRoleUser>AssumedRoleId"`
	AccessKeyId     string `xml:"Credentials>AccessKeyId"`
	SecretAccessKey string `xml:"Credentials>SecretAccessKey"`
	SessionToken    string `xml:"Credentials>SessionToken"`
	Expiration      string `xml:"Credentials>Expiration"`
}

func (c *call) assumeRole() (any, error) {
	role, name := c.form.Get("RoleArn"), c.form.Get("RoleSessionName")
	if role == "" {
		return nil, query.Missing("roleArn")
	}
	if name == "" {
		return nil, query.Missing("roleSessionName")
	}
	seconds, err := c.form.Number("DurationSeconds", 900, 43200, 3600)
	if err != nil {
		return nil, err
	}
	ids := &c.a.iam
	if externalID, known := ids.roles[role]; !known || externalID != c.form.Get("ExternalId") {
		return nil, c.denied("sts:AssumeRole", role)
	}
	n := len(ids.sessions) + 1
	key := fmt.Sprintf("ASIDSIMULATED%d", n)
	s := iamSession{
		role:  role,
		arn:   fmt.Sprintf("arn:aws:sts::%s:assumed-role/%s/%s", AccountID, role[strings.LastIndex(role, "/")+1:], name),
		token: fmt.Sprintf("simulated-session-%d", n),
		until: c.a.line.Present() + time.Duration(seconds)*time.Second,
	}
	ids.sessions[key] = s
	return xmlAssumedRole{
		Arn: s.arn, AssumedRoleId: "AROASIMULATED:" + name,
		AccessKeyId: key, SecretAccessKey: SecretAccessKey, SessionToken: s.token, Expiration: query.Time(c.a.line.Wall(s.until)),
	}, nil
}

func (c *call) getCallerIdentity() (any, error) {
	return struct{ Arn, UserId, Account string }{c.caller.arn, "AIDASIMULATED", AccountID}, nil
}
