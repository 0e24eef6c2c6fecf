package main

import (
	"path/filepath"
	"testing"

	"github.com/roomcast/roomcast/client"
)

func TestEncrypted(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	tests := map[string]struct {
		addr string
		tls  *bool
		ca   string
		want bool
	}{
		"localhost":           {addr: "localhost:9090"},
		"loopback":            {addr: "127.0.0.2:9090"},
		"loopback, IPv6":      {addr: "[::1]:9090"},
		"elsewhere":           {addr: "10.0.0.1:9090", want: true},
		"a name":              {addr: "localhost.example:9090", want: true},
		"loopback, asked":     {addr: "localhost:9090", tls: &yes, want: true},
		"loopback, with a CA": {addr: "localhost:9090", ca: "ca.pem", want: true},
		"elsewhere, refused":  {addr: "10.0.0.1:9090", tls: &no},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := (&grpcServer{TLS: test.tls}).encrypted(test.addr, &caller{CA: test.ca})
			if got != test.want {
				t.Errorf("got %t, want %t", got, test.want)
			}
		})
	}
}

func TestDialable(t *testing.T) {
	t.Parallel()
	for addr, want := range map[string]string{
		":9090": "127.0.0.1:9090", "0.0.0.0:9090": "127.0.0.1:9090", "[::]:9090": "127.0.0.1:9090",
		"10.0.0.1:9090": "10.0.0.1:9090", "[::1]:9090": "[::1]:9090", "node.example:9090": "node.example:9090",
	} {
		if got, err := dialable(addr); err != nil || got != want {
			t.Errorf("dialable(%q): got %q, %v, want %q", addr, got, err, want)
		}
	}
	if _, err := dialable("localhost"); err == nil {
		t.Error("dialable without a port: got no error")
	}
}

func TestMissingCA(t *testing.T) {
	t.Parallel()
	if _, err := (&caller{CA: filepath.Join(t.TempDir(), "nope")}).tlsConfig(); err == nil {
		t.Error("a file that is not there: got no error")
	}
	if _, err := (&caller{CA: "connection_test.go"}).tlsConfig(); err == nil {
		t.Error("a file without a certificate: got no error")
	}
}

func TestPubBody(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		cmd  pubCmd
		data string
		want client.Kind
	}{
		"object":               {data: `{"a": 1}`, want: client.KindJSON},
		"number":               {data: "42", want: client.KindJSON},
		"with carriage return": {data: "{}\r", want: client.KindJSON},
		"word":                 {data: "hello", want: client.KindText},
		"empty":                {data: "", want: client.KindText},
		"bytes":                {data: "\xff", want: client.KindData},
		"JSON of broken text":  {data: "\"\xff\"", want: client.KindData},
		"--text":               {cmd: pubCmd{Text: true}, data: "42", want: client.KindText},
		"--json, broken":       {cmd: pubCmd{JSON: true}, data: "{", want: client.KindJSON},
		"--data":               {cmd: pubCmd{Raw: true}, data: "hello", want: client.KindData},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			body := test.cmd.body([]byte(test.data))
			if body.Kind() != test.want || string(body.Bytes()) != test.data {
				t.Errorf("got %s %q, want %s %q", body.Kind(), body.Bytes(), test.want, test.data)
			}
		})
	}
}
