package bench

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// Memory is what the service holds at one time, in bytes.
type Memory struct {
	RSS   int64 `json:"rssBytes,omitempty"`       // of all its processes
	Live  int64 `json:"heapLiveBytes,omitempty"`  // objects on the heap of the node that was asked, after a collection
	InUse int64 `json:"heapInUseBytes,omitempty"` // the parts of the heap that hold them
}

// heapTimeout is how long a node may take to collect its heap.
const heapTimeout = 10 * time.Second

// memory asks for what is told: processes by their ids, the heap by an admin listener.
func (b *Bench) memory(ctx context.Context) (m Memory, err error) {
	for _, pid := range b.cfg.ServerPIDs {
		u, err := processUsage(pid)
		if err != nil {
			return Memory{}, err
		}
		m.RSS += u.rss
	}
	if b.cfg.AdminAddr != "" {
		m.Live, m.InUse, err = heap(ctx, b.cfg.AdminAddr)
	}
	return m, err
}

// heap lets a node collect its heap and reads its size: without, that is what was in use
// at the last collection and what has become garbage since.
func heap(ctx context.Context, addr string) (live, inUse int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, heapTimeout)
	defer cancel()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy: it asks this very node
	none := func(io.Reader) error { return nil }
	if err := read(ctx, client, "http://"+addr+"/debug/pprof/heap?gc=1", none); err != nil {
		return 0, 0, err
	}
	err = read(ctx, client, "http://"+addr+"/metrics", func(body io.Reader) error {
		lines := bufio.NewScanner(body)
		for lines.Scan() {
			name, text, _ := strings.Cut(lines.Text(), " ")
			value, err := strconv.ParseFloat(text, 64)
			switch {
			case name == "go_memstats_heap_alloc_bytes" && err == nil:
				live = int64(value)
			case name == "go_memstats_heap_inuse_bytes" && err == nil:
				inUse = int64(value)
			}
		}
		return lines.Err()
	})
	if err == nil && (live == 0 || inUse == 0) {
		err = fmt.Errorf("%s: the metrics have no go_memstats_heap_alloc_bytes and go_memstats_heap_inuse_bytes", addr)
	}
	return live, inUse, err
}

// read fetches a page of an admin listener.
func read(ctx context.Context, client *http.Client, url string, take func(io.Reader) error) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	return take(resp.Body)
}

func (m *Memory) text() string {
	text := fmt.Sprintf("RSS %.1f MB", float64(m.RSS)/1e6)
	if m.InUse > 0 {
		text += fmt.Sprintf(", heap %.2f MB (%.2f in use)", float64(m.Live)/1e6, float64(m.InUse)/1e6)
	}
	return text
}
