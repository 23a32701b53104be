package names

import "testing"

// TestRegion: anybody may have written the ARN. What can be no Region is none.
func TestRegion(t *testing.T) {
	for name, want := range map[string]string{
		"arn:aws:elasticloadbalancing:us-gov-west-1:1:targetgroup/web/1": "us-gov-west-1",
		"arn:aws:elasticloadbalancing:example.com/?:1:targetgroup/web/1": "",
		"arn:aws:elasticloadbalancing::1:targetgroup/web/1":              "",
		"web": "",
	} {
		if got := Region(name); got != want {
			t.Errorf("%s is of Region %q, want %q", name, got, want)
		}
	}
}

func TestSplitHostname(t *testing.T) {
	for hostname, want := range map[string][2]string{
		"k8s-a-b-0a1b2c-123.eu-west-1.elb.amazonaws.com":           {"eu-west-1", "k8s-a-b-0a1b2c"},
		"internal-k8s-a-b-123.eu-west-1.elb.amazonaws.com":         {"eu-west-1", "k8s-a-b"},
		"k8s-a-b-0123456789abcdef.elb.us-gov-west-1.amazonaws.com": {"us-gov-west-1", "k8s-a-b"},
		"web-1.cn-north-1.elb.amazonaws.com.cn":                    {"cn-north-1", "web"},
		"web-1.elb.cn-northwest-1.amazonaws.com.cn":                {"cn-northwest-1", "web"},
		"web.us-east-1.elb.amazonaws.com":                          {"us-east-1", ""},
		"a1234567890.awsglobalaccelerator.com":                     {"", ""},
		"a.b.c.example.com":                                        {"", ""},
		"web-1.elb.us-iso-east-1.c2s.ic.gov":                       {"us-iso-east-1", "web"},
		"web-1.internal.elb.example.com":                           {"", ""},
		"web-1.us_east/.elb.amazonaws.com":                         {"", ""},
		"":                                                         {"", ""},
	} {
		if region, name := OfHostname(hostname); region != want[0] || name != want[1] {
			t.Errorf("%q is of Region %q and name %q, want %q", hostname, region, name, want)
		}
	}
}
