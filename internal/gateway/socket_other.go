//go:build !linux

package gateway

import (
	"errors"
	"net"
)

// vector is the scratch of writev on Linux.
type vector struct{}

func newVector() *vector { return nil }

// pollers has nothing to wait for: every socket is a waitingSocket.
type pollers struct{}

func (*pollers) stop() {}

// fdSocket is never made here.
type fdSocket struct{ waitingSocket }

func (*session) newFDSocket(net.Conn) *fdSocket { return nil }

func (*fdSocket) Read([]byte) (int, error) { return 0, errors.ErrUnsupported }

func (*fdSocket) park() error { return errors.ErrUnsupported }

func (*fdSocket) hangUp() {}

func (*fdSocket) close() {}
