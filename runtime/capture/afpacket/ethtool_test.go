//go:build linux

package afpacket_test

import (
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"

	"nepcoc/internal/testnet"
	ours "nepcoc/runtime/capture/afpacket"
)

// setGRO is ethtool -K Far gro on|off.
func setGRO(t *testing.T, on uint32) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	value := &[2]uint32{0x2c, on} // ETHTOOL_SGRO
	var req struct {
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}
	copy(req.name[:], testnet.Far)
	req.data = unsafe.Pointer(value)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&req))); errno != 0 {
		t.Skip(errno)
	}
}

// What an interface merges is said, with the command that ends it.
func TestMergingNote(t *testing.T) {
	n := testnet.New(t)
	n.Do(func() {
		setGRO(t, 1)
		if s := ours.MergingNote(testnet.Far); !strings.Contains(s, "`ethtool -K far gro off`") {
			t.Errorf("with gro: %q", s)
		}
		setGRO(t, 0)
		if s := ours.MergingNote(testnet.Far); s != "" {
			t.Errorf("without: %q", s)
		}
	})
	if s := ours.MergingNote("nosuch0"); s != "" {
		t.Error(s)
	}
}
