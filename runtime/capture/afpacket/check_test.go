package afpacket

import (
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// Without the right to capture, Check says which it is, as Open does.
func TestCheckRights(t *testing.T) {
	done := make(chan [2]error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends, and its lost rights with it
		h := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&h, &none[0]); err != nil {
			done <- [2]error{err, err}
			return
		}
		_, err := Open("lo", 1, Options{})
		done <- [2]error{Check("lo", 1, Options{}), err}
	}()
	for _, err := range <-done {
		if err == nil || !strings.Contains(err.Error(), "CAP_NET_RAW") {
			t.Error(err)
		}
	}
	if err := Check("nosuch0", 1, Options{}); err == nil || !strings.Contains(err.Error(), "ip link") {
		t.Error(err)
	}
}
