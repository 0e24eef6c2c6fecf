package main

import (
	"errors"
	"testing"
	"time"

	"github.com/roomcast/roomcast/client"
)

func TestSubLine(t *testing.T) {
	t.Parallel()
	frame := []byte("{\"message\":{\"json\":{\n}}}")
	tests := map[string]struct {
		cmd  subCmd
		body client.Body
		want string
	}{
		"text":                {body: client.Text("hello"), want: "hello"},
		"text of two lines":   {body: client.Text("a\nb"), want: "a\nb"},
		"JSON unchanged":      {body: client.RawJSON([]byte(`{"a": 1.0,  "b":"<é>"}`)), want: `{"a": 1.0,  "b":"<é>"}`},
		"JSON of two lines":   {body: client.RawJSON([]byte("{\n \"a\": 1.0\n}")), want: `{"a":1.0}`},
		"JSON with a return":  {body: client.RawJSON([]byte("{}\r")), want: "{}\r"},
		"bytes":               {body: client.Data([]byte{0, 255}), want: "AP8="},
		"the frame":           {cmd: subCmd{JSON: true}, body: client.Text("x"), want: `{"message":{"json":{}}}`},
		"the frame, of bytes": {cmd: subCmd{JSON: true}, body: client.Data([]byte("x")), want: `{"message":{"json":{}}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := string(test.cmd.line(client.Delivery{Body: test.body, Raw: frame}))
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		event client.Event
		want  string
	}{
		"connected":         {client.StateChange{State: client.Connected, Node: "n1", User: "ann"}, "connected to n1 as ann"},
		"moved":             {client.StateChange{State: client.Moved, Node: "n2", User: "ann", Reason: "DRAINING"}, "moved to n2 (DRAINING)"},
		"subscribed":        {client.Subscribed{Room: "r", Position: "e.1."}, "subscribed to r at e.1."},
		"subscribed, no id": {client.Subscribed{Room: "r"}, "subscribed to r, which keeps no history"},
		"unsubscribed":      {client.Unsubscribed{Room: "r"}, "unsubscribed from r by the server"},
		"gap":               {client.Gap{Room: "r", Reason: client.GapTruncated, After: "e.1.x"}, "gap in r: TRUNCATED, messages after e.1.x may be missing"},
		"gap from start":    {client.Gap{Room: "r", Reason: client.GapReset}, "gap in r: RESET, messages after the beginning may be missing"},
		"disconnected": {
			client.StateChange{State: client.Disconnected, Reason: "DRAINING", Err: errors.New("closed"), RetryIn: 1234 * time.Millisecond},
			"disconnected (DRAINING: closed); next try in 1.23s",
		},
		"degraded": {client.StateChange{State: client.Degraded, Reason: "BUS_UNAVAILABLE"}, "messages will be late (BUS_UNAVAILABLE)"},
		"restored": {client.StateChange{State: client.Restored}, "messages follow again"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := describe(test.event); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}
