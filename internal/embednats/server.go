package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"time"

	"github.com/gofrs/flock"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Settings of the server that nobody needs to turn.
const (
	serverName   = "roomcast"
	storeFolder  = "nats"      // under the data directory
	maxPayload   = 1 << 20     // bytes of one message, headers included
	maxPending   = 64 << 20    // bytes that may wait for one of our connections
	maxMemory    = 64 << 20    // bytes of memory streams, of which we have none
	syncInterval = time.Second // between fsyncs: what a power cut may lose
	readyTimeout = 10 * time.Second
)

// Config says where and how the server keeps its files.
type Config struct {
	Dir        string       // the data directory; made if missing, for this user only
	MaxStore   int64        // bytes of all streams together; 0 = three quarters of the free disk
	SyncAlways bool         // fsync before each acknowledgement, instead of each second
	Logger     *slog.Logger // nil = no logs
}

// Server is a running server that holds the lock on its data directory.
type Server struct {
	nats *server.Server
	lock *flock.Flock
	log  *slog.Logger
	stop sync.Once
}

// Start locks the directory, starts the server and returns once JetStream serves
// what the directory holds; with a million messages that takes a second or two, and
// ctx is looked at before and after, not meanwhile. Errors about the directory name
// it and --data-dir.
func Start(ctx context.Context, c Config) (*Server, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	log := c.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	lock, err := claim(c.Dir)
	if err != nil {
		return nil, err
	}
	s := &Server{lock: lock, log: log}
	if err := s.start(ctx, c); err != nil {
		s.Shutdown()
		return nil, fmt.Errorf("start embedded NATS in %q: %w", c.Dir, err)
	}
	return s, nil
}

// ConnOption returns the option by which nats.go connects to this server through
// memory. The connections must be closed before Shutdown, or they try for ever to
// come back.
func (s *Server) ConnOption() nats.Option { return nats.InProcessServer(s.nats) }

// Shutdown stops the server, waits until its files are written and frees the
// directory. Every call returns only when that is done.
func (s *Server) Shutdown() {
	s.stop.Do(func() {
		if s.nats != nil {
			s.nats.Shutdown()
			s.nats.WaitForShutdown()
		}
		if err := s.lock.Unlock(); err != nil {
			s.log.Error("unlock data directory", "err", err)
		}
	})
}

func (s *Server) start(ctx context.Context, c Config) error {
	ns, err := server.NewServer(options(c))
	if err != nil {
		return err
	}
	logger := newLogger(s.log)
	ns.SetLoggerV2(logger, false, false, false)
	ns.Start()
	s.nats = ns
	if err := logger.fatal(); err != nil {
		return err
	}
	if !ns.ReadyForConnections(readyTimeout) || !ns.JetStreamEnabled() {
		return errors.New("it is not ready")
	}
	return ctx.Err()
}

func options(c Config) *server.Options {
	return &server.Options{
		ServerName:             serverName,
		DontListen:             true,
		NoSigs:                 true,
		MaxPayload:             maxPayload,
		MaxPending:             maxPending,
		JetStream:              true,
		StoreDir:               filepath.Join(c.Dir, storeFolder),
		JetStreamMaxStore:      c.MaxStore,
		JetStreamMaxMemory:     maxMemory,
		SyncInterval:           syncInterval,
		SyncAlways:             c.SyncAlways,
		DisableJetStreamBanner: true,
	}
}
