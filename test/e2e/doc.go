// Package e2e tests the program as it is shipped: the binary that `go build` makes,
// each command a process of its own, together with a nats-server and with clients
// that are not ours (grpcurl, wscat). It looks at nothing but what a user sees:
// arguments, standard output, exit codes, the network. It never waits for time to
// pass, only for a condition.
package e2e
