package c_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
)

// The self-test stands for a program that knows of the library only what pkg-config says: in the folder, installed by make, and installed by
// Meson; with tables in a file and without.
func TestPkgConfig(t *testing.T) {
	for _, tool := range []string{"cc", "make", "pkg-config", "meson"} {
		testfiles.Tool(t, tool)
	}
	const (
		compile = ` && cc -o prog selftest.c $(pkg-config --cflags --libs nepco_it) && cd / && "$OLDPWD/prog" $(pkg-config --variable=tables nepco_it) && test -n "$(pkg-config --variable=digest nepco_it)"`
		here    = `make -s CFLAGS=-O0 && export PKG_CONFIG_PATH=$PWD` + compile
		// make install moves header and library away: nothing of the folder is used.
		installed = `make -s CFLAGS=-O0 install PREFIX=$PWD/usr && rm nepco_it.h libnepco_it.a && rm -f nepco_it.bin && export PKG_CONFIG_PATH=$PWD/usr/lib/pkgconfig` + compile
		meson     = `meson setup -Doptimization=0 --prefix=$PWD/usr --libdir=lib out >log && meson install -C out >>log && rm nepco_it.h && rm -f nepco_it.bin && export PKG_CONFIG_PATH=$PWD/usr/lib/pkgconfig` + compile
	)
	for _, most := range []int{1, emit.MaxTable} {
		b := withGolden(t, randprog.New(1), 4)
		for name, script := range map[string]string{"here": here, "installed": installed, "meson": meson} {
			files, err := emit.Emit(b, emit.Options{Name: "it", MaxTable: most})
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			tables := false
			for _, f := range files {
				tables = tables || strings.HasSuffix(f.Name, ".bin")
				if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if tables != (most == 1) {
				t.Fatalf("most %d: a file of tables: %v", most, tables)
			}
			cmd := exec.Command("bash", "-c", "set -e; "+script)
			cmd.Dir = dir
			out, err := cmd.CombinedOutput()
			if err != nil || !strings.Contains(string(out), "4 golden vectors, 0 wrong logits") {
				t.Errorf("%s, most %d: %v\n%.3000s", name, most, err, out)
			}
		}
	}
}
