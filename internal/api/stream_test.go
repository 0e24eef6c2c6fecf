package api

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// held makes sequences wait until the test answers each publication.
func held(_ *Config, r *recorder) { r.hold = true }

func openStream(ctx context.Context, t *testing.T, ts *testServer) roomcastv1.PublishService_PublishStreamClient {
	t.Helper()
	stream, err := roomcastv1.NewPublishServiceClient(ts.conn).PublishStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func send(t *testing.T, stream roomcastv1.PublishService_PublishStreamClient, req *roomcastv1.PublishRequest) {
	t.Helper()
	if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: req}); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// wantID receives the next answer, which must be for the n-th publication.
func wantID(t *testing.T, stream roomcastv1.PublishService_PublishStreamClient, n int) {
	t.Helper()
	resp, err := stream.Recv()
	if err != nil {
		t.Fatalf("receive: %v", err)
	}
	if got, id := resp.GetResult().GetResponse().GetId(), "e."+strconv.Itoa(n)+".1"; got != id {
		t.Fatalf("answer: got %v, want id %s", resp, id)
	}
}

func wantEOF(t *testing.T, stream roomcastv1.PublishService_PublishStreamClient) {
	t.Helper()
	if resp, err := stream.Recv(); !errors.Is(err, io.EOF) {
		t.Fatalf("end: got %v, %v, want EOF", resp, err)
	}
}

func TestStreamAnswersInOrder(t *testing.T) {
	t.Parallel()
	ts := start(t, held)
	stream := openStream(t.Context(), t, ts)
	const n = 100
	releases := make([]func(), n)
	for i := range n {
		send(t, stream, text("room", strconv.Itoa(i)))
	}
	for i := range releases {
		releases[i] = <-ts.held
	}
	for i := range releases {
		releases[n-1-i]() // the last one first
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range n {
		wantID(t, stream, i+1)
	}
	wantEOF(t, stream)
	for i, p := range ts.seen() {
		if got := string(p.Payload.Bytes); got != strconv.Itoa(i) {
			t.Fatalf("publication %d: got %s", i, got)
		}
	}
}

func TestStreamWithoutMessagesEnds(t *testing.T) {
	t.Parallel()
	stream := openStream(t.Context(), t, start(t, nil))
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, stream)
}

func TestStreamGoesOnAfterARefusedMessage(t *testing.T) {
	t.Parallel()
	ts := start(t, production)
	ctx := bearer(t, auth.Claims{RPC: []string{"publish"}, Rooms: map[string][]string{"orders:*": {"publish"}}})
	stream := openStream(ctx, t, ts)
	refused := func(req *roomcastv1.PublishRequest, w want) {
		t.Helper()
		send(t, stream, req)
		resp, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		w.check(t, status.FromProto(resp.GetResult().GetError()))
	}
	refused(nil, want{code: codes.InvalidArgument, reason: room.ReasonInvalidRoom, field: "message.room"})
	refused(text("chat:1", "x"), want{code: codes.PermissionDenied, reason: room.ReasonForbidden})
	for name, tt := range refusals() {
		if strings.HasPrefix(tt.req.GetRoom(), "orders:") {
			w := tt.want
			if w.field != "" {
				w.field = "message." + w.field
			}
			t.Log(name)
			refused(tt.req, w)
		}
	}
	send(t, stream, text("orders:1", "x"))
	wantID(t, stream, 1)
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantEOF(t, stream)
}

// TestStreamWindow: with nothing acknowledged a stream takes its window and no more,
// and takes one more for each answer.
func TestStreamWindow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that no message is too late
		ts := start(t, held)
		stream := openStream(t.Context(), t, ts)
		const n = streamWindow + 200
		sent := make(chan error, 1)
		go func() {
			for i := range n {
				if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: text("room", strconv.Itoa(i))}); err != nil {
					sent <- err
					return
				}
			}
			sent <- stream.CloseSend()
		}()
		var releases []func()
		for range streamWindow {
			releases = append(releases, <-ts.held)
		}
		for i := range n {
			if got := len(ts.seen()); got > streamWindow+i {
				t.Fatalf("after %d answers: got %d messages taken, want at most %d", i, got, streamWindow+i)
			}
			releases[i]()
			wantID(t, stream, i+1)
			if len(releases) < n {
				releases = append(releases, <-ts.held)
			}
		}
		wantEOF(t, stream)
		if err := <-sent; err != nil {
			t.Errorf("send: %v", err)
		}
	})
}

// TestStreamWindowOfBytes: large messages fill the window before their number does.
func TestStreamWindowOfBytes(t *testing.T) {
	t.Parallel()
	ts := start(t, held)
	stream := openStream(t.Context(), t, ts)
	body := strings.Repeat("x", room.MaxMaxPayload)
	const fits = streamWindowBytes / room.MaxMaxPayload
	sent := make(chan error, 1)
	go func() {
		for range 2 * fits {
			if err := stream.Send(&roomcastv1.PublishStreamRequest{Message: text("big:1", body)}); err != nil {
				sent <- err
				return
			}
		}
		sent <- stream.CloseSend()
	}()
	for i := range 2 * fits {
		release := <-ts.held
		if got := len(ts.seen()); got > fits+i {
			t.Fatalf("after %d answers: got %d messages taken, want at most %d", i, got, fits+i)
		}
		release()
		wantID(t, stream, i+1)
	}
	wantEOF(t, stream)
	if err := <-sent; err != nil {
		t.Errorf("send: %v", err)
	}
}

func TestStreamMessagesHaveADeadline(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { // so that no time passes
		ts := start(t, nil)
		stream := openStream(t.Context(), t, ts)
		send(t, stream, text("a", "x"))
		wantID(t, stream, 1)
		if got := ts.deadlines[0]; got != defaultDeadline {
			t.Errorf("got %s left, want %s", got, defaultDeadline)
		}
	})
}

// TestStreamCanceled: what is in flight is given up, and nothing is left behind
// (goleak; Stop waits for the readers).
func TestStreamCanceled(t *testing.T) {
	t.Parallel()
	ts := start(t, held)
	ctx, cancel := context.WithCancel(t.Context())
	stream := openStream(ctx, t, ts)
	for range 10 {
		send(t, stream, text("a", "x"))
	}
	<-ts.held
	cancel()
	if _, err := stream.Recv(); status.Code(err) != codes.Canceled {
		t.Errorf("got %v, want %s", err, codes.Canceled)
	}
	stop, done := context.WithTimeout(t.Context(), patience)
	defer done()
	ts.server.Stop(stop)
	if stop.Err() != nil {
		t.Error("stop: the canceled stream held it up until its deadline")
	}
}

// TestStreamDrains: a draining node answers what a stream gave it, then says why it
// ends.
func TestStreamDrains(t *testing.T) {
	t.Parallel()
	ts := start(t, held)
	stream := openStream(t.Context(), t, ts)
	for range 3 {
		send(t, stream, text("a", "x"))
	}
	var releases []func()
	for range 3 {
		releases = append(releases, <-ts.held)
	}
	stop, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		ts.server.Stop(stop)
	}()
	for i, release := range releases {
		release()
		wantID(t, stream, i+1)
	}
	_, err := stream.Recv()
	want{code: codes.Unavailable, reason: room.ReasonDraining, retry: true}.check(t, status.Convert(err))
	<-stopped
	if stop.Err() != nil {
		t.Error("stop: the stream held it up until its deadline")
	}
}
