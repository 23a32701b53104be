package server

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"drainwait/internal/drain"
)

// TestStatusOf is what the hooks of others rely on: 200 is never the status of an error,
// and 503 alone says that another replica may help.
func TestStatusOf(t *testing.T) {
	for _, tt := range []struct {
		err    error
		status int
		name   string
	}{
		{&badParameter{"ip", "x", "an address"}, http.StatusBadRequest, "bad_request"},
		{drain.ErrNotFound, http.StatusNotFound, "not_found"},
		{drain.ErrUnsupported, http.StatusUnprocessableEntity, "unsupported_targets"},
		{errTooMany, http.StatusTooManyRequests, "too_many_waits"},
		{drain.ErrRefused, http.StatusBadGateway, "refused_by_aws"},
		{drain.ErrUnavailable, http.StatusServiceUnavailable, "unavailable"},
		{errors.New("who knows"), http.StatusInternalServerError, "internal"},
		{context.DeadlineExceeded, http.StatusInternalServerError, "internal"},
	} {
		if status, name := statusOf(fmt.Errorf("wait for pod default/web-1: %w", tt.err)); status != tt.status || name != tt.name {
			t.Errorf("%v: got %d %s, want %d %s", tt.err, status, name, tt.status, tt.name)
		}
	}
}
