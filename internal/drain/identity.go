package drain

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"drainwait/internal/cluster"
)

// cure is what a caller can do whose pod is not known.
const cure = "name the pod with ip=, or with pod= and namespace="

// aboutPod is the key of errors of reading the pod.
const aboutPod = "pod"

// identify begins with the pod that the cache shows, and asks the API server which
// one it really is: by now another pod can have the name or the address.
func (w *wait) identify() {
	r := w.request
	if r.Forwarded && r.Inferred && r.Pod == "" {
		w.unknown = fmt.Errorf("%w: the call came through a proxy, so the caller's address is not the pod's; %s", ErrNotFound, cure)
		return
	}
	var cached *cluster.Pod // nil if the cache has none, or several
	if r.Pod != "" {
		cached = w.cluster.Pod(r.Namespace, r.Pod)
	} else {
		cached, _ = w.cluster.PodAt(r.IP, r.Namespace)
	}
	if cached != nil {
		w.setPod(cached)
	}
	w.spawn(func(ctx context.Context) func() { return w.identifyLive(ctx) })
}

// identifyLive asks the API server, and again if that failed in passing.
func (w *wait) identifyLive(ctx context.Context) func() {
	who := w.request.PodRef
	ctx, cancel := context.WithTimeout(ctx, liveTimeout)
	defer cancel()
	pod, err := w.cluster.Identify(ctx, who)
	return func() {
		w.setLookupError(aboutPod, nil)
		switch {
		case err == nil:
			w.identifiedAs(pod)
		case errors.Is(err, cluster.ErrNoPod) && who.Pod == "" && !who.Inferred && who.Namespace != "":
			// The groups are searched for the address itself.
			w.identifiedAs(w.cluster.Address(who.Namespace, who.IP.Unmap()))
		case errors.Is(err, cluster.ErrNoPod) && who.Pod != "":
			w.unknown = fmt.Errorf("%w: no pod %s/%s", ErrNotFound, who.Namespace, who.Pod)
		case errors.Is(err, cluster.ErrDisagree):
			w.unknown = fmt.Errorf("%w: %w", ErrNotFound, err)
		case errors.Is(err, cluster.ErrNoPod), errors.Is(err, cluster.ErrAmbiguous):
			w.unknown = fmt.Errorf("%w: %w; %s", ErrNotFound, err, cure)
		default:
			w.setLookupError(aboutPod, err)
			w.spawn(func(ctx context.Context) func() {
				select {
				case <-time.After(liveRetry):
				case <-ctx.Done():
				}
				return w.identifyLive(ctx)
			})
		}
	}
}

// identifiedAs notes which pod it really is.
func (w *wait) identifiedAs(p *cluster.Pod) {
	w.identified = true
	w.setPod(p)
	if ns := w.request.Namespace; ns != "" && ns != p.Namespace {
		w.warn("namespace=%s is not the namespace of the pod, which is %s", ns, p.Namespace)
	}
	for _, name := range p.WithoutPreStop {
		w.warn("container %s of the pod has no preStop hook: it is stopped at once, whatever this answer says", name)
	}
}

// caller is the address of a caller that names a pod alone, or the zero value. By now
// another pod can have the name: a StatefulSet makes its pods anew.
func (w *wait) caller() netip.Addr {
	if r := w.request; r.Pod != "" && !r.IP.IsValid() && !r.Forwarded {
		return r.Caller
	}
	return netip.Addr{}
}

// isCaller says whether the pod is the one that asks, as far as can be told.
func (w *wait) isCaller() bool {
	from := w.caller()
	return !from.IsValid() || slices.Contains(w.pod.IPs, from)
}

// setPod takes in what is known of the pod now. For another pod than before the wait
// begins anew.
func (w *wait) setPod(p *cluster.Pod) {
	if w.pod == nil || w.pod.UID != p.UID || w.pod.Name != p.Name {
		w.close()
		w.groups, w.ruledOut, w.lookupErrors = nil, nil, nil
		w.addresses, w.termination = nil, terminationCheck{}
		w.stopWatch = w.cluster.Watch(p, w.surveyWake)
	}
	w.pod = p
	ips := p.IPs
	if from := w.caller(); from.IsValid() && len(ips) > 0 {
		ips = append(slices.Clip(ips), from) // it only adds to what is looked for
	}
	for _, ip := range ips {
		if !slices.Contains(w.addresses, ip) {
			w.addresses = append(slices.Clip(w.addresses), ip)
		}
	}
}
