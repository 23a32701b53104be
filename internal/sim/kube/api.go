package kube

import (
	"bytes"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"

	"drainwait/internal/sim/kube/request"
)

// Handler is the Kubernetes API of the cluster: discovery, and get, list, watch,
// create, update, patch and delete of everything that it has tables for. Only the world
// itself can create pods. The API knows no users and no admission, validates almost
// nothing, and answers in JSON only. Limit and continue have no effect: a list is
// always whole. There is no server-side apply and no dry run.
func (s *Cluster) Handler() http.Handler { return http.HandlerFunc(s.serve) }

// answer is what goes back to the client. A watch goes on after it.
type answer struct {
	code  int
	body  []byte
	watch bool
	skew  time.Duration
}

func (s *Cluster) serve(rw http.ResponseWriter, r *http.Request) {
	q := request.Understand(r)
	x := &watcher{Selection: q.Selection, wake: make(chan struct{}, 1)}
	defer x.end()
	var a answer
	err := s.line.Exchange(r.Context(), q.Key, s.Assumptions.Latency, func() {
		a = s.answer(q, x)
		a.skew = s.skew
	})
	if err != nil {
		// The world may still write a, so nobody may read it.
		failure(apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %v", q.Key, err))).write(rw)
		return
	}
	a.write(rw)
	if a.watch {
		s.stream(rw, q, x)
	}
}

// answer is the world's part of a request.
func (s *Cluster) answer(q *request.Request, x *watcher) answer {
	t := s.served(q.Path)
	if q.Path.Resource != "" {
		s.requests[q.Verb+" "+q.Path.GroupResource().String()]++
	} else {
		s.requests[q.Verb+" "+q.URL.Path]++
	}
	switch {
	case s.fail != nil && s.fail(q.Request):
		return failure(injected(s.failStatus))
	case q.Err != nil:
		return failure(apierrors.NewBadRequest(q.Err.Error()))
	case q.Path.Resource == "":
		return s.discover(q)
	case t == nil, q.Path.Namespace != "" && !t.namespaced, q.Path.Name != "" && t.namespaced && q.Path.Namespace == "":
		return failure(noSuchPath())
	case t.unknownField(q) != "":
		return failure(apierrors.NewBadRequest("field label not supported: " + t.unknownField(q)))
	case q.Verb == "list":
		return s.list(t, q)
	case q.Verb == "watch":
		s.watch(t, x, q)
		return answer{code: http.StatusOK, watch: true}
	case q.Verb == "get":
		return s.one(t, q)
	case slices.Contains(t.verbs(), q.Verb):
		return s.write(t, q)
	default:
		return failure(apierrors.NewMethodNotSupported(t.GroupResource(), q.Verb))
	}
}

// verbs are what a client can do with a resource.
func (t *table) verbs() metav1.Verbs {
	verbs := metav1.Verbs{"get", "list", "watch", "update", "patch", "delete"}
	if t.goType != reflect.TypeFor[*corev1.Pod]() {
		verbs = append(verbs, "create")
	}
	return verbs
}

// served is the table behind a path, nil if the cluster serves none.
func (s *Cluster) served(p request.Path) *table {
	for _, t := range s.tables {
		if t.GroupVersionResource == p.GroupVersionResource && s.serves(t.GroupVersion()) {
			return t
		}
	}
	return nil
}

// serves says whether a group version is served.
func (s *Cluster) serves(gv schema.GroupVersion) bool {
	on, decided := s.versions[gv]
	if !decided {
		on = slices.ContainsFunc(s.tables, func(t *table) bool { return t.GroupVersion() == gv })
	}
	return on && !s.off[gv.Group]
}

func (s *Cluster) list(t *table, q *request.Request) answer {
	var items [][]byte
	rows, revision := s.view(t, q)
	for _, r := range in(rows, q.Namespace) {
		if matches(q.Selection, r) {
			items = append(items, r.json)
		}
	}
	return answer{code: http.StatusOK, body: fmt.Appendf(nil,
		`{"kind":"%sList","apiVersion":%q,"metadata":{"resourceVersion":"%d"},"items":[%s]}`,
		t.kind, t.GroupVersion(), revision, bytes.Join(items, []byte(",")))}
}

// one answers with one object.
func (s *Cluster) one(t *table, q *request.Request) answer {
	rows, _ := s.view(t, q)
	i, found := find(rows, q.Path.Namespace, q.Path.Name)
	if !found {
		return failure(apierrors.NewNotFound(t.GroupResource(), q.Path.Name))
	}
	return answer{code: http.StatusOK, body: rows[i].json}
}

// discover answers requests that are not about objects. Clients that prefer aggregated
// discovery recognise the older documents by their content type.
func (s *Cluster) discover(q *request.Request) answer {
	var doc any
	switch path := q.URL.Path; {
	case q.Verb != "get":
		return failure(apierrors.NewMethodNotSupported(schema.GroupResource{}, q.Verb))
	case path == "/healthz", path == "/readyz", path == "/livez":
		return answer{code: http.StatusOK, body: []byte("ok")}
	case path == "/version":
		doc = version.Info{Major: "1", Minor: "37", GitVersion: "v1.37.2", Platform: "linux/amd64"}
	case path == "/api":
		doc = metav1.APIVersions{TypeMeta: metav1.TypeMeta{Kind: "APIVersions"}, Versions: []string{"v1"}}
	case path == "/apis":
		doc = s.groups()
	case s.hasGroup(strings.TrimPrefix(path, "/apis/")):
		group := s.group(strings.TrimPrefix(path, "/apis/"))
		group.TypeMeta = metav1.TypeMeta{Kind: "APIGroup", APIVersion: "v1"}
		doc = group
	case !s.serves(q.Path.GroupVersion()):
		return failure(noSuchPath())
	default:
		doc = s.resources(q.Path.GroupVersion())
	}
	return answer{code: http.StatusOK, body: encode(doc)}
}

func (s *Cluster) groups() metav1.APIGroupList {
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, t := range s.tables {
		if s.hasGroup(t.Group) {
			list.Groups = append(list.Groups, s.group(t.Group))
		}
	}
	return list
}

// hasGroup says whether a group is served, even without any version.
func (s *Cluster) hasGroup(name string) bool {
	return name != "" && !s.off[name] && slices.ContainsFunc(s.tables, func(t *table) bool { return t.Group == name })
}

// group is a group with its served versions.
func (s *Cluster) group(name string) metav1.APIGroup {
	known := make(map[string]bool)
	for _, t := range s.tables {
		if t.Group == name {
			known[t.Version] = true
		}
	}
	for gv := range s.versions {
		if gv.Group == name {
			known[gv.Version] = true
		}
	}
	group := metav1.APIGroup{Name: name, Versions: []metav1.GroupVersionForDiscovery{}}
	for _, v := range slices.Sorted(maps.Keys(known)) {
		if gv := (schema.GroupVersion{Group: name, Version: v}); s.serves(gv) {
			group.Versions = append(group.Versions, metav1.GroupVersionForDiscovery{GroupVersion: gv.String(), Version: v})
		}
	}
	if len(group.Versions) > 0 {
		group.PreferredVersion = group.Versions[0]
	}
	return group
}

// shortNames are the short names that kubectl accepts.
var shortNames = map[string][]string{
	"namespaces": {"ns"}, "nodes": {"no"}, "pods": {"po"}, "services": {"svc"}, "ingresses": {"ing"},
}

func (s *Cluster) resources(gv schema.GroupVersion) metav1.APIResourceList {
	list := metav1.APIResourceList{
		TypeMeta:     metav1.TypeMeta{Kind: "APIResourceList", APIVersion: "v1"},
		GroupVersion: gv.String(), APIResources: []metav1.APIResource{},
	}
	for _, t := range s.tables {
		if t.GroupVersion() != gv {
			continue
		}
		list.APIResources = append(list.APIResources, metav1.APIResource{
			Name: t.Resource, SingularName: strings.ToLower(t.kind), Namespaced: t.namespaced, Kind: t.kind, Verbs: t.verbs(),
			ShortNames: shortNames[t.Resource],
		})
	}
	return list
}

// stream writes a watch to its client until either ends it.
func (s *Cluster) stream(rw http.ResponseWriter, q *request.Request, x *watcher) {
	var timeout <-chan time.Time
	if s := q.List.TimeoutSeconds; s != nil {
		timer := time.NewTimer(time.Duration(*s) * time.Second)
		defer timer.Stop()
		timeout = timer.C
	}
	for flush := http.NewResponseController(rw); ; {
		lines, ended := x.take()
		for _, line := range lines {
			if _, err := rw.Write(line); err != nil {
				return
			}
		}
		// The first flush sends the header: the client waits for it.
		if err := flush.Flush(); err != nil || ended {
			return
		}
		select {
		case <-x.wake:
		case <-timeout:
			return
		case <-q.Context().Done():
			return
		case <-s.line.Lifetime().Done():
			return
		}
	}
}

func (a answer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Date", time.Now().Add(a.skew).UTC().Format(http.TimeFormat))
	rw.WriteHeader(a.code)
	_, _ = rw.Write(a.body) // a client that is gone needs no answer
}

func failure(err *apierrors.StatusError) answer {
	status := statusOf(err)
	return answer{code: int(status.Code), body: encode(status)}
}

func statusOf(err *apierrors.StatusError) metav1.Status {
	status := err.Status()
	status.TypeMeta = metav1.TypeMeta{Kind: "Status", APIVersion: "v1"}
	return status
}

func noSuchPath() *apierrors.StatusError {
	return apierrors.NewGenericServerResponse(http.StatusNotFound, "", schema.GroupResource{}, "", "", 0, false)
}

func injected(status int) *apierrors.StatusError {
	if status == http.StatusGone {
		return apierrors.NewResourceExpired("injected fault")
	}
	return apierrors.NewGenericServerResponse(status, "", schema.GroupResource{}, "", "injected fault", 0, false)
}

// unknownField is a field that a request selects by, but that the table's objects do
// not have.
func (t *table) unknownField(q *request.Request) string {
	for _, f := range q.Fields.Requirements() {
		if !t.selectable(f.Field) {
			return f.Field
		}
	}
	return ""
}
