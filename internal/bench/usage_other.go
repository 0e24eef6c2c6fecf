//go:build !linux

package bench

import (
	"errors"
	"time"
)

var errNoUsage = errors.New("processor time and memory of other processes can be read on Linux only")

func processUsage(int) (usage, error) { return usage{}, errNoUsage }

// MachineBusy fails: this system does not tell.
func MachineBusy() (time.Duration, error) { return 0, errNoUsage }
