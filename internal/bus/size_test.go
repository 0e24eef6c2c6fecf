package bus

import (
	"testing"
	"unsafe"
)

// What the bus keeps of a room, in bytes; docs/design.md has the table.
func TestSizes(t *testing.T) {
	t.Parallel()
	if size := unsafe.Sizeof(liveRoom{}); size > 208 {
		t.Errorf("liveRoom has %d bytes, want at most 208", size)
	}
}
