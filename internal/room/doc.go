// Package room holds the words that all of Roomcast speaks: a room's name, its
// policy, a message, a position in a room's log, and the one error type with its
// table of reasons. It knows nothing of NATS, gRPC or sockets and imports the
// standard library only.
package room
