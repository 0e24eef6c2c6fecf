package main

import "io"
type publishes struct{}
func publishRows() []row { return nil }
func writePublishes(io.Writer, []result) {}
