package testfiles

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// CodeSize is the size of the code, in bytes without constant data, of a C file that is compiled for arm64 with -Os.
func CodeSize(t testing.TB, file string) int {
	t.Helper()
	Tool(t, "aarch64-linux-gnu-gcc")
	Tool(t, "aarch64-linux-gnu-size")
	object := filepath.Join(t.TempDir(), "code.o")
	if out, err := exec.Command("aarch64-linux-gnu-gcc", "-std=c99", "-Os", "-c", "-o", object, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%.3000s", err, out)
	}
	out, err := exec.Command("aarch64-linux-gnu-size", "-A", object).Output()
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	for line := range strings.Lines(string(out)) {
		var name string
		var n int
		if _, err := fmt.Sscan(line, &name, &n); err == nil && strings.HasPrefix(name, ".text") {
			total += n
		}
	}
	if total == 0 {
		t.Fatalf("no code in\n%s", out)
	}
	return total
}
