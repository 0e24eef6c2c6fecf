package gateway

import "slices"

// full reports whether a session's socket takes no more.
func full(s *session) bool {
	out := s.gw.pollers.out
	out.mu.Lock()
	defer out.mu.Unlock()
	return slices.Contains(out.sessions, s)
}
