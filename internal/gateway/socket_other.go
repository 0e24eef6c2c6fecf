//go:build !linux

package gateway

import "net"

// vector is the scratch of writev on Linux.
type vector struct{}

func newVector() *vector { return nil }

// pollers has nothing to wait for: every socket is a waitingSocket.
type pollers struct{}

func (*pollers) stop() {}

func (*session) newFDSocket(net.Conn) socket { return nil }
