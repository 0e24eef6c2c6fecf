//go:build !linux

package gateway

// full reports whether a session's socket takes no more.
func full(s *session) bool {
	sock := s.w.sock
	if over, ok := sock.(*tlsSocket); ok {
		sock = over.raw
	}
	w := sock.(*waitingSocket) //nolint:forcetypeassert // there is no other here
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.busy
}
