package elb

import (
	"cmp"
	"context"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	elbv2 "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// access is what tells two clients apart.
type access struct{ region, roleARN, externalID string }

// Clients makes the ELBv2 clients of a [Watcher] from cfg, one for each Region and
// role. The Region of a call is region, or if that is empty the one in the group's ARN,
// or else that of cfg. The HTTP client of cfg should have a time-out: nothing else ends
// a try to get credentials, for which all calls wait, if nobody answers.
func Clients(cfg aws.Config, region string) func(Group) API {
	cfg = cfg.Copy()
	cfg.APIOptions = append(slices.Clip(cfg.APIOptions), LimitAnswers)
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
			if len(clients) >= maxAnswers { // anybody can name roles in bindings
				clear(clients)
			}
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
		cfg.Credentials = aws.NewCredentialsCache(credentialSource{CredentialsProvider: role, hint: checkRole}, func(o *aws.CredentialsCacheOptions) {
			o.ExpiryWindow = 30 * time.Second // so that they do not expire during a call
		})
	}
	// One request is one token of the rate budget, so the SDK may not retry by
	// itself; the next look of the poller is the retry.
	cfg.Retryer = func() aws.Retryer { return aws.NopRetryer{} }
	return elbv2.NewFromConfig(cfg)
}

// maxAnswer is how many bytes of an answer are read at most. The largest that AWS can give
// is the list of a group of 3,000 targets (see the quotas of Network Load Balancers), of
// some 400 bytes each: 1.2 MB.
const maxAnswer = 8 << 20

// LimitAnswers is an API option of the SDK, for all clients that we make or that get
// credentials for us: they fail to read more than maxAnswer bytes of an answer.
func LimitAnswers(s *middleware.Stack) error {
	const id = "drainwait:LimitAnswers"
	if _, limited := s.Deserialize.Get(id); limited {
		return nil
	}
	return s.Deserialize.Add(middleware.DeserializeMiddlewareFunc(id, func(ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, metadata, err := next.HandleDeserialize(ctx, in)
		if resp, ok := out.RawResponse.(*smithyhttp.Response); ok && resp.Body != nil {
			resp.Body = http.MaxBytesReader(nil, resp.Body, maxAnswer)
		}
		return out, metadata, err
	}), middleware.After)
}
