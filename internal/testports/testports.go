// Package testports finds ports for tests that must know them before anybody listens there, or after: of servers that are begun again, and of other programs.
// Whoever can listens at port 0 instead.
package testports

import (
	"fmt"
	"math/rand/v2"
	"net"
)

// Below the ports that systems give to connections by themselves (Linux: from 32768, IANA: from 49152): one of those, free now, may be a connection's a moment later.
const lowest, above = 15000, 32000

// Free are n ports of the loopback that nobody listens at.
func Free(n int) ([]int, error) {
	var ports []int
	for range 1000 {
		if len(ports) == n {
			return ports, nil
		}
		port := lowest + rand.IntN(above-lowest)
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		defer l.Close() // not before all are found: none is found twice
		ports = append(ports, port)
	}
	return nil, fmt.Errorf("%d of %d ports are free from %d to %d", len(ports), n, lowest, above-1)
}
