// Package gateway is the public edge: it upgrades HTTP requests to WebSockets,
// authenticates them, reads their frames and writes what their cursors are behind
// by. docs/protocol.md is what it obeys.
//
// One goroutine reads a socket and one writes it. The reader never writes, the
// writer never waits for the reader, and neither holds messages: what a socket has
// still to get is its cursors' distance from their rooms' heads.
package gateway
