package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// publishServer is a PublishService with a log in memory, on a real socket that a test
// can break.
type publishServer struct {
	roomcastv1.UnimplementedPublishServiceServer

	// fail is called with each message and how many were stored before it; an error
	// refuses the message. Static.
	fail func(m *roomcastv1.PublishRequest, stored int) error
	// breakAfter tells after how many messages of a stream its connections are cut,
	// the last one stored but unanswered. Static.
	breakAfter []int

	mu       sync.Mutex
	conns    []net.Conn                   // guarded by mu
	log      []*roomcastv1.PublishRequest // guarded by mu
	stored   map[[2]string]int            // guarded by mu; room and message id to place in log
	calls    int                          // guarded by mu
	streams  int                          // guarded by mu
	metadata metadata.MD                  // guarded by mu; of the newest call
}

func (s *publishServer) start(t *testing.T, opts ...Option) *Publisher {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	roomcastv1.RegisterPublishServiceServer(server, s)
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(&recordingListener{Listener: listener, server: s}) })
	t.Cleanup(func() {
		server.Stop()
		serving.Wait()
	})
	publisher, err := Dial(listener.Addr().String(), append([]Option{WithPlaintext()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = publisher.Close() })
	return publisher
}

// recordingListener remembers the connections of a server, for it to break.
type recordingListener struct {
	net.Listener
	server *publishServer
}

func (l *recordingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.server.mu.Lock()
		l.server.conns = append(l.server.conns, conn)
		l.server.mu.Unlock()
	}
	return conn, err
}

func (s *publishServer) breakConnections() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		_ = conn.Close()
	}
	s.conns = nil
}

func (s *publishServer) Publish(ctx context.Context, m *roomcastv1.PublishRequest) (*roomcastv1.PublishResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls++
	s.metadata, _ = metadata.FromIncomingContext(ctx)
	return s.storeLocked(m)
}

func (s *publishServer) storeLocked(m *roomcastv1.PublishRequest) (*roomcastv1.PublishResponse, error) {
	if s.fail != nil {
		if err := s.fail(m, len(s.log)); err != nil {
			return nil, err
		}
	}
	key := [2]string{m.GetRoom(), m.GetMessageId()}
	i, duplicate := s.stored[key]
	if !duplicate {
		if s.stored == nil {
			s.stored = make(map[[2]string]int)
		}
		i = len(s.log)
		s.stored[key] = i
		s.log = append(s.log, m)
	}
	return &roomcastv1.PublishResponse{Id: fmt.Sprintf("e.%d.x", i), Stored: true, Duplicate: duplicate}, nil
}

func (s *publishServer) PublishStream(stream roomcastv1.PublishService_PublishStreamServer) error {
	s.mu.Lock()
	breakAfter := math.MaxInt
	if s.streams < len(s.breakAfter) {
		breakAfter = s.breakAfter[s.streams]
	}
	s.streams++
	s.mu.Unlock()
	for n := 1; ; n++ {
		req, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.mu.Lock()
		resp, err := s.storeLocked(req.GetMessage())
		s.mu.Unlock()
		if n == breakAfter {
			s.breakConnections()
			continue // the next Recv fails
		}
		result := &roomcastv1.PublishResult{Result: &roomcastv1.PublishResult_Response{Response: resp}}
		if err != nil {
			result.Result = &roomcastv1.PublishResult_Error{Error: status.Convert(err).Proto()}
		}
		if err := stream.Send(&roomcastv1.PublishStreamResponse{Result: result}); err != nil {
			return err
		}
	}
}

// texts returns the bodies in the log, in order.
func (s *publishServer) texts() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var texts []string
	for _, m := range s.log {
		texts = append(texts, m.GetText())
	}
	return texts
}

// failure is a status with an ErrorInfo and other details.
func failure(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	st, err := status.New(code, "it failed").WithDetails(
		append([]protoadapt.MessageV1{&errdetails.ErrorInfo{Domain: "roomcast", Reason: reason}}, details...)...)
	if err != nil {
		return err
	}
	return st.Err()
}

func TestPublishSendsTheMessage(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		message Message
		want    *roomcastv1.PublishRequest
	}{
		"everything": {
			Message{
				Room: "orders", Event: "paid", MessageID: "m1", TTL: time.Minute, ExcludeUser: "ann",
				Body: JSON(map[string]int{"n": 1}),
			},
			&roomcastv1.PublishRequest{
				Room: "orders", Event: "paid", MessageId: "m1", Ttl: durationpb.New(time.Minute), ExcludeUser: "ann",
				Payload: &roomcastv1.PublishRequest_RawJson{RawJson: []byte(`{"n":1}`)},
			},
		},
		"raw json": {
			Message{Room: "a", MessageID: "m", Body: RawJSON([]byte(`{ "n": 1.50 }`))},
			&roomcastv1.PublishRequest{
				Room: "a", MessageId: "m",
				Payload: &roomcastv1.PublishRequest_RawJson{RawJson: []byte(`{ "n": 1.50 }`)},
			},
		},
		"data": {
			Message{Room: "a", MessageID: "m", Body: Data([]byte{255})},
			&roomcastv1.PublishRequest{
				Room: "a", MessageId: "m", Payload: &roomcastv1.PublishRequest_Data{Data: []byte{255}},
			},
		},
		"zero body": {
			Message{Room: "a", MessageID: "m"},
			&roomcastv1.PublishRequest{
				Room: "a", MessageId: "m", Payload: &roomcastv1.PublishRequest_Text{Text: ""},
			},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &publishServer{}
			got, err := server.start(t).Publish(t.Context(), test.message)
			want := Result{MessageID: test.want.GetMessageId(), ID: "e.0.x", Stored: true}
			if err != nil || got != want {
				t.Errorf("got %+v, %v, want %+v", got, err, want)
			}
			if diff := cmp.Diff([]*roomcastv1.PublishRequest{test.want}, server.log, protocmp.Transform()); diff != "" {
				t.Errorf("request: (-want +got)\n%s", diff)
			}
		})
	}
}

func TestPublishRetriesWithTheSameID(t *testing.T) {
	t.Parallel()
	var ids []string
	retryInfo := &errdetails.RetryInfo{RetryDelay: durationpb.New(20 * time.Millisecond)}
	server := &publishServer{fail: func(m *roomcastv1.PublishRequest, _ int) error {
		ids = append(ids, m.GetMessageId())
		if len(ids) < 3 {
			return failure(codes.Unavailable, "BUS_UNAVAILABLE", retryInfo)
		}
		return nil
	}}
	publisher := server.start(t)
	start := time.Now()
	got, err := publisher.Publish(t.Context(), Message{Room: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if waited := time.Since(start); waited < 40*time.Millisecond {
		t.Errorf("got an answer after %s, want the server's waits to be kept", waited)
	}
	if want := []string{got.MessageID, got.MessageID, got.MessageID}; !slices.Equal(ids, want) || got.MessageID == "" {
		t.Errorf("got ids %q, want one id three times", ids)
	}
}

func TestPublishRetriesOverBrokenConnection(t *testing.T) {
	t.Parallel()
	server := &publishServer{}
	tries := 0
	server.fail = func(*roomcastv1.PublishRequest, int) error {
		if tries++; tries == 1 {
			go server.breakConnections()
			return failure(codes.Unavailable, "DRAINING")
		}
		return nil
	}
	got, err := server.start(t).Publish(t.Context(), Message{Room: "a", MessageID: "m1", Body: Text("x")})
	if err != nil || got.MessageID != "m1" {
		t.Errorf("got %+v, %v, want m1", got, err)
	}
	if texts := server.texts(); !slices.Equal(texts, []string{"x"}) {
		t.Errorf("got %q in the log, want it once", texts)
	}
}

func TestPublishReturnsOtherFailuresAtOnce(t *testing.T) {
	t.Parallel()
	violation := &errdetails.BadRequest{FieldViolations: []*errdetails.BadRequest_FieldViolation{{Field: "room"}}}
	retryInfo := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Second)}
	tests := map[string]struct {
		err  error
		want *Error
	}{
		"invalid": {
			failure(codes.InvalidArgument, "INVALID_ROOM", violation),
			&Error{Code: codes.InvalidArgument, Reason: "INVALID_ROOM", Message: "it failed", Field: "room"},
		},
		"exhausted, though it has a hint": {
			failure(codes.ResourceExhausted, "BUS_BUSY", retryInfo),
			&Error{Code: codes.ResourceExhausted, Reason: "BUS_BUSY", Message: "it failed", RetryAfter: time.Second},
		},
		"outcome unknown": {
			failure(codes.DeadlineExceeded, "OUTCOME_UNKNOWN"),
			&Error{Code: codes.DeadlineExceeded, Reason: "OUTCOME_UNKNOWN", Message: "it failed"},
		},
		"without details": {
			status.Error(codes.PermissionDenied, "no"),
			&Error{Code: codes.PermissionDenied, Message: "no"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := &publishServer{fail: func(*roomcastv1.PublishRequest, int) error { return test.err }}
			_, err := server.start(t).Publish(t.Context(), Message{Room: "a"})
			got, _ := errors.AsType[*Error](err)
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(Error{})); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if server.calls != 1 {
				t.Errorf("got %d calls, want 1", server.calls)
			}
		})
	}
}

func TestPublishKeepsItsDeadline(t *testing.T) {
	t.Parallel()
	retryInfo := &errdetails.RetryInfo{RetryDelay: durationpb.New(time.Hour)}
	server := &publishServer{fail: func(*roomcastv1.PublishRequest, int) error {
		return failure(codes.Unavailable, "BUS_UNAVAILABLE", retryInfo)
	}}
	_, err := server.start(t).Publish(t.Context(), Message{Room: "a"})
	if !isCode(err, codes.Unavailable) {
		t.Errorf("got %v, want the failure at once: the next try would come too late", err)
	}
}

func TestPublishEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	server := &publishServer{fail: func(*roomcastv1.PublishRequest, int) error {
		cancel()
		return failure(codes.Unavailable, "BUS_UNAVAILABLE")
	}}
	_, err := server.start(t).Publish(ctx, Message{Room: "a"})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
}

func TestPublishRefusesWhatCannotBeSent(t *testing.T) {
	t.Parallel()
	const bad = "\xff"
	tests := map[string]struct {
		message Message
		field   string
	}{
		"room":         {Message{Room: bad}, "room"},
		"event":        {Message{Event: bad}, "event"},
		"message id":   {Message{MessageID: bad}, "message_id"},
		"exclude user": {Message{ExcludeUser: bad}, "exclude_user"},
		"text":         {Message{Body: Text(bad)}, "text"},
		"json":         {Message{Body: JSON(math.Inf(1))}, "json"},
	}
	server := &publishServer{}
	publisher := server.start(t)
	for name, test := range tests {
		_, err := publisher.Publish(t.Context(), test.message)
		got, ok := errors.AsType[*Error](err)
		if !ok || got.Code != codes.InvalidArgument || got.Field != test.field {
			t.Errorf("%s: got %v, want INVALID_ARGUMENT for %s", name, err, test.field)
		}
	}
}

func TestToken(t *testing.T) {
	t.Parallel()
	server := &publishServer{}
	publisher := server.start(t, WithToken("secret"))
	if _, err := publisher.Publish(t.Context(), Message{Room: "a"}); err != nil {
		t.Fatal(err)
	}
	if got := server.metadata.Get("authorization"); !slices.Equal(got, []string{"Bearer secret"}) {
		t.Errorf("got %q, want the bearer token", got)
	}
}
