package sim

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metascheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/version"
)

// KubeHandler is the Kubernetes API of the world's cluster: discovery, and get,
// list, watch, create, update, patch and delete of what the world has tables for,
// but that pods come from [World.AddPod] alone. It knows no users and no
// admission, validates next to nothing, and answers in JSON only. Limit and
// continue have no effect: a list is always whole. There is no server-side apply
// and no dry run.
func (w *World) KubeHandler() http.Handler { return http.HandlerFunc(w.serveKube) }

// kubeRequest is a request as far as it can be understood without the state.
type kubeRequest struct {
	*http.Request
	key  string // the same for the same request in every run
	verb string
	path kubePath
	list metav1.ListOptions
	selection
	from uint64 // list.ResourceVersion
	kubeWrite
	err error
}

// kubePath is what a path names: a group version, a resource in it, and one of
// its objects, the last two where they are not empty.
type kubePath struct {
	schema.GroupVersionResource
	namespace, name, subresource string
}

// kubeAnswer is what goes back to the client; after it, a watch goes on.
type kubeAnswer struct {
	code  int
	body  []byte
	watch bool
	skew  time.Duration
}

func (w *World) serveKube(rw http.ResponseWriter, r *http.Request) {
	q := understand(r)
	x := &watcher{selection: q.selection, wake: make(chan struct{}, 1)}
	defer x.end()
	var a kubeAnswer
	err := w.Exchange(r.Context(), q.key, w.cfg.Assumptions.KubeLatency, func() {
		a = w.answerKube(q, x)
		a.skew = w.kube.skew
	})
	if err != nil {
		// The world may still come to write a: it must not be read.
		failure(apierrors.NewServiceUnavailable(fmt.Sprintf("%s: %v", q.key, err))).write(rw)
		return
	}
	a.write(rw)
	if a.watch {
		w.stream(rw, q, x)
	}
}

// answerKube is the world's part of a request.
func (w *World) answerKube(q *kubeRequest, x *watcher) kubeAnswer {
	s := &w.kube
	t := s.served(q.path)
	if q.path.Resource != "" {
		s.requests[q.verb+" "+q.path.GroupResource().String()]++
	} else {
		s.requests[q.verb+" "+q.URL.Path]++
	}
	switch {
	case s.fail != nil && s.fail(q.Request):
		return failure(injected(s.failStatus))
	case q.err != nil:
		return failure(apierrors.NewBadRequest(q.err.Error()))
	case q.path.Resource == "":
		return s.discover(q)
	case t == nil, q.path.namespace != "" && !t.namespaced, q.path.name != "" && t.namespaced && q.path.namespace == "":
		return failure(noSuchPath())
	case q.unknownField(t) != "":
		return failure(apierrors.NewBadRequest("field label not supported: " + q.unknownField(t)))
	case q.verb == "list":
		return s.list(t, q)
	case q.verb == "watch":
		w.watch(t, x, q)
		return kubeAnswer{code: http.StatusOK, watch: true}
	case q.verb == "get":
		return s.one(t, q)
	case slices.Contains(t.verbs(), q.verb):
		return w.write(t, q)
	default:
		return failure(apierrors.NewMethodNotSupported(t.GroupResource(), q.verb))
	}
}

// verbs are what can be done with a resource.
func (t *table) verbs() metav1.Verbs {
	verbs := metav1.Verbs{"get", "list", "watch", "update", "patch", "delete"}
	if t.goType != reflect.TypeFor[*corev1.Pod]() {
		verbs = append(verbs, "create")
	}
	return verbs
}

// served is the table behind a path, nil where the cluster serves none.
func (s *kubeStore) served(p kubePath) *table {
	for _, t := range s.tables {
		if t.GroupVersionResource == p.GroupVersionResource && s.serves(t.GroupVersion()) {
			return t
		}
	}
	return nil
}

// serves says whether a group version is served.
func (s *kubeStore) serves(gv schema.GroupVersion) bool {
	on, decided := s.versions[gv]
	if !decided {
		on = slices.ContainsFunc(s.tables, func(t *table) bool { return t.GroupVersion() == gv })
	}
	return on && !s.off[gv.Group]
}

func (s *kubeStore) list(t *table, q *kubeRequest) kubeAnswer {
	var items [][]byte
	rows, revision := s.view(t, q)
	for _, r := range in(rows, q.namespace) {
		if q.matches(r) {
			items = append(items, r.json)
		}
	}
	return kubeAnswer{code: http.StatusOK, body: fmt.Appendf(nil,
		`{"kind":"%sList","apiVersion":%q,"metadata":{"resourceVersion":"%d"},"items":[%s]}`,
		t.kind, t.GroupVersion(), revision, bytes.Join(items, []byte(",")))}
}

// one answers with one object.
func (s *kubeStore) one(t *table, q *kubeRequest) kubeAnswer {
	rows, _ := s.view(t, q)
	i, found := find(rows, q.path.namespace, q.path.name)
	if !found {
		return failure(apierrors.NewNotFound(t.GroupResource(), q.path.name))
	}
	return kubeAnswer{code: http.StatusOK, body: rows[i].json}
}

// discover answers what is not about objects. Clients that would rather have
// aggregated discovery understand the older documents from their content type.
func (s *kubeStore) discover(q *kubeRequest) kubeAnswer {
	var doc any
	switch path := q.URL.Path; {
	case q.verb != "get":
		return failure(apierrors.NewMethodNotSupported(schema.GroupResource{}, q.verb))
	case path == "/healthz", path == "/readyz", path == "/livez":
		return kubeAnswer{code: http.StatusOK, body: []byte("ok")}
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
	case !s.serves(q.path.GroupVersion()):
		return failure(noSuchPath())
	default:
		doc = s.resources(q.path.GroupVersion())
	}
	return kubeAnswer{code: http.StatusOK, body: encode(doc)}
}

func (s *kubeStore) groups() metav1.APIGroupList {
	list := metav1.APIGroupList{TypeMeta: metav1.TypeMeta{Kind: "APIGroupList", APIVersion: "v1"}}
	for _, t := range s.tables {
		if s.hasGroup(t.Group) {
			list.Groups = append(list.Groups, s.group(t.Group))
		}
	}
	return list
}

// hasGroup says whether a group is served, be it without any version.
func (s *kubeStore) hasGroup(name string) bool {
	return name != "" && !s.off[name] && slices.ContainsFunc(s.tables, func(t *table) bool { return t.Group == name })
}

// group is a group with the versions of it that are served.
func (s *kubeStore) group(name string) metav1.APIGroup {
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

// shortNames are what kubectl lets people write.
var shortNames = map[string][]string{
	"namespaces": {"ns"}, "nodes": {"no"}, "pods": {"po"}, "services": {"svc"}, "ingresses": {"ing"},
}

func (s *kubeStore) resources(gv schema.GroupVersion) metav1.APIResourceList {
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
func (w *World) stream(rw http.ResponseWriter, q *kubeRequest, x *watcher) {
	var timeout <-chan time.Time
	if s := q.list.TimeoutSeconds; s != nil {
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
		case <-w.Lifetime().Done():
			return
		}
	}
}

func (a kubeAnswer) write(rw http.ResponseWriter) {
	h := rw.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Date", time.Now().Add(a.skew).UTC().Format(http.TimeFormat))
	rw.WriteHeader(a.code)
	_, _ = rw.Write(a.body) // a client that is gone needs no answer
}

func failure(err *apierrors.StatusError) kubeAnswer {
	status := statusOf(err)
	return kubeAnswer{code: int(status.Code), body: encode(status)}
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

// wantsInitial says whether a watch begins with the whole state: because the
// client asks, or because it names no revision to begin at.
func (q *kubeRequest) wantsInitial() bool {
	return q.from == 0 || q.list.SendInitialEvents != nil && *q.list.SendInitialEvents
}

// understand reads a request. What is wrong with it is left in err, for the
// world to answer in its own time.
func understand(r *http.Request) *kubeRequest {
	query := r.URL.Query()
	stable := r.URL.Query()
	stable.Del("timeoutSeconds") // clients choose it by chance
	q := &kubeRequest{Request: r, key: r.Method + " " + r.URL.Path + "?" + stable.Encode(), path: parsePath(r.URL.Path)}
	errOptions := metav1.Convert_url_Values_To_v1_ListOptions(&query, &q.list, nil)
	q.verb = verbOf(r.Method, q.path.name == "" && q.path.Resource != "", q.list.Watch)
	q.err = errors.Join(errOptions, q.readSelection(), q.readRevision(), q.readWrite(query))
	return q
}

func verbOf(method string, collection, watch bool) string {
	switch {
	case method == http.MethodGet && collection && watch:
		return "watch"
	case method == http.MethodGet && collection:
		return "list"
	case method == http.MethodDelete && collection:
		return "deletecollection"
	case method == http.MethodPost && collection:
		return "create"
	case method == http.MethodPut:
		return "update"
	default:
		return strings.ToLower(method)
	}
}

// parsePath takes /api/v1/namespaces/NS/pods/NAME and its kin apart. Of what is
// no such path, it returns nothing.
func parsePath(path string) kubePath {
	var p kubePath
	parts := strings.Split(strings.TrimPrefix(path, "/"), "/")
	switch {
	case parts[0] == "api" && len(parts) >= 2:
		p.Version, parts = parts[1], parts[2:]
	case parts[0] == "apis" && len(parts) >= 3:
		p.Group, p.Version, parts = parts[1], parts[2], parts[3:]
	default:
		return p
	}
	if len(parts) >= 3 && parts[0] == "namespaces" {
		p.namespace, parts = parts[1], parts[2:]
	}
	switch len(parts) {
	case 0:
	case 1:
		p.Resource = parts[0]
	case 2:
		p.Resource, p.name = parts[0], parts[1]
	default:
		if len(parts) != 3 || parts[2] != "status" { // no other subresource
			return kubePath{}
		}
		p.Resource, p.name, p.subresource = parts[0], parts[1], parts[2]
	}
	return p
}

func (q *kubeRequest) readSelection() error {
	var err1, err2 error
	q.namespace = q.path.namespace
	q.labels, err1 = labels.Parse(q.list.LabelSelector)
	q.fields, err2 = fields.ParseSelector(q.list.FieldSelector)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("unable to parse selector: %w", err)
	}
	return nil
}

// unknownField is a field that the request selects by and t's objects have not.
func (q *kubeRequest) unknownField(t *table) string {
	for _, f := range q.fields.Requirements() {
		if !t.selectable(f.Field) {
			return f.Field
		}
	}
	return ""
}

func (q *kubeRequest) readRevision() error {
	if q.list.SendInitialEvents != nil && q.list.ResourceVersionMatch != metav1.ResourceVersionMatchNotOlderThan {
		return errors.New("sendInitialEvents needs resourceVersionMatch=NotOlderThan")
	}
	if q.list.ResourceVersion == "" {
		return nil
	}
	var err error
	if q.from, err = strconv.ParseUint(q.list.ResourceVersion, 10, 64); err != nil {
		return fmt.Errorf("invalid resource version: %w", err)
	}
	return nil
}

// readWrite reads what a request wants to write. The options of a deletion are
// in the body or, where there is none, in the query.
func (q *kubeRequest) readWrite(query url.Values) error {
	if q.Method == http.MethodGet {
		return nil
	}
	var err error
	if q.body, err = io.ReadAll(io.LimitReader(q.Body, 4<<20)); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	q.contentType = q.Header.Get("Content-Type")
	if q.verb != "delete" {
		return nil
	}
	options := new(metav1.DeleteOptions)
	if len(q.body) == 0 {
		err = metav1.Convert_url_Values_To_v1_DeleteOptions(&query, options, nil)
	} else {
		options, err = decodeDeleteOptions(q.body)
	}
	if err != nil {
		return fmt.Errorf("decode DeleteOptions: %w", err)
	}
	q.options = *options
	return nil
}

// decodeDeleteOptions knows JSON and protobuf: client-go's typed clients write
// the latter.
func decodeDeleteOptions(body []byte) (*metav1.DeleteOptions, error) {
	gvk := metav1.SchemeGroupVersion.WithKind("DeleteOptions")
	obj, got, err := metascheme.Codecs.UniversalDeserializer().Decode(body, &gvk, nil)
	if err != nil {
		return nil, err
	}
	options, ok := obj.(*metav1.DeleteOptions)
	if !ok {
		return nil, fmt.Errorf("got a %v", got)
	}
	return options, nil
}
