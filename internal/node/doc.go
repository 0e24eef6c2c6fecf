// Package node is one running Roomcast process: it checks what it is told, makes the
// parts, joins them by hand, runs them, and takes them down in the order that loses
// nothing. It is the only place that knows all parts, and has no logic of theirs.
package node
