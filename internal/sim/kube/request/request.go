// Package request reads requests to the Kubernetes API, as far as this is possible
// without the state of a cluster.
package request

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	metascheme "k8s.io/apimachinery/pkg/apis/meta/internalversion/scheme"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// Request is one request. In a GET, the last three fields are empty.
type Request struct {
	*http.Request
	Key  string // the same for the same request in every run
	Verb string // as in RBAC
	Path Path
	List metav1.ListOptions
	From uint64 // List.ResourceVersion
	Selection
	Err error // what is wrong with it

	ContentType string
	Content     []byte
	Delete      metav1.DeleteOptions
}

// Path is what a path names: a group version, a resource in it, and an object of that
// resource. The last two can be empty.
type Path struct {
	schema.GroupVersionResource
	Namespace, Name, Subresource string
}

// Selection is what a list or a watch asks for.
type Selection struct {
	Namespace string // empty for all
	Fields    fields.Selector
	Labels    labels.Selector
}

// Matches says whether it asks for an object of that namespace, with those labels
// and fields.
func (s Selection) Matches(namespace string, l labels.Set, f fields.Set) bool {
	return (s.Namespace == "" || s.Namespace == namespace) && s.Labels.Matches(l) && s.Fields.Matches(f)
}

// Understand reads a request. If something is wrong with it, Err says what, and the
// cluster answers that in its own time.
func Understand(r *http.Request) *Request {
	query := r.URL.Query()
	stable := r.URL.Query()
	stable.Del("timeoutSeconds") // clients choose it by chance
	q := &Request{Request: r, Key: r.Method + " " + r.URL.Path + "?" + stable.Encode(), Path: parsePath(r.URL.Path)}
	errOptions := metav1.Convert_url_Values_To_v1_ListOptions(&query, &q.List, nil)
	q.Verb = verbOf(r.Method, q.Path.Name == "" && q.Path.Resource != "", q.List.Watch)
	q.Err = errors.Join(errOptions, q.readSelection(), q.readRevision(), q.readWrite(query))
	return q
}

// WantsInitial says whether a watch begins with the whole state: because the
// client asks, or because it names no revision to begin at.
func (q *Request) WantsInitial() bool {
	return q.From == 0 || q.List.SendInitialEvents != nil && *q.List.SendInitialEvents
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

// parsePath takes apart /api/v1/namespaces/NS/pods/NAME and similar paths. For any other
// path it returns nothing.
func parsePath(path string) Path {
	var p Path
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
		p.Namespace, parts = parts[1], parts[2:]
	}
	switch len(parts) {
	case 0:
	case 1:
		p.Resource = parts[0]
	case 2:
		p.Resource, p.Name = parts[0], parts[1]
	default:
		if len(parts) != 3 || parts[2] != "status" { // no other subresource
			return Path{}
		}
		p.Resource, p.Name, p.Subresource = parts[0], parts[1], parts[2]
	}
	return p
}

func (q *Request) readSelection() error {
	var err1, err2 error
	q.Namespace = q.Path.Namespace
	q.Labels, err1 = labels.Parse(q.List.LabelSelector)
	q.Fields, err2 = fields.ParseSelector(q.List.FieldSelector)
	if err := errors.Join(err1, err2); err != nil {
		return fmt.Errorf("unable to parse selector: %w", err)
	}
	return nil
}

func (q *Request) readRevision() error {
	if q.List.SendInitialEvents != nil && q.List.ResourceVersionMatch != metav1.ResourceVersionMatchNotOlderThan {
		return errors.New("sendInitialEvents needs resourceVersionMatch=NotOlderThan")
	}
	if q.List.ResourceVersion == "" {
		return nil
	}
	var err error
	if q.From, err = strconv.ParseUint(q.List.ResourceVersion, 10, 64); err != nil {
		return fmt.Errorf("invalid resource version: %w", err)
	}
	return nil
}

// readWrite reads what a request wants to write. A deletion has its options in the
// body or, if there is none, in the query.
func (q *Request) readWrite(query url.Values) error {
	if q.Method == http.MethodGet {
		return nil
	}
	var err error
	if q.Content, err = io.ReadAll(io.LimitReader(q.Body, 4<<20)); err != nil {
		return fmt.Errorf("read the body: %w", err)
	}
	q.ContentType = q.Header.Get("Content-Type")
	if q.Verb != "delete" {
		return nil
	}
	options := new(metav1.DeleteOptions)
	if len(q.Content) == 0 {
		err = metav1.Convert_url_Values_To_v1_DeleteOptions(&query, options, nil)
	} else {
		options, err = decodeDeleteOptions(q.Content)
	}
	if err != nil {
		return fmt.Errorf("decode DeleteOptions: %w", err)
	}
	q.Delete = *options
	return nil
}

// decodeDeleteOptions reads JSON and protobuf. client-go's typed clients write
// protobuf.
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
