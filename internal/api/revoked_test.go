package api

import (
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// TestRevokedStreams: a stream that was open when its token was revoked gets no more
// events, and publishes nothing more; what it has published before is answered.
func TestRevokedStreams(t *testing.T) {
	t.Parallel()
	var verifier *auth.Verifier
	ts := start(t, func(c *Config, r *recorder) {
		production(c, r)
		held(c, r)
		verifier, _ = c.Verifier.(*auth.Verifier)
	})
	all := map[string][]string{"*": {"subscribe"}}
	ann := bearer(t, auth.Claims{User: "ann", RPC: []string{"history", "publish"}, Rooms: all})
	bob := bearer(t, auth.Claims{User: "bob", RPC: []string{"history"}, Rooms: all})
	watch := openWatch(ann, t, ts, &roomcastv1.WatchMessagesRequest{Room: "a", Raw: true})
	other := openWatch(bob, t, ts, &roomcastv1.WatchMessagesRequest{Room: "a", Raw: true})
	watch.room.Append(numbered("a", 101))
	watch.want(`e.101.7 raw:"x"`)
	other.want(`e.101.7 raw:"x"`)
	stream := openStream(ann, t, ts)
	send(t, stream, text("a", "before"))
	release := <-ts.held

	verifier.Revoke([]room.Revocation{{User: "ann", Before: room.AnyTime, Until: time.Now().Add(time.Hour)}}, time.Now())
	watch.room.Append(numbered("a", 102))
	other.want(`e.102.7 raw:"x"`)
	revoked := want{code: codes.Unauthenticated, reason: room.ReasonTokenRevoked}
	_, err := watch.Recv()
	revoked.check(t, status.Convert(err))
	send(t, stream, text("a", "after"))
	release()
	wantID(t, stream, 1)
	_, err = stream.Recv()
	revoked.check(t, status.Convert(err))
	if seen := ts.seen(); len(seen) != 1 {
		t.Errorf("%d messages were published, want the one before", len(seen))
	}
	_, err = roomcastv1.NewPublishServiceClient(ts.conn).Publish(ann, text("a", "again"))
	revoked.check(t, status.Convert(err))
}
