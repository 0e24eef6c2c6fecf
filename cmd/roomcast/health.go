package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// healthCmd is for container health checks: it reads the same variable as serve.
type healthCmd struct {
	AdminAddr string        `env:"ROOMCAST_ADMIN_ADDR" default:"127.0.0.1:8081" help:"The node's admin listener."`
	Timeout   time.Duration `default:"5s" help:"How long to wait for the answer."`
}

// maxHealthBody bounds what is shown of an answer, in bytes.
const maxHealthBody = 64 << 10

// Run asks /readyz and shows its answer; not ready or unreachable is exit code 1.
func (c *healthCmd) Run(ctx context.Context, p *process) error {
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	addr, err := dialable(c.AdminAddr)
	if err != nil {
		return usagef("--admin-addr: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+addr+"/readyz", nil)
	if err != nil {
		return usagef("--admin-addr: %w", err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it asks this very node
	resp, err := client.Do(req)
	if err != nil {
		return fmt.Errorf("not ready: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxHealthBody))
	if err != nil {
		return fmt.Errorf("not ready: read the answer: %w", err)
	}
	text := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not ready: %s: %s", resp.Status, text)
	}
	p.printf("%s\n", text)
	return nil
}

// dialable turns an address to listen on into one to dial: no host or the wildcard
// address means this machine.
func dialable(addr string) (string, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return "", err
	}
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port), nil
}
