package hub

import (
	"testing"
	"unsafe"
)

// What a room and a cursor keep, in bytes; docs/design.md has the table.
func TestSizes(t *testing.T) {
	t.Parallel()
	for name, size := range map[string]struct{ got, want uintptr }{
		"Room":   {unsafe.Sizeof(Room{}), 344},
		"Part":   {unsafe.Sizeof(Part{}), 64},
		"Cursor": {unsafe.Sizeof(Cursor{}), 128},
	} {
		if size.got > size.want {
			t.Errorf("%s has %d bytes, want at most %d", name, size.got, size.want)
		}
	}
}
