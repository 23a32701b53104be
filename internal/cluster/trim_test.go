package cluster

import (
	"bytes"
	"encoding/json"
	"testing"
)

// Of a pod nothing is kept that is not read. That the rest stays is FuzzTrimPod's.
func TestTrim(t *testing.T) {
	full := parse(t, `
kind: Pod
metadata: {name: a, uid: x, resourceVersion: "1", labels: {app: web}, annotations: {junk: junk}, finalizers: [junk], deletionTimestamp: "2000-01-01T00:01:00Z", deletionGracePeriodSeconds: 20}
spec:
  nodeName: junk
  terminationGracePeriodSeconds: 90
  initContainers: [{name: setup, image: junk}, {name: mesh, image: junk, restartPolicy: Always}]
  containers:
  - {name: app, image: junk, env: [{name: junk, value: junk}], ports: [{name: junk, containerPort: 80}], lifecycle: {preStop: {exec: {command: [junk]}}}}
status: {phase: Running, podIP: 10.0.0.1, hostIP: 10.1.0.1, message: junk, conditions: [
  {type: Ready, status: "True", message: junk}, {type: ContainersReady, status: "False", lastTransitionTime: "2000-01-01T00:00:04Z"},
  {type: PodScheduled, status: "True", reason: junk}, {type: target-health.elbv2.k8s.aws/web, status: "False"}]}`)[0]
	trimmed, err := trimPod(full)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(trimmed)
	if err != nil || bytes.Contains(text, []byte("junk")) {
		t.Errorf("error %v: %s", err, text)
	}
}
