package bench

import (
	"strings"
	"testing"
	"time"
)

func TestConfig(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		change func(*Config)
		want   string // in the error; empty = none
	}{
		"good":             {func(*Config) {}, ""},
		"no URL":           {func(c *Config) { c.URLs = nil }, "URL"},
		"no duration":      {func(c *Config) { c.Duration = 0 }, "duration"},
		"too long":         {func(c *Config) { c.Warmup = time.Hour }, "at most"},
		"mode":             {func(c *Config) { c.Load.Mode = "x" }, "mode"},
		"no room":          {func(c *Config) { c.Load.Rooms = 0 }, "room"},
		"empty rooms":      {func(c *Config) { c.Load.Rooms = 11 }, "as many sockets as rooms"},
		"no window":        {func(c *Config) { c.Load.InFlight = 0 }, "in flight"},
		"a large window":   {func(c *Config) { c.Load.InFlight = maxInFlight + 1 }, "in flight"},
		"a large batch":    {func(c *Config) { c.Load.Batch = 1001 }, "batch"},
		"a small payload":  {func(c *Config) { c.Load.Payload = stampSize - 1 }, "payload"},
		"a large payload":  {func(c *Config) { c.Load.Payload = maxPayload + 1 }, "payload"},
		"a negative rate":  {func(c *Config) { c.Load.Rate = -1 }, "rate"},
		"a negative probe": {func(c *Config) { c.ProbeRate = -1 }, "probe"},
		"publishers":       {func(c *Config) { c.Load.Publishers = -1 }, "publishers"},
		"fewer than none":  {func(c *Config) { c.Load.Stalled = -1 }, "stall"},
		"no stall":         {func(c *Config) { c.Load.Stalled = 1 }, "stall"},
		"a long stall":     {func(c *Config) { c.Load.Stalled, c.Stall, c.Duration = 1, 9001*time.Millisecond, time.Minute }, "at most 9s"},
		"a late end":       {func(c *Config) { c.Load.Stalled, c.Stall = 1, 2*time.Second }, "within the measurement"},
		"a good stall":     {func(c *Config) { c.Load.Stalled, c.Stall = 1, time.Second }, ""},
		"a prefix":         {func(c *Config) { c.Load.RoomPrefix = "a*" }, "room prefix"},
		"escapes":          {func(c *Config) { c.Load.RoomPrefix = `a"` }, "room prefix"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := Config{
				URLs: []string{"http://localhost"}, Duration: time.Second,
				Load: Load{Rooms: 10, Sockets: 10, InFlight: 64, Payload: 128},
			}
			test.change(&c)
			err := c.normalize()
			if (err == nil) != (test.want == "") || err != nil && !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

func TestPublishers(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		load    Load
		want    int
		ordered bool
	}{
		"unary":       {Load{Mode: Unary, InFlight: 64}, 64, false},
		"one at once": {Load{Mode: Unary, InFlight: 1}, 1, true},
		"stream":      {Load{Mode: Stream, InFlight: 512}, 1, true},
		"batch":       {Load{Mode: Batch, InFlight: 512}, 5, false},
		"one batch":   {Load{Mode: Batch, InFlight: 64}, 1, true},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := test.load
			l.Rooms, l.Sockets, l.Payload = 1, 1, 128
			if err := l.normalize(); err != nil {
				t.Fatal(err)
			}
			if l.Publishers != test.want || l.ordered() != test.ordered {
				t.Errorf("got %d publishers, ordered %t, want %d, %t", l.Publishers, l.ordered(), test.want, test.ordered)
			}
		})
	}
}
