package main

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	networkingv1 "k8s.io/api/networking/v1"
)

// TestNetworkPolicy checks who reaches which port of the pods, and what they reach.
func TestNetworkPolicy(t *testing.T) {
	type of = map[string]any
	const anyone, anything = "hooks from/to any", "any from/to any"
	agent := "80 from/to 169.254.170.23/32 fd00:ec2::23/128"
	for name, c := range map[string]struct {
		values          of
		ingress, egress []string
	}{
		"default": {
			nil,
			[]string{"admin from/to any", anyone},
			[]string{anything},
		},
		"fullest": {
			readValues(t, "ci/full-values.yaml"),
			[]string{"admin from/to 10.0.0.0/16 drain-wait-blue fd00:1::/64 monitoring", anyone},
			[]string{"443 from/to 10.1.0.0/16", "53 from/to any", "53/UDP from/to any", "6443 from/to 10.0.0.0/16 fd00:1::/64", agent},
		},
		"only egress": {
			of{"networkPolicy": of{"restrictEgress": true}},
			[]string{"admin from/to any", anyone},
			[]string{"443 from/to any", "443 from/to any", "53 from/to any", "53/UDP from/to any", agent},
		},
	} {
		t.Run(name, func(t *testing.T) {
			spec := the[*networkingv1.NetworkPolicy](t, newForm(t, c.values)).Spec
			var ingress, egress []string
			for _, r := range spec.Ingress {
				ingress = append(ingress, paths(r.Ports, r.From)...)
			}
			for _, r := range spec.Egress {
				egress = append(egress, paths(r.Ports, r.To)...)
			}
			slices.Sort(ingress)
			slices.Sort(egress)
			if diff := cmp.Diff(c.ingress, ingress); diff != "" {
				t.Errorf("ingress (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.egress, egress); diff != "" {
				t.Errorf("egress (-want +got):\n%s", diff)
			}
		})
	}
}

// paths are the ports of a rule, each with the peers.
func paths(ports []networkingv1.NetworkPolicyPort, peers []networkingv1.NetworkPolicyPeer) (out []string) {
	who := []string{}
	for _, p := range peers {
		switch {
		case p.IPBlock != nil:
			who = append(who, p.IPBlock.CIDR)
		case p.NamespaceSelector != nil:
			who = append(who, p.NamespaceSelector.MatchLabels["kubernetes.io/metadata.name"])
		default:
			who = append(who, p.PodSelector.MatchLabels["app.kubernetes.io/name"])
		}
	}
	slices.Sort(who)
	if len(who) == 0 {
		who = []string{"any"}
	}
	if len(ports) == 0 {
		return []string{"any from/to " + strings.Join(who, " ")}
	}
	for _, p := range ports {
		name := p.Port.String()
		if p.Protocol != nil && *p.Protocol != "TCP" {
			name = fmt.Sprintf("%s/%s", name, *p.Protocol)
		}
		out = append(out, name+" from/to "+strings.Join(who, " "))
	}
	return out
}
