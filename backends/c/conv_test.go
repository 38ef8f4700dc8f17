package c_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
)

// Programs of convolutions give the reference's logits on every path, in both of their fast forms and in the plain one: of any number of taps and channels, with strides, gaps,
// padding, groups and tables, on values of 8 and 16 bits, in rows and in planes.
func TestConvolutions(t *testing.T) {
	chains := []toolchain{
		{"gcc-sanitized", sanitized, nil, native()},
		{"gcc-O3", []string{"gcc", "-O3"}, nil, native()},
		{"clang-O3", []string{"clang", "-O3"}, nil, native()},
		{"arm64-dotprod", []string{"aarch64-linux-gnu-gcc", "-O1", "-static"}, cortexA76, dotprod},
		{"s390x", []string{"s390x-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-s390x"}, portable},
	}
	seeds := []uint64{29, 17, 36, 1, 0, 3} // which have every form
	if testing.Short() {
		seeds = seeds[:5]
	}
	seen := map[string]int{}
	for i, seed := range seeds {
		b := withGolden(t, randprog.NewConvs(seed), 8)
		source := convSource(t, b)
		for _, call := range []string{"\tconv_sums(", "\tconv_scale(", "\tconv_each(", "\tconv_scaled(path, sum,", "acc += (int32_t)w[i]"} {
			seen[call] += strings.Count(source, call)
		}
		c := &chains[i%len(chains)]
		t.Run(fmt.Sprintf("%d-%s", seed, c.name), func(t *testing.T) {
			if ran := c.check(t, b, emit.Options{}); strings.Contains(source, "\tconv_sums(") && !slices.Equal(ran, c.paths) {
				t.Errorf("it ran %v, want %v", ran, c.paths)
			}
		})
	}
	for call, times := range seen {
		if times < 2 {
			t.Errorf("%s occurs %d times", strings.TrimSpace(call), times)
		}
	}
}

// convSource is the source code of a bundle.
func convSource(t *testing.T, b *bundle.Bundle) string {
	t.Helper()
	files, err := emit.Emit(b, emit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return string(files[1].Data)
}

// A region of which every value is kept has no value in the context.
func TestRegionInState(t *testing.T) {
	c := toolchain{"gcc-sanitized", sanitized, nil, native()}
	c.check(t, withGolden(t, randprog.NewConvs(116), 4), emit.Options{})
}
