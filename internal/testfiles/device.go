package testfiles

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

// Minor numbers of Linux's memory devices.
var devices = map[string]int{"null": 3, "full": 7}

// Device makes a node like /dev/null or /dev/full in a folder of its own: what a
// test does wrong with it must not harm the machine's. Only root can; for others
// it is Missing.
func Device(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|devices[name]); err != nil {
		Missing(t, "needs a device node: mknod %s: %v", name, err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		Missing(t, "needs a device node in %s: %v", path, err)
	}
	f.Close()
	return path
}
