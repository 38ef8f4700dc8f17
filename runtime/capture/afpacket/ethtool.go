//go:build linux

package afpacket

import (
	"fmt"
	"net"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Commands and flags of ethtool.
const (
	getFlags = 0x25    // ETHTOOL_GFLAGS
	flagLRO  = 1 << 15 // ETH_FLAG_LRO
	getGRO   = 0x2b    // ETHTOOL_GGRO
)

// MergingNote says how an interface merges packets before they are captured, and
// what comes of it; nothing where it does not, or can't be asked.
func MergingNote(name string) string {
	if iface, err := net.InterfaceByName(name); err != nil || iface.Flags&net.FlagLoopback != 0 {
		return "" // a loopback has the setting, but nothing to merge
	}
	gro, lro := ethtool(name, getGRO) != 0, ethtool(name, getFlags)&flagLRO != 0
	kind := "gro"
	switch {
	case lro:
		kind = "lro"
	case !gro:
		return ""
	}
	off := fmt.Sprintf("`ethtool -K %s %s off`", name, kind)
	switch {
	case !headersKnown():
		return fmt.Sprintf("interface: %s merges packets before they are captured (%s), and this kernel, before Linux 6.2, does not say of what sizes they were, so that the model sees packets that no wire had: %s", name, kind, off)
	case lro:
		return fmt.Sprintf("interface: %s merges packets before they are captured (lro); they are put apart again, but headers that the card did not keep are lost: %s", name, off)
	}
	return fmt.Sprintf("interface: %s merges packets before they are captured (gro); they are put apart again, which %s spares", name, off)
}

// ethtool asks an interface for a value; 0 where it has none.
func ethtool(name string, command uint32) uint32 {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil || len(name) >= unix.IFNAMSIZ {
		return 0
	}
	defer unix.Close(fd)
	value := &struct{ command, data uint32 }{command: command}
	var req struct { // ifreq
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], name)
	req.data = unsafe.Pointer(value)
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req)))
	runtime.KeepAlive(value)
	if errno != 0 {
		return 0
	}
	return value.data
}
