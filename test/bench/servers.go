package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/roomcast/roomcast/internal/nodetest"
)

// startNATS starts nats-servers with their defaults but JetStream; more than one are a
// cluster.
func (s *service) startNATS(ctx context.Context, program, dir string, servers int) error {
	routes, err := nodetest.FreeAddrs(servers)
	if err != nil {
		return err
	}
	var urls []string
	for i, route := range routes {
		data := filepath.Join(dir, fmt.Sprintf("nats%d", i+1))
		args := []string{
			"--addr", "127.0.0.1", "--port", "-1", "--ports_file_dir", dir, "--jetstream", "--store_dir", data,
		}
		if servers > 1 {
			args = append(args, "--server_name", fmt.Sprintf("s%d", i+1), "--cluster_name", "bench",
				"--cluster", "nats://"+route, "--routes", "nats://"+strings.Join(routes, ",nats://"))
		}
		p, err := launch(program, data, args)
		if err != nil {
			return err
		}
		s.nats = append(s.nats, p)
		url, err := p.awaitPorts(ctx, filepath.Join(dir, fmt.Sprintf("%s_%d.ports", filepath.Base(program), p.cmd.Process.Pid)))
		if err != nil {
			return err
		}
		urls = append(urls, url)
	}
	s.url = strings.Join(urls, ",")
	return nil
}

// awaitPorts waits for the file that a nats-server writes when it listens, and returns
// its URL.
func (p *process) awaitPorts(ctx context.Context, path string) (url string, err error) {
	err = p.await(ctx, func() bool {
		var ports struct {
			NATS []string `json:"nats"`
		}
		text, err := os.ReadFile(path)
		if err != nil || json.Unmarshal(text, &ports) != nil || len(ports.NATS) == 0 {
			return false
		}
		url = ports.NATS[0]
		return true
	})
	return url, err
}
