// Package sim is one simulated world to prove drain-wait in: an AWS account with
// load balancers that learn late, a Kubernetes cluster with its controllers and
// kubelets, and clients that count every failed request.
//
// It has an HTTP face for each API, true enough that the real AWS SDK and the
// real client-go work against it: [World.AWSHandler] (the Query APIs of ELBv2
// and STS) and [World.KubeHandler] (reads, watches and writes of what it has). It runs in
// real time over sockets, or in virtual time inside a testing/synctest bubble.
// It imports no other package of this project, so it cannot inherit their
// mistakes.
//
// What it takes for granted about the world, each number with its source, is in
// [Assumptions]; docs/simulator.md is made from there.
package sim
