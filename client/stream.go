package client

import (
	"context"
	"errors"
	"io"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

// Stream publishes messages in order over one gRPC stream: those for one room are
// stored in the order sent. It does not survive its connection;
// [Publisher.PublishAll] does.
//
// One goroutine may call Send and CloseSend while another calls Recv. Who sends more
// messages than the window (1,024, see [WithWindow]) without receiving waits for ever.
type Stream struct {
	rpc    grpc.BidiStreamingClient[roomcastv1.PublishStreamRequest, roomcastv1.PublishStreamResponse]
	cancel context.CancelFunc

	pending chan pendingMessage // unanswered, in order; closed by CloseSend
	results chan Result         // unbuffered, so that Recv holds back Send
	done    chan struct{}       // closed by relay's end
	err     error               // why the stream ended; set before done is closed
}

// pendingMessage waits for its answer.
type pendingMessage struct {
	messageID string
	err       error // it could not be sent and gets no answer
}

// Stream opens a stream, which lives until ctx ends, the connection breaks, Close is
// called or, after CloseSend, the last result was received. The error is an [*Error].
func (p *Publisher) Stream(ctx context.Context) (*Stream, error) {
	ctx, cancel := context.WithCancel(ctx)
	rpc, err := p.service.PublishStream(ctx)
	if err != nil {
		cancel()
		return nil, rpcError(err)
	}
	s := &Stream{
		rpc:     rpc,
		cancel:  cancel,
		pending: make(chan pendingMessage, p.window-1), // one more is in relay's hand
		results: make(chan Result),
		done:    make(chan struct{}),
	}
	go func() {
		defer close(s.done)
		defer cancel()
		s.err = s.relay(ctx)
	}()
	return s, nil
}

// Send sends one message. It blocks while the window is full or the server holds back.
// io.EOF means that the stream has ended and Recv tells why, as in grpc-go. A message
// that cannot be sent, such as one whose body has no JSON form, gets its error from
// Recv in its place.
func (s *Stream) Send(m Message) error {
	m = m.identified()
	req, err := m.request()
	select {
	case <-s.done:
		return io.EOF
	default:
	}
	select {
	case s.pending <- pendingMessage{messageID: m.MessageID, err: err}:
	case <-s.done:
		return io.EOF
	}
	if err != nil {
		return nil //nolint:nilerr // Recv tells it in its place
	}
	if err := s.rpc.Send(&roomcastv1.PublishStreamRequest{Message: req}); err != nil {
		if errors.Is(err, io.EOF) {
			return io.EOF
		}
		return rpcError(err)
	}
	return nil
}

// CloseSend says that no message follows. Recv goes on until the last result.
func (s *Stream) CloseSend() error {
	close(s.pending)
	return s.rpc.CloseSend()
}

// Recv returns the result of the oldest message without one, in the order sent. A
// message that was refused has Result.Err. The error means that the stream is over:
// io.EOF after CloseSend and the last result, otherwise an [*Error]. What became of
// messages without a result is then unknown; the same MessageID makes it safe to send
// them again.
func (s *Stream) Recv() (Result, error) {
	select {
	case r := <-s.results:
		return r, nil
	case <-s.done:
		return Result{}, s.err
	}
}

// Close ends the stream at once and waits for its goroutine. It may be called at any
// time and more than once.
func (s *Stream) Close() {
	s.cancel()
	<-s.done
}

// relay pairs answers with pending messages until the stream ends, and says why.
func (s *Stream) relay(ctx context.Context) error {
	for {
		var (
			next pendingMessage
			open bool
		)
		select {
		case next, open = <-s.pending:
		case <-ctx.Done():
			return rpcError(ctx.Err())
		}
		if !open {
			return s.end()
		}
		r, err := s.answer(next)
		if err != nil {
			return err
		}
		select {
		case s.results <- r:
		case <-ctx.Done():
			return rpcError(ctx.Err())
		}
	}
}

// answer returns the result of one message, or why the stream broke.
func (s *Stream) answer(m pendingMessage) (Result, error) {
	if m.err != nil {
		return Result{MessageID: m.messageID, Err: m.err}, nil //nolint:nilerr // the stream goes on
	}
	resp, err := s.rpc.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return Result{}, &Error{Code: codes.Unavailable, Message: "the server ended the stream before it answered all messages"}
	case err != nil:
		return Result{}, rpcError(err)
	}
	if st := resp.GetResult().GetError(); st != nil {
		return Result{MessageID: m.messageID, Err: statusError(status.FromProto(st))}, nil
	}
	return result(m.messageID, resp.GetResult().GetResponse()), nil
}

// end waits for the server's end of the stream after the last answer.
func (s *Stream) end() error {
	_, err := s.rpc.Recv()
	switch {
	case errors.Is(err, io.EOF):
		return io.EOF
	case err != nil:
		return rpcError(err)
	default:
		return &Error{Code: codes.Internal, Message: "the server answered more messages than it was sent"}
	}
}
