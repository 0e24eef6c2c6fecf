// Program bench measures the table of docs/benchmarks.md from end to end: for each row
// it starts the shipped program as its users do (default settings, tokens required, its
// metrics scraped every 5 s), puts load on it with `roomcast bench` in a process of its
// own, takes the median of several runs and prints the row with its goal and its peers.
// Row raw has no service but a writer of its own, for comparing machines.
//
// It must never measure in its own process, never change a setting without the table
// saying so, and never hide that something else used the machine meanwhile.
package main
