package cpu

import (
	"runtime"
	"slices"
	"strings"
	"testing"

	"nepcoc/internal/testfiles"
)

func TestChoose(t *testing.T) {
	arm := []Path{Purego, NEON, DotProd}
	for _, c := range []struct {
		want string
		have []Path
		path Path
		err  string
	}{
		{"", []Path{Purego}, Purego, ""},
		{"", arm, DotProd, ""},
		{"neon", arm, NEON, ""},
		{"purego", arm, Purego, ""},
		{"avx2", arm, 0, "does not have it; unset it or use one of: purego, neon, dotprod"},
		{"sse9", arm, 0, "no kernels are called that"},
	} {
		got, err := choose(c.want, c.have)
		if c.err != "" {
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: error %v, want %q", c.want, err, c.err)
			}
			continue
		}
		if err != nil || got != c.path {
			t.Errorf("%q: %v, %v; want %v", c.want, got, err, c.path)
		}
	}
}

// No emulator has AVX-512: its kernels are tested where the machine has it, and this says where not.
func TestAVX512(t *testing.T) {
	if runtime.GOARCH == "amd64" && !slices.Contains(Available(), AVX512) && !pureGo {
		t.Skip("no AVX-512 here: its kernels are not tested")
	}
}

// A machine without AVX2 must not let CI look green with the kernels untested.
func TestCIHasAVX2(t *testing.T) {
	if runtime.GOARCH != "amd64" || slices.Contains(Available(), AVX2) || len(detect()) > 0 {
		return
	}
	if pureGo {
		t.Skip("no kernels in assembly to test")
	}
	testfiles.Missing(t, "no AVX2 here: its kernels are not tested")
}
