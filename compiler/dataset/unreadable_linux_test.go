package dataset_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"nepcoc/compiler/dataset"
)

// Of a folder in a folder that can't be read the message names the inner one. Root reads all folders, so the test opens them as
// somebody else: a thread does, which ends with its goroutine.
func TestUnreadableFolder(t *testing.T) {
	const nobody = 65534
	dir := t.TempDir()
	inner := filepath.Join(dir, "inner")
	if err := os.Mkdir(inner, 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	done := make(chan error)
	go func() {
		if os.Geteuid() == 0 {
			runtime.LockOSThread()
			if err := syscall.Setfsuid(nobody); err != nil {
				done <- err
				return
			}
		}
		_, err := dataset.Captures([]string{dir})
		done <- err
	}()
	if err := <-done; err == nil || !strings.Contains(err.Error(), inner+": permission denied") {
		t.Error(err)
	}
}
