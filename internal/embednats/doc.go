// Package embednats runs a NATS server with JetStream inside the process, on files
// under the data directory, for a cluster of one node.
//
// It never opens a port, never touches signals, never shares its directory with
// another process (our own lock sees to that; two servers on one store would both
// start and harm it without a word), and never logs what messages hold.
package embednats
