package e2e

import "testing"

// serviceKubeconfig is that of the account that the service is deployed with.
func (tb *testbed) serviceKubeconfig(t *testing.T) string {
	t.Helper()
	return tb.kubeconfig(t, "admin", adminToken)
}
