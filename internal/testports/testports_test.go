package testports

import (
	"net"
	"slices"
	"strconv"
	"testing"
)

// Ports are free, differ, and are none that a connection may have been given meanwhile.
func TestFree(t *testing.T) {
	ports, err := Free(50)
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(ports)
	if len(slices.Compact(slices.Clone(ports))) != 50 || ports[0] < lowest || ports[49] >= above {
		t.Errorf("%v", ports)
	}
	for _, p := range ports {
		l, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(p)))
		if err != nil {
			t.Error(err)
			continue
		}
		l.Close()
	}
	if _, err := Free(above); err == nil {
		t.Error("more than there are")
	}
}
