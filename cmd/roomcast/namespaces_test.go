package main

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/roomcast/roomcast/internal/room"
)

func TestParseBytes(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		text string
		want int64
		bad  bool
	}{
		"bytes":           {text: "65536", want: 65536},
		"bytes with unit": {text: "512B", want: 512},
		"kibi":            {text: "64KiB", want: 64 << 10},
		"mebi, space":     {text: "512 MiB", want: 512 << 20},
		"gibi":            {text: "1GiB", want: 1 << 30},
		"tebi":            {text: "2TiB", want: 2 << 40},
		"kilo":            {text: "64kB", want: 64000},
		"kilo, capital":   {text: "64KB", want: 64000},
		"giga":            {text: "1GB", want: 1e9},
		"zero":            {text: "0", want: 0},
		"empty":           {text: "", bad: true},
		"negative":        {text: "-1", bad: true},
		"fraction":        {text: "1.5GiB", bad: true},
		"unit alone":      {text: "KiB", bad: true},
		"unknown unit":    {text: "1PiB", bad: true},
		"too large":       {text: "9999999999TiB", bad: true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := parseBytes(test.text)
			if (err != nil) != test.bad || got != test.want {
				t.Errorf("got %d and error %v, want %d and an error: %t", got, err, test.want, test.bad)
			}
		})
	}
}

func TestFormatBytesIsRead(t *testing.T) {
	t.Parallel()
	for n, want := range map[int64]string{
		0: "0", 1000: "1000", 1024: "1KiB", 64 << 10: "64KiB", 3 << 20: "3MiB", 1 << 30: "1GiB", 1<<30 + 1: "1073741825",
	} {
		got := formatBytes(n)
		if got != want {
			t.Errorf("formatBytes(%d): got %s, want %s", n, got, want)
		}
		if back, err := parseBytes(got); err != nil || back != n {
			t.Errorf("parseBytes(%q): got %d, %v, want %d", got, back, err, n)
		}
	}
}

func TestFormatDurationIsRead(t *testing.T) {
	t.Parallel()
	for d, want := range map[time.Duration]string{
		0: "0s", time.Second: "1s", 90 * time.Second: "1m30s", 2 * time.Minute: "2m", 24 * time.Hour: "24h",
		10 * time.Minute: "10m", 90 * time.Minute: "1h30m", time.Hour + time.Second: "1h0m1s",
	} {
		got := formatDuration(d)
		if got != want {
			t.Errorf("formatDuration(%d): got %s, want %s", d, got, want)
		}
		if back, err := time.ParseDuration(got); err != nil || back != d {
			t.Errorf("ParseDuration(%q): got %s, %v, want %s", got, back, err, d)
		}
	}
}

func TestNamespaces(t *testing.T) {
	t.Parallel()
	chat, live, plain := room.DefaultPolicy(), room.DefaultPolicy(), room.DefaultPolicy()
	chat.Namespace, live.Namespace, plain.Namespace = "chat", "live", "plain"
	chat.History = room.History{Size: 50, TTL: 5 * time.Minute, MaxBytes: 512 << 20}
	chat.Presence, chat.ClientPublish, chat.Slow, chat.MaxPayload = false, true, room.SlowDisconnect, 4096
	live.History.Size = 0
	file := writeConfig(t, `
namespaces:
  chat:
    history: {size: 50, ttl: 5m, max_bytes: 512MiB}
    presence: false
    client_publish: true
    slow: disconnect
    max_payload: 4KiB
  live:
    history: {size: 0}
  plain:
`)
	f, err := readConfigFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]room.Policy{"chat": chat, "live": live, "plain": plain}
	if diff := cmp.Diff(want, f.namespaces); diff != "" {
		t.Errorf("namespaces (-want +got):\n%s", diff)
	}
}

func writeConfig(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}
