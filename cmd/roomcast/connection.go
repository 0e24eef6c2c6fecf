package main

import (
	"crypto/tls"
	"crypto/x509"
	"net"
	"net/netip"
	"os"

	"github.com/roomcast/roomcast/client"
)

// caller is how a client command proves itself and whom it trusts.
type caller struct {
	Token string `env:"ROOMCAST_TOKEN" placeholder:"TOKEN" help:"Bearer token; a node in --dev needs none."`
	CA    string `name:"ca" type:"path" placeholder:"FILE" help:"PEM file of the server's CA; default the system's."`
	Cert  string `name:"cert" type:"path" placeholder:"FILE" help:"PEM client certificate, where the server asks for one."`
	Key   string `name:"key" type:"path" placeholder:"FILE" help:"PEM private key of it."`
}

// grpcServer is the control listener that a command calls.
type grpcServer struct {
	GRPCAddr string `env:"ROOMCAST_GRPC_ADDR" default:"localhost:9090" help:"Control listener of a node or cluster."`
	TLS      *bool  `name:"tls" negatable:"" help:"Use TLS; default unless the address is loopback."`
}

// socketServer is the public listener that a command calls.
type socketServer struct {
	URL string `env:"ROOMCAST_URL" name:"url" default:"http://localhost:8080" help:"Public listener of a node or cluster: http, https, ws or wss."`
}

// dial prepares the publisher; it connects with the first call.
func (s *grpcServer) dial(c *caller) (*client.Publisher, error) {
	return dialWith(s, c, client.Dial)
}

// dialPresence is dial for presence.
func (s *grpcServer) dialPresence(c *caller) (*client.Presence, error) {
	return dialWith(s, c, client.DialPresence)
}

func dialWith[T any](s *grpcServer, c *caller, dial func(string, ...client.Option) (T, error)) (T, error) {
	var none T
	addr, err := dialable(s.GRPCAddr)
	if err != nil {
		return none, usagef("--grpc-addr: %w", err)
	}
	config, err := c.tlsConfig()
	if err != nil {
		return none, err
	}
	encryption := client.WithTLS(config)
	if !s.encrypted(addr, c) {
		encryption = client.WithPlaintext()
	}
	made, err := dial(addr, encryption, client.WithToken(c.Token))
	if err != nil {
		return none, usagef("--grpc-addr: %w", err)
	}
	return made, nil
}

func (s *grpcServer) encrypted(addr string, c *caller) bool {
	if s.TLS != nil {
		return *s.TLS
	}
	return c.CA != "" || c.Cert != "" || !isLoopback(addr)
}

// isLoopback reports whether host:port stays on this machine by its name alone.
func isLoopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && ip.IsLoopback()
}

// tlsConfig trusts the CA of --ca, or the system's, and shows the certificate of
// --cert.
func (c *caller) tlsConfig() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.Cert != "" || c.Key != "" {
		cert, err := tls.LoadX509KeyPair(c.Cert, c.Key)
		if err != nil {
			return nil, usagef("--cert, --key: %w", err)
		}
		config.Certificates = []tls.Certificate{cert}
	}
	if c.CA == "" {
		return config, nil
	}
	pem, err := os.ReadFile(c.CA)
	if err != nil {
		return nil, usagef("--ca: %w", err)
	}
	config.RootCAs = x509.NewCertPool()
	if !config.RootCAs.AppendCertsFromPEM(pem) {
		return nil, usagef("--ca: %s holds no PEM certificate", c.CA)
	}
	return config, nil
}
