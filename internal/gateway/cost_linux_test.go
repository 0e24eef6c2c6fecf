package gateway

import (
	"testing"
	"unsafe"
)

// What a socket keeps, in bytes. docs/design.md has the table; a change of these is a
// change of every idle socket's memory.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]struct{ got, want uintptr }{
		"session":    {unsafe.Sizeof(session{}), 696},
		"requests":   {unsafe.Sizeof(requests{}), 208},
		"outbox":     {unsafe.Sizeof(outbox{}), 104},
		"writer":     {unsafe.Sizeof(writer{}), 112},
		"rooms":      {unsafe.Sizeof(rooms{}), 40},
		"fdSocket":   {unsafe.Sizeof(fdSocket{}), 40},
		"tlsSocket":  {unsafe.Sizeof(tlsSocket{}), 64},
		"recordConn": {unsafe.Sizeof(recordConn{}), 80},
	} {
		if size.got > size.want {
			t.Errorf("%s has %d bytes, want at most %d", name, size.got, size.want)
		}
	}
}
