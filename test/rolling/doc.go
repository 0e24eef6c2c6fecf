// Package rolling restarts the nodes of a running service one after the other under
// load, as a deploy does, and finds out what the clients noticed: real node processes
// on an external nats-server, a small TCP load balancer before them, Go clients behind
// it in processes of their own, which check every message of their rooms.
//
// It must never judge by what a node says of itself, but for the pace that it names.
package rolling
