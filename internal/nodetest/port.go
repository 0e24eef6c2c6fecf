package nodetest

import (
	"runtime"
	"syscall"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
)

// reservePort returns a port of loopback that nobody but the test's server gets until
// the test ends: while the server is stopped, a listener of another test could take it.
// A socket that is bound and does not listen keeps it, as Linux has it; elsewhere the
// server chooses.
func reservePort(t testing.TB) int {
	t.Helper()
	if runtime.GOOS != "linux" {
		return server.RANDOM_PORT
	}
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	addr, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return addr.(*syscall.SockaddrInet4).Port //nolint:forcetypeassert // it was bound to one
}
