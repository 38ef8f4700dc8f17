//go:build linux

package afpacket

import (
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Interface is what holds of a network interface now.
type Interface struct {
	MTU                      int
	Up, Carrier, Promiscuous bool
	// Merging are the settings of ethtool -K that merge packets before they are captured, Note what comes of it.
	Merging []string
	Note    string
}

// Inspect looks at an interface. It needs no right, and changes nothing.
func Inspect(name string) (*Interface, error) {
	iface, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socket: %w", err)
	}
	defer unix.Close(fd)
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		err = unix.IoctlIfreq(fd, unix.SIOCGIFFLAGS, ifr)
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	flags := ifr.Uint16()
	i := &Interface{MTU: iface.MTU, Up: flags&unix.IFF_UP != 0, Carrier: flags&unix.IFF_RUNNING != 0, Promiscuous: flags&unix.IFF_PROMISC != 0}
	if flags&unix.IFF_LOOPBACK == 0 {
		if ethtool(name, getGRO) != 0 {
			i.Merging = append(i.Merging, "gro")
		}
		if ethtool(name, getFlags)&flagLRO != 0 {
			i.Merging = append(i.Merging, "lro")
		}
	}
	switch {
	case len(i.Merging) == 0:
	case !headersKnown():
		i.Note = "this kernel, before Linux 6.2, does not say of what sizes they were, so that the model sees packets that no wire had"
	default:
		i.Note = "they are put apart again"
	}
	return i, nil
}
