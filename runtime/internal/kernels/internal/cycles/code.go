package main

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// program is the disassembly of our packages' functions.
type program struct{ funcs []*function }

type function struct {
	name string
	code []instr
}

type instr struct {
	addr uint64
	text string
}

var (
	funcLine  = regexp.MustCompile(`^([0-9a-f]+) <(.+)>:$`)
	instrLine = regexp.MustCompile(`^\s+([0-9a-f]+):\s+(\S.*)$`)
	backward  = regexp.MustCompile(`^(?:b\.\w+\s+|cbn?z\s+\w+,\s*)(?:0x)?([0-9a-f]+)`)
)

// ours are the functions that are counted: the kernels and what the flow calls of
// Go's run time.
func ours(name string) bool {
	return strings.HasPrefix(name, "nepcoc/") || strings.HasPrefix(name, "main.run") || strings.HasPrefix(name, "runtime.mem") || strings.HasPrefix(name, "runtime.duff")
}

func disassemble(bin string) (*program, error) {
	out, err := exec.Command("aarch64-linux-gnu-objdump", "-d", "--no-show-raw-insn", bin).Output()
	if err != nil {
		return nil, fmt.Errorf("aarch64-linux-gnu-objdump: %w", err)
	}
	p := &program{}
	var cur *function
	lines := bufio.NewScanner(bytes.NewReader(out))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if m := funcLine.FindStringSubmatch(lines.Text()); m != nil {
			cur = nil
			if ours(m[2]) {
				cur = &function{name: m[2]}
				p.funcs = append(p.funcs, cur)
			}
		} else if m := instrLine.FindStringSubmatch(lines.Text()); m != nil && cur != nil {
			addr, err := strconv.ParseUint(m[1], 16, 64)
			if err != nil {
				return nil, err
			}
			cur.code = append(cur.code, instr{addr, m[2]})
		}
	}
	return p, lines.Err()
}

// short is the name without the module's path.
func (f *function) short() string {
	return strings.TrimSuffix(strings.TrimPrefix(f.name, "nepcoc/runtime/internal/kernels/"), ".abi0")
}

// innermost are the loops, as runs of code that end in a branch back to their
// start, that contain no other loop, no call and no
// address that the text of the disassembly cannot say again.
func (f *function) innermost() [][]instr {
	index := map[uint64]int{}
	for i, in := range f.code {
		index[in.addr] = i
	}
	var loops [][]instr
	last := -1 // start of the latest loop: a later one that begins before it contains it
	for i, in := range f.code {
		m := backward.FindStringSubmatch(in.text)
		if m == nil {
			continue
		}
		to, err := strconv.ParseUint(m[1], 16, 64)
		if err != nil {
			continue
		}
		start, ok := index[to]
		if !ok || start > i || start <= last {
			continue
		}
		last = i
		loop := f.code[start : i+1]
		if !slices.ContainsFunc(loop, func(in instr) bool { return strings.HasPrefix(in.text, "bl") || strings.HasPrefix(in.text, "adr") }) {
			loops = append(loops, loop)
		}
	}
	return loops
}

// trace counts the instructions of one flow by address: two flows less one.
func trace(bin string, p *program, cpu string, r run) (map[uint64]int, error) {
	one, err := traceRun(bin, p, cpu, 1, r)
	if err != nil {
		return nil, err
	}
	two, err := traceRun(bin, p, cpu, 2, r)
	if err != nil {
		return nil, err
	}
	for a, n := range one {
		two[a] -= n
	}
	return two, nil
}

func traceRun(bin string, p *program, cpu string, flows int, r run) (map[uint64]int, error) {
	var ranges []string
	for _, f := range p.funcs {
		ranges = append(ranges, fmt.Sprintf("%#x..%#x", f.code[0].addr, f.code[len(f.code)-1].addr+3))
	}
	log := filepath.Join(filepath.Dir(bin), "trace")
	defer os.Remove(log)
	// One instruction a block and no chaining: every instruction is logged.
	c := exec.Command("qemu-aarch64", "-cpu", cpu, "-singlestep", "-d", "exec,nochain", "-dfilter", strings.Join(ranges, ","), "-D", log,
		bin, strconv.Itoa(flows), strconv.Itoa(r.tokens), strconv.Itoa(r.last))
	c.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	if err := runTool(c); err != nil {
		return nil, err
	}
	file, err := os.Open(log)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	counts := map[uint64]int{}
	lines := bufio.NewScanner(file)
	for lines.Scan() { // Trace 0: 0x7f.. [00000000/0000000000401000/...] symbol
		_, rest, ok := bytes.Cut(lines.Bytes(), []byte("/"))
		if !ok {
			continue
		}
		pc, _, _ := bytes.Cut(rest, []byte("/"))
		if addr, err := strconv.ParseUint(string(pc), 16, 64); err == nil {
			counts[addr]++
		}
	}
	return counts, lines.Err()
}
