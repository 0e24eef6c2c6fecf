// Package auth says who calls and what that caller may do: it verifies tokens (JWT),
// holds the keys, and answers whether a room or a gRPC service is granted.
//
// It never touches the network, never reads a key that a token brings along (jwk,
// jku, x5c, x5u), never lets a key serve another algorithm than its own, and never
// puts a token or the reason of a refused signature into an error's text. Errors
// about tokens are *[room.Error] of kind Unauthenticated; their cause is for logs.
package auth
