package embednats

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
)

func TestLogger(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		say  func(*logger)
		want string
	}{
		"fatal":          {func(l *logger) { l.Fatalf("Can't start %s.", "JetStream") }, `level=ERROR msg="can't start JetStream" part=nats`},
		"error":          {func(l *logger) { l.Errorf("Disk full") }, `level=ERROR msg="disk full" part=nats`},
		"warning":        {func(l *logger) { l.Warnf("  Slow  ") }, `level=WARN msg=slow part=nats`},
		"notice":         {func(l *logger) { l.Noticef("Server is ready") }, `level=DEBUG msg="server is ready" part=nats`},
		"an acronym":     {func(l *logger) { l.Errorf("TLS broken...") }, `level=ERROR msg="TLS broken" part=nats`},
		"a line break":   {func(l *logger) { l.Errorf("a\nb") }, `level=ERROR msg="a\nb" part=nats`},
		"one letter":     {func(l *logger) { l.Errorf("X") }, `level=ERROR msg=X part=nats`},
		"empty":          {func(l *logger) { l.Errorf("") }, ""},
		"debug dropped":  {func(l *logger) { l.Debugf("x") }, ""},
		"trace dropped":  {func(l *logger) { l.Tracef("payload %s", "x") }, ""},
		"percent in arg": {func(l *logger) { l.Errorf("%s", "100%d") }, `level=ERROR msg=100%d part=nats`},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var b bytes.Buffer
			l := newLogger(slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{
				Level: slog.LevelDebug,
				ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
					if a.Key == slog.TimeKey {
						return slog.Attr{}
					}
					return a
				},
			})))
			tc.say(l)
			if got := strings.TrimSpace(b.String()); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestLoggerKeepsFirstFatal(t *testing.T) {
	t.Parallel()
	l := newLogger(slog.New(slog.DiscardHandler))
	if err := l.fatal(); err != nil {
		t.Errorf("got %v before anything was said", err)
	}
	l.Fatalf("First")
	l.Fatalf("Second")
	if err := l.fatal(); err == nil || err.Error() != "first" {
		t.Errorf("got %v, want first", err)
	}
}

// TestServerLogs: the server speaks through our logger, and a quiet level is quiet.
func TestServerLogs(t *testing.T) {
	t.Parallel()
	for level, want := range map[slog.Level]bool{slog.LevelDebug: true, slog.LevelInfo: false} {
		var b bytes.Buffer
		s := start(t, Config{Dir: t.TempDir(), Logger: slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{Level: level}))})
		s.Shutdown()
		if got := strings.Contains(b.String(), `msg="starting JetStream"`); got != want {
			t.Errorf("at level %s got logs %q", level, b.String())
		}
	}
}
