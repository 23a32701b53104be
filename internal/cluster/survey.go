package cluster

import (
	"context"
	"errors"
	"iter"
	"net/netip"
	"time"
)

// Who names the pod of a wait.
type Who struct {
	Namespace, Pod string
	IP             netip.Addr
	// Inferred says that IP is the caller's address, not one that it named.
	Inferred bool
	// Source is who asks: live searches go by source in turn.
	Source netip.Addr
}

// ErrDisagree: the pod that is named does not have the address that is named.
var ErrDisagree = errors.New("the pod does not have this address")

// Survey is what there is to follow for a pod.
type Survey struct {
	Candidates       []Candidate
	Hostnames        []Hostname
	NoAddress        []string
	MissingIngresses []string
	Forgotten        bool
}

// Survey is in the making.
func (x *Index) Survey(p *Pod, ingresses []string) Survey {
	var s Survey
	s.Candidates = x.Candidates(p)
	s.Hostnames, s.NoAddress = x.hostnames(p.Namespace, p)
	for _, name := range ingresses {
		if !x.HasIngress(p.Namespace, name) {
			s.MissingIngresses = append(s.MissingIngresses, name)
		}
	}
	return s
}

// Identify is in the making.
func (x *Index) Identify(_ context.Context, w Who) (*Pod, error) {
	if w.Pod != "" {
		if p := x.Pod(w.Namespace, w.Pod); p != nil {
			return p, nil
		}
		return nil, ErrNoPod
	}
	return x.PodAt(w.IP, w.Namespace)
}

// Address stands for an address of a namespace that no pod has.
func (x *Index) Address(namespace string, ip netip.Addr) *Pod {
	return &Pod{Namespace: namespace, IPs: []netip.Addr{ip.Unmap()}, Older: true}
}

// Refresh is in the making.
func (x *Index) Refresh(p *Pod) *Pod {
	if q := x.Pod(p.Namespace, p.Name); q != nil && q.UID == p.UID {
		return q
	}
	return p
}

// Lists is in the making.
func (x *Index) Lists(_ string, _ time.Time, _ bool, _ chan<- struct{}) (known bool, err error) {
	return true, nil
}

// Swept is in the making.
func (x *Index) Swept(_ Binding, _ time.Time, _ iter.Seq2[netip.Addr, bool]) {}

// Unswept is in the making.
func (x *Index) Unswept() []Candidate { return nil }

// Synced says whether everything was read once.
func (x *Index) Synced() bool { return x.synced.Load() }

// WatchAge is in the making.
func (x *Index) WatchAge() time.Duration { return 0 }
