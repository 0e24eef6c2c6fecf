//go:build !unix

package node

// descriptorLimit knows of no limit on this system.
func descriptorLimit() (limit uint64, ok bool) { return 0, false }
