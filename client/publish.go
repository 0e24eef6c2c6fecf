package client

import (
	"context"
	"crypto/tls"
	"fmt"
	"time"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	roomcastv1 "github.com/roomcast/roomcast/gen/roomcast/v1"
)

const (
	// publishTimeout bounds a Publish whose context has no deadline, as the server does.
	publishTimeout = 15 * time.Second

	// retryHorizon is how long after its first try a message is sent again. The server
	// knows a key for 2 minutes; later the same key would be stored a second time.
	retryHorizon = 100 * time.Second

	defaultWindow = 1024
)

// serviceConfig spreads calls over all addresses that the name of a cluster has.
const serviceConfig = `{"loadBalancingConfig":[{"round_robin":{}}]}`

// TokenSource returns the token to present now. It is called for each new connection
// or gRPC call and may be called by several goroutines at once; it should cache.
type TokenSource func(context.Context) (string, error)

// Option changes how [Dial] connects.
type Option func(*options)

type options struct {
	tls       *tls.Config
	plaintext bool
	source    TokenSource
	window    int
	dial      []grpc.DialOption
}

// WithPlaintext connects without TLS. Tokens then travel in the clear: for loopback,
// or where a proxy beside the client does TLS.
func WithPlaintext() Option { return func(o *options) { o.plaintext = true } }

// WithTLS sets the TLS configuration. Without it the system's roots verify the server.
func WithTLS(config *tls.Config) Option { return func(o *options) { o.tls = config.Clone() } }

// WithToken presents a fixed bearer token. An empty one is none.
func WithToken(token string) Option {
	if token == "" {
		return WithTokenSource(nil)
	}
	return WithTokenSource(func(context.Context) (string, error) { return token, nil })
}

// WithTokenSource asks source for the bearer token of each call.
func WithTokenSource(source TokenSource) Option { return func(o *options) { o.source = source } }

// WithWindow sets how many messages of a [Stream] may be unanswered; 1,024 if n < 1.
func WithWindow(n int) Option { return func(o *options) { o.window = n } }

// WithDialOptions adds options of grpc-go, such as interceptors. They come last and
// so win over the client's own.
func WithDialOptions(dial ...grpc.DialOption) Option {
	return func(o *options) { o.dial = append(o.dial, dial...) }
}

// Publisher publishes messages over one gRPC connection. It is safe for concurrent use.
type Publisher struct {
	conn    *grpc.ClientConn
	service roomcastv1.PublishServiceClient
	window  int
}

// Dial prepares a connection to the control listener of a node or cluster at
// "host:port", or any target of grpc-go. It connects with the first call, so a server
// that is away is no error here; only bad options are.
func Dial(addr string, opts ...Option) (*Publisher, error) {
	conn, o, err := connect(addr, opts)
	if err != nil {
		return nil, err
	}
	if o.window < 1 {
		o.window = defaultWindow
	}
	return &Publisher{conn: conn, service: roomcastv1.NewPublishServiceClient(conn), window: o.window}, nil
}

func connect(addr string, opts []Option) (*grpc.ClientConn, options, error) {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	conn, err := grpc.NewClient(addr, o.dialOptions()...)
	if err != nil {
		return nil, o, fmt.Errorf("dial %q: %w", addr, err)
	}
	return conn, o, nil
}

func (o *options) dialOptions() []grpc.DialOption {
	transport := credentials.NewTLS(o.tls)
	if o.plaintext {
		transport = insecure.NewCredentials()
	}
	dial := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithDefaultServiceConfig(serviceConfig),
		// Notices a dead peer in half a minute. Servers accept pings from every 10 s on.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 15 * time.Second, Timeout: 10 * time.Second}),
		// grpc's own limit of 120 s would keep a client away long after a failover.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: backoffBase, Multiplier: 1.6, Jitter: 0.5, MaxDelay: 5 * time.Second},
			MinConnectTimeout: 5 * time.Second,
		}),
	}
	if o.source != nil {
		dial = append(dial, grpc.WithPerRPCCredentials(bearer{source: o.source, plaintext: o.plaintext}))
	}
	return append(dial, o.dial...)
}

// bearer puts the token into the metadata of each call.
type bearer struct {
	source    TokenSource
	plaintext bool
}

// GetRequestMetadata implements [credentials.PerRPCCredentials].
func (b bearer) GetRequestMetadata(ctx context.Context, _ ...string) (map[string]string, error) {
	token, err := b.source(ctx)
	if err != nil {
		return nil, fmt.Errorf("get a token: %w", err)
	}
	return map[string]string{"authorization": "Bearer " + token}, nil
}

// RequireTransportSecurity implements [credentials.PerRPCCredentials].
func (b bearer) RequireTransportSecurity() bool { return !b.plaintext }

// Publish publishes one message and returns once the log has acknowledged it. Calls
// that overlap are stored in any order; use a [Stream] to keep one.
//
// UNAVAILABLE is tried again with the same message id, after the wait that the server
// asks for and a jittered backoff, until the context's deadline (15 s from now if it
// has none) and for at most 100 s. Other failures are returned at once. The error is
// or wraps an [*Error]. After DEADLINE_EXCEEDED the outcome is unknown: the message may be
// stored. Publishing it again with the same MessageID within 2 minutes is safe.
func (p *Publisher) Publish(ctx context.Context, m Message) (Result, error) {
	m = m.identified()
	req, err := m.request()
	if err != nil {
		return Result{}, err
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publishTimeout)
		defer cancel()
	}
	retry := retrier{since: time.Now()}
	for {
		resp, err := p.service.Publish(ctx, req)
		if err == nil {
			return result(m.MessageID, resp), nil
		}
		if err := retry.wait(ctx, rpcError(err)); err != nil {
			return Result{}, err
		}
	}
}

// Close closes the connection. Calls and streams under way fail.
func (p *Publisher) Close() error { return p.conn.Close() }

// retrier decides how long a failed publish is tried again.
type retrier struct {
	since   time.Time // of the first try
	backoff backoff
}

// wait returns nil when it is time for the next try, and otherwise the failure.
func (r *retrier) wait(ctx context.Context, failure *Error) error {
	if failure.Code != codes.Unavailable {
		return failure
	}
	delay := failure.RetryAfter + r.backoff.next()
	next := time.Now().Add(delay)
	if deadline, ok := ctx.Deadline(); ok && next.After(deadline) {
		return failure // waiting for the deadline would add nothing
	}
	if next.Sub(r.since) > retryHorizon {
		return failure
	}
	if err := pause(ctx, delay); err != nil {
		return fmt.Errorf("%w; last try: %w", err, failure)
	}
	return nil
}
