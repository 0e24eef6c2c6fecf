package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// TestStreamAge: a stream ends by itself, all answered, before gRPC would cut it.
func TestStreamAge(t *testing.T) {
	t.Parallel()
	rooms := map[string][]string{"*": {"publish"}}
	tests := map[string]struct {
		ctx  func(*testing.T) context.Context
		age  time.Duration
		want want
	}{
		"old": {
			(*testing.T).Context, maxStreamAge,
			want{code: codes.Unavailable, reason: room.ReasonDraining, text: "age", retry: true},
		},
		"token ends": {
			func(t *testing.T) context.Context {
				t.Helper()
				return bearer(t, auth.Claims{RPC: []string{"publish"}, Rooms: rooms, Expires: time.Now().Add(time.Minute)})
			},
			time.Minute + auth.Leeway,
			want{code: codes.Unauthenticated, reason: room.ReasonTokenExpired},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ts := start(t, held)
				begun := time.Now()
				stream := openStream(tt.ctx(t), t, ts)
				time.Sleep(tt.age - time.Second)
				send(t, stream, text("a", "x"))
				release := <-ts.held
				time.Sleep(2 * time.Second) // the age passes with one in flight
				release()
				wantID(t, stream, 1)
				_, err := stream.Recv()
				tt.want.check(t, status.Convert(err))
				if got := time.Since(begun); got != tt.age+time.Second {
					t.Errorf("ended after %s, want %s: at its age, with the last answer", got, tt.age+time.Second)
				}
			})
		})
	}
}

// TestStreamMessageTimesOut: a bus that never answers costs each message its own
// deadline, not the stream.
func TestStreamMessageTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ts := start(t, held)
		stream := openStream(t.Context(), t, ts)
		for i := range 2 {
			begun := time.Now()
			send(t, stream, text("a", "x"))
			resp, err := stream.Recv()
			if err != nil {
				t.Fatal(err)
			}
			want{code: codes.DeadlineExceeded, reason: room.ReasonOutcomeUnknown}.
				check(t, status.FromProto(resp.GetResult().GetError()))
			if got := time.Since(begun); got != defaultDeadline {
				t.Errorf("message %d: got an answer after %s, want %s", i, got, defaultDeadline)
			}
		}
	})
}
