package hub

import (
	"testing"

	"github.com/roomcast/roomcast/internal/room"
)

// A purge is told once to each cursor before it, wherever that is served from, without
// a read of the log for those whom the ring can tell; who falls out of the ring by it
// is not slow.
func TestPurge(t *testing.T) {
	t.Parallel()
	for _, name := range []room.Name{"a", "strict:a"} {
		w := newWorld(t, &quietSource{head: at(10)}, &pages{})
		c, current := w.join(name, room.Position{})
		slow, behind := w.join(name, room.Position{})
		behind.room = -1
		c.append(11, 13)
		current.want(Current, texts(11, 13, "")...)
		c.part.room.Purged(at(14))
		c.append(15, 15)
		current.want(Current, "gap TRUNCATED", "m 15")
		behind.room = 0
		behind.Behind(slow)
		behind.want(Current, "gap TRUNCATED", "m 15")
		_, late := w.join(name, room.Position{})
		late.want(Current)
		_, marker := w.join(name, at(14)) // resumes where the gap has left it
		marker.want(Current, "m 15 replayed")
		c.append(16, 16)
		for _, r := range []*reader{current, behind, late, marker} {
			r.want(Current, "m 16")
		}
	}
}

// The gap says after which message of the cursor's own something is missing, and where
// it stands now.
func TestPurgeGapPositions(t *testing.T) {
	t.Parallel()
	w := newWorld(t, &quietSource{head: at(10)}, &pages{})
	c, _ := w.join("a", room.Position{})
	slow, behind := w.join("a", room.Position{})
	behind.room = 1
	c.append(11, 13)
	w.settle()
	c.part.room.Purged(at(14))
	p := &w.lane.plan
	for cursor, want := range map[*Cursor]room.Position{c: at(13), slow: at(11)} {
		p.make(cursor, maxFrames, now())
		if len(p.frames) != 1 || p.spot.at != at(14) || cursor.At() != want {
			t.Errorf("%d frames from %v to %v, want the gap from %v to %v", len(p.frames), cursor.At(), p.spot.at, want, at(14))
		}
		p.forget()
	}
}

// More than a ring of messages follow the purge before the socket's turn: the log
// tells, and not the ring again.
func TestPurgeThenRingTurnsOver(t *testing.T) {
	t.Parallel()
	log := &pages{list: []room.Page{{Gap: room.Truncated, Messages: messages(15, 34), Last: at(34), More: true}}}
	inBubble(t, log, func(t *testing.T, w *world) {
		c, r := w.join("a", room.Position{})
		c.part.room.Purged(at(14))
		c.append(15, 39)
		r.wantRead(Current, append([]string{"gap TRUNCATED"}, texts(15, 39, "")...)...)
	})
}

// Who resumes from before a purge is told by the log, once, also if nothing followed.
func TestResumeBeforePurge(t *testing.T) {
	t.Parallel()
	emptied := room.Page{Gap: room.Truncated, Last: at(14)} // all that the log has is the marker
	tests := map[string]struct {
		pages []room.Page
		want  []string
	}{
		"the log has the marker":   {[]room.Page{emptied}, []string{"gap TRUNCATED"}},
		"the marker has gone, too": {[]room.Page{{Gap: room.Truncated}}, []string{"gap TRUNCATED"}},
		"purged while it was read": {
			[]room.Page{{Messages: messages(6, 9), Last: at(9), More: true}, emptied},
			append(texts(6, 9, " replayed"), "gap TRUNCATED"),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, &pages{list: test.pages}, func(_ *testing.T, w *world) {
				keep, _ := w.join("a", room.Position{})
				keep.part.room.Purged(at(14))
				_, r := w.join("a", at(5))
				r.wantRead(Current, test.want...)
				keep.append(15, 15)
				r.want(Current, "m 15")
			})
		})
	}
}

// A cursor that resumed ahead of this node has seen the purge elsewhere.
func TestPurgeBehindWhoIsAhead(t *testing.T) {
	t.Parallel()
	for _, after := range []room.Position{at(14), at(20)} {
		inBubble(t, &pages{list: []room.Page{{}}}, func(_ *testing.T, w *world) {
			keep, _ := w.join("a", room.Position{})
			_, ahead := w.join("a", after)
			ahead.wantRead(Current)
			keep.part.room.Purged(at(14))
			keep.append(20, 21)
			want := texts(20, 21, "")
			if after == at(20) {
				want = want[1:]
			}
			ahead.wantRead(Current, want...)
		})
	}
}
