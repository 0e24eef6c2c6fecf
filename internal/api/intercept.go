package api

import (
	"context"
	"fmt"
	"runtime/debug"
	"sync/atomic"

	"google.golang.org/grpc"

	"github.com/roomcast/roomcast/internal/room"
)

// edge is what happens around every call: recover, deadline, credentials, and the
// mapping of errors. One interceptor of each kind keeps the order in one place.
type edge struct {
	auth     *authenticator
	fail     *failures
	meter    *meter
	draining context.Context //nolint:containedctx // a signal: done when the server drains

	answering atomic.Int64 // calls that have something to answer: all but watches
}

func (e *edge) unary(
	ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	e.answering.Add(1)
	defer e.answering.Add(-1)
	resp, err := e.callUnary(ctx, req, info.FullMethod, handler)
	if err != nil {
		e.meter.refused(err)
		return nil, e.fail.status(ctx, info.FullMethod, err).Err()
	}
	return resp, nil
}

func (e *edge) callUnary(ctx context.Context, req any, method string, handler grpc.UnaryHandler) (resp any, err error) {
	defer recovered(&err)
	if _, given := ctx.Deadline(); !given {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultDeadline)
		defer cancel()
	}
	ctx, err = e.auth.admit(ctx, method)
	if err != nil {
		return nil, err
	}
	return handler(ctx, req)
}

func (e *edge) stream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) error {
	if info.IsClientStream {
		e.answering.Add(1)
		defer e.answering.Add(-1)
	}
	err := e.callStream(srv, ss, info, handler)
	if err != nil {
		e.meter.refused(err)
		return e.fail.status(ss.Context(), info.FullMethod, err).Err()
	}
	return nil
}

func (e *edge) callStream(srv any, ss grpc.ServerStream, info *grpc.StreamServerInfo, handler grpc.StreamHandler) (err error) {
	defer recovered(&err)
	ctx, err := e.auth.admit(ss.Context(), info.FullMethod)
	if err != nil {
		return err
	}
	if _, open := rightFor(info.FullMethod); open {
		// A health watch has no end of its own; it must not hold up a drain.
		var cancel context.CancelFunc
		ctx, cancel = context.WithCancel(ctx)
		defer cancel()
		defer context.AfterFunc(e.draining, cancel)()
	}
	stream := &callStream{ServerStream: ss, ctx: ctx}
	if !info.IsClientStream {
		stream.watch = e.auth
	}
	return handler(srv, stream)
}

// callStream is a server stream with the context that the interceptor made.
type callStream struct {
	grpc.ServerStream
	ctx   context.Context //nolint:containedctx // lives as long as the call
	watch *authenticator  // not nil: what is sent are events, for whose token still counts
}

func (s *callStream) Context() context.Context { return s.ctx }

func (s *callStream) SendMsg(m any) error {
	if s.watch != nil {
		if err := s.watch.revoked(s.ctx); err != nil {
			return err
		}
	}
	return s.ServerStream.SendMsg(m)
}

// recovered makes a panic of the deferring function an internal error, so that one
// bad call does not end the process for everybody.
func recovered(err *error) {
	if p := recover(); p != nil {
		*err = &room.Error{
			Kind: room.Internal, Reason: room.ReasonInternal, Msg: "panic",
			Err: fmt.Errorf("%v\n%s", p, debug.Stack()),
		}
	}
}
