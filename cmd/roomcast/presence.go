package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/roomcast/roomcast/client"
)

// presenceCmd shows who is in a room.
type presenceCmd struct {
	Room  string `arg:"" help:"The room."`
	Watch bool   `help:"Go on with joins and leaves as they happen."`
	JSON  bool   `name:"json" help:"Print JSON: all members in one object, or with --watch one event a line."`

	Server grpcServer `embed:"" group:"server"`
	Caller caller     `embed:"" group:"server"`
}

// Run prints the members, or with --watch what happens until a signal ends it. Nodes
// that did not answer are named on standard error; the exit code is 1 then.
func (c *presenceCmd) Run(ctx context.Context, p *process) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
	defer stop()
	presence, err := c.Server.dialPresence(&c.Caller)
	if err != nil {
		return err
	}
	defer func() { _ = presence.Close() }() // nothing is under way
	if c.Watch {
		return c.watch(ctx, p, presence)
	}
	members, err := presence.Members(ctx, c.Room)
	if err != nil {
		return fmt.Errorf("presence: %w", err)
	}
	if c.JSON {
		err = json.NewEncoder(p.stdout).Encode(members)
	} else {
		err = printMembers(p, members)
	}
	if err == nil && !members.Complete {
		noteMissing(p, members)
		return errSilent
	}
	return err
}

// noteMissing says that an answer is not whole.
func noteMissing(p *process, members client.Members) {
	if len(members.MissingNodes) > 0 {
		p.notef("not complete: no answer from %s\n", strings.Join(members.MissingNodes, ", "))
		return
	}
	p.notef("not complete: the node does not know who the others are\n")
}

// printMembers prints a table.
func printMembers(p *process, members client.Members) error {
	table := tabwriter.NewWriter(p.stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "USER\tCONNECTION\tNODE\tSINCE") // Flush tells
	for _, m := range members.Members {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", m.User, m.Connection, m.Node, clock(m.Since))
	}
	return table.Flush()
}

// clock is a time as people here read it.
func clock(t time.Time) string { return t.Local().Format(time.DateTime) }

func (c *presenceCmd) watch(ctx context.Context, p *process, presence *client.Presence) error {
	err := presence.Watch(ctx, c.Room, func(e client.PresenceEvent) error {
		switch {
		case c.JSON:
			return json.NewEncoder(p.stdout).Encode(e)
		case e.Join != nil:
			p.printf("join   %s\n", describeMember(*e.Join))
		case e.Leave != nil:
			p.printf("leave  %s %s\n", describeMember(e.Leave.Member), e.Leave.Reason)
		case e.Snapshot != nil:
			if !e.Snapshot.Complete {
				noteMissing(p, *e.Snapshot)
			}
			p.printf("there are %d members\n", len(e.Snapshot.Members))
			for _, m := range e.Snapshot.Members {
				p.printf("there  %s\n", describeMember(m))
			}
		}
		return nil
	})
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		return nil // a signal is how it usually ends
	}
	return fmt.Errorf("presence: %w", err)
}

func describeMember(m client.Member) string {
	return fmt.Sprintf("%s (connection %s on %s)", m.User, m.Connection, m.Node)
}
