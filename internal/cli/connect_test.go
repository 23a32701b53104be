package cli

import (
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"sync/atomic"
	"testing"
)

// Whoever hands out credentials, or a proxy in his place, cannot fill the memory.
func TestCredentialsAreReadUpToASize(t *testing.T) {
	var written atomic.Int64
	const most = 256 << 20
	agent := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		chunk := make([]byte, 1<<20)
		for i := range chunk {
			chunk[i] = 'x'
		}
		_, err := rw.Write([]byte(`{"AccessKeyId":"`))
		for err == nil && written.Load() < most {
			var n int
			n, err = rw.Write(chunk)
			written.Add(int64(n))
		}
	}))
	defer agent.Close()
	for _, name := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"} {
		t.Setenv(name, "")
	}
	none := filepath.Join(t.TempDir(), "none")
	t.Setenv("AWS_CONFIG_FILE", none)
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", none)
	t.Setenv("AWS_MAX_ATTEMPTS", "1")
	t.Setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", agent.URL)
	t.Setenv("KUBECONFIG", none)
	o := new(serviceOptions)
	_ = o.connect(t.Context()) // there is no cluster
	if _, err := o.AWS.Credentials.Retrieve(t.Context()); err == nil {
		t.Error("these are credentials?")
	}
	if n := written.Load(); n == 0 || n >= most/2 {
		t.Errorf("%d MiB went out", n>>20)
	}
}
