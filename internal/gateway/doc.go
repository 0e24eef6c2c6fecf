// Package gateway is the public edge: it upgrades HTTP requests to WebSockets,
// authenticates them, reads their frames and writes what their cursors are behind
// by. docs/protocol.md is what it obeys.
//
// A socket that has something to say is read by a worker, an idle one is parked; a
// flusher, one of about as many as there are cores, writes it and never waits for it.
// The reader never writes, the flusher never reads, and neither holds messages: what a socket has still to get is its cursors' distance
// from their rooms' heads. docs/design.md §5 tells a socket's life.
//
// Lock order: an outbox's and a flusher's lock come after the hub's and are never held
// while calling into it.
package gateway
