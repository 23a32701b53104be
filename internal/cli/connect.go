package cli

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/spf13/pflag"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

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
	durationVar(f, &o.Drain.SettleALB, "settle-alb", o.Drain.SettleALB, "how long a target may still get new requests after it has left an ALB's target group")
	durationVar(f, &o.Drain.SettleNLB, "settle-nlb", o.Drain.SettleNLB, "how long a target may still get new connections after it has left an NLB's target group")
	durationVar(f, &o.Drain.MaxDelay, "default-max-delay", o.Drain.MaxDelay, "budget of a wait if the hook names none and the pod is not known")
	f.Float64Var(&o.ELB.Rate, "aws-rate", o.ELB.Rate, "most requests per second to ELBv2, for all replicas together; the AWS Load Balancer Controller shares the account's limit")
	f.IntVar(&o.ELB.Burst, "aws-burst", o.ELB.Burst, "most requests to ELBv2 at once, for all replicas together")
}

func (o *serviceOptions) validate() error {
	switch {
	case o.Drain.SettleALB < 0:
		return errors.New("--settle-alb: want 0 or more")
	case o.Drain.SettleNLB < 0:
		return errors.New("--settle-nlb: want 0 or more")
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
	if o.AWS, err = loadAWS(ctx, o.awsProfile, o.Region); err != nil {
		return err
	}
	if o.Kubernetes, err = loadKubernetes(o.kubeconfig); err != nil {
		return err
	}
	o.Kubernetes.UserAgent = "drain-wait/" + o.Version
	return nil
}

// awsTimeout ends any request to AWS. It is longer than the time-out of a look at a
// target group.
const awsTimeout = 10 * time.Second

func loadAWS(ctx context.Context, profile, region string) (aws.Config, error) {
	// The SDK fetches credentials without a deadline. Without this one, a silent STS
	// would block all calls for ever.
	opts := []func(*awsconfig.LoadOptions) error{
		awsconfig.WithHTTPClient(awshttp.NewBuildableClient().WithTimeout(awsTimeout)),
	}
	if profile != "" {
		opts = append(opts, awsconfig.WithSharedConfigProfile(profile))
	}
	if region != "" {
		opts = append(opts, awsconfig.WithRegion(region))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, opts...)
	if err != nil {
		return aws.Config{}, fmt.Errorf("load AWS configuration: %w (check --aws-profile)", err)
	}
	return cfg, nil
}

// loadKubernetes finds the cluster as kubectl does, or the cluster that we run in.
func loadKubernetes(kubeconfig string) (*rest.Config, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = kubeconfig
	cfg, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, nil).ClientConfig()
	switch {
	case clientcmd.IsEmptyConfig(err):
		return nil, errors.New("no cluster found: give --kubeconfig FILE or run in a pod; " +
			"if you have no cluster, `drain-wait demo` shows what this does, and `drain-wait serve --simulate` serves a simulated one")
	case err != nil:
		return nil, fmt.Errorf("load kubeconfig: %w", err)
	}
	return cfg, nil
}
