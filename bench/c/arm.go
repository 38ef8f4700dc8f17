package main

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"nepcoc/bench/internal/emitted"
	"nepcoc/runtime/bundle"
)

// armPaths are the kernel paths of arm64, each with the CPU that qemu is to emulate for it.
var armPaths = []struct{ path, cpu string }{{"dotprod", "cortex-a76"}, {"neon", "cortex-a72"}, {"portable", "cortex-a72"}}

// count prints how many instructions an inference takes on arm64 under qemu-user, with memcpy and memset. Counts depend on the
// compiler and on nothing else.
func count(b *bundle.Bundle, cc, dir string) error {
	exe, err := emitted.Build(b, []string{cc, "-static", "-O3"}, dir)
	if err != nil {
		return err
	}
	entry, ranges, err := emittedCode(exe)
	if err != nil {
		return err
	}
	longest := slices.MaxFunc(b.Golden, func(x, y bundle.Golden) int { return x.Valid - y.Valid })
	lengths := []int{longest.Valid, min(16, longest.Valid)}
	var input strings.Builder
	for _, n := range append(lengths, 1) { // the last one only shows where the one before ends
		tokens := slices.Clone(longest.Tokens)
		clear(tokens[n:])
		input.WriteString(emitted.Line(tokens, n))
	}
	input.WriteString("0\n-1\n")
	fmt.Printf("%-9s %7s %12s\n", "path", "tokens", "instructions")
	for _, p := range armPaths {
		counts, err := instructions(exe, p.path, p.cpu, input.String(), ranges, entry)
		if err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		for i, n := range lengths {
			fmt.Printf("%-9s %7d %12d\n", p.path, n, counts[i])
		}
	}
	return nil
}

// emittedCode are the addresses of the emitted functions and of memcpy and memset as qemu's -dfilter has them, and that of the function
// which every inference enters once. The one that makes a context is not among them: it goes through all tables once.
func emittedCode(exe string) (entry uint64, ranges string, err error) {
	f, err := elf.Open(exe)
	if err != nil {
		return 0, "", err
	}
	defer f.Close()
	symbols, err := f.Symbols()
	if err != nil {
		return 0, "", err
	}
	var list []string
	emitted := false // local symbols stand behind their file's name
	for _, s := range symbols {
		if elf.ST_TYPE(s.Info) == elf.STT_FILE {
			emitted = s.Name == "nepco_bench.c"
		}
		if elf.ST_TYPE(s.Info) != elf.STT_FUNC || s.Size == 0 || s.Name == "nepco_bench_init" {
			continue
		}
		local := elf.ST_BIND(s.Info) == elf.STB_LOCAL && emitted
		if local || strings.HasPrefix(s.Name, "nepco_bench_") || strings.HasPrefix(s.Name, "__mem") || s.Name == "memcpy" || s.Name == "memset" {
			list = append(list, fmt.Sprintf("0x%x+0x%x", s.Value, s.Size))
		}
		if s.Name == "nepco_bench_run_padded" {
			entry = s.Value
		}
	}
	slices.Sort(list)
	return entry, strings.Join(slices.Compact(list), ","), nil
}

// instructions runs the program under qemu, which writes a line for each instruction of the ranges, and counts them from entry to entry.
func instructions(exe, path, cpu, input, ranges string, entry uint64) (counts []int, err error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// One instruction a block and no chaining: every instruction is logged.
	cmd := exec.Command("qemu-aarch64", "-cpu", cpu, "-singlestep", "-d", "exec,nochain", "-dfilter", ranges, "-D", "/dev/fd/3", exe, path)
	cmd.Dir, cmd.Stdin, cmd.ExtraFiles = filepath.Dir(exe), strings.NewReader(input), []*os.File{w}
	cmd.Stderr = os.Stderr
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	begins := fmt.Appendf(nil, "/%016x/", entry)
	lines := bufio.NewScanner(r)
	for lines.Scan() { // Trace 0: 0x7f.. [00000000/0000000000401000/...] symbol
		if !bytes.HasPrefix(lines.Bytes(), []byte("Trace ")) {
			continue
		}
		if bytes.Contains(lines.Bytes(), begins) {
			counts = append(counts, 0)
		}
		if len(counts) > 0 {
			counts[len(counts)-1]++
		}
	}
	if err := lines.Err(); err != nil {
		return nil, err
	}
	if err := cmd.Wait(); err != nil {
		return nil, err
	}
	if len(counts) != 3 {
		return nil, fmt.Errorf("%d inferences were logged instead of 3", len(counts))
	}
	return counts, nil
}
