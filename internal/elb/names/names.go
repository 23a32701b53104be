// Package names reads what ARNs and host names tell of where load balancers are.
package names

import (
	"regexp"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// Region is the Region in an ARN, or "" where it has none or something that cannot be
// one: anybody may have written the ARN.
func Region(name string) string {
	if a, err := arn.Parse(name); err == nil && isRegion(a.Region) {
		return a.Region
	}
	return ""
}

// isRegion says whether something can be the name of a Region, such as "us-gov-west-1".
func isRegion(s string) bool { return len(s) < 64 && regionForm.MatchString(s) }

var regionForm = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// OfHostname finds the Region and the name of a load balancer in its host
// name, which has one of two forms, with a domain of AWS in place of the last two labels:
//
//	[internal-]<name>-<id>.<region>.elb.amazonaws.com   (ALB)
//	<name>-<id>.elb.<region>.amazonaws.com              (NLB)
//
// A name never begins with "internal-"; see CreateLoadBalancer in the API
// reference of ELBv2. Both are empty where the host name has another form.
func OfHostname(hostname string) (region, name string) {
	m := balancerHostname.FindStringSubmatch(hostname)
	if m == nil || !isRegion(m[2]+m[3]) {
		return "", ""
	}
	return m[2] + m[3], m[1]
}

// balancerHostname ends in the domains of AWS: see internal/endpoints/awsrulesfn/partitions.json
// of its SDK.
var balancerHostname = regexp.MustCompile(`^(?:internal-)?(?:([^.]*)-)?[^.-]*\.(?:([^.]+)\.elb|elb\.([^.]+))\.` +
	`(?:amazonaws\.com|amazonaws\.com\.cn|amazonaws\.eu|c2s\.ic\.gov|sc2s\.sgov\.gov|cloud\.adc-e\.uk|csp\.hci\.ic\.gov)$`)
