package embednats

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
)

// logger passes the server's log lines on to slog. The server speaks of its start
// and stop at length, so its notices are debug lines here. It is never asked for
// debug and trace lines: those show what messages hold.
type logger struct {
	log *slog.Logger

	mu  sync.Mutex
	err error // guarded by mu: the first fatal line
}

func newLogger(log *slog.Logger) *logger {
	return &logger{log: log.With("part", "nats")}
}

// fatal returns why the server gave up, or nil. A server in a program of its own
// would exit; here it only says so.
func (l *logger) fatal() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

// Fatalf keeps the first reason for [Start].
func (l *logger) Fatalf(format string, args ...any) {
	l.mu.Lock()
	if l.err == nil {
		l.err = errors.New(sentence(format, args))
	}
	l.mu.Unlock()
	l.say(slog.LevelError, format, args)
}

// Errorf logs an error.
func (l *logger) Errorf(format string, args ...any) { l.say(slog.LevelError, format, args) }

// Warnf logs a warning.
func (l *logger) Warnf(format string, args ...any) { l.say(slog.LevelWarn, format, args) }

// Noticef logs a notice as a debug line.
func (l *logger) Noticef(format string, args ...any) { l.say(slog.LevelDebug, format, args) }

// Debugf drops a debug line.
func (l *logger) Debugf(string, ...any) {}

// Tracef drops a trace line.
func (l *logger) Tracef(string, ...any) {}

func (l *logger) say(level slog.Level, format string, args []any) {
	ctx := context.Background() // the server has none for its lines
	if !l.log.Enabled(ctx, level) {
		return
	}
	if text := sentence(format, args); text != "" {
		l.log.Log(ctx, level, text) //nolint:sloglint // the server's words
	}
}

// sentence formats a line as our own lines look: lower-case, no full stop.
func sentence(format string, args []any) string {
	text := strings.TrimRight(strings.TrimSpace(fmt.Sprintf(format, args...)), ".")
	if len(text) > 1 && isUpper(text[0]) && !isUpper(text[1]) {
		text = string(text[0]+'a'-'A') + text[1:]
	}
	return text
}

func isUpper(b byte) bool { return 'A' <= b && b <= 'Z' }
