package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/roomcast/roomcast/client"
)

// subCmd prints messages. Standard output has nothing else; what happens to the
// connection, and gaps, are lines on standard error.
type subCmd struct {
	Rooms []string `arg:"" name:"room" help:"The rooms."`
	After string   `placeholder:"ID" help:"A message's id: those after it come first. With one room only; default from now on."`
	Count int      `placeholder:"N" help:"End after N messages; default never."`
	JSON  bool     `name:"json" help:"Print the whole frame. Default: the payload; bytes as base64, text as it is even if it has several lines."`

	Server socketServer `embed:"" group:"server"`
	Caller caller       `embed:"" group:"server"`
}

// Run prints until N messages have come or a signal ends it, both exit code 0. It
// fails when the server refuses for good.
func (c *subCmd) Run(ctx context.Context, p *process) error {
	config, err := c.config()
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	subscription, err := client.Subscribe(ctx, config)
	if err != nil {
		return &usageError{err}
	}
	defer subscription.Close()
	out := newLineWriter(p.stdout)
	err = c.print(ctx, p, subscription, out)
	if ctx.Err() != nil {
		err = nil // a signal is how it usually ends
	}
	if closeErr := out.close(); err == nil && closeErr != nil {
		err = fmt.Errorf("print: %w", closeErr)
	}
	return err
}

func (c *subCmd) config() (client.Config, error) {
	if c.After != "" && len(c.Rooms) > 1 {
		return client.Config{}, usagef("--after: an id belongs to one room; give one room")
	}
	if c.Count < 0 {
		return client.Config{}, usagef("--count must not be negative")
	}
	tlsConfig, err := c.Caller.tlsConfig()
	if err != nil {
		return client.Config{}, err
	}
	config := client.Config{URL: c.Server.URL, Token: c.Caller.Token, TLS: tlsConfig}
	for _, room := range c.Rooms {
		config.Rooms = append(config.Rooms, client.RoomConfig{Room: room, After: c.After})
	}
	return config, nil
}

func (c *subCmd) print(ctx context.Context, p *process, subscription *client.Subscription, out *lineWriter) error {
	for printed := 0; c.Count == 0 || printed < c.Count; {
		event, err := subscription.Next(ctx)
		if err != nil {
			return err
		}
		delivery, ok := event.(client.Delivery)
		if !ok {
			if line := describe(event); line != "" {
				p.notef("%s\n", line)
			}
			continue
		}
		if err := out.writeLine(c.line(delivery)); err != nil {
			return fmt.Errorf("print: %w", err)
		}
		printed++
	}
	return nil
}

// line is what is printed of a message. JSON that spans lines is compacted, which
// is the only change that a JSON payload ever sees.
func (c *subCmd) line(d client.Delivery) []byte {
	text := d.Body.Bytes()
	switch {
	case c.JSON:
		text = d.Raw
	case d.Body.Kind() == client.KindData:
		return base64.StdEncoding.AppendEncode(nil, text)
	case d.Body.Kind() == client.KindText:
		return text
	}
	if !bytes.ContainsRune(text, '\n') {
		return text
	}
	var compact bytes.Buffer
	if err := json.Compact(&compact, text); err != nil {
		return text
	}
	return compact.Bytes()
}

// describe is an event as a line for people; empty for one that says nothing to
// them.
func describe(event client.Event) string {
	switch e := event.(type) {
	case client.Subscribed:
		if e.Position == "" {
			return fmt.Sprintf("subscribed to %s, which keeps no history", e.Room)
		}
		return fmt.Sprintf("subscribed to %s at %s", e.Room, e.Position)
	case client.Unsubscribed:
		return fmt.Sprintf("unsubscribed from %s by the server", e.Room)
	case client.Gap:
		after := e.After
		if after == "" {
			after = "the beginning"
		}
		return fmt.Sprintf("gap in %s: %s, messages after %s may be missing", e.Room, e.Reason, after)
	case client.StateChange:
		return describeState(e)
	}
	return ""
}

func describeState(s client.StateChange) string {
	var why []string
	if s.Reason != "" {
		why = append(why, s.Reason)
	}
	switch s.State {
	case client.Connected:
		return fmt.Sprintf("connected to %s as %s", s.Node, s.User)
	case client.Moved:
		return fmt.Sprintf("moved to %s (%s)", s.Node, strings.Join(why, ""))
	case client.Disconnected:
		if s.Err != nil && !errors.Is(s.Err, context.Canceled) {
			why = append(why, s.Err.Error())
		}
		return fmt.Sprintf("disconnected (%s); next try in %s", strings.Join(why, ": "), s.RetryIn.Round(10*time.Millisecond))
	case client.Degraded:
		return fmt.Sprintf("messages will be late (%s)", strings.Join(why, ": "))
	case client.Restored:
		return "messages follow again"
	}
	return string(s.State)
}
