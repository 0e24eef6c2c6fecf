//go:build !linux

package bench

import "time"

func processUsage(int) (usage, error) { return usage{}, errNoUsage }

func machineBusy() (time.Duration, error) { return 0, errNoUsage }
