package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/node"
)

// devKey signs development tokens. It is public and therefore worthless as a
// secret: only --dev accepts it, which serves loopback only.
const devKey = "roomcast-development-key-public-and-insecure"

// devTokenTTL is how long the banner's token is valid.
const devTokenTTL = 24 * time.Hour

// Addresses that the commands use without a flag.
const (
	defaultHTTPAddr  = "127.0.0.1:8080"
	defaultGRPCAddr  = "127.0.0.1:9090"
	defaultAdminAddr = "127.0.0.1:8081"
)

// paths is how to call the programs from this directory.
type paths struct {
	roomcast string
	grpcurl  string
	hint     string // what to do first to have grpcurl; empty = nothing
}

// printBanner shows what a stranger pastes into another terminal.
func printBanner(p *process, addrs node.Addrs, version string) {
	token, err := devToken(time.Now())
	if err != nil {
		p.notef("%s: development token: %v\n", progName, err)
	}
	p.printf("%s", banner(addrs, version, token, findPaths()))
}

func devToken(now time.Time) (string, error) {
	return auth.Mint([]byte(devKey), auth.Claims{
		User:     "dev",
		Rooms:    map[string][]string{"*": allRights()},
		RPC:      allRPC(),
		IssuedAt: now,
		Expires:  now.Add(devTokenTTL),
	})
}

// banner has no colours and no width: its lines are for pasting.
func banner(addrs node.Addrs, version, token string, tools paths) string {
	var pubFlags, subFlags string
	if addrs.GRPC != defaultGRPCAddr {
		pubFlags = " --grpc-addr " + addrs.GRPC
	}
	if addrs.HTTP != defaultHTTPAddr {
		subFlags = " --url http://" + addrs.HTTP
	}
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("")
	line("  Roomcast %s  development mode: loopback only, public key, guests. Do not expose.", version)
	line("")
	line("  sockets  ws://%s/v1/ws", addrs.HTTP)
	line("  gRPC     %s  (plaintext, reflection)", addrs.GRPC)
	line("  admin    http://%s/metrics  /healthz  /readyz", addrs.Admin)
	line("")
	line("  Listen to the room \"hello\", each line in a terminal of its own, in this directory:")
	line("")
	line("%s sub%s hello", tools.roomcast, subFlags)
	line("npx --yes wscat -c 'ws://%s/v1/ws?room=hello'", addrs.HTTP)
	line("")
	line("  Publish to it from another:")
	line("")
	line("%s pub%s hello '{\"text\":\"hi\"}'", tools.roomcast, pubFlags)
	line("%s -plaintext -d '{\"room\":\"hello\",\"json\":{\"text\":\"hi\"}}' %s roomcast.v1.PublishService/Publish", tools.grpcurl, addrs.GRPC)
	line("curl http://%s/health", addrs.HTTP)
	if tools.hint != "" {
		line("")
		line("  %s", tools.hint)
	}
	line("")
	line("  A token for scripts: user dev, all rooms, 24 h. Without one you are the user guest.")
	line("")
	line("export ROOMCAST_TOKEN=%s", token)
	line("")
	line("  Another one: %s token mint --user ann --rooms 'orders:*'    Ctrl-C drains.", tools.roomcast)
	line("")
	return b.String()
}

// findPaths looks for the programs where make puts them and on the PATH.
func findPaths() paths {
	dir, err := os.Getwd()
	if err != nil {
		dir = ""
	}
	exe, err := os.Executable()
	if err != nil {
		exe = progName
	}
	tools := paths{roomcast: shortPath(exe, dir)}
	for _, candidate := range []string{filepath.Join(filepath.Dir(exe), "grpcurl"), filepath.Join(dir, "bin", "grpcurl")} {
		if info, err := os.Stat(candidate); err == nil && info.Mode().IsRegular() {
			tools.grpcurl = shortPath(candidate, dir)
			return tools
		}
	}
	if _, err := exec.LookPath("grpcurl"); err == nil {
		tools.grpcurl = "grpcurl"
		return tools
	}
	tools.grpcurl = "bin/grpcurl"
	tools.hint = "bin/grpcurl is made by: make tools"
	return tools
}

// shortPath is how to call the program at path from dir: by its name if the PATH
// finds the same file, relative below dir, else as it is. Quoted for a shell if it
// has to be.
func shortPath(path, dir string) string {
	if found, err := exec.LookPath(filepath.Base(path)); err == nil && sameFile(found, path) {
		return filepath.Base(path)
	}
	if rel, err := filepath.Rel(dir, path); err == nil && filepath.IsLocal(rel) {
		path = rel
		if !strings.Contains(rel, string(filepath.Separator)) {
			path = "." + string(filepath.Separator) + rel
		}
	}
	if strings.ContainsAny(path, " '\"$&()*;<>?[\\`|~#!{}") {
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	}
	return path
}

func sameFile(a, b string) bool {
	first, err := os.Stat(a)
	if err != nil {
		return false
	}
	second, err := os.Stat(b)
	return err == nil && os.SameFile(first, second)
}
