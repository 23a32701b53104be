package request

import (
	"net/http/httptest"
	"testing"
)

func TestKeyOfRequestIsNotByChance(t *testing.T) {
	key := func(query string) string {
		return Understand(httptest.NewRequest("GET", "/api/v1/pods?"+query, nil)).Key
	}
	if a, b := key("watch=1&timeoutSeconds=301&resourceVersion=2"), key("resourceVersion=2&timeoutSeconds=577&watch=1"); a != b {
		t.Errorf("one request has the keys %q and %q", a, b)
	}
	if a, b := key("watch=1&resourceVersion=2"), key("watch=1&resourceVersion=3"); a == b {
		t.Errorf("two requests have the key %q", a)
	}
}
