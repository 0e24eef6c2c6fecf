package main

import (
	"time"

	"github.com/alecthomas/kong"

	"github.com/roomcast/roomcast/internal/room"
)

// Settings is everything that serve can be told. A field with an env tag is a
// setting: flag, variable and file key are one name in three spellings. Settings
// has no rule of its own; node checks them.
type Settings struct {
	Config string `env:"ROOMCAST_CONFIG" placeholder:"FILE" help:"YAML file with settings; namespaces are only there."`

	General   generalSettings  `embed:"" group:"general"`
	Listeners listenerSettings `embed:"" group:"listeners"`
	TLS       tlsSettings      `embed:"" group:"tls"`
	Access    accessSettings   `embed:"" group:"access"`
	NATS      natsSettings     `embed:"" group:"nats"`
	Logs      logSettings      `embed:"" group:"logs"`

	Namespaces map[string]room.Policy `kong:"-"` // of the file
}

type generalSettings struct {
	Dev          bool          `env:"ROOMCAST_DEV" negatable:"" help:"For a laptop: loopback only, a public development key, guests, reflection. Never expose it."`
	Node         string        `env:"ROOMCAST_NODE" placeholder:"NAME" help:"This node's name, unique in the cluster; default host name and a random suffix."`
	DataDir      string        `env:"ROOMCAST_DATA_DIR" placeholder:"DIR" help:"Files of the embedded NATS; default ./roomcast-data, with --dev ./.roomcast-dev."`
	ReadyFile    string        `env:"ROOMCAST_READY_FILE" placeholder:"FILE" help:"Written once ready: one JSON object with the addresses."`
	PingInterval time.Duration `env:"ROOMCAST_PING_INTERVAL" default:"25s" help:"Between protocol pings to a socket."`
	DrainWindow  time.Duration `env:"ROOMCAST_DRAIN_WINDOW" default:"20s" help:"Longest drain after SIGTERM or SIGINT."`
}

type listenerSettings struct {
	HTTPAddr       string   `env:"ROOMCAST_HTTP_ADDR" default:"127.0.0.1:8080" help:"Public listener: sockets, /health. Port 0 picks a free one, here and below."`
	GRPCAddr       string   `env:"ROOMCAST_GRPC_ADDR" default:"127.0.0.1:9090" help:"Control listener: gRPC."`
	AdminAddr      string   `env:"ROOMCAST_ADMIN_ADDR" default:"127.0.0.1:8081" help:"Admin listener: metrics, probes, pprof."`
	Reflection     *bool    `env:"ROOMCAST_REFLECTION" negatable:"" help:"Serve gRPC reflection; default only with --dev."`
	AllowedOrigins []string `env:"ROOMCAST_ALLOWED_ORIGINS" placeholder:"ORIGIN" help:"Origins of web pages that may open sockets, besides the same host: https://app.example."`
	TrustedProxies []string `env:"ROOMCAST_TRUSTED_PROXIES" placeholder:"ADDR" help:"Addresses or prefixes of proxies whose X-Forwarded-For counts."`
}

type tlsSettings struct {
	TLSCert       string `env:"ROOMCAST_TLS_CERT" placeholder:"FILE" help:"PEM certificate chain of the public and control listeners."`
	TLSKey        string `env:"ROOMCAST_TLS_KEY" placeholder:"FILE" help:"PEM private key of it."`
	GRPCClientCA  string `env:"ROOMCAST_GRPC_CLIENT_CA" name:"grpc-client-ca" placeholder:"FILE" help:"PEM file: gRPC callers must have a certificate of this CA, and whoever has one may do everything; use a CA of its own."`
	HTTPPlaintext bool   `env:"ROOMCAST_HTTP_PLAINTEXT" negatable:"" help:"Public listener without TLS off loopback: a proxy ends it."`
	GRPCPlaintext bool   `env:"ROOMCAST_GRPC_PLAINTEXT" negatable:"" help:"Control listener without TLS off loopback: a proxy ends it."`
}

type accessSettings struct {
	TokenHMACKeyFile   []string `env:"ROOMCAST_TOKEN_HMAC_KEY_FILE" name:"token-hmac-key-file" placeholder:"FILE" help:"Secret key of HS256 tokens, at least 32 bytes. Repeatable."`
	TokenPublicKeyFile []string `env:"ROOMCAST_TOKEN_PUBLIC_KEY_FILE" placeholder:"FILE" help:"PEM public key of RS256, ES256 or EdDSA tokens. Repeatable."`
	TokenIssuer        string   `env:"ROOMCAST_TOKEN_ISSUER" placeholder:"ISS" help:"The iss that tokens must have."`
	TokenAudience      string   `env:"ROOMCAST_TOKEN_AUDIENCE" placeholder:"AUD" help:"The aud that tokens must have."`
	TokenInQuery       bool     `env:"ROOMCAST_TOKEN_IN_QUERY" negatable:"" help:"Accept ?access_token=, which proxies write to their logs."`
	AdminTokenFile     string   `env:"ROOMCAST_ADMIN_TOKEN_FILE" placeholder:"FILE" help:"Bearer token of the admin listener's private pages off loopback."`
}

type natsSettings struct {
	URL          string `env:"ROOMCAST_NATS_URL" name:"nats-url" placeholder:"URL" help:"NATS servers; default NATS embedded in the process."`
	Creds        string `env:"ROOMCAST_NATS_CREDS" name:"nats-creds" placeholder:"FILE" help:"Credentials file."`
	Nkey         string `env:"ROOMCAST_NATS_NKEY" name:"nats-nkey" placeholder:"FILE" help:"NKey seed file."`
	User         string `env:"ROOMCAST_NATS_USER" name:"nats-user" placeholder:"USER" help:"User name."`
	PasswordFile string `env:"ROOMCAST_NATS_PASSWORD_FILE" name:"nats-password-file" placeholder:"FILE" help:"File with the user's password."`
	CA           string `env:"ROOMCAST_NATS_CA" name:"nats-ca" placeholder:"FILE" help:"PEM file of the servers' CA; default the system's."`
	Cert         string `env:"ROOMCAST_NATS_CERT" name:"nats-cert" placeholder:"FILE" help:"PEM client certificate."`
	Key          string `env:"ROOMCAST_NATS_KEY" name:"nats-key" placeholder:"FILE" help:"PEM private key of it."`
	Replicas     int    `env:"ROOMCAST_NATS_REPLICAS" name:"nats-replicas" default:"1" help:"Copies of the log in a NATS cluster: 1, 3 or 5."`
	SyncAlways   bool   `env:"ROOMCAST_NATS_SYNC_ALWAYS" name:"nats-sync-always" negatable:"" help:"Embedded: write to the disk before each acknowledgement. Slow, survives power loss."`
	AllowShrink  bool   `env:"ROOMCAST_ALLOW_SHRINK" name:"allow-shrink" negatable:"" help:"Let a smaller history drop stored messages."`
}

type logSettings struct {
	Level  string `env:"ROOMCAST_LOG_LEVEL" name:"log-level" enum:"debug,info,warn,error" default:"info" help:"The least level to log: debug, info, warn or error."`
	Format string `env:"ROOMCAST_LOG_FORMAT" name:"log-format" enum:"auto,text,json" default:"auto" help:"text, json, or auto: text on a terminal, json otherwise."`
}

// settingGroups are the headings of the help and of `config docs`.
func settingGroups() kong.Groups {
	return kong.Groups{
		"general":   "General",
		"listeners": "Listeners",
		"tls":       "TLS",
		"access":    "Tokens and access",
		"nats":      "NATS",
		"logs":      "Logs",
		"server":    "Server",
	}
}

// BeforeResolve reads the file before kong asks [sources] for values.
func (s *Settings) BeforeResolve(ctx *kong.Context, src *sources) error {
	path := src.getenv("ROOMCAST_CONFIG")
	for _, flag := range ctx.Flags() {
		if flag.Name == "config" {
			if given, ok := ctx.FlagValue(flag).(string); ok && given != "" {
				path = given
			}
		}
	}
	if path == "" {
		return nil
	}
	file, err := readConfigFile(path)
	if err != nil {
		return err
	}
	if err := file.checkKeys(ctx.Flags()); err != nil {
		return err
	}
	src.file = file
	s.Namespaces = file.namespaces
	return nil
}

// AfterApply fills the defaults that depend on --dev.
func (s *Settings) AfterApply(src *sources) error { //nolint:unparam // kong's hook
	if s.General.DataDir == "" {
		s.General.DataDir = "./roomcast-data"
		if s.General.Dev {
			s.General.DataDir = "./.roomcast-dev"
			src.origin["data-dir"] = "default with --dev"
		}
	}
	if s.Listeners.Reflection == nil {
		s.Listeners.Reflection = &s.General.Dev
		if s.General.Dev {
			src.origin["reflection"] = "default with --dev"
		}
	}
	return nil
}
