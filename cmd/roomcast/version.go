package main

import (
	"runtime"
	"runtime/debug"
)

// Set by the linker (make build) at a tagged commit; empty otherwise. What they do
// not say is what the Go tool chain recorded; no number is kept by hand.
var version, commit string //nolint:gochecknoglobals // the linker's -X sets variables only

// versionCmd prints which program this is.
type versionCmd struct{}

// Run prints one fact a line.
func (c *versionCmd) Run(p *process) error { //nolint:unparam // kong's signature
	b := readBuild()
	p.printf("roomcast %s\ncommit   %s\ngo       %s %s/%s\nnats     server %s, client %s\n",
		b.version, b.commit, runtime.Version(), runtime.GOOS, runtime.GOARCH, b.natsServer, b.natsClient)
	return nil
}

// build is what the linker knows of this program. Unknown parts are "unknown".
type build struct {
	version    string // module version, or "devel"
	commit     string // with "-dirty" if the tree had changes
	natsServer string
	natsClient string
}

func readBuild() build {
	b := build{version: "devel", commit: "unknown", natsServer: "unknown", natsClient: "unknown"}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if v := info.Main.Version; v != "" && v != "(devel)" {
		b.version = v
	}
	dirty := ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			b.commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "-dirty"
		}
	}
	b.commit += dirty
	if version != "" {
		b.version = version
	}
	if commit != "" && b.commit == "unknown" {
		b.commit = commit
	}
	for _, dep := range info.Deps {
		switch dep.Path {
		case "github.com/nats-io/nats-server/v2":
			b.natsServer = dep.Version
		case "github.com/nats-io/nats.go":
			b.natsClient = dep.Version
		}
	}
	return b
}
