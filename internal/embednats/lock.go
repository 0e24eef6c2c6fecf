package embednats

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/gofrs/flock"
)

// lockFile is held for as long as the server runs. It stays when the lock goes: who
// removed it could take another process's lock away.
const lockFile = "roomcast.lock"

// claim makes the data directory and locks it. The operating system frees the lock
// of a process that was killed.
func claim(dir string) (*flock.Flock, error) {
	if dir == "" {
		return nil, errors.New("no data directory is set; choose one with --data-dir")
	}
	if err := prepare(dir); err != nil {
		return nil, fmt.Errorf("cannot write to data directory %q: %w; make it writable or choose another --data-dir",
			dir, reason(err))
	}
	lock := flock.New(filepath.Join(dir, lockFile), flock.SetPermissions(0o600))
	locked, err := lock.TryLock()
	if err != nil {
		return nil, fmt.Errorf("cannot lock data directory %q: %w; choose another --data-dir", dir, reason(err))
	}
	if !locked {
		return nil, fmt.Errorf("data directory %q is locked by another roomcast; stop it or choose another --data-dir", dir)
	}
	return lock, nil
}

// prepare makes the directory and tries it out: the mode bits alone do not tell
// (read-only mounts, another owner).
func prepare(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, ".roomcast-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// reason drops the path from an error, which our text has already.
func reason(err error) error {
	if e, ok := errors.AsType[*os.PathError](err); ok {
		return e.Err
	}
	return err
}
