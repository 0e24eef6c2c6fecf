// Package nodetest starts real nodes and real NATS servers for tests: in the test's
// process, or as child processes that can be paused and killed. Nothing in it is a
// fake, everything listens on loopback with port 0, and [Eventually] is the only way
// to wait.
package nodetest
