// Package presence tells who is where. The node that holds a socket owns the fact: a
// question goes to all live nodes, whose answers are put together, and the result says
// who did not answer. A watch of a room is a snapshot and the deltas that nodes tell
// after it, numbered, so that a loss shows and is mended by another snapshot.
//
// Nothing is kept of what nobody watches, and nothing travels while nobody asks. What
// a node does not know it must never make up: an answer is complete, or it says that it
// is not.
//
// Lock order: watched.mu, then the outbox of a socket that listens; before them only a
// session's rooms. watches.mu is held with none of them. leases.mu, then the hub's, then
// leases.queueMu.
package presence
