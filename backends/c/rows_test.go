package c_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
)

// byRows tells whether a bundle's code computes with rows on x86 and in C alone.
func byRows(t *testing.T, b *bundle.Bundle) bool {
	t.Helper()
	files, err := emit.Emit(b, emit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return strings.Contains(string(files[1].Data), "gated_rows_c(")
}

// Chains whose layers are all of the published kind compute with rows on x86 and in C alone: every path of the self-test, which has streams,
// too, gives the reference's logits, also with the least and the largest shifts.
func TestRows(t *testing.T) {
	chains := []toolchain{
		{"gcc-sanitized", sanitized, nil, native()},
		{"gcc-O3", []string{"gcc", "-O3"}, nil, native()},
		{"clang-O3", []string{"clang", "-O3"}, nil, native()},
	}
	seeds := []uint64{4, 124, 220, 476, 500, 512} // of which other chains have few
	if testing.Short() {
		seeds = seeds[:3]
	}
	for i, seed := range seeds {
		p := randprog.NewChain(seed)
		for _, s := range p.Steps {
			if k := s.GatedConv; k != nil && k.Norm == nil {
				k.Shift = []int{k.Shift, 1, 14}[i%3]
			} else if k != nil && p.Values[s.Out].DType == bundle.I8 {
				k.Norm.Shift = []int{k.Norm.Shift, 1, 7}[i%3]
			}
		}
		b, c, o := withGolden(t, p, 12), &chains[i%len(chains)], emit.Options{Tile: []int{16, 64, 3, 0, 1}[i%5]}
		if !byRows(t, b) {
			t.Fatalf("chain %d does not compute with rows", seed)
		}
		t.Run(fmt.Sprintf("%d-%s-%d", seed, c.name, o.Tile), func(t *testing.T) { c.check(t, b, o) })
	}
}

// A stream goes on in any context, also one that computes on another path, whose planes hold something else.
func TestStreamAcrossPaths(t *testing.T) {
	b := stored(t, "demo")
	if !byRows(t, b) || !raised(t, b) {
		t.Fatal("the demo's planes hold the same on all paths")
	}
	for _, c := range []toolchain{
		{"gcc", sanitized, nil, native()},
		{"arm64", []string{"aarch64-linux-gnu-gcc", "-O3", "-static"}, cortexA76, dotprod},
	} {
		t.Run(c.name, func(t *testing.T) { streamAcross(t, b, &c) })
	}
}

func streamAcross(t *testing.T, b *bundle.Bundle, c *toolchain) {
	t.Helper()
	testfiles.Tool(t, c.cc[0])
	if c.run != nil {
		testfiles.Tool(t, c.run[0])
	}
	dir := library(t, b, emit.Options{Name: "it"}, c.cc...)
	const program = `#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "nepco_it.h"
enum { A = NEPCO_IT_CTX_ALIGN, C = (NEPCO_IT_CTX_BYTES + A - 1) / A * A, S = (NEPCO_IT_STREAM_BYTES + A - 1) / A * A };
int main(int argc, char **argv)
{
	static int32_t tokens[NEPCO_IT_LENGTH];
	nepco_it_result want, got;
	char *memory = malloc((argc - 1) * (size_t)C + S + A), *first = memory + (A - (uintptr_t)memory % A), *stream = first + (argc - 1) * (size_t)C;
	int i, n, wrong = 0;
	for (i = 0; i < NEPCO_IT_LENGTH; i++) {
		tokens[i] = i * 7919 % NEPCO_IT_VOCAB;
	}
	for (i = 0; i + 1 < argc; i++) {
		if (nepco_it_init(first + i * C, C, NULL, 0) != 0 || nepco_it_use(first + i * C, argv[i + 1]) != 0) {
			return 100;
		}
	}
	for (n = 1; n <= NEPCO_IT_LENGTH; n += 9) {
		wrong += nepco_it_run(first, tokens, n, &want) != 0 || nepco_it_stream_begin(stream) != 0;
		for (i = 0; i < n; i++) {
			wrong += nepco_it_stream_add(first + i / 32 % (argc - 1) * C, stream, tokens + i, 1) != 0;
		}
		wrong += nepco_it_stream_end(first + n % (argc - 1) * C, stream, &got) != 0 || memcmp(&want, &got, sizeof want) != 0;
	}
	free(memory);
	return wrong;
}
`
	paths := c.paths
	if paths == nil {
		paths = portable
	}
	execute(t, dir, slices.Concat(c.run, []string{linkText(t, dir, "across.c", program, c.cc...)}, paths)...)
}
