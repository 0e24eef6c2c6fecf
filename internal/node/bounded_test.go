package node

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"testing"
)

// TestBoundedListener: who comes when there is no place is closed at once, and a place
// that was given back is another's.
func TestBoundedListener(t *testing.T) {
	t.Parallel()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var logs bytes.Buffer
	lis = bounded(lis, "control", 1, slog.New(slog.NewTextHandler(&logs, nil)))
	dial := func() net.Conn {
		conn, err := net.Dial("tcp", lis.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		return conn
	}
	accepted := make(chan net.Conn, 3)
	done := make(chan error)
	go func() {
		for {
			conn, err := lis.Accept()
			if err != nil {
				done <- err
				return
			}
			accepted <- conn
		}
	}()
	dial()
	first := <-accepted
	for range 2 {
		if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("who is one too many got %v, want the end", err)
		}
	}
	for range 2 { // it may be closed twice
		_ = first.Close()
	}
	dial()
	_ = (<-accepted).Close()
	_ = lis.Close()
	if err := <-done; !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept ended with %v", err)
	}
	if got := strings.Count(logs.String(), "\n"); got != 2 || !strings.Contains(logs.String(), "listener=control") {
		t.Errorf("logged %d lines, want one when it was full and one when it was not: %s", got, logs.String())
	}
}
