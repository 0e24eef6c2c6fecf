package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/node"
)

// nodeConfig translates the settings. Errors name the flag. What holds between
// settings, such as TLS off loopback, is checked by node.
func (s *Settings) nodeConfig() (node.Config, error) {
	password, err := secretFile("--nats-password-file", s.NATS.PasswordFile)
	if err != nil {
		return node.Config{}, err
	}
	authConfig, err := s.authConfig()
	if err != nil {
		return node.Config{}, err
	}
	return node.Config{
		Node:           s.General.Node,
		Version:        readBuild().version,
		HTTPAddr:       s.Listeners.HTTPAddr,
		GRPCAddr:       s.Listeners.GRPCAddr,
		AdminAddr:      s.Listeners.AdminAddr,
		Dev:            s.General.Dev,
		Reflection:     *s.Listeners.Reflection,
		HTTPPlaintext:  s.TLS.HTTPPlaintext,
		GRPCPlaintext:  s.TLS.GRPCPlaintext,
		TLSCert:        s.TLS.TLSCert,
		TLSKey:         s.TLS.TLSKey,
		GRPCClientCA:   s.TLS.GRPCClientCA,
		AdminTokenFile: s.Access.AdminTokenFile,
		AllowedOrigins: s.Listeners.AllowedOrigins,
		TrustedProxies: s.Listeners.TrustedProxies,
		TokenInQuery:   s.Access.TokenInQuery,
		Auth:           authConfig,
		Namespaces:     s.Namespaces,
		DataDir:        s.General.DataDir,
		NATS: node.NATSConfig{
			URL:         s.NATS.URL,
			Creds:       s.NATS.Creds,
			Nkey:        s.NATS.Nkey,
			User:        s.NATS.User,
			Password:    password,
			CA:          s.NATS.CA,
			Cert:        s.NATS.Cert,
			Key:         s.NATS.Key,
			Replicas:    s.NATS.Replicas,
			SyncAlways:  s.NATS.SyncAlways,
			AllowShrink: s.NATS.AllowShrink,
		},
		PingInterval: s.General.PingInterval,
		DrainWindow:  s.General.DrainWindow,
		ReadyFile:    s.General.ReadyFile,
	}, nil
}

// authConfig refuses the published development key outside --dev: whoever read
// this repository could make tokens.
func (s *Settings) authConfig() (auth.Config, error) {
	cfg := auth.Config{
		HMACKeyFiles:   s.Access.TokenHMACKeyFile,
		PublicKeyFiles: s.Access.TokenPublicKeyFile,
		Issuer:         s.Access.TokenIssuer,
		Audience:       s.Access.TokenAudience,
	}
	if s.General.Dev {
		cfg.DevKey = []byte(devKey)
		return cfg, nil
	}
	for _, file := range cfg.HMACKeyFiles {
		key, err := os.ReadFile(file)
		if err != nil {
			return auth.Config{}, fmt.Errorf("--token-hmac-key-file: %w", err)
		}
		if bytes.Equal(bytes.TrimSpace(key), []byte(devKey)) {
			return auth.Config{}, fmt.Errorf("--token-hmac-key-file: %s holds the published development key; make one: openssl rand -hex 32", file)
		}
	}
	return cfg, nil
}

// secretFile reads a secret without the line end that editors add. An empty path
// is an empty secret.
func secretFile(flag, path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return "", fmt.Errorf("%s: %w", flag, err)
	}
	return strings.TrimRight(string(data), "\r\n"), nil
}
