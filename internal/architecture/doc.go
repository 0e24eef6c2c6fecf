// Package architecture holds the tests that keep the repository in the shape
// that docs/design.md gives it: which package may import which, what may lie at
// the top level, how long a file and a function may be, and that each direct
// dependency has its reason written down. It has no other code, nothing may
// import it, and it must never start a node or reach for the network.
package architecture
