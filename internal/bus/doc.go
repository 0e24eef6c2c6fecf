// Package bus is Roomcast's only way to NATS: it stores publications in the log,
// hears what the log republishes for the rooms that this node has, fills holes from
// the log before anything is delivered, and reads the log for those who are behind.
//
// What it promises to its callers: a room is told each stored message once, in the
// order of the log, or is told of a break. It never delivers a message that the log
// has not assigned a sequence to, never blocks one room for another's hole, and
// never puts a raw room name into a subject.
package bus
