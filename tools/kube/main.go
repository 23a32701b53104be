// Command kube is a Kubernetes control plane in one binary: etcd, the API server
// and the controllers, built from the published modules, for the end-to-end
// tests. Its first argument says which of them to be; the other arguments are
// those of the real program.
package main

import (
	"fmt"
	"net/url"
	"os"

	"go.etcd.io/etcd/server/v3/embed"
	"k8s.io/component-base/cli"
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllers "k8s.io/kubernetes/cmd/kube-controller-manager/app"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: kube etcd|kube-apiserver|kube-controller-manager [ARGUMENT...]")
		os.Exit(2)
	}
	name := os.Args[1]
	os.Args = os.Args[1:]
	switch name {
	case "etcd":
		fmt.Fprintln(os.Stderr, etcd(os.Args[1:]))
		os.Exit(1)
	case "kube-apiserver":
		os.Exit(cli.Run(apiserver.NewAPIServerCommand()))
	case "kube-controller-manager":
		os.Exit(cli.Run(controllers.NewControllerManagerCommand()))
	default:
		fmt.Fprintf(os.Stderr, "kube: no component %q\n", name)
		os.Exit(2)
	}
}

// etcd serves the store of one member until it fails or is killed. The
// arguments are its directory, its client URL and its peer URL. Nothing is
// synced to disk: what a test writes need not outlive the machine.
func etcd(args []string) error {
	if len(args) != 3 {
		return fmt.Errorf("etcd: want DIRECTORY CLIENT-URL PEER-URL, got %q", args)
	}
	client, err := url.Parse(args[1])
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	peer, err := url.Parse(args[2])
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	config := embed.NewConfig()
	config.Dir, config.UnsafeNoFsync, config.LogLevel = args[0], true, "warn"
	config.ListenClientUrls, config.AdvertiseClientUrls = []url.URL{*client}, []url.URL{*client}
	config.ListenPeerUrls, config.AdvertisePeerUrls = []url.URL{*peer}, []url.URL{*peer}
	config.InitialCluster = config.InitialClusterFromName(config.Name)
	server, err := embed.StartEtcd(config)
	if err != nil {
		return fmt.Errorf("etcd: %w", err)
	}
	return <-server.Err()
}
