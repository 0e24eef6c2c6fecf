//go:build !linux

package main

import (
	"context"
	"errors"
)

func rawWriter(context.Context, string) error { return errors.New("the raw rows need Linux") }
