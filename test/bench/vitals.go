package main

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"
)

// vitals are what a node says of itself at one time.
type vitals struct {
	rss        float64 // bytes
	goroutines float64
	files      float64 // open descriptors
	sockets    float64
	closes     map[string]float64 // by close code
}

// vitals asks a node, on one connection that stays.
func (p *process) vitals(ctx context.Context) (vitals, error) {
	v := vitals{closes: map[string]float64{}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.addrs.Admin+"/metrics", nil)
	if err != nil {
		return v, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return v, err
	}
	defer func() { _ = resp.Body.Close() }()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, text, _ := strings.Cut(lines.Text(), " ")
		value, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue // a comment
		}
		switch name {
		case "process_resident_memory_bytes":
			v.rss = value
		case "go_goroutines":
			v.goroutines = value
		case "process_open_fds":
			v.files = value
		case "roomcast_connections":
			v.sockets = value
		default:
			if code, ok := strings.CutPrefix(name, `roomcast_closes_total{code="`); ok {
				v.closes[strings.TrimSuffix(code, `"}`)] = value
			}
		}
	}
	return v, lines.Err()
}

// back reports whether a node holds what it did before, but for what comes and goes by
// itself: connections that ask for metrics, files of the log, collections.
func (v *vitals) back(before *vitals) bool {
	const slack = 10
	return v.sockets <= before.sockets && v.goroutines <= before.goroutines+slack && v.files <= before.files+slack
}

// watch looks at a node every half second and keeps the most of everything, until the
// function that it returns is called.
func (p *process) watch(ctx context.Context) (stop func() vitals) {
	var most vitals
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() {
		tick := time.NewTicker(time.Second / 2)
		defer tick.Stop()
		for ctx.Err() == nil {
			if v, err := p.vitals(ctx); err == nil {
				most.rss = max(most.rss, v.rss)
				most.goroutines = max(most.goroutines, v.goroutines)
				most.files = max(most.files, v.files)
				most.sockets = max(most.sockets, v.sockets)
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
			}
		}
	})
	return func() vitals {
		cancel()
		wg.Wait()
		return most
	}
}

// until waits until a node's vitals are as they should be, and returns the last.
func (p *process) until(ctx context.Context, what string, patience time.Duration, good func(*vitals) bool) (vitals, error) {
	deadline := time.Now().Add(patience)
	for {
		v, err := p.vitals(ctx)
		if err != nil || good(&v) {
			return v, err
		}
		if time.Now().After(deadline) {
			return v, fmt.Errorf("not within %s: %s; %+v", patience, what, v)
		}
		if err := pause(ctx, time.Second/4); err != nil {
			return v, err
		}
	}
}
