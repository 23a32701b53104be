package ties

import (
	"encoding/json"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	utiljson "k8s.io/apimachinery/pkg/util/json"
	"k8s.io/client-go/tools/cache"
)

// Whatever people write into a binding, it is read, because one that cannot be read
// would keep all others from being read; each string of it that is used is there, and
// what is no string counts as missing.
func FuzzTrimBinding(f *testing.F) {
	for _, object := range []string{
		`{"apiVersion":"elbv2.k8s.aws/v1beta1","kind":"TargetGroupBinding","metadata":{"namespace":"default","name":"web","uid":"x","resourceVersion":"1","deletionTimestamp":"2000-01-01T00:00:00Z",
		"labels":{"ingress.k8s.aws/stack":"g","ingress.k8s.aws/stack-name":"n","junk":"x"},"annotations":{"elbv2.k8s.aws/checkpoint":""},"managedFields":[{"manager":"x","fieldsV1":{}}]},
		"spec":{"targetGroupARN":"arn:web","targetGroupName":"web","targetType":"ip","targetGroupProtocol":"TCP","iamRoleArnToAssume":"r","assumeRoleExternalId":"e","serviceRef":{"name":"web","port":"https"}}}`,
		`{"spec":{"targetGroupARN":"arn","serviceRef":{"name":"web","port":99999999999}}}`, `{"spec":{"targetGroupARN":1,"targetType":null,"serviceRef":"web"}}`, `{"spec":[]}`, `{}`,
		`{"metadata":{"name":"web","annotations":{"elbv2.k8s.aws/checkpoint":5},"labels":[],"deletionTimestamp":true}}`, `{"apiVersion":"a/b/c","metadata":[]}`, `{"metadata":{"annotations":null},"spec":{"serviceRef":{"name":["web"],"port":1.5}}}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		u := new(unstructured.Unstructured)
		if utiljson.Unmarshal(object, &u.Object) != nil || u.Object == nil {
			return
		}
		once, err := TrimBinding(u)
		if err != nil {
			t.Fatal(err)
		}
		b := once.(*Binding)
		spec := func(names ...string) string {
			v := u.Object["spec"]
			for _, name := range names {
				m, _ := v.(map[string]any)
				v = m[name]
			}
			text, _ := v.(string)
			return text
		}
		want := BindingSpec{spec("targetGroupARN"), spec("targetGroupName"), spec("targetType"), spec("targetGroupProtocol"), spec("iamRoleArnToAssume"), spec("assumeRoleExternalId"), b.ServiceRef}
		if want.ServiceRef.Name = spec("serviceRef", "name"); b.BindingSpec != want || b.registers() != (want.TargetType == "" || want.TargetType == "ip") {
			t.Errorf("read %+v, want %+v", b.BindingSpec, want)
		}
		annotations := []string{"elbv2.k8s.aws/checkpoint"}
		labels := []string{"ingress.k8s.aws/stack", "ingress.k8s.aws/stack-namespace", "ingress.k8s.aws/stack-name", "service.k8s.aws/stack-namespace", "service.k8s.aws/stack-name"}
		checkKept(t, annotations, u.GetAnnotations(), b.Annotations)
		checkKept(t, labels, u.GetLabels(), b.Labels)
		if d, gone := u.GetDeletionTimestamp(), b.DeletionTimestamp; b.Namespace != u.GetNamespace() || b.Name != u.GetName() || b.UID != u.GetUID() || !d.Equal(gone) || len(b.Annotations)+len(b.Labels) > 2*len(bindingKeys) {
			t.Errorf("metadata %+v", b.ObjectMeta)
		}
		if twice, err := TrimBinding(once); err != nil || twice != once {
			t.Errorf("trimmed again: %v, %v", twice, err)
		}
	})
}

// checkKept checks that what a whole object has under some keys is there after trimming,
// also if it is empty.
func checkKept(t *testing.T, keys []string, whole, trimmed map[string]string) {
	t.Helper()
	for _, key := range keys {
		before, had := whole[key]
		if after, has := trimmed[key]; had != has || before != after {
			t.Errorf("%s was %q (%t) and is %q (%t)", key, before, had, after, has)
		}
	}
}

// What is read of a Service, an EndpointSlice or an Ingress is the same after it was
// trimmed, and trimming it again changes nothing.
func FuzzTrim(f *testing.F) {
	for _, object := range []string{
		`{"metadata":{"namespace":"default","name":"web"},"spec":{"type":"LoadBalancer","selector":{"app":"web"},"publishNotReadyAddresses":true},"status":{"loadBalancer":{"ingress":[{"hostname":"x"},{"hostname":"X."},{"ip":"10.0.0.1"}]}}}`,
		`{"metadata":{"namespace":"default","name":"web-x","labels":{"kubernetes.io/service-name":"web"}},"ports":[{"port":80},{}],"endpoints":[{"addresses":["10.0.0.1","10.0.0.2"],"targetRef":{"kind":"Pod","name":"a","uid":"x"}},
		{"addresses":["10.0.0.1"],"conditions":{"ready":false},"targetRef":{"kind":"Pod","namespace":"other","name":"b"}},{"addresses":[],"targetRef":{"kind":"Node","name":"a"}},{"addresses":["10.0.0.1"]}]}`,
		`{"metadata":{"namespace":"default","name":"web-y","labels":{"kubernetes.io/service-name":"web"}},"ports":[{"port":80}],"endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":false},"targetRef":{"kind":"Pod","name":"b"}}]}`,
		`{"metadata":{"name":"web","annotations":{"alb.ingress.kubernetes.io/group.name":"g"}},"spec":{"defaultBackend":{"service":{"name":"web"}},"rules":[{"http":{"paths":[{"backend":{"service":{"name":"api"}}},{"backend":{"resource":{"kind":"x","name":"y"}}}]}},{}]},
		"status":{"loadBalancer":{"ingress":[{"hostname":"x","ip":"10.0.0.1"}]}}}`,
		`{"spec":{"selector":{}}}`, `{"endpoints":[{"targetRef":null}],"ports":null}`, `{"spec":{"rules":[{"http":null}],"defaultBackend":null}}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		checkSame(t, object, Services.Trim, func(s *corev1.Service) []any {
			return []any{serviceRecords(s), selects(s, map[string]string{"app": "web"}), selects(s, nil), s.Spec.PublishNotReadyAddresses, s.DeletionTimestamp}
		})
		checkSame(t, object, Slices.Trim, func(s *discoveryv1.EndpointSlice) []any {
			p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "a", UID: "x"}}
			p.Status.PodIPs = []corev1.PodIP{{IP: "10.0.0.1"}}
			keys := slicePods(s)
			slices.Sort(keys)
			return []any{ServiceOf(s), keys, namesPod(s, p), portsOfOthers(p, []*discoveryv1.EndpointSlice{s})}
		})
		checkSame(t, object, Ingresses.Trim, func(i *networkingv1.Ingress) []any { return []any{ingressRecords(i), backends(i)} })
	})
}

// checkSame reads an object, as far as it is one of its kind, before and after trimming.
func checkSame[T any](t *testing.T, object []byte, trim cache.TransformFunc, read func(*T) []any) {
	t.Helper()
	whole := new(T)
	if json.Unmarshal(object, whole) != nil {
		return
	}
	once, err := trim(whole)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(read(whole), read(once.(*T)), cmp.AllowUnexported(record{}, link{}, origin{})); d != "" {
		t.Errorf("what is read of a %T (-whole +trimmed):\n%s", whole, d)
	}
	if twice, err := trim(once); err != nil || !cmp.Equal(once, twice) {
		t.Errorf("trimmed again, error %v:\n%s", err, cmp.Diff(once, twice))
	}
}
