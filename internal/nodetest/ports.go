package nodetest

import (
	"fmt"
	"net"
	"os"
	"sync/atomic"
)

// drawn is how many ports this process has asked for.
var drawn atomic.Uint32

// FreeAddrs returns so many addresses of loopback that nobody listens on, for what ends
// and comes back there. They are below the ports that systems give out by themselves: of
// those, somebody else may have got one meanwhile. For the same reason a process gets no
// port twice, and processes that test at the same time begin far from each other.
func FreeAddrs(count int) (addrs []string, err error) {
	const lowest, ports, apart = 12_000, 20_000, 397
	for range ports {
		port := lowest + (uint32(os.Getpid())*apart+drawn.Add(1))%ports
		addr := fmt.Sprintf("127.0.0.1:%d", port)
		lis, err := net.Listen("tcp", addr) //nolint:noctx // loopback
		if err != nil {
			continue
		}
		_ = lis.Close()
		if addrs = append(addrs, addr); len(addrs) == count {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("%d ports from %d on are taken", ports, lowest)
}
