package nodetest

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// NATS is a real nats-server with JetStream in this process, on a TCP port.
type NATS struct {
	t      testing.TB
	opts   *server.Options
	Server *server.Server
	URL    string
}

// StartNATS starts a server whose log is in a directory of the test. It ends with
// the test.
func StartNATS(t testing.TB) *NATS {
	t.Helper()
	n := &NATS{t: t, opts: natsOptions(t.TempDir(), freePort(t))}
	n.Start()
	t.Cleanup(n.Stop)
	return n
}

// natsOptions are those of a test server, in this process or in a child.
func natsOptions(dir string, port int) *server.Options {
	return &server.Options{
		ServerName: "nodetest",
		Host:       "127.0.0.1",
		Port:       port,
		JetStream:  true,
		StoreDir:   dir,
		NoSigs:     true,
		NoLog:      true,
		MaxPayload: 1 << 20,
	}
}

// Start starts the server, after Stop on the same port and directory.
func (n *NATS) Start() {
	n.t.Helper()
	srv, err := server.NewServer(n.opts.Clone()) // it reads its options while it runs
	if err != nil {
		n.t.Fatalf("nats-server: %v", err)
	}
	srv.Start()
	if !srv.ReadyForConnections(patience) {
		n.t.Fatalf("nats-server is not ready after %s", patience)
	}
	n.Server, n.URL = srv, srv.ClientURL()
}

// freePort is a port for a server that may be stopped and started again.
func freePort(t testing.TB) int {
	t.Helper()
	addrs, err := FreeAddrs(1)
	if err != nil {
		t.Fatal(err)
	}
	return mustPort(t, "nats://"+addrs[0])
}

// StoreDir is where the server's log is. It may be changed while the server is stopped.
func (n *NATS) StoreDir() string { return n.opts.StoreDir }

// Stop stops the server and waits for it. It may be called again.
func (n *NATS) Stop() {
	n.Server.Shutdown()
	n.Server.WaitForShutdown()
}

// Connect opens a connection of the test's own: to read the log without the bus.
func (n *NATS) Connect(t testing.TB) *nats.Conn {
	t.Helper()
	return connect(t, n.URL)
}

func connect(t testing.TB, url string) *nats.Conn {
	t.Helper()
	nc, err := nats.Connect(url, nats.Name("test"), nats.MaxReconnects(-1), nats.Timeout(patience))
	if err != nil {
		t.Fatalf("connect to nats: %v", err)
	}
	t.Cleanup(nc.Close)
	return nc
}

// Log reads the log of a stream with nats.go alone: the subject and body of every
// room's messages, in order. What nodes put there for themselves is left out: its
// subjects have a "~".
func Log(t testing.TB, nc *nats.Conn, stream string) []*jetstream.RawStreamMsg {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	js, err := jetstream.New(nc)
	if err != nil {
		t.Fatal(err)
	}
	s, err := js.Stream(ctx, stream)
	if err != nil {
		t.Fatalf("stream %s: %v", stream, err)
	}
	info := s.CachedInfo()
	var msgs []*jetstream.RawStreamMsg
	for seq := info.State.FirstSeq; seq <= info.State.LastSeq && info.State.Msgs > 0; seq++ {
		msg, err := s.GetMsg(ctx, seq)
		if errors.Is(err, jetstream.ErrMsgNotFound) {
			continue // evicted
		}
		if err != nil {
			t.Fatalf("stream %s, sequence %d: %v", stream, seq, err)
		}
		if strings.Contains(msg.Subject, "~") {
			continue
		}
		msgs = append(msgs, msg)
	}
	return msgs
}
