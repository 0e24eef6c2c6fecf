package node

import (
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/room"
)

// Config is everything that a node is told from outside. Its zero value is not
// usable; cmd/roomcast fills it from flags, environment, file and defaults, tests
// from [nodetest].
type Config struct {
	Node    string // this node's name, unique in the cluster; empty = host name and a random suffix
	Version string // of the program, for welcome frames and ListNodes

	HTTPAddr  string // public listener: sockets, SSE, /health
	GRPCAddr  string // control listener
	AdminAddr string // metrics, probes, pprof

	Dev           bool // loopback only, guests, reflection
	Reflection    bool // serve gRPC reflection
	HTTPPlaintext bool // a proxy ends TLS before the public listener
	GRPCPlaintext bool // a proxy ends TLS before the control listener

	TLSCert, TLSKey string // PEM files for both listeners; empty = plaintext
	GRPCClientCA    string // PEM file: control clients must have a certificate of it; empty = none asked

	AdminTokenFile string   // bearer token for the admin listener's private pages off loopback
	AllowedOrigins []string // browsers' origins besides the same host: "https://app.example"
	TrustedProxies []string // addresses or prefixes whose X-Forwarded-For counts
	TokenInQuery   bool     // accept ?access_token=

	Auth       auth.Config
	Namespaces map[string]room.Policy

	DataDir string // embedded NATS: files
	NATS    NATSConfig

	PingInterval time.Duration // between protocol pings to a socket
	DrainWindow  time.Duration // longest drain after SIGTERM
	ReadyFile    string        // written once ready; empty = none

	OnReady func(Addrs) // called once ready; nil = nobody
}

// Addrs are the addresses that a node listens on, with the ports that it got.
type Addrs struct {
	HTTP  string `json:"http"`
	GRPC  string `json:"grpc"`
	Admin string `json:"admin"`
	Node  string `json:"node"`
}

// NATSConfig says which NATS to use.
type NATSConfig struct {
	URL         string // comma-separated; empty = embedded
	Creds       string // credentials file
	Nkey        string // nkey seed file
	User        string
	Password    string
	CA          string // PEM file of the server's CA; empty = the system's
	Cert, Key   string // PEM files of the client certificate
	Replicas    int    // of streams: 1 or 3 (5); 0 = 1
	SyncAlways  bool   // embedded: fsync before each acknowledgement
	AllowShrink bool   // let a smaller history drop messages
}
