package node

import (
	"fmt"
	"math"
	"net"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/roomcast/roomcast/internal/room"
)

// check refuses what must not start. Each error names the setting and the mend.
func (c *Config) check() error {
	for _, step := range []func() error{
		c.checkTimes, c.checkTLSFiles, c.checkExposure, c.checkKeys, c.checkNATS, checkDescriptors,
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Config) checkTimes() error {
	switch {
	case c.PingInterval < time.Second:
		return fmt.Errorf("--ping-interval is %s; it must be at least 1s", c.PingInterval)
	case c.DrainWindow < 0:
		return fmt.Errorf("--drain-window is %s; it must not be negative", c.DrainWindow)
	}
	return room.CheckUser(c.Node, "--node")
}

func (c *Config) checkTLSFiles() error {
	switch {
	case c.TLSCert != "" && c.TLSKey == "":
		return fmt.Errorf("--tls-cert needs --tls-key")
	case c.TLSKey != "" && c.TLSCert == "":
		return fmt.Errorf("--tls-key needs --tls-cert")
	case c.GRPCClientCA != "" && c.TLSCert == "":
		return fmt.Errorf("--grpc-client-ca needs --tls-cert and --tls-key")
	}
	return nil
}

// checkExposure refuses plaintext and development mode off loopback.
func (c *Config) checkExposure() error {
	listeners := []struct {
		flag, addr, plainFlag string
		plain                 bool
	}{
		{"--http-addr", c.HTTPAddr, "--http-plaintext", c.HTTPPlaintext},
		{"--grpc-addr", c.GRPCAddr, "--grpc-plaintext", c.GRPCPlaintext},
		{"--admin-addr", c.AdminAddr, "", true},
	}
	for _, l := range listeners {
		loopback, err := isLoopback(l.addr)
		switch {
		case err != nil:
			return fmt.Errorf("%s: %q is no address; write it like 127.0.0.1:8080 or :8080", l.flag, l.addr)
		case loopback:
		case c.Dev:
			return fmt.Errorf("%s is %s, but --dev listens on loopback only; leave out --dev, or use 127.0.0.1", l.flag, l.addr)
		case c.TLSCert == "" && !l.plain:
			return fmt.Errorf("%s is %s, which is not loopback, and there is no TLS; set --tls-cert and --tls-key, or %s if a proxy ends TLS",
				l.flag, l.addr, l.plainFlag)
		}
	}
	return nil
}

func (c *Config) checkKeys() error {
	if c.Auth.Empty() {
		return fmt.Errorf("there are no token keys, so nobody could connect; set --token-hmac-key-file or --token-public-key-file, or use --dev on a laptop")
	}
	return nil
}

func (c *Config) checkNATS() error {
	if !slices.Contains([]int{0, 1, 3, 5}, c.NATS.Replicas) {
		return fmt.Errorf("--nats-replicas is %d; it must be 1, 3 or 5", c.NATS.Replicas)
	}
	if c.NATS.URL == "" {
		switch {
		case c.NATS.Replicas > 1:
			return fmt.Errorf("--nats-replicas is %d, but the embedded NATS is one server; set --nats-url", c.NATS.Replicas)
		case c.DataDir == "":
			return fmt.Errorf("--data-dir is empty; the embedded NATS needs a directory for the log")
		}
		return nil
	}
	if (c.NATS.Cert == "") != (c.NATS.Key == "") {
		return fmt.Errorf("--nats-cert and --nats-key need each other")
	}
	for _, f := range []struct{ flag, path string }{
		{"--nats-creds", c.NATS.Creds},
		{"--nats-nkey", c.NATS.Nkey},
		{"--nats-ca", c.NATS.CA},
		{"--nats-cert", c.NATS.Cert},
		{"--nats-key", c.NATS.Key},
	} {
		if f.path == "" {
			continue
		}
		if _, err := os.Stat(f.path); err != nil {
			return fmt.Errorf("%s: %w", f.flag, err)
		}
	}
	return nil
}

// minDescriptors is what a node needs before the first socket, with head room.
const minDescriptors = 256

// What the listeners leave of the descriptors to the node itself, for the log's files,
// connections to NATS and those who are being refused, and what the public listener leaves
// to the others.
const (
	ownDescriptors   = 80
	adminConnections = 16
	leastControl     = 64 // connections of the control listener, or
	controlShare     = 32 // one in so many descriptors
)

// shares is how many connections each listener takes; 0 = no bound.
func shares() (public, control, admin int) {
	descriptors, ok := descriptorLimit()
	if !ok {
		return 0, 0, 0
	}
	limit := int(min(descriptors, math.MaxInt32)) // at least minDescriptors, see checkDescriptors
	control = max(leastControl, limit/controlShare)
	return limit - ownDescriptors - adminConnections - control, control, adminConnections
}

func checkDescriptors() error {
	limit, ok := descriptorLimit()
	if ok && limit < minDescriptors {
		return fmt.Errorf("the limit of open files is %d and a node needs at least %d, plus one a socket; raise it with ulimit -n, or LimitNOFILE= under systemd",
			limit, minDescriptors)
	}
	return nil
}

// isLoopback reports whether an address to listen on is reachable from this machine
// only.
func isLoopback(addr string) (bool, error) {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false, err
	}
	if host == "localhost" {
		return true, nil
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback(), nil
}
