//go:build !linux

package bench

import "time"

func processUsage(int) (usage, error) { return usage{}, errNoUsage }

// MachineBusy fails: this system does not tell.
func MachineBusy() (time.Duration, error) { return 0, errNoUsage }
