package bench

import (
	"context"
	"sync"
)

// window holds the messages in flight: from their publish until their last delivery.
type window struct {
	free  chan uint16 // places that hold no message
	slots []flight
}

// flight is one place of the window.
type flight struct {
	mu   sync.Mutex
	key  uint64 // which message; 0 = none
	left int    // deliveries to come
	sent int64  // nanoseconds of the run's clock
	last int64  // the latest delivery until now
}

// keyOf names a message by its room and number; it is never 0.
func keyOf(room, seq uint32) uint64 { return uint64(room)<<32 | (uint64(seq) + 1) }

// splitKey is the reverse of keyOf.
func splitKey(key uint64) (room, seq uint32) {
	return uint32(key >> 32), uint32(key) - 1 //nolint:gosec // the halves
}

func newWindow(size int) *window {
	w := &window{free: make(chan uint16, size), slots: make([]flight, size)}
	for i := range size {
		w.free <- uint16(i)
	}
	return w
}

// acquire waits for a free place. It reports false when ctx has ended.
func (w *window) acquire(ctx context.Context) (slot uint16, ok bool) {
	select {
	case slot = <-w.free:
		return slot, true
	default:
	}
	select {
	case slot = <-w.free:
		return slot, true
	case <-ctx.Done():
		return 0, false
	}
}

// tryAcquire is acquire for who has something else to do.
func (w *window) tryAcquire() (slot uint16, ok bool) {
	select {
	case slot = <-w.free:
		return slot, true
	default:
		return 0, false
	}
}

// begin puts a message that expects left deliveries into an acquired place.
func (w *window) begin(slot uint16, key uint64, left int, sent int64) {
	f := &w.slots[slot]
	f.mu.Lock()
	f.key, f.left, f.sent, f.last = key, left, sent, sent
	f.mu.Unlock()
	if left == 0 {
		w.end(slot, key)
	}
}

// delivered notes count deliveries of a message, the latest at now. If they were the
// last ones the place is free, and it returns when the message was sent and when it was
// delivered last.
func (w *window) delivered(slot uint16, key uint64, count int, now int64) (sent, last int64, done bool) {
	f := &w.slots[slot]
	f.mu.Lock()
	if f.key != key {
		f.mu.Unlock()
		return 0, 0, false
	}
	f.left -= count
	f.last = max(f.last, now)
	sent, last, done = f.sent, f.last, f.left <= 0
	if done {
		f.key = 0
	}
	f.mu.Unlock()
	if done {
		w.free <- slot
	}
	return sent, last, done
}

// end frees a place whose message expects nothing any more. It reports false if its
// last delivery was faster.
func (w *window) end(slot uint16, key uint64) bool {
	f := &w.slots[slot]
	f.mu.Lock()
	held := f.key == key
	if held {
		f.key = 0
	}
	f.mu.Unlock()
	if held {
		w.free <- slot
	}
	return held
}

// giveUp frees the places of all messages in flight, and returns how many those were.
func (w *window) giveUp() (count int) {
	for i := range w.slots {
		f := &w.slots[i]
		f.mu.Lock()
		key := f.key
		f.mu.Unlock()
		if key != 0 && w.end(uint16(i), key) {
			count++
		}
	}
	return count
}

// idle reports whether nothing is in flight.
func (w *window) idle() bool { return len(w.free) == cap(w.free) }

// of lists the messages of a room that are in flight, with their places.
func (w *window) of(room uint32) map[uint16]uint64 {
	found := make(map[uint16]uint64)
	for i := range w.slots {
		f := &w.slots[i]
		f.mu.Lock()
		key := f.key
		f.mu.Unlock()
		if in, _ := splitKey(key); key != 0 && in == room {
			found[uint16(i)] = key
		}
	}
	return found
}
