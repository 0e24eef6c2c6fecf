package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
)

// listeners are the three addresses that a node has taken.
type listeners struct {
	http, grpc, admin net.Listener
}

// listen takes the three addresses, before anything else is started.
func (c *Config) listen() (l listeners, err error) {
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.http, err = listenOn("--http-addr", c.HTTPAddr); err != nil {
		return l, err
	}
	if l.grpc, err = listenOn("--grpc-addr", c.GRPCAddr); err != nil {
		return l, err
	}
	l.admin, err = listenOn("--admin-addr", c.AdminAddr)
	return l, err
}

func (l listeners) close() {
	for _, lis := range []net.Listener{l.http, l.grpc, l.admin} {
		if lis != nil {
			_ = lis.Close() // its server may have closed it
		}
	}
}

func listenOn(flag, addr string) (net.Listener, error) {
	// No keep-alive of TCP: what may be idle here has pings or deadlines of its own, and
	// it takes four system calls a connection.
	lis, err := (&net.ListenConfig{KeepAlive: -1}).Listen(context.Background(), "tcp", addr)
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("%s: %s is taken by another process; stop it, choose another port, or :0 for a free one", flag, addr)
	case err != nil:
		return nil, fmt.Errorf("%s: %w", flag, err)
	}
	return lis, nil
}

// serverTLS loads the listeners' certificate; nil means plaintext.
func (c *Config) serverTLS() (*tls.Config, error) {
	if c.TLSCert == "" {
		return nil, nil //nolint:nilnil // no TLS is an answer
	}
	cert, err := tls.LoadX509KeyPair(c.TLSCert, c.TLSKey)
	if err != nil {
		return nil, fmt.Errorf("--tls-cert, --tls-key: %w", err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, nil
}

// controlTLS is serverTLS for the control listener, which may ask for certificates.
func (c *Config) controlTLS() (*tls.Config, error) {
	conf, err := c.serverTLS()
	if err != nil || conf == nil || c.GRPCClientCA == "" {
		return conf, err
	}
	pem, err := os.ReadFile(c.GRPCClientCA)
	if err != nil {
		return nil, fmt.Errorf("--grpc-client-ca: %w", err)
	}
	conf.ClientCAs = x509.NewCertPool()
	if !conf.ClientCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("--grpc-client-ca: %s holds no PEM certificate", c.GRPCClientCA)
	}
	conf.ClientAuth = tls.RequireAndVerifyClientCert
	return conf, nil
}

// writeReadyFile writes the addresses where scripts wait for them, in one step.
func writeReadyFile(path string, addrs Addrs) error {
	body, err := json.Marshal(addrs)
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	temp, err := os.CreateTemp(filepath.Dir(path), ".ready-*")
	if err != nil {
		return fmt.Errorf("--ready-file: %w", err)
	}
	_, err = temp.Write(append(body, '\n'))
	err = errors.Join(err, temp.Close())
	if err == nil {
		err = os.Rename(temp.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("--ready-file: %w", errors.Join(err, os.Remove(temp.Name())))
	}
	return nil
}
