package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/roomcast/roomcast/client"
)

// pubCmd publishes over gRPC.
type pubCmd struct {
	Room string  `arg:"" help:"The room."`
	Data *string `arg:"" optional:"" help:"The message. - or nothing: each line of standard input is one, byte for byte; an empty line is an empty text."`

	JSON bool `name:"json" xor:"kind" help:"The message is JSON; passed on unchanged."`
	Text bool `name:"text" xor:"kind" help:"The message is text, even if it looks like JSON."`
	Raw  bool `name:"data" xor:"kind" help:"The message is bytes: base64 in JSON frames. Default: JSON if it is, else text if it is UTF-8, else bytes."`

	Event       string        `placeholder:"WORD" help:"A word that tells kinds of messages apart."`
	MessageID   string        `placeholder:"ID" help:"Idempotency key: the same within 2 minutes is stored once. Lines of standard input get ID:1, ID:2 and so on."`
	TTL         time.Duration `name:"ttl" help:"How long the message is worth delivering, at least 1s; default as long as the history."`
	ExcludeUser string        `placeholder:"USER" help:"The user whose sockets do not get it."`
	Quiet       bool          `short:"q" help:"Do not print the messages' ids."`

	Server grpcServer `embed:"" group:"server"`
	Caller caller     `embed:"" group:"server"`
}

// pubPatience is for how long one message may wait without a word.
const pubPatience = 2 * time.Second

// maxShownRefusals keeps a long input that is refused line by line readable.
const maxShownRefusals = 10

// Run publishes DATA, or standard input, and prints ids on standard output.
func (c *pubCmd) Run(ctx context.Context, p *process) error {
	if c.Data == nil && isTerminal(p.stdin) {
		return usagef("no message: give it as argument, or - to type one a line")
	}
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	publisher, err := c.Server.dial(&c.Caller)
	if err != nil {
		return err
	}
	defer func() { _ = publisher.Close() }() // everything was answered, or its failure is told
	if c.Data == nil || *c.Data == "-" {
		return c.publishLines(ctx, p, publisher)
	}
	return c.publish(ctx, p, publisher, *c.Data)
}

// publish publishes one message and prints its id.
func (c *pubCmd) publish(ctx context.Context, p *process, publisher *client.Publisher, data string) error {
	type answer struct {
		result client.Result
		err    error
	}
	answered := make(chan answer, 1)
	go func() {
		result, err := publisher.Publish(ctx, c.message([]byte(data), c.MessageID))
		answered <- answer{result, err}
	}()
	var a answer
	select {
	case a = <-answered:
	case <-time.After(pubPatience):
		p.notef("waiting for %s\n", c.Server.GRPCAddr)
		a = <-answered
	}
	if a.err != nil {
		return fmt.Errorf("publish: %w", a.err)
	}
	if !c.Text && !c.Raw && (strings.HasPrefix(data, "{") || strings.HasPrefix(data, "[")) && !json.Valid([]byte(data)) {
		p.notef("it looks like JSON and is not: published as text, which --text says without this note\n")
	}
	if !c.Quiet {
		p.printf("%s\n", a.result.ID)
	}
	return nil
}

func (c *pubCmd) message(data []byte, id string) client.Message {
	return client.Message{
		Room:        c.Room,
		Event:       c.Event,
		Body:        c.body(data),
		MessageID:   id,
		TTL:         c.TTL,
		ExcludeUser: c.ExcludeUser,
	}
}

func (c *pubCmd) body(data []byte) client.Body {
	switch {
	case c.JSON:
		return client.RawJSON(data)
	case c.Text:
		return client.Text(string(data))
	case c.Raw:
		return client.Data(data)
	case !utf8.Valid(data):
		return client.Data(data)
	case json.Valid(data):
		return client.RawJSON(data)
	default:
		return client.Text(string(data))
	}
}

// publishLines publishes standard input in order. A refused line is told and the
// rest goes on; the exit code is 1 then.
func (c *pubCmd) publishLines(ctx context.Context, p *process, publisher *client.Publisher) error {
	var readErr error // written by the reader's goroutine before its last message is taken
	out := newLineWriter(p.stdout)
	count := newProgress(p.stderr, time.Now())
	err := publisher.PublishAll(ctx, c.messages(p, &readErr), func(_ client.Message, r client.Result) error {
		count.add(r.Err == nil, time.Now())
		switch {
		case r.Err != nil:
			c.showRefusal(p, count, r.Err)
		case !c.Quiet:
			return out.writeLine([]byte(r.ID))
		}
		return nil
	})
	if err == nil {
		err = readErr
	}
	if closeErr := out.close(); err == nil {
		err = closeErr
	}
	count.finish(time.Now())
	switch {
	case err != nil && ctx.Err() != nil:
		return errors.New("interrupted; what was not answered may be published or not")
	case err != nil:
		return fmt.Errorf("publish: %w", err)
	case count.refused > 0:
		return errSilent
	}
	return nil
}

func (c *pubCmd) messages(p *process, readErr *error) iter.Seq[client.Message] {
	return func(yield func(client.Message) bool) {
		n := 0
		for line, err := range lines(p.stdin) {
			if err != nil {
				*readErr = err
				return
			}
			n++
			id := c.MessageID
			if id != "" {
				id += ":" + strconv.Itoa(n)
			}
			if !yield(c.message(line, id)) {
				return
			}
		}
	}
}

func (c *pubCmd) showRefusal(p *process, count *progress, err error) {
	if count.refused > maxShownRefusals {
		return
	}
	count.clear()
	p.notef("line %d: %v\n", count.accepted+count.refused, err)
	if count.refused == maxShownRefusals {
		p.notef("more refusals are only counted\n")
	}
}
