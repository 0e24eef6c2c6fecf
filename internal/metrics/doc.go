// Package metrics holds every Prometheus collector of a node, in one file with its
// meaning, and serves them. It must never have a room, a user or a connection as a
// label: label sets are small, fixed and named by constants elsewhere (reasons, close
// codes). Nothing here blocks; every method is safe for concurrent use.
package metrics
