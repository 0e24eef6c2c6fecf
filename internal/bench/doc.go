// Package bench puts load on running nodes and measures what they do with it: it opens
// sockets, publishes to their rooms, checks that every socket gets every message once
// and in order, and counts the processor time that the nodes spent on it.
//
// Some sockets may stand beside: they stop reading for a while and are checked like all
// others, and nothing waits for them.
//
// It judges the nodes, so it must never be kinder than a user: a message is in flight
// until its last socket has it, latency counts from when a message was due, and what is
// lost, repeated or out of order is an error and not a footnote. It must cost little,
// because it often shares the machine with what it measures: sockets are read raw, many
// messages a system call, and a message is found in its frame without parsing it.
package bench
