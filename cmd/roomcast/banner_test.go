package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/auth"
	"github.com/roomcast/roomcast/internal/node"
)

func TestBanner(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		addrs node.Addrs
		tools paths
	}{
		"default": {
			node.Addrs{HTTP: defaultHTTPAddr, GRPC: defaultGRPCAddr, Admin: defaultAdminAddr},
			paths{roomcast: "bin/roomcast", grpcurl: "bin/grpcurl"},
		},
		"other_ports": {
			node.Addrs{HTTP: "127.0.0.1:40001", GRPC: "[::1]:40002", Admin: "127.0.0.1:40003"},
			paths{roomcast: "roomcast", grpcurl: "bin/grpcurl", hint: "bin/grpcurl is made by: make tools"},
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := banner(test.addrs, "v0.1.0", "TOKEN", test.tools)
			golden(t, filepath.Join("testdata", "banner_"+name+".golden"), got)
		})
	}
}

func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", file, diff)
	}
}

// TestDevToken: the banner's token passes a node in development and allows all.
func TestDevToken(t *testing.T) {
	t.Parallel()
	now := time.Now()
	token, err := devToken(now)
	if err != nil {
		t.Fatal(err)
	}
	verifier, err := auth.NewVerifier(auth.Config{DevKey: []byte(devKey)})
	if err != nil {
		t.Fatal(err)
	}
	caller, err := verifier.Verify(token, now)
	if err != nil {
		t.Fatal(err)
	}
	if !caller.MaySubscribe("any:room") || !caller.MayPublish("any:room") || !caller.MayPresence("any:room") {
		t.Error("got a token that does not allow every room")
	}
	for _, rpc := range allRPC() {
		if !caller.MayCall(rpc) {
			t.Errorf("got a token that may not call %s", rpc)
		}
	}
}

func TestShortPath(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tests := map[string]struct{ path, want string }{
		"below":       {filepath.Join(dir, "bin", "prog"), filepath.Join("bin", "prog")},
		"here":        {filepath.Join(dir, "prog"), "." + string(filepath.Separator) + "prog"},
		"elsewhere":   {filepath.Join(filepath.Dir(dir), "other", "prog"), filepath.Join(filepath.Dir(dir), "other", "prog")},
		"with spaces": {filepath.Join(dir, "my bin", "prog"), "'" + filepath.Join("my bin", "prog") + "'"},
		"with quotes": {filepath.Join(dir, "it's", "prog"), "'" + filepath.Join(`it'\''s`, "prog") + "'"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := shortPath(test.path, dir); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
