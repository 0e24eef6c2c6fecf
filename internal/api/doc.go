// Package api is the control edge: the gRPC services of roomcast.v1. A handler
// converts, validates, authorises, calls what is behind one of the interfaces
// declared here ([Publisher], [Log], [Rooms], [Connections], [Verifier]) and nothing else; errors go
// back through the one table of errors.go.
//
// It never talks to NATS, never delivers to sockets, keeps no message longer than
// the call that brought it, and never reports a failure inside an OK, except as
// each item's status in PublishBatch and PublishStream.
package api
