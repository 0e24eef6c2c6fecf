package api

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/hub"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

// peer is a socket whose user's name is as long as can be.
type peer struct {
	lane *hub.Lane
	name string
}

func (p peer) User() string {
	return p.name + strings.Repeat("u", room.MaxUserLen-len(p.name))
}
func (p peer) Connection() string                  { return p.name }
func (peer) Format() wire.Format                   { return wire.JSON }
func (p peer) Lane() *hub.Lane                     { return p.lane }
func (peer) Behind(*hub.Cursor)                    {}
func (peer) Deliver(_ *hub.Cursor, f [][]byte) int { return len(f) }

// The snapshot of a room that is too large for one message of a usual gRPC client comes
// in parts, with all that it says of itself in the last one.
func TestWatchLargeRoom(t *testing.T) {
	t.Parallel()
	const members = 30_000
	var rooms Rooms
	ts := start(t, func(c *Config, _ *recorder) { rooms = c.Rooms })
	lane := hub.NewLane(func(*hub.Part) {})
	for i := range members {
		c, _, err := rooms.Join(t.Context(), time.Now().Add(patience), "a", room.Position{}, peer{lane, fmt.Sprint("c", i)})
		if err != nil {
			t.Fatal(err)
		}
		c.Start()
		t.Cleanup(c.Leave)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*patience)
	defer cancel()
	watch := func() roomcastv1.PresenceService_WatchRoomClient {
		stream, err := roomcastv1.NewPresenceServiceClient(ts.conn).WatchRoom(ctx, &roomcastv1.WatchRoomRequest{Room: "a"})
		if err != nil {
			t.Fatal(err)
		}
		return stream
	}
	first := watch() // on a busy machine the node may tell of its members late: then they join
	for there := 0; there < members; {
		resp, err := first.Recv()
		if err != nil {
			t.Fatalf("after %d members: %v", there, err)
		}
		there += len(resp.GetSnapshot().GetMembers())
		if resp.GetJoin() != nil {
			there++
		}
	}
	second, there := watch(), make(map[string]bool)
	for parts, more := 1, true; more; parts++ {
		resp, err := second.Recv()
		if err != nil {
			t.Fatalf("part %d: %v", parts, err)
		}
		s := resp.GetSnapshot()
		for _, m := range s.GetMembers() {
			there[m.GetConnection()] = true
		}
		if size := proto.Size(resp); size > 2*snapshotPart {
			t.Errorf("part %d has %d bytes", parts, size)
		}
		if more = s.GetMore(); more && s.GetComplete() {
			t.Errorf("part %d is complete, and more follows", parts)
		}
	}
	if len(there) != members {
		t.Errorf("%d members in all parts, want %d", len(there), members)
	}
}
