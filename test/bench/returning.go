package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"

	"github.com/gorilla/websocket"
	"golang.org/x/sync/errgroup"
)

// atOnce is how many sockets come back at a time, as in the peers' measurement.
const atOnce = 32

// crowd is sockets that are open together.
type crowd struct {
	url, token string

	mu    sync.Mutex
	conns []*websocket.Conn
	ears  sync.WaitGroup
}

// leave closes all sockets and waits until nobody reads any more.
func (c *crowd) leave() {
	c.mu.Lock()
	for _, conn := range c.conns {
		_ = conn.Close() // it is of no use any more
	}
	c.conns = nil
	c.mu.Unlock()
	c.ears.Wait()
}

// come opens n sockets, a few at a time: each subscribes to a room after a position
// and is there once it has got what it missed, the messages 1 to missed, in order.
func (c *crowd) come(ctx context.Context, n, missed int, place func(i int) (room, after string)) error {
	var next atomic.Int64
	group, ctx := errgroup.WithContext(ctx)
	for range atOnce {
		group.Go(func() error {
			for i := int(next.Add(1) - 1); i < n; i = int(next.Add(1) - 1) {
				room, after := place(i)
				conn, err := c.dial(ctx)
				if err == nil {
					err = subscribe(conn, room, after, missed)
				}
				if err != nil {
					return fmt.Errorf("socket %d of %d, %s: %w", i+1, n, room, err)
				}
			}
			return nil
		})
	}
	return group.Wait()
}

// stay has all sockets take what comes, until they leave.
func (c *crowd) stay() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, conn := range c.conns {
		c.ears.Go(func() {
			for {
				if _, _, err := conn.NextReader(); err != nil {
					return
				}
			}
		})
	}
}

func (c *crowd) dial(ctx context.Context) (*websocket.Conn, error) {
	dialer := websocket.Dialer{ReadBufferSize: 1 << 10, WriteBufferSize: 256, Subprotocols: []string{"roomcast.v1.json"}}
	conn, resp, err := dialer.DialContext(ctx, c.url, http.Header{"Authorization": {"Bearer " + c.token}})
	if err != nil {
		return nil, err
	}
	_ = resp.Body.Close()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.conns = append(c.conns, conn)
	return conn, nil
}

// serverFrame is what is looked at of a frame.
type serverFrame struct {
	Welcome    *struct{}
	Subscribed *struct{}
	Message    *struct{ Text string }
}

// subscribe asks for a room and reads until everything that was missed is there.
func subscribe(conn *websocket.Conn, room, after string, missed int) error {
	request, err := json.Marshal(map[string]any{"id": 1, "subscribe": map[string]string{"room": room, "after": after}})
	if err != nil {
		return err
	}
	if err := conn.WriteMessage(websocket.TextMessage, request); err != nil {
		return err
	}
	subscribed := false
	for got := 0; !subscribed || got < missed; {
		_, text, err := conn.ReadMessage()
		if err != nil {
			return err
		}
		var f serverFrame
		if err := json.Unmarshal(text, &f); err != nil {
			return err
		}
		switch {
		case f.Welcome != nil:
		case f.Subscribed != nil:
			subscribed = true
		case f.Message != nil && f.Message.Text == textOf(got+1):
			got++
		default:
			return fmt.Errorf("it got %s, want message %d of %d", text, got+1, missed)
		}
	}
	return nil
}

// filler makes messages as long as those of the other rows.
const filler = "................................................................................................................"

// textOf is a room's i-th message: 128 bytes.
func textOf(i int) string { return fmt.Sprintf("message %07d %s", i, filler) }
