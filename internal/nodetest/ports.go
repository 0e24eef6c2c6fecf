package nodetest

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// FreeAddrs returns so many addresses of loopback that nobody listens on, for what ends
// and comes back there. They are below the ports that systems give out by themselves: of
// those, somebody else may have got one meanwhile.
func FreeAddrs(count int) (addrs []string, err error) {
	const lowest, ports, tries = 12_000, 20_000, 1000
	for range tries {
		addr := fmt.Sprintf("127.0.0.1:%d", lowest+rand.IntN(ports))
		lis, err := net.Listen("tcp", addr) //nolint:noctx // loopback
		if err != nil {
			continue
		}
		defer func() { _ = lis.Close() }() // not before all are drawn: they are different
		if addrs = append(addrs, addr); len(addrs) == count {
			return addrs, nil
		}
	}
	return nil, fmt.Errorf("%d ports from %d on are taken", tries, lowest)
}
