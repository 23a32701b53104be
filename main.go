// Drain-wait tells a pod behind an AWS load balancer when it may stop.
//
// It answers GET /drain-delay on :8080, which a preStop hook calls, as soon as no
// load balancer sends the pod new requests any more, or when the hook's budget is
// spent. Health, readiness and metrics are on :9090.
//
// Without a command it serves; `drain-wait --help` lists the commands. Each flag
// can be given in the environment too: --aws-region as DRAIN_WAIT_AWS_REGION. A
// flag on the command line wins.
package main

import (
	"os"

	// The CA certificates for the endpoints of AWS, since the image has no files of its
	// own. They count only where the system has none.
	_ "golang.org/x/crypto/x509roots/fallback"

	"drainwait/internal/cli"
)

// version is set by the linker in a release.
var version string

func main() { os.Exit(cli.Main(version)) }
