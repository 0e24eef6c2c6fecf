// Package wire turns socket frames into bytes and back: the JSON and the
// protobuf subprotocol (docs/protocol.md), the header of a WebSocket frame, and the ways between the
// public messages and package room's words. A message is encoded once for each
// format, whoever reads it. Nothing here does I/O, starts a goroutine, keeps a
// buffer of its caller or logs; what a client sent is never echoed beyond a short
// field name.
package wire
