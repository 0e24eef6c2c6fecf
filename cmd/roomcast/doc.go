// Command roomcast runs a node and talks to nodes: serve, pub, sub, tokens, health
// and configuration. main only calls run; each subcommand is one file. The package
// turns flags, environment and files into the Config of the packages below and
// prints what they answer; it never speaks NATS or WebSocket itself and decides
// nothing about messages.
package main
