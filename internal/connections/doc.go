// Package connections acts on the sockets of all nodes: it lists, closes, subscribes and
// unsubscribes them, and revokes tokens. Each is one question to every live node, which
// the node that holds the sockets answers by its gateway.
//
// It remembers nothing, judges nobody's rights, and never says that all sockets were
// reached when a live node did not answer.
package connections
