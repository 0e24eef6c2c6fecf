package hub

import (
	"container/list"
	"sync"
	"time"

	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// page is a stretch of a room's log that was read for a cursor. What it says stays
// true; its frames are made when first needed.
type page struct {
	// static
	after room.Position
	gap   room.GapReason // why it does not prove to follow after
	last  room.Position
	head  room.Position // of the room on this node when the log was asked
	size  int           // about what it costs in bytes, frames included

	mu      sync.Mutex // guards the entries' frames
	entries []entry

	room *Room         // guarded by the shelf's lock, as what follows
	used time.Time     // last
	item *list.Element // in shelf.recent; nil once dropped
}

func newPage(after room.Position, read room.Page, head room.Position) *page {
	pg := &page{after: after, gap: read.Gap, last: read.Last, head: head, entries: make([]entry, len(read.Messages))}
	for i, m := range read.Messages {
		pg.entries[i].msg = m
		pg.size += 2 * wire.JSON.SizeHint(m)
	}
	pg.size += 256
	return pg
}

// find returns which entry follows a position, if the page proves that.
func (pg *page) find(pos room.Position) (next int, ok bool) {
	if pos == pg.after {
		return 0, true
	}
	if pos.Epoch != pg.last.Epoch || pos.Seq >= pg.last.Seq {
		return 0, false
	}
	lo, hi := 0, len(pg.entries)
	for lo < hi {
		mid := (lo + hi) / 2
		if pg.entries[mid].msg.Position.Seq < pos.Seq {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo + 1, lo < len(pg.entries) && pg.entries[lo].msg.Position == pos
}

// maxPages is how many pages of one room are kept: a look goes through all of them,
// and a client may ask for one from each position that it makes up.
const maxPages = 512

// shelf keeps the pages that were read last, for all rooms within one bound: sockets
// at the same place share them, and one that is slow leaves nothing in memory.
type shelf struct {
	maxBytes int // static

	mu     sync.Mutex // guards what follows; after Room.mu
	rooms  map[*Room][]*page
	recent list.List // of *page, the one used last in front
	bytes  int
}

// find looks for a page that has what follows a position.
func (s *shelf) find(r *Room, pos room.Position) (*page, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pg := range s.rooms[r] {
		if next, ok := pg.find(pos); ok {
			s.recent.MoveToFront(pg.item)
			pg.used = time.Now()
			return pg, next
		}
	}
	return nil, 0
}

// put keeps a page in place of one that was read after the same position, or of the
// room's that was used least recently if it has its share.
func (s *shelf) put(r *Room, pg *page) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rooms == nil {
		s.rooms = make(map[*Room][]*page)
	}
	if old := s.replaced(r, pg); old != nil {
		s.remove(old)
	}
	pg.room, pg.used, pg.item = r, time.Now(), s.recent.PushFront(pg)
	s.rooms[r] = append(s.rooms[r], pg)
	s.bytes += pg.size
	for s.bytes > s.maxBytes && s.recent.Len() > 1 {
		s.removeLast()
	}
}

// replaced returns which page of a room goes for a new one, nil if none has to.
func (s *shelf) replaced(r *Room, pg *page) *page {
	var oldest *page
	for _, old := range s.rooms[r] {
		if old.after == pg.after {
			return old
		}
		if oldest == nil || old.used.Before(oldest.used) {
			oldest = old
		}
	}
	if len(s.rooms[r]) < maxPages {
		return nil
	}
	return oldest
}

// drop forgets a room's pages.
func (s *shelf) drop(r *Room) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, pg := range s.rooms[r] {
		s.recent.Remove(pg.item)
		s.bytes -= pg.size
	}
	delete(s.rooms, r)
}

// cool forgets pages that nobody has used for a while. It reports whether none is
// left.
func (s *shelf) cool(now time.Time) (empty bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for last := s.recent.Back(); last != nil; last = s.recent.Back() {
		if pg, ok := last.Value.(*page); ok && now.Sub(pg.used) < idleAfter {
			return false
		}
		s.removeLast()
	}
	return true
}

func (s *shelf) removeLast() {
	if pg, ok := s.recent.Back().Value.(*page); ok {
		s.remove(pg)
	}
}

func (s *shelf) remove(pg *page) {
	pages := s.rooms[pg.room]
	for i, other := range pages {
		if other == pg {
			pages[i] = pages[len(pages)-1]
			pages[len(pages)-1] = nil
			pages = pages[:len(pages)-1]
			break
		}
	}
	if len(pages) == 0 {
		delete(s.rooms, pg.room)
	} else {
		s.rooms[pg.room] = pages
	}
	s.recent.Remove(pg.item)
	s.bytes -= pg.size
}
