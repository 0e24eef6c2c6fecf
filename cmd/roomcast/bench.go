package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"google.golang.org/grpc"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/bench"
)

// benchCmd puts load on nodes and measures it.
type benchCmd struct {
	Rooms      int     `default:"1" help:"Rooms; messages go to them in turn."`
	Sockets    int     `default:"100" help:"Sockets in all, spread evenly over the rooms."`
	RoomPrefix string  `default:"bench-" help:"The rooms' names begin so, with their namespace if any; a number follows."`
	Format     string  `default:"json" enum:"json,protobuf" help:"Frames of the sockets: json or protobuf."`
	Mode       string  `default:"unary" enum:"unary,batch,stream" help:"How to publish: unary, batch or stream."`
	InFlight   int     `default:"64" help:"Messages at once that have not reached their last socket."`
	Publishers int     `placeholder:"N" help:"Calls at once, or streams; default what --in-flight allows, one stream."`
	Batch      int     `default:"100" help:"Messages of one call with --mode batch, at most."`
	Rate       float64 `placeholder:"N" help:"Messages a second; latency counts from when each is due. Default as fast as --in-flight allows."`
	Payload    int     `default:"128" help:"Bytes of a message's text."`
	ProbeRoom  bool    `help:"Also measure a room of its own with one socket, first alone and then beside the load; adds --warmup and --duration."`
	ProbeRate  float64 `default:"100" help:"Messages a second to it."`
	Stalled    int     `placeholder:"N" help:"Further sockets in the same rooms that read nothing for --stall from the begin of the measurement and then catch up. Nothing waits for them; they are checked like all others, so the rooms must keep what they miss."`

	TokenKeyFile string `type:"path" placeholder:"FILE" help:"HMAC key of the nodes: each socket gets a token of its own for the rooms, of users bench-0, bench-1 and so on, instead of --token."`

	Idle      time.Duration `placeholder:"DURATION" help:"Wait so long after the last socket, without a message, and report what the processes of --server-pid hold then for each socket."`
	Warmup    time.Duration `default:"2s" help:"Load before the measurement."`
	Duration  time.Duration `default:"10s" help:"Of the measurement."`
	Stall     time.Duration `default:"8s" help:"How long --stalled sockets do not read; at most 9s, since a node closes a socket that takes nothing for 10s."`
	Patience  time.Duration `default:"30s" help:"How long to wait for the last deliveries."`
	ServerPID []int         `name:"server-pid" placeholder:"PID" help:"Process of the service whose processor time and memory are reported, on Linux. Repeatable."`
	AdminAddr string        `placeholder:"ADDR" help:"Admin listener of a node: with --stalled its heap is collected, and reported before, during and after the stall."`
	JSON      bool          `name:"json" help:"Print the report as one JSON object."`

	URL    []string   `env:"ROOMCAST_URL" name:"url" default:"http://localhost:8080" group:"server" help:"Public listener of a node or cluster: http, https, ws or wss. Repeatable: sockets are spread over them."`
	Server grpcServer `embed:"" group:"server"`
	Caller caller     `embed:"" group:"server"`
}

// spareProcs are threads beyond one a processor while there is a probe: the system
// shares the processors among them in finer slices than the Go scheduler, so that the
// probe does not wait for the readers of the load.
const spareProcs = 4

// Run prints the report on standard output. A message that was lost, repeated, out of
// order or refused, and a socket that closed, make the exit code 1.
func (c *benchCmd) Run(ctx context.Context, p *process) error {
	tlsConfig, err := c.Caller.tlsConfig()
	if err != nil {
		return err
	}
	progress := newBenchProgress(p.stderr)
	cfg := c.config()
	cfg.TLS, cfg.Progress = tlsConfig, progress.show
	if c.AdminAddr != "" {
		if cfg.AdminAddr, err = dialable(c.AdminAddr); err != nil {
			return usagef("--admin-addr: %w", err)
		}
	}
	if c.TokenKeyFile != "" {
		if cfg.TokenOf, err = c.tokens(); err != nil {
			return &usageError{err}
		}
	}
	conns, err := c.dial()
	if err != nil {
		return err
	}
	defer func() {
		for _, conn := range conns {
			_ = conn.Close() // every call is answered
		}
	}()
	run, err := bench.New(cfg, roomcastv1.NewPublishServiceClient(conns[0]), roomcastv1.NewPublishServiceClient(conns[1]))
	if err != nil {
		return &usageError{err}
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	if c.ProbeRoom && p.getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(runtime.NumCPU() + spareProcs)
	}
	report, err := run.Run(ctx)
	progress.finish()
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted")
	case err != nil:
		return fmt.Errorf("bench: %w", err)
	}
	return c.print(p, report)
}

// dial prepares two connections: the probe must not queue behind the load on its own
// side.
func (c *benchCmd) dial() (conns [2]*grpc.ClientConn, err error) {
	for i := range conns {
		if conns[i], err = c.Server.conn(&c.Caller); err != nil {
			return conns, err // one that was never used has nothing to close
		}
	}
	return conns, nil
}

func (c *benchCmd) config() bench.Config {
	cfg := bench.Config{
		URLs: c.URL, Token: c.Caller.Token, Format: bench.Format(c.Format),
		Load: bench.Load{
			Rooms: c.Rooms, Sockets: c.Sockets, RoomPrefix: c.RoomPrefix, Mode: bench.Mode(c.Mode), InFlight: c.InFlight,
			Publishers: c.Publishers, Batch: c.Batch, Rate: c.Rate, Payload: c.Payload, Stalled: c.Stalled,
		},
		Stall: c.Stall,
		Idle:  c.Idle, Warmup: c.Warmup, Duration: c.Duration, Patience: c.Patience, ServerPIDs: c.ServerPID,
	}
	if c.ProbeRoom {
		cfg.ProbeRate = c.ProbeRate
	}
	return cfg
}

// tokens returns what makes each socket its token.
func (c *benchCmd) tokens() (func(socket int) (string, error), error) {
	key, err := readHMACKey("--token-key-file", c.TokenKeyFile)
	if err != nil {
		return nil, err
	}
	expires := time.Now().Add(24 * time.Hour)
	return func(socket int) (string, error) {
		return auth.Mint(key, auth.Claims{
			User: fmt.Sprintf("bench-%d", socket), Expires: expires,
			Rooms: map[string][]string{c.RoomPrefix + "*": {auth.RightSubscribe}},
		})
	}, nil
}

func (c *benchCmd) print(p *process, report *bench.Report) error {
	var err error
	if c.JSON {
		err = json.NewEncoder(p.stdout).Encode(report)
	} else {
		err = report.WriteText(p.stdout)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	if report.Errors.Any() {
		if c.JSON {
			p.notef("%s: the run had errors, see the report\n", progName)
		}
		return errSilent
	}
	return nil
}
