//go:build unix

package node

import "golang.org/x/sys/unix"

// descriptorLimit returns how many files the process may open. Go has raised the
// soft limit to the hard one at start.
func descriptorLimit() (limit uint64, ok bool) {
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil {
		return 0, false
	}
	return uint64(r.Cur), true //nolint:unconvert // its type differs between systems
}
