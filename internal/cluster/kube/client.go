// Package kube reads the API server: it keeps copies of objects by watches, says
// whether they can be trusted, and lists anew where a copy proves nothing.
package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

// Client reads one API server.
type Client struct {
	kubernetes.Interface // asks the API server itself
	// Namespaces are those that are read: each once, or an empty one for all.
	Namespaces []string
	Clock      Clock

	log       *slog.Logger
	lost      atomic.Bool // the last request did not reach the API server
	dynamic   dynamic.Interface
	ages      ages
	pacer     pacer
	factories []informers.SharedInformerFactory // one for each namespace, and that of our own replicas
	resources []*resource                       // what every cluster serves
	bindings  []*BindingWatch
}

// New makes a client for some namespaces; none for all. The QPS of the config is
// not used: by one limit for all, whoever asks a lot would hold up everybody, informers
// included. Package cluster bounds what callers can cause, and watches keep apart.
func New(cfg *rest.Config, namespaces []string, log *slog.Logger) (*Client, error) {
	c := &Client{
		Namespaces: slices.Compact(slices.Sorted(slices.Values(namespaces))), log: log, Clock: Clock{log: log},
		ages: ages{last: make(map[string]time.Time)}, pacer: pacer{pauses: make(map[string]pause)},
	}
	if len(namespaces) == 0 {
		c.Namespaces = []string{corev1.NamespaceAll}
	}
	cfg = rest.CopyConfig(cfg)
	cfg.QPS = -1
	cfg.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return &transport{next, cfg.Host, c}
	})
	var err1, err2 error
	c.Interface, err1 = kubernetes.NewForConfig(cfg)
	c.dynamic, err2 = dynamic.NewForConfig(cfg)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("make Kubernetes client for %s: %w", cfg.Host, err)
	}
	for _, ns := range c.Namespaces {
		c.factories = append(c.factories, informers.NewSharedInformerFactoryWithOptions(c, 0, informers.WithNamespace(ns), informers.WithTweakListOptions(c.ages.noteGap)))
	}
	return c, nil
}

// Kind is what is read of one kind of objects, and how it is found.
type Kind struct {
	Resource schema.GroupVersionResource
	// Trim keeps of each object what is read: a cluster has many pods.
	Trim cache.TransformFunc
	// Indexers are those beside the one by namespace.
	Indexers cache.Indexers
}

// resource is the informers of one kind.
type resource struct {
	name      string
	paths     []string // of the watches
	informers []cache.SharedIndexInformer
}

// Watch keeps copies of a kind from [Client.Run] on, and tells h what changes.
func (c *Client) Watch(k Kind, h cache.ResourceEventHandler) Stores {
	r := &resource{name: k.Resource.Resource, paths: c.paths(k.Resource)}
	for _, f := range c.factories[:len(c.Namespaces)] {
		r.add(informer(f, k.Resource.GroupResource()), k, h)
	}
	c.resources = append(c.resources, r)
	return r.stores()
}

// informer is that of a kind that this program reads. The factory's own ForResource
// would link the informers of all kinds that there are, some megabytes.
func informer(f informers.SharedInformerFactory, resource schema.GroupResource) cache.SharedIndexInformer {
	switch resource {
	case corev1.Resource("pods"):
		return f.Core().V1().Pods().Informer()
	case corev1.Resource("services"):
		return f.Core().V1().Services().Informer()
	case discoveryv1.Resource("endpointslices"):
		return f.Discovery().V1().EndpointSlices().Informer()
	case networkingv1.Resource("ingresses"):
		return f.Networking().V1().Ingresses().Informer()
	}
	panic(fmt.Sprintf("kube: there is no informer of %s", resource)) // a mistake in this program
}

func (r *resource) add(inf cache.SharedIndexInformer, k Kind, h cache.ResourceEventHandler) {
	_, err := inf.AddEventHandler(h)
	if err := errors.Join(inf.SetTransform(k.Trim), inf.AddIndexers(k.Indexers), err); err != nil {
		panic(fmt.Sprintf("kube: set up informer of %s: %v", r.name, err)) // it has begun already: a mistake in this program
	}
	r.informers = append(r.informers, inf)
}

func (r *resource) hasSynced() bool {
	return !slices.ContainsFunc(r.informers, func(inf cache.SharedIndexInformer) bool { return !inf.HasSynced() })
}

func (r *resource) stores() Stores {
	var out Stores
	for _, inf := range r.informers {
		out = append(out, inf.GetIndexer())
	}
	return out
}

// paths are those of the watches of a resource.
func (c *Client) paths(gvr schema.GroupVersionResource) []string {
	var out []string
	for _, ns := range c.Namespaces {
		path := groupPath(gvr.GroupVersion())
		if ns != corev1.NamespaceAll {
			path += "/namespaces/" + ns
		}
		out = append(out, path+"/"+gvr.Resource)
	}
	return out
}

func groupPath(gv schema.GroupVersion) string {
	if gv.Group == "" {
		return "/api/" + gv.Version
	}
	return "/apis/" + gv.String()
}

// List puts the objects of a namespace into a new store, trimmed, by the list
// function of a client. It asks without a resource version: what the API server
// answers then is what etcd has, and not what a cache had.
func List[L runtime.Object](ctx context.Context, list func(context.Context, metav1.ListOptions) (L, error), k Kind, namespace string, into *Stores) error {
	store := NewStore(k.Indexers)
	*into = append(*into, store)
	l, err := list(ctx, metav1.ListOptions{})
	if err == nil {
		err = meta.EachListItem(l, func(o runtime.Object) error {
			trimmed, err := k.Trim(o)
			if err != nil {
				return err
			}
			return store.Add(trimmed)
		})
	}
	if err != nil {
		return fmt.Errorf("list %s of namespace %s: %w", k.Resource.GroupResource(), namespace, err)
	}
	return nil
}

// Run keeps the copies up to date until ctx ends, and returns when all of its
// goroutines are gone: at once, or within a minute where client-go backs off from
// an API server that refuses connections.
func (c *Client) Run(ctx context.Context) {
	var running sync.WaitGroup
	for _, r := range c.resources {
		c.ages.heard(r.paths...)
	}
	for _, f := range c.factories {
		f.Start(ctx.Done())
	}
	for _, w := range c.bindings {
		c.ages.heard(c.paths(w.gvr)...)
		running.Go(func() { w.run(ctx) })
	}
	<-ctx.Done()
	for _, f := range c.factories {
		f.Shutdown()
	}
	running.Wait()
}

// Ready says why the copies cannot be trusted now; nil where they can.
func (c *Client) Ready() error {
	if err := c.Unread(); err != nil {
		return err
	}
	for _, w := range c.bindings {
		if serving(w.state.Load()) == versionGone {
			return fmt.Errorf("the API server serves %s, but not version %s, the only one that this program knows: TargetGroupBindings cannot be read; a newer version of this program may help", w.gvr.Group, w.gvr.Version)
		}
	}
	if path, age := c.ages.oldest(); age > maxAge {
		return fmt.Errorf("nothing has come from the API server for %s on %s, although a working watch brings something every minute", age.Round(time.Second), path)
	}
	return nil
}

// Unread names what was not read yet; nil where everything was read once. How many
// replicas there are does not count.
func (c *Client) Unread() error {
	const hint = "(are list and watch of them allowed?)"
	for _, r := range c.resources {
		if !r.hasSynced() {
			return fmt.Errorf("not read yet: %s %s", r.name, hint)
		}
	}
	for _, w := range c.bindings {
		if !w.known.Load() {
			return fmt.Errorf("not read yet: %s %s", w.gvr.GroupResource(), hint)
		}
	}
	return nil
}
