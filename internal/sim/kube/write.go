package kube

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"reflect"
	"strings"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/apimachinery/pkg/watch"

	"drainwait/internal/sim/kube/request"
)

// Delete deletes an object by its namespace and name, as a user would. An object with
// finalizers stays, marked as being deleted, until the last finalizer is removed. If
// the object is not there, Delete does nothing.
func (s *Cluster) Delete(obj metav1.Object) {
	t := s.tableOf(obj)
	if i, found := t.find(obj.GetNamespace(), obj.GetName()); found {
		s.delete(t.rows[i], nil)
	}
}

// delete begins the deletion of an object. grace is for pods, in seconds of real
// time.
func (s *Cluster) delete(r *row, grace *int64) {
	_, isPod := r.obj.(*corev1.Pod)
	switch {
	case isPod && s.kubelets.Delete(r.namespace, r.name, grace):
	case len(r.obj.GetFinalizers()) == 0:
		s.Remove(r.obj)
	case r.obj.GetDeletionTimestamp() == nil:
		now := s.Time(s.line.Present())
		r.obj.SetDeletionTimestamp(&now)
		r.obj.SetDeletionGracePeriodSeconds(new(int64))
		s.Apply(r.obj)
	}
}

// Edit changes one object, as a user does who reads it and writes it back: edit gets
// a copy of what the API shows. It returns an error if there is no such object. If
// bindings in two groups have the same name, it takes the one of LBC's own group.
func Edit[T any](s *Cluster, namespace, name string, edit func(*T)) error {
	for _, t := range s.byType[reflect.TypeFor[*T]()] {
		i, found := t.find(namespace, name)
		if !found {
			continue
		}
		fresh := new(T)
		if err := json.Unmarshal(t.rows[i].json, fresh); err != nil {
			return fmt.Errorf("edit %s %s: %w", t.kind, key(namespace, name), err)
		}
		edit(fresh)
		s.update(t.rows[i], any(fresh).(metav1.Object))
		return nil
	}
	return fmt.Errorf("edit %T %s: no such object", new(T), key(namespace, name))
}

// update copies fresh into the object that the world already has: others hold pointers
// to that one.
func (s *Cluster) update(r *row, fresh metav1.Object) {
	old := r.obj
	if !maps.Equal(old.GetLabels(), fresh.GetLabels()) {
		s.tell(watch.Modified, old) // for those that it no longer concerns
	}
	fresh.SetUID(old.GetUID())
	fresh.SetCreationTimestamp(old.GetCreationTimestamp())
	fresh.SetDeletionTimestamp(old.GetDeletionTimestamp())
	fresh.SetDeletionGracePeriodSeconds(old.GetDeletionGracePeriodSeconds())
	fresh.SetGeneration(old.GetGeneration())
	reflect.ValueOf(old).Elem().Set(reflect.ValueOf(fresh).Elem())
	s.Apply(old)
	if p, ok := old.(*corev1.Pod); ok {
		s.kubelets.Updated(p)
	}
}

// write carries out a request that changes something.
func (s *Cluster) write(t *table, q *request.Request) answer {
	if q.URL.Query().Has("dryRun") || len(q.Delete.DryRun) > 0 {
		return failure(apierrors.NewBadRequest("the simulated API server knows no dry run"))
	}
	var err error
	var a answer
	switch q.Verb {
	case "create":
		a, err = s.create(t, q)
	default:
		i, found := t.find(q.Path.Namespace, q.Path.Name)
		if !found {
			return failure(apierrors.NewNotFound(t.GroupResource(), q.Path.Name))
		}
		if q.Verb == "delete" {
			a, err = s.deleteOne(t, t.rows[i], q)
		} else {
			a, err = s.replace(t, t.rows[i], q)
		}
	}
	if err == nil {
		return a
	}
	if status, ok := errors.AsType[*apierrors.StatusError](err); ok {
		return failure(status)
	}
	return failure(apierrors.NewBadRequest(err.Error()))
}

// create is a POST. It makes no pods: they need a kubelet that knows what runs in
// them.
func (s *Cluster) create(t *table, q *request.Request) (answer, error) {
	obj := t.blank()
	if err := t.decode(q.ContentType, q.Content, obj); err != nil {
		return answer{}, err
	}
	if obj.GetNamespace() == "" {
		obj.SetNamespace(q.Path.Namespace)
	}
	if obj.GetName() == "" && obj.GetGenerateName() != "" {
		obj.SetName(fmt.Sprintf("%s%05x", obj.GetGenerateName(), s.line.Random("generated name", obj.GetGenerateName()).Uint32N(1<<20)))
	}
	switch {
	case obj.GetName() == "":
		return answer{}, invalidObject(t, "", "metadata.name: Required value: name or generateName is required")
	case obj.GetNamespace() != q.Path.Namespace:
		return answer{}, errors.New("the namespace of the provided object does not match the namespace sent on the request")
	case obj.GetResourceVersion() != "":
		return answer{}, errors.New("resourceVersion should not be set on objects to be created")
	}
	if _, found := t.find(obj.GetNamespace(), obj.GetName()); found {
		return answer{}, apierrors.NewAlreadyExists(t.GroupResource(), obj.GetName())
	}
	bare, err := t.withStatusOf(encode(obj), nil)
	if err != nil {
		return answer{}, err
	}
	obj = t.blank()
	if err := json.Unmarshal(bare, obj); err != nil {
		return answer{}, err
	}
	obj.SetDeletionTimestamp(nil)
	obj.SetDeletionGracePeriodSeconds(nil)
	obj.SetGeneration(0)
	s.Apply(obj)
	return answer{code: http.StatusCreated, body: encode(obj)}, nil
}

// replace is a PUT or a PATCH of an object or of its status.
func (s *Cluster) replace(t *table, r *row, q *request.Request) (answer, error) {
	fresh, err := t.replacement(r, q)
	if err != nil {
		return answer{}, err
	}
	if err := t.mayReplace(r, fresh); err != nil {
		return answer{}, err
	}
	s.update(r, fresh)
	return answer{code: http.StatusOK, body: encode(r.obj)}, nil
}

// replacement is the object that a PUT or a PATCH makes of a row. As with a real API
// server, only the status subresource changes the status, and it changes nothing else.
func (t *table) replacement(r *row, q *request.Request) (metav1.Object, error) {
	sent := t.blank()
	if q.Verb == "update" {
		if err := t.decode(q.ContentType, q.Content, sent); err != nil {
			return nil, err
		}
	} else {
		patched, err := t.patched(r.json, q.ContentType, q.Content)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(patched, sent); err != nil {
			return nil, err
		}
	}
	spec, status := encode(sent), r.json
	if q.Path.Subresource == "status" {
		spec, status = r.json, encode(sent)
	}
	merged, err := t.withStatusOf(spec, status)
	if err != nil {
		return nil, err
	}
	fresh := t.blank()
	if err := json.Unmarshal(merged, fresh); err != nil {
		return nil, err
	}
	fresh.SetUID(sent.GetUID())
	fresh.SetResourceVersion(sent.GetResourceVersion())
	return fresh, nil
}

// withStatusOf is an object with the status of another one, or with none. If the
// resource has no status, it is the object as it is.
func (t *table) withStatusOf(object, other []byte) ([]byte, error) {
	if !t.hasStatus {
		return object, nil
	}
	var fields, others map[string]json.RawMessage
	if err := json.Unmarshal(object, &fields); err != nil {
		return nil, err
	}
	if other != nil {
		if err := json.Unmarshal(other, &others); err != nil {
			return nil, err
		}
	}
	delete(fields, "status")
	if s, ok := others["status"]; ok {
		fields["status"] = s
	}
	return json.Marshal(fields)
}

// mayReplace says why a write is refused; nil if it is not.
func (t *table) mayReplace(r *row, fresh metav1.Object) error {
	version := fresh.GetResourceVersion()
	switch {
	case fresh.GetName() != r.name || fresh.GetNamespace() != "" && fresh.GetNamespace() != r.namespace:
		return fmt.Errorf("the object is %s/%s, and the request is about %s/%s", fresh.GetNamespace(), fresh.GetName(), r.namespace, r.name)
	case version == "" && t.custom():
		return invalidObject(t, r.name, "metadata.resourceVersion: Invalid value: 0: must be specified for an update")
	case version != "" && version != fmt.Sprint(r.revision):
		return apierrors.NewConflict(t.GroupResource(), r.name,
			errors.New("the object has been modified; please apply your changes to the latest version and try again"))
	case fresh.GetUID() != "" && fresh.GetUID() != r.obj.GetUID():
		return apierrors.NewConflict(t.GroupResource(), r.name,
			fmt.Errorf("precondition failed: UID in precondition: %s, UID in object meta: %s", fresh.GetUID(), r.obj.GetUID()))
	}
	if p, ok := fresh.(*corev1.Pod); ok && !bytes.Equal(encode(p.Spec), encode(r.obj.(*corev1.Pod).Spec)) {
		return invalidObject(t, r.name, "spec: Forbidden: pod updates may not change fields of the specification")
	}
	fresh.SetNamespace(r.namespace)
	return nil
}

// patched applies a patch to an object.
func (t *table) patched(doc []byte, contentType string, patch []byte) ([]byte, error) {
	kind, _, _ := strings.Cut(contentType, ";")
	switch types.PatchType(kind) {
	case types.MergePatchType:
		return jsonpatch.MergePatch(doc, patch)
	case types.JSONPatchType:
		p, err := jsonpatch.DecodePatch(patch)
		if err != nil {
			return nil, err
		}
		return p.Apply(doc)
	case types.StrategicMergePatchType:
		if !t.custom() {
			return strategicpatch.StrategicMergePatch(doc, patch, t.blank())
		}
	}
	return nil, apierrors.NewGenericServerResponse(http.StatusUnsupportedMediaType, "patch", t.GroupResource(), "",
		"the body of the request was in an unknown format", 0, false)
}

// deleteOne is a DELETE. The answer is the object if it stays for a while.
func (s *Cluster) deleteOne(t *table, r *row, q *request.Request) (answer, error) {
	if p := q.Delete.Preconditions; p != nil {
		if p.UID != nil && *p.UID != r.obj.GetUID() || p.ResourceVersion != nil && *p.ResourceVersion != fmt.Sprint(r.revision) {
			return answer{}, apierrors.NewConflict(t.GroupResource(), r.name, errors.New("precondition failed"))
		}
	}
	s.delete(r, q.Delete.GracePeriodSeconds)
	_, isPod := r.obj.(*corev1.Pod)
	if _, stays := t.find(r.namespace, r.name); stays || isPod {
		return answer{code: http.StatusOK, body: r.json}, nil
	}
	return answer{code: http.StatusOK, body: encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{Kind: "Status", APIVersion: "v1"},
		Status:   metav1.StatusSuccess,
		Details:  &metav1.StatusDetails{Name: r.name, Group: t.Group, Kind: t.Resource, UID: r.obj.GetUID()},
	})}, nil
}

// blank is a new object of the table's Go type.
func (t *table) blank() metav1.Object {
	return reflect.New(t.goType.Elem()).Interface().(metav1.Object)
}

// custom says whether the resource is defined by a CustomResourceDefinition.
func (t *table) custom() bool { return t.goType == reflect.TypeFor[*TargetGroupBinding]() }

// decode reads the body of a request: JSON, or protobuf, which client-go's typed
// clients write.
func (t *table) decode(contentType string, body []byte, obj metav1.Object) error {
	gvk := t.GroupVersion().WithKind(t.kind)
	if strings.HasPrefix(contentType, runtime.ContentTypeProtobuf) {
		raw, isProtobuf := bytes.CutPrefix(body, []byte("k8s\x00"))
		message, can := obj.(interface{ Unmarshal([]byte) error })
		if !isProtobuf || !can {
			return fmt.Errorf("decode %s: no protobuf", t.kind)
		}
		var envelope runtime.Unknown
		if err := envelope.Unmarshal(raw); err != nil {
			return fmt.Errorf("decode %s: %w", t.kind, err)
		}
		if err := message.Unmarshal(envelope.Raw); err != nil {
			return fmt.Errorf("decode %s: %w", t.kind, err)
		}
		return nil
	}
	if err := json.Unmarshal(body, obj); err != nil {
		return fmt.Errorf("decode %s: %w", t.kind, err)
	}
	if got := typeOf(obj).GroupVersionKind(); got != gvk {
		return fmt.Errorf("the object provided is a %s, want a %s", got, gvk)
	}
	return nil
}

func invalidObject(t *table, name, why string) error {
	return apierrors.NewGenericServerResponse(http.StatusUnprocessableEntity, "update", t.GroupResource(), name,
		fmt.Sprintf("%s %q is invalid: %s", t.kind, name, why), 0, false)
}
