// Package chaos runs the shipped program as a cluster of processes, breaks it by a
// schedule that a seed decides, and proves from what was recorded that nothing was
// lost silently: three nodes, three nats-servers, sockets that leave and resume while
// messages are published all the time.
//
// Three parts that know little of each other: a run (the _test.go files) breaks things
// and records a [Story]; the story is what every socket saw, what every publication was
// answered, and the log as nats.go reads it; [Check] judges the story. The sockets are
// gorilla's with a reader of their own, and nothing here may use our client, our bus or
// our position code: a checker must not share the mistakes of what it checks.
package chaos
