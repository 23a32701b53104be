package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go/middleware"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/tools/clientcmd"

	"drainwait/internal/api"
	"drainwait/internal/elb"
	"drainwait/internal/service"
)

// serviceOptions are the flags of every command that watches a cluster and an
// AWS account.
type serviceOptions struct {
	service.Config
	awsProfile string
	kubeconfig string
}

func (o *serviceOptions) register(f *pflag.FlagSet, b build) {
	o.Config = service.DefaultConfig()
	o.Version = b.version
	f.StringVar(&o.awsProfile, "aws-profile", "", "profile in the AWS configuration files (default: the SDK's own search, which includes IRSA and Pod Identity)")
	f.StringVar(&o.Region, "aws-region", "", "AWS Region of the load balancers (default: the one in each target group's ARN)")
	f.StringVar(&o.kubeconfig, "kubeconfig", "", "path of a kubeconfig (default: $KUBECONFIG, ~/.kube/config, or the service account in a pod)")
	f.StringSliceVar(&o.Namespaces, "namespaces", nil, "namespaces to serve, separated by commas (default: all)")
	f.Var((*api.Duration)(&o.Drain.SettleALB), "settle-alb", "how long a target may still get new requests after it has left an ALB's target group")
	f.Var((*api.Duration)(&o.Drain.SettleNLB), "settle-nlb", "how long a target may still get new connections after it has left an NLB's target group")
	f.Var((*api.Duration)(&o.Drain.MaxDelay), "default-max-delay", "budget of a wait if the hook names none and the pod is not known")
	f.Float64Var(&o.ELB.Rate, "aws-rate", o.ELB.Rate, "most requests per second to ELBv2, for all replicas together; the AWS Load Balancer Controller shares the account's limit")
	f.IntVar(&o.ELB.Burst, "aws-burst", o.ELB.Burst, "most requests to ELBv2 at once, for all replicas together")
}

func (o *serviceOptions) validate() error {
	switch {
	case o.Drain.MaxDelay <= 0:
		return errors.New("--default-max-delay: want more than 0")
	case o.ELB.Rate <= 0:
		return errors.New("--aws-rate: want more than 0 requests per second")
	case o.ELB.Burst < 1:
		return errors.New("--aws-burst: want 1 or more")
	}
	for _, n := range o.Namespaces {
		if err := checkName(n); err != nil {
			return fmt.Errorf("--namespaces: %w", err)
		}
	}
	return nil
}

// checkName refuses a name that no namespace and no Service can have.
func checkName(name string) error {
	if wrong := validation.IsDNS1123Label(name); len(wrong) > 0 {
		return fmt.Errorf("%q cannot be a name: %s", name, wrong[0])
	}
	return nil
}

// connect makes the clients of the cluster and of the account that the flags name.
func (o *serviceOptions) connect(ctx context.Context) (err error) {
	// The SDK fetches credentials without a deadline: without this time-out, which is longer
	// than the one of the looks, a silent STS would block all calls for ever.
	client := awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(10 * time.Second))
	limit := awsconfig.WithAPIOptions([]func(*middleware.Stack) error{elb.LimitAnswers})
	o.AWS, err = awsconfig.LoadDefaultConfig(ctx, client, limit, awsconfig.WithSharedConfigProfile(o.awsProfile), awsconfig.WithRegion(o.Region))
	if err != nil {
		return fmt.Errorf("load AWS configuration: %w (check --aws-profile)", err)
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules() // as kubectl, and the cluster that we run in
	rules.ExplicitPath = o.kubeconfig
	o.Kubernetes, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return errors.New("no cluster found: give --kubeconfig FILE or run in a pod; " +
			"without a cluster, `drain-wait demo` shows what this does and `drain-wait serve --simulate` serves a simulated one")
	case err != nil:
		return fmt.Errorf("load kubeconfig: %w", err)
	}
	o.Kubernetes.UserAgent = "drain-wait/" + o.Version
	return nil
}
