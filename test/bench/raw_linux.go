package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/node"
	"github.com/roomcast/roomcast/internal/room"
	"github.com/roomcast/roomcast/internal/wire"
)

const (
	// rawID is as long as a node's ids are.
	rawID = "0123456789.12345.0123"

	// rawAhead is how many messages may wait for the writer.
	rawAhead = 1024

	websocketGUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11" // RFC 6455 §1.3
)

// raw is the least that delivers a message to sockets: one goroutine that sends it to one
// after the other, a system call each, and nothing that a service owes its users. What
// it uses is what this machine asks for the calls. It has one room, whatever its name.
type raw struct {
	roomcastv1.UnimplementedPublishServiceServer
	messages chan *roomcastv1.PublishRequest

	mu      sync.Mutex
	sockets []int // guarded by mu: descriptors, which nobody closes
}

// rawWriter serves until ctx ends. It writes its addresses to a file as a node does.
func rawWriter(ctx context.Context, ready string) error {
	r := &raw{messages: make(chan *roomcastv1.PublishRequest, rawAhead)}
	public, err1 := net.Listen("tcp", "127.0.0.1:0")  //nolint:noctx // loopback
	control, err2 := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	calls := grpc.NewServer()
	roomcastv1.RegisterPublishServiceServer(calls, r)
	sockets := &http.Server{Handler: http.HandlerFunc(r.upgrade), ReadHeaderTimeout: startPatience}
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return calls.Serve(control) })
	group.Go(func() error { return sockets.Serve(public) })
	group.Go(func() error { return r.write(running) })
	group.Go(func() error {
		<-running.Done()
		calls.Stop()
		return sockets.Close()
	})
	group.Go(func() error {
		text, err := json.Marshal(node.Addrs{HTTP: public.Addr().String(), GRPC: control.Addr().String()})
		return errors.Join(err, os.WriteFile(ready, text, 0o600))
	})
	if err := group.Wait(); ctx.Err() == nil {
		return err
	}
	return nil // the servers were told to end
}

// Publish implements the service's method: the message is on its way.
func (r *raw) Publish(ctx context.Context, req *roomcastv1.PublishRequest) (*roomcastv1.PublishResponse, error) {
	select {
	case r.messages <- req:
		return &roomcastv1.PublishResponse{Id: rawID}, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// write sends each message to each socket. What a socket does not take at once is lost:
// the load generator will say so.
func (r *raw) write(ctx context.Context) error {
	for {
		select {
		case req := <-r.messages:
			frame := rawFrame(req)
			r.mu.Lock()
			for _, fd := range r.sockets {
				_, _ = unix.Write(fd, frame)
			}
			r.mu.Unlock()
		case <-ctx.Done():
			return nil
		}
	}
}

func rawFrame(req *roomcastv1.PublishRequest) []byte {
	return wire.MessageFrame(wire.JSON, &room.Message{
		Room: room.Name(req.GetRoom()), ID: rawID, Payload: room.Payload{Kind: room.Text, Bytes: []byte(req.GetText())}, Time: time.Now(),
	}, false)
}

// upgrade makes a request a socket that has subscribed.
func (r *raw) upgrade(w http.ResponseWriter, req *http.Request) {
	hijacker, ok := w.(http.Hijacker)
	if !ok || req.Header.Get("Upgrade") != "websocket" {
		http.Error(w, "no websocket", http.StatusBadRequest)
		return
	}
	conn, _, err := hijacker.Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }() // the descriptor below is the connection
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		return
	}
	fd, err := duplicate(tcp)
	if err != nil {
		return // the load generator sees the connection end
	}
	sum := sha1.Sum([]byte(req.Header.Get("Sec-WebSocket-Key") + websocketGUID))
	protocol, _, _ := strings.Cut(req.Header.Get("Sec-WebSocket-Protocol"), ",")
	r.mu.Lock() // no message between the answer and the socket
	defer r.mu.Unlock()
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"+
		"Sec-WebSocket-Accept: %s\r\nSec-WebSocket-Protocol: %s\r\n\r\n%s",
		base64.StdEncoding.EncodeToString(sum[:]), protocol, wire.Frame(wire.OpText, []byte(`{"subscribed":{"room":"raw"}}`)))
	r.sockets = append(r.sockets, fd)
}

// duplicate returns a descriptor of a connection that the Go runtime does not know of.
// It does not block, as the connection's own does not.
func duplicate(c *net.TCPConn) (fd int, err error) {
	conn, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	dupErr := error(nil)
	err = conn.Control(func(of uintptr) { fd, dupErr = unix.FcntlInt(of, unix.F_DUPFD_CLOEXEC, 0) })
	return fd, errors.Join(err, dupErr)
}
