package cli

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"nepcoc/internal/testfiles"
)

// On a full disk a file ends with a whole line, whatever was cut, and the error is said until the end.
func TestLinesOnFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("nepcoc-test", dir, "tmpfs", 0, "size=96k"); err != nil {
		testfiles.Missing(t, "needs to mount a small file system: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	for _, flags := range []int{0, os.O_APPEND} {
		name := filepath.Join(dir, "out")
		f, err := os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY|flags, 0o666)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		l := NewLines(&output{w: f})
		for i := range 2000 {
			fmt.Fprintf(l, "line %d of some %0*d\n", i, 60+i%7, 0)
		}
		if err := l.Flush(); err == nil {
			t.Error("no error")
		}
		text, err := os.ReadFile(name)
		if err != nil || len(text) < 64<<10 || text[len(text)-1] != '\n' || bytes.Count(text, []byte("\nline ")) != bytes.Count(text, []byte("\n"))-1 {
			t.Errorf("%d bytes, the last are %q (%v)", len(text), text[max(0, len(text)-40):], err)
		}
		// Who writes on, through the same descriptor, does so at the end.
		if _, err := f.Write([]byte("x")); err == nil {
			if more, _ := os.ReadFile(name); len(more) != len(text)+1 {
				t.Errorf("%d bytes, then %d", len(text), len(more))
			}
		}
	}
}
