package elb

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// credentialsTimeout ends a try to get credentials. The SDK's cache makes one try
// for all callers, without their deadlines: without this one it could hang for good.
const credentialsTimeout = 10 * time.Second

// credentialSource is where credentials come from. It marks the errors that another
// try would not cure: no credentials, or a role that may not be assumed.
type credentialSource struct {
	aws.CredentialsProvider
	hint string
	// lastResort says that the SDK asks the metadata service of the machine, as it
	// does when nothing else is configured. Pods can mostly not reach that, so
	// that no answer means no credentials.
	lastResort bool
}

func newCredentialSource(p aws.CredentialsProvider) credentialSource {
	s := credentialSource{CredentialsProvider: p, hint: checkCredentials}
	if from, ok := p.(aws.CredentialProviderSource); ok {
		s.lastResort = slices.Contains(from.ProviderSources(), aws.CredentialSourceIMDS)
	}
	return s
}

// Retrieve implements [aws.CredentialsProvider].
func (s credentialSource) Retrieve(ctx context.Context) (aws.Credentials, error) {
	ctx, cancel := context.WithTimeout(ctx, credentialsTimeout)
	defer cancel()
	c, err := s.CredentialsProvider.Retrieve(ctx)
	if _, known := errors.AsType[*credentialError](err); err == nil || known {
		return c, err
	}
	kind := errNoCredentials
	if s.passes(err) {
		kind = errNoCredentialsNow
	}
	return c, &credentialError{err, kind, s.hint}
}

var (
	errNoCredentials    = fmt.Errorf("%w: no credentials", ErrRefused)
	errNoCredentialsNow = errors.New("no credentials for now")
)

// credentialError is why there are no credentials.
type credentialError struct {
	error // in the words of the source, for the log
	kind  error
	hint  string
}

// Unwrap gives access to both.
func (e *credentialError) Unwrap() []error { return []error{e.error, e.kind} }

// passes says whether a later try may get credentials: if the service that hands
// them out fails or cannot be reached, or if what we show to it has expired and will
// be renewed. An error that no service gave says that there is nobody to ask.
func (s credentialSource) passes(err error) bool {
	if errors.Is(err, context.Canceled) {
		return true
	}
	answered, ok := errors.AsType[interface {
		error
		HTTPStatusCode() int
	}](err)
	if ok && answered.HTTPStatusCode() > 0 {
		status, code := answered.HTTPStatusCode(), errorCode(err)
		return status >= 500 || status == http.StatusTooManyRequests || throttled(err) ||
			strings.Contains(code, "Expired") || code == "IDPCommunicationError"
	}
	_, unsent := errors.AsType[*smithyhttp.RequestSendError](err)
	return (unsent || errorCode(err) == "timeout") && !s.lastResort
}
