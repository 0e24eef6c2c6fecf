package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

func refuseBad(m *roomcastv1.PublishRequest, _ int) error {
	if m.GetText() == "bad" {
		return failure(codes.InvalidArgument, "INVALID_TEXT")
	}
	return nil
}

func TestStreamAnswersInOrder(t *testing.T) {
	t.Parallel()
	server := &publishServer{fail: refuseBad}
	stream, err := server.start(t).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	bodies := []Body{Text("a"), Text("bad"), Text("\xff"), Text("b")}
	for i, body := range bodies {
		if err := stream.Send(Message{Room: "r", MessageID: fmt.Sprint(i), Body: body}); err != nil {
			t.Fatalf("send %d: %v", i, err)
		}
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	wantErr := []bool{false, true, true, false}
	for i := range bodies {
		got, err := stream.Recv()
		if err != nil {
			t.Fatalf("recv %d: %v", i, err)
		}
		if got.MessageID != fmt.Sprint(i) || (got.Err != nil) != wantErr[i] {
			t.Errorf("got %+v, want %d, error %t", got, i, wantErr[i])
		}
		if got.Err != nil && !isCode(got.Err, codes.InvalidArgument) {
			t.Errorf("got %v, want INVALID_ARGUMENT", got.Err)
		}
	}
	for range 2 {
		if _, err := stream.Recv(); !errors.Is(err, io.EOF) {
			t.Errorf("got %v, want io.EOF", err)
		}
	}
	if err := stream.Send(Message{}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v from Send, want io.EOF", err)
	}
	if texts := server.texts(); !slices.Equal(texts, []string{"a", "b"}) {
		t.Errorf("got %q in the log, want a, b", texts)
	}
}

func TestStreamHoldsBackAtItsWindow(t *testing.T) {
	t.Parallel()
	server := &publishServer{}
	stream, err := server.start(t, WithWindow(3)).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan int)
	go func() {
		defer close(sent)
		for i := range 5 {
			if stream.Send(Message{Room: "r"}) != nil {
				return
			}
			sent <- i
		}
	}()
	for range 3 {
		<-sent
	}
	select {
	case n := <-sent:
		t.Errorf("got message %d sent with three unanswered and none received", n)
	case <-time.After(50 * time.Millisecond):
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	<-sent
	stream.Close()
	for range sent {
	}
	if _, err := stream.Recv(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v after Close, want context.Canceled", err)
	}
}

func TestStreamTellsThatItBroke(t *testing.T) {
	t.Parallel()
	server := &publishServer{breakAfter: []int{1}}
	stream, err := server.start(t).Stream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(Message{Room: "r"}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if _, err := stream.Recv(); !isCode(err, codes.Unavailable) {
			t.Errorf("got %v, want UNAVAILABLE", err)
		}
	}
	if err := stream.Send(Message{Room: "r"}); !errors.Is(err, io.EOF) {
		t.Errorf("got %v from Send, want io.EOF", err)
	}
}

// numbered yields n messages.
func numbered(n int) iter.Seq[Message] {
	return func(yield func(Message) bool) {
		for i := range n {
			if !yield(Message{Room: fmt.Sprintf("r%d", i%3), Body: Text(fmt.Sprint(i))}) {
				return
			}
		}
	}
}

func numbers(n int) []string {
	var all []string
	for i := range n {
		all = append(all, fmt.Sprint(i))
	}
	return all
}

// TestPublishAllKeepsOrderOverBrokenConnections breaks the connection four times, each
// time with a message stored and unanswered.
func TestPublishAllKeepsOrderOverBrokenConnections(t *testing.T) {
	t.Parallel()
	const count = 5000
	server := &publishServer{breakAfter: []int{1, 700, 1024, 3}}
	var told []string
	duplicates := 0
	err := server.start(t).PublishAll(t.Context(), numbered(count), func(m Message, r Result) error {
		if r.Err != nil || r.MessageID != m.MessageID || m.MessageID == "" {
			t.Errorf("got %+v for %+v", r, m)
		}
		if r.Duplicate {
			duplicates++
		}
		told = append(told, string(m.Body.Bytes()))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if want := numbers(count); !slices.Equal(server.texts(), want) {
		t.Error("the log does not have every message once in order")
	} else if !slices.Equal(told, want) {
		t.Error("the results do not come once each in order")
	}
	if server.streams != 5 || duplicates < 4 {
		t.Errorf("got %d streams and %d duplicates, want 5 and at least 4", server.streams, duplicates)
	}
}

func TestPublishAllGoesOnAfterRefusals(t *testing.T) {
	t.Parallel()
	server := &publishServer{fail: refuseBad}
	messages := slices.Values([]Message{{Body: Text("a")}, {Body: Text("bad")}, {Body: Text("\xff")}, {Body: Text("b")}})
	var failed []bool
	err := server.start(t).PublishAll(t.Context(), messages, func(_ Message, r Result) error {
		failed = append(failed, r.Err != nil)
		return nil
	})
	if err != nil || !slices.Equal(failed, []bool{false, true, true, false}) {
		t.Errorf("got %v, %v, want the two in the middle refused", failed, err)
	}
}

func TestPublishAllOfNothing(t *testing.T) {
	t.Parallel()
	server := &publishServer{}
	if err := server.start(t).PublishAll(t.Context(), numbered(0), nil); err != nil {
		t.Errorf("got %v, want nothing", err)
	}
}

// TestPublishAllStops lets the callback end it, with an error that would otherwise be
// tried again.
func TestPublishAllStops(t *testing.T) {
	t.Parallel()
	server := &publishServer{fail: func(*roomcastv1.PublishRequest, int) error {
		return failure(codes.Unavailable, "BUS_UNAVAILABLE")
	}}
	calls := 0
	err := server.start(t).PublishAll(t.Context(), numbered(10), func(_ Message, r Result) error {
		calls++
		return r.Err
	})
	if !isCode(err, codes.Unavailable) || calls != 1 || server.streams != 1 {
		t.Errorf("got %v after %d results and %d streams, want the first failure", err, calls, server.streams)
	}
}

// TestPublishAllDoesNotWaitForInput ends while its input blocks.
func TestPublishAllDoesNotWaitForInput(t *testing.T) {
	t.Parallel()
	server := &publishServer{}
	release, ended := make(chan struct{}), make(chan struct{})
	messages := func(yield func(Message) bool) {
		defer close(ended)
		if yield(Message{Room: "r"}) {
			<-release
			yield(Message{Room: "r"})
		}
	}
	enough := errors.New("enough")
	err := server.start(t).PublishAll(t.Context(), messages, func(Message, Result) error { return enough })
	if !errors.Is(err, enough) {
		t.Errorf("got %v, want the callback's error", err)
	}
	close(release)
	<-ended
}

func TestPublishAllWithoutServer(t *testing.T) {
	t.Parallel()
	publisher, err := Dial("127.0.0.1:1", WithPlaintext())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = publisher.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	err = publisher.PublishAll(ctx, numbered(1), nil)
	if !isCode(err, codes.Unavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want UNAVAILABLE or the deadline", err)
	}
}

// TestRetryHorizon shows that a message is not sent again when the server may have
// forgotten its id.
func TestRetryHorizon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		retry := retrier{since: start}
		down := &Error{Code: codes.Unavailable}
		var err error
		for err == nil {
			err = retry.wait(context.Background(), down)
		}
		if got := time.Since(start); !errors.Is(err, down) || got > retryHorizon || got < retryHorizon-backoffLimit {
			t.Errorf("got %v after %s, want the failure at about %s", err, got, retryHorizon)
		}
	})
}
