package elb

import (
	"cmp"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
)

// access is what tells two clients apart.
type access struct{ region, roleARN, externalID string }

// Clients makes the ELBv2 clients of a [Watcher] from cfg, one for each Region and
// role. The Region of a call is region, or if that is empty the one in the group's ARN,
// or else that of cfg. The HTTP client of cfg should have a time-out: nothing else ends
// a try to get credentials, for which all calls wait, if nobody answers.
func Clients(cfg aws.Config, region string) func(Group) API {
	cfg = cfg.Copy()
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = awshttp.NewBuildableClient()
	}
	cfg.HTTPClient = limited{cfg.HTTPClient}
	if cfg.Credentials != nil {
		cfg.Credentials = newCredentialSource(cfg.Credentials)
	}
	var mu sync.Mutex // guards clients
	clients := make(map[access]API)
	return func(g Group) API {
		a := access{cmp.Or(region, g.Region(), cfg.Region), g.RoleARN, g.ExternalID}
		mu.Lock()
		defer mu.Unlock()
		if clients[a] == nil {
			clients[a] = newClient(cfg.Copy(), a)
		}
		return clients[a]
	}
}

func newClient(cfg aws.Config, a access) API {
	cfg.Region = a.region
	if a.roleARN != "" {
		role := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(cfg), a.roleARN, func(o *stscreds.AssumeRoleOptions) {
			o.RoleSessionName = "drain-wait"
			if a.externalID != "" {
				o.ExternalID = &a.externalID
			}
		})
		hint := fmt.Sprintf("may the service assume %s? see the role's trust policy and external ID, and sts:AssumeRole of the service's own role", a.roleARN)
		cfg.Credentials = aws.NewCredentialsCache(credentialSource{CredentialsProvider: role, hint: hint}, func(o *aws.CredentialsCacheOptions) {
			o.ExpiryWindow = 30 * time.Second // so that they do not expire during a call
		})
	}
	// One request is one token of the rate budget, so the SDK may not retry by
	// itself; the next look of the poller is the retry.
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return elbv2.NewFromConfig(cfg)
}

// maxAnswer is how many bytes of an answer are read at most. A group holds up to
// 3,000 targets (see the quotas of Network Load Balancers), at some 400 bytes each.
const maxAnswer = 8 << 20

// limited is an HTTP client that fails to read more than maxAnswer bytes of an
// answer.
type limited struct{ aws.HTTPClient }

// Do implements [aws.HTTPClient].
func (c limited) Do(r *http.Request) (*http.Response, error) {
	resp, err := c.HTTPClient.Do(r)
	if err == nil {
		resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
	}
	return resp, err
}
