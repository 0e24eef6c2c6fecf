package main

import (
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/roomcast/roomcast/internal/node"
)

// TestScript runs testdata/script/*.txtar: the program as its users call it, each
// command a process of its own.
func TestScript(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		UpdateScripts:       *update,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits":   scriptExits,
			"ready":   scriptReady,
			"waitfor": scriptWaitFor,
		},
	})
}

// scriptExits runs a program that must end with the given exit code:
//
//	exits 2 roomcast serve --typo
func scriptExits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code program [args...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	err = ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("got exit code %d, want %d", got, want)
	}
}

// scriptDeadline bounds how long a script waits for another process.
const scriptDeadline = 2 * time.Minute

// scriptReady waits for a ready file and sets $HTTP, $GRPC and $ADMIN, with a
// prefix if one is given:
//
//	ready file [prefix]
func scriptReady(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 || len(args) > 2 {
		ts.Fatalf("usage: ready file [prefix]")
	}
	prefix := ""
	if len(args) == 2 {
		prefix = args[1]
	}
	var addrs node.Addrs
	waitUntil(ts, "a ready file "+args[0], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && json.Unmarshal(text, &addrs) == nil
	})
	ts.Setenv(prefix+"HTTP", addrs.HTTP)
	ts.Setenv(prefix+"GRPC", addrs.GRPC)
	ts.Setenv(prefix+"ADMIN", addrs.Admin)
}

// scriptWaitFor waits until a file, which another process writes, has a match:
//
//	waitfor file regexp
func scriptWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: waitfor file regexp")
	}
	pattern, err := regexp.Compile("(?m)" + args[1])
	ts.Check(err)
	waitUntil(ts, args[1]+" in "+args[0], func() bool {
		text, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && pattern.Match(text)
	})
}

// waitUntil asks again and again: another process gives no other sign.
func waitUntil(ts *testscript.TestScript, what string, done func() bool) {
	deadline := time.After(scriptDeadline)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-tick.C:
		case <-deadline:
			ts.Fatalf("waited %s for %s", scriptDeadline, what)
		}
	}
}
