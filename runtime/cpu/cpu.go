// Package cpu decides which set of kernels this process runs.
//
// A path is an instruction set that every kernel family has been written for.
// The choice is made once, when a bundle is bound, and never changes results:
// all paths are exact. Build tag purego leaves only the portable path;
// environment variable NEPCOC_KERNEL forces one of those that the CPU has.
package cpu

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

// Path is an instruction set that the kernels are written for.
type Path uint8

// The paths.
const (
	Purego  Path = iota // Go, any CPU
	AVX2                // amd64 with AVX2
	AVX512              // amd64 with AVX-512 F, BW, VL, CD, VBMI, VBMI2 and VNNI, and BMI2 (Ice Lake, Zen 4); AVX2 where there is no kernel
	NEON                // any arm64
	DotProd             // arm64 with UDOT, SDOT and SQRDMLAH
)

var names = [...]string{Purego: "purego", AVX2: "avx2", AVX512: "avx512", NEON: "neon", DotProd: "dotprod"}

// String is the name that NEPCOC_KERNEL takes and that reports show.
func (p Path) String() string {
	if int(p) < len(names) {
		return names[p]
	}
	return fmt.Sprintf("Path(%d)", uint8(p))
}

// Parse is the path of a name, whether or not this CPU has it.
func Parse(name string) (Path, error) {
	if i := slices.Index(names[:], name); i >= 0 {
		return Path(i), nil
	}
	return 0, fmt.Errorf("no kernels are called %q: there are %s", name, strings.Join(names[:], ", "))
}

// HasAVX2 tells whether kernels for AVX2 run on the path.
func (p Path) HasAVX2() bool { return p == AVX2 || p == AVX512 }

// Env is the environment variable that forces a path.
const Env = "NEPCOC_KERNEL"

// Available lists the paths that this build has and this CPU can run, slowest
// first; it always has Purego.
func Available() []Path { return append([]Path{Purego}, detect()...) }

// Choose is the path to run: the fastest available, or the one that
// NEPCOC_KERNEL names.
func Choose() (Path, error) { return choose(os.Getenv(Env), Available()) }

func choose(want string, have []Path) (Path, error) {
	if want == "" {
		return have[len(have)-1], nil
	}
	i := slices.IndexFunc(have, func(p Path) bool { return p.String() == want })
	if i >= 0 {
		return have[i], nil
	}
	list := make([]string, len(have))
	for i, p := range have {
		list[i] = p.String()
	}
	reason := "this CPU or build does not have it"
	if !slices.Contains(names[:], want) {
		reason = "no kernels are called that"
	}
	return 0, fmt.Errorf("%s=%q: %s; unset it or use one of: %s", Env, want, reason, strings.Join(list, ", "))
}
