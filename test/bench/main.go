package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

// options are the program's flags.
type options struct {
	rows     string
	runs     int
	retries  int
	quiet    float64
	warmup   time.Duration
	duration time.Duration
	roomcast string
	nats     string
}

func main() {
	var o options
	flag.StringVar(&o.rows, "rows", "", "rows to measure, by their names with commas between; all that begin so (default all)")
	flag.IntVar(&o.runs, "runs", 3, "runs of each row; the median counts")
	flag.IntVar(&o.retries, "retries", 3, "more runs of a row where something else used the machine; the least disturbed count")
	flag.Float64Var(&o.quiet, "quiet", 0.08, "share of the machine that something else may use in a run")
	flag.DurationVar(&o.warmup, "warmup", 2*time.Second, "load before each measurement")
	flag.DurationVar(&o.duration, "duration", 8*time.Second, "of each measurement")
	flag.StringVar(&o.roomcast, "roomcast", "", "the program to measure (default built from this tree)")
	flag.StringVar(&o.nats, "nats", "", "the nats-server for rows with several nodes (default built from go.mod's version)")
	raw := flag.String("raw-writer", "", "only be the service of the raw rows, and write the addresses to this file")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	var err error
	if *raw != "" {
		err = rawWriter(ctx, *raw)
	} else {
		err = run(ctx, &o)
	}
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, o *options) error {
	chosen, err := choose(rows(), o.rows)
	if err != nil {
		return err
	}
	bench, err := newWorkshop(ctx, o, chosen)
	if err != nil {
		return err
	}
	defer bench.clean()
	var results []result
	for _, r := range chosen {
		measured, err := bench.measure(ctx, &r)
		if err != nil {
			return fmt.Errorf("%s: %w", r.name, err)
		}
		results = append(results, measured)
		// Written row by row, so that an interrupted series has shown what it has.
		if err := writeTable(os.Stderr, []result{measured}); err != nil {
			return err
		}
	}
	if err := writeReport(os.Stdout, o, results); err != nil {
		return err
	}
	if slices.ContainsFunc(results, result.failed) {
		return errors.New("a run lost, repeated or reordered messages, or closed sockets; see above")
	}
	return nil
}

// choose returns the rows whose names begin with one of the wanted ones.
func choose(all []row, wanted string) ([]row, error) {
	if wanted == "" {
		return all, nil
	}
	var chosen []row
	for name := range strings.SplitSeq(wanted, ",") {
		before := len(chosen)
		for _, r := range all {
			if strings.HasPrefix(r.name, strings.TrimSpace(name)) {
				chosen = append(chosen, r)
			}
		}
		if len(chosen) == before {
			return nil, fmt.Errorf("no row %q", name)
		}
	}
	return chosen, nil
}
