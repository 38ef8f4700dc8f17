package c_test

import (
	"crypto/sha256"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	emit "nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/internal/testfiles"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/classify"
	"nepcoc/runtime/refexec"
	"nepcoc/runtime/traffic"
)

// withGolden is a bundle of a program whose golden vectors, which the emitted self-test holds the code to, are
// the reference executor's.
func withGolden(t *testing.T, p *bundle.Program, vectors int) *bundle.Bundle {
	t.Helper()
	x, err := refexec.New(p.Judged())
	if err != nil {
		t.Fatal(err)
	}
	b := &bundle.Bundle{Program: p}
	b.Manifest.Model.File = "random.onnx"
	for i := range vectors {
		tokens, valid := randprog.Input(p, uint64(i))
		logits, err := x.Run(tokens, valid)
		if err != nil {
			t.Fatal(err)
		}
		g := bundle.Golden{Tokens: tokens, Valid: valid}
		for _, l := range logits {
			g.Logits = append(g.Logits, slices.Clone(l))
		}
		b.Golden = append(b.Golden, g)
	}
	return b
}

// warnings are those that emitted code has to be free of.
var warnings = []string{"-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Werror"}

// objects are the libraries that have been compiled, by source and command: tests that ask for the same one share it.
var objects sync.Map

// library writes what is emitted of a bundle into a folder of its own, and compiles the source to library.o there.
func library(t testing.TB, b *bundle.Bundle, o emit.Options, cc ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	emitInto(t, dir, b, o)
	names, err := filepath.Glob(filepath.Join(dir, "nepco_*.c"))
	if err != nil || len(names) != 1 {
		t.Fatal(names, err)
	}
	source, err := os.ReadFile(names[0])
	if err != nil {
		t.Fatal(err)
	}
	args := append(slices.Concat(cc[1:], warnings), "-c", "-o", "library.o", filepath.Base(names[0]))
	key := sha256.Sum256(fmt.Appendf(source, "%q", append(cc[:1:1], args...)))
	compile := func() ([]byte, error) {
		cmd := exec.Command(cc[0], args...)
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s %v: %w\n%.4000s", cc[0], args, err, out)
		}
		return os.ReadFile(filepath.Join(dir, "library.o"))
	}
	once, _ := objects.LoadOrStore(key, sync.OnceValues(compile))
	object, err := once.(func() ([]byte, error))()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "library.o"), object, 0o644); err != nil {
		t.Fatal(err)
	}
	return dir
}

// link compiles a program of a library's folder with the library.
func link(t testing.TB, dir, program string, cc ...string) (exe string) {
	t.Helper()
	args := append(slices.Concat(cc[1:], warnings), "-o", strings.TrimSuffix(program, ".c"), program, "library.o")
	cmd := exec.Command(cc[0], args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%.4000s", cc[0], args, err, out)
	}
	return "./" + strings.TrimSuffix(program, ".c")
}

// linkText is link of a program that a test has as text.
func linkText(t testing.TB, dir, program, text string, cc ...string) (exe string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, program), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return link(t, dir, program, cc...)
}

// execute runs a command in a folder, and gives what it says.
func execute(t testing.TB, dir string, command ...string) string {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %v\n%.4000s", command, err, out)
	}
	return string(out)
}

// toolchain is a compiler with its flags, what runs the result, and the kernels' paths that a machine has then; nil: not known.
type toolchain struct {
	name  string
	cc    []string
	run   []string
	paths []string
}

// sanitized compiles for tests: what a sanitizer finds doesn't depend on what an optimiser makes of the code, which takes its time.
var sanitized = []string{"gcc", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"}

// wordy compiles what is tested for its words, not for its kernels.
var wordy = append(slices.Clone(sanitized), "-DNEPCO_PORTABLE")

var (
	portable  = []string{"portable"}
	neon      = []string{"portable", "neon"}
	dotprod   = []string{"portable", "neon", "dotprod"}
	cortexA72 = []string{"qemu-aarch64", "-cpu", "cortex-a72"}
	cortexA76 = []string{"qemu-aarch64", "-cpu", "cortex-a76"}
)

// toolchains are those that emitted code is held to.
var toolchains = []toolchain{
	{"gcc-sanitized", sanitized, nil, native()},
	{"gcc-O1", []string{"gcc", "-O1"}, nil, native()},
	{"gcc-O2", []string{"gcc", "-O2"}, nil, native()},
	{"gcc-O3", []string{"gcc", "-O3"}, nil, native()},
	{"gcc-Os", []string{"gcc", "-Os"}, nil, native()},
	{"clang-sanitized", []string{"clang", "-O1", "-fsanitize=undefined", "-fsanitize-trap=all"}, nil, native()},
	{"clang-O3", []string{"clang", "-O3"}, nil, native()},
	{"arm64", []string{"aarch64-linux-gnu-gcc", "-O3", "-static"}, cortexA72, neon},
	{"arm64-dotprod", []string{"aarch64-linux-gnu-gcc", "-O2", "-static", "-mcpu=cortex-a76"}, cortexA76, dotprod},
	{"s390x", []string{"s390x-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-s390x"}, portable}, // big-endian
	{"armhf", []string{"arm-linux-gnueabihf-gcc", "-O2", "-static"}, []string{"qemu-arm"}, portable},
	{"riscv64", []string{"riscv64-linux-gnu-gcc", "-O2", "-static"}, []string{"qemu-riscv64"}, portable},
}

// quick are toolchains for many programs: what is emitted for a program is tested, by every kernel, and not what optimisers make of it.
var quick = []toolchain{
	{"gcc-O0", []string{"gcc", "-O0"}, nil, native()},
	{"clang-O0", []string{"clang", "-O0"}, nil, native()},
	{"arm64-O0", []string{"aarch64-linux-gnu-gcc", "-O0", "-static"}, cortexA76, dotprod},
	{"s390x-O0", []string{"s390x-linux-gnu-gcc", "-O0", "-static"}, []string{"qemu-s390x"}, portable},
}

// toolchainFor is that of the i-th of many programs: every one of toolchains in turn, then the quick ones.
func toolchainFor(i int) *toolchain {
	if i < len(toolchains) {
		return &toolchains[i]
	}
	return &quick[i%len(quick)]
}

// check runs the self-test of a bundle's code by one toolchain: golden vectors, in parts and in a batch, too, on each path that there is. It gives
// their names: a program without gated layers has the portable one only.
func (c *toolchain) check(t *testing.T, b *bundle.Bundle, o emit.Options) (ran []string) {
	t.Helper()
	testfiles.Tool(t, c.cc[0])
	if c.run != nil {
		testfiles.Tool(t, c.run[0])
	}
	o.Name = "it"
	dir := library(t, b, o, c.cc...)
	exe := link(t, dir, "selftest.c", c.cc...)
	for line := range strings.Lines(execute(t, dir, append(slices.Clone(c.run), exe)...)) {
		f := strings.Fields(line)
		ran = append(ran, f[len(f)-1])
	}
	return ran
}

// Random programs of both kinds, by all toolchains in turn: every operator and type, odd shapes, flows of any length.
func TestRandomPrograms(t *testing.T) {
	n := 3 * len(toolchains)
	if testing.Short() {
		n = len(toolchains)
	}
	for seed := range uint64(n) {
		p := randprog.New(seed)
		if seed/uint64(len(toolchains)) == 1 {
			p = randprog.NewPublished(seed)
		}
		c := toolchainFor(int(seed))
		t.Run(fmt.Sprintf("%d-%s", seed, c.name), func(t *testing.T) {
			c.check(t, withGolden(t, p, 12), emit.Options{MaxTable: 2000})
		})
	}
}

// stored is a bundle that an older version wrote.
func stored(t *testing.T, name string) *bundle.Bundle {
	t.Helper()
	b, err := bundle.ReadFile("../../runtime/bundle/testdata/format1/" + name + ".nepco")
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The demo's code and context are small.
func TestSize(t *testing.T) {
	b := stored(t, "demo")
	files, err := emit.Emit(b, emit.Options{Name: "it"})
	if err != nil {
		t.Fatal(err)
	}
	dir, context := t.TempDir(), 0
	for _, f := range files[:2] { // the header and the source
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	_, after, _ := strings.Cut(string(files[0].Data), "_CTX_BYTES ")
	if _, err := fmt.Sscan(after, &context); err != nil || context > 65536 {
		t.Errorf("a context of %d bytes: %v", context, err)
	}
	if n := testfiles.CodeSize(t, filepath.Join(dir, "nepco_it.c")); n > 60_000 {
		t.Errorf("%d bytes of code", n)
	}
}

// What streams and batches refuse, and that nothing of it is taken.
func TestFormsRefuse(t *testing.T) {
	testfiles.Tool(t, "gcc")
	dir := library(t, stored(t, "demo"), emit.Options{Name: "it"}, sanitized...)
	const program = `#include <stdio.h>
#include <string.h>
#include "nepco_it.h"
static union { uint8_t b[NEPCO_IT_CTX_BYTES + 64]; uint64_t u; } memory;
static union { uint8_t b[NEPCO_IT_STREAM_BYTES + 64]; uint64_t u; } state;
#define IS(what, code) if ((what) != (code)) { printf("line %d: %d\n", __LINE__, what); wrong++; }
int main(void)
{
	static int32_t tokens[3 * NEPCO_IT_LENGTH], bad[3] = {1, 2, NEPCO_IT_VOCAB};
	static nepco_it_result r, q, all[3];
	uint8_t *ctx = memory.b + (64 - (uintptr_t)memory.b % 64), *s = state.b + (64 - (uintptr_t)state.b % 64);
	int n[3], i, wrong = 0;
	for (i = 0; i < 3 * NEPCO_IT_LENGTH; i++) {
		tokens[i] = i * 7 % NEPCO_IT_VOCAB;
	}
	IS(nepco_it_stream_add(ctx, s, tokens, 1), NEPCO_IT_ECONTEXT)
	IS(nepco_it_stream_begin(s + 8), NEPCO_IT_ECONTEXT)
	IS(nepco_it_stream_begin(NULL), NEPCO_IT_ECONTEXT)
	IS(nepco_it_stream_begin(s), 0)
	IS(nepco_it_stream_add(ctx, s, tokens, 1), NEPCO_IT_ECONTEXT) /* no init yet */
	IS(nepco_it_run_batch(ctx, tokens, 0, n, 1, all), 0)
	IS(nepco_it_init(ctx, NEPCO_IT_CTX_BYTES, NULL, 0), 0)
	IS(nepco_it_init(ctx + 1, NEPCO_IT_CTX_BYTES, NULL, 0), NEPCO_IT_ECONTEXT)
	IS(nepco_it_init(ctx, NEPCO_IT_CTX_BYTES - 1, NULL, 0), NEPCO_IT_ECONTEXT)
	IS(nepco_it_init(NULL, NEPCO_IT_CTX_BYTES, NULL, 0), NEPCO_IT_ECONTEXT)
	IS(nepco_it_use(ctx, NULL), NEPCO_IT_EPATH)
	IS(nepco_it_use(ctx, ""), NEPCO_IT_EPATH)
	IS(nepco_it_run(ctx, tokens, 0, &q), NEPCO_IT_EVALID)
	IS(nepco_it_run(ctx, tokens, -2147483647 - 1, &q), NEPCO_IT_EVALID)
	IS(nepco_it_run(ctx, tokens, 2147483647, &q), NEPCO_IT_EVALID)
	IS(nepco_it_run(ctx, bad, 3, &q), NEPCO_IT_ETOKEN)
	IS(nepco_it_stream_end(ctx, s, &r), NEPCO_IT_EVALID) /* no token */
	IS(nepco_it_stream_add(ctx, s, tokens, NEPCO_IT_LENGTH + 1), NEPCO_IT_EVALID)
	IS(nepco_it_stream_add(ctx, s, tokens, -1), NEPCO_IT_EVALID)
	IS(nepco_it_stream_add(ctx, s, tokens, 5), 0)
	IS(nepco_it_stream_add(ctx, s, bad, 3), NEPCO_IT_ETOKEN)
	IS(nepco_it_stream_add(ctx, s, tokens + 5, NEPCO_IT_LENGTH - 4), NEPCO_IT_EVALID)
	IS(nepco_it_stream_add(ctx, s, tokens + 5, NEPCO_IT_LENGTH - 5), 0)
	IS(nepco_it_stream_add(ctx, s, tokens, 1), NEPCO_IT_EVALID)
	IS(nepco_it_stream_add(ctx, s, tokens, 0), 0)
	IS(nepco_it_stream_end(ctx, s, &r), 0)
	IS(nepco_it_run(ctx, tokens, NEPCO_IT_LENGTH, &q), 0)
	IS(memcmp(&r, &q, sizeof r), 0)
	IS(nepco_it_stream_end(ctx, s, &r), NEPCO_IT_ECONTEXT) /* ended */
	n[0] = 3, n[1] = NEPCO_IT_LENGTH, n[2] = NEPCO_IT_LENGTH + 1;
	IS(nepco_it_run_batch(ctx, tokens, NEPCO_IT_LENGTH, n, 3, all), 2)
	IS(nepco_it_run_batch(ctx, tokens, NEPCO_IT_LENGTH, n, 2, all), 2)
	IS(nepco_it_run_batch(ctx, tokens, NEPCO_IT_LENGTH, n, -1, all), 0)
	IS(nepco_it_run(ctx, tokens + NEPCO_IT_LENGTH, NEPCO_IT_LENGTH, &q), 0)
	IS(memcmp(&all[1], &q, sizeof q), 0)
	return wrong;
}
`
	execute(t, dir, linkText(t, dir, "refuse.c", program, sanitized...))
}

// Whatever outputs are called, the header has a member of its own for each that C, with GNU's macros, and C++ can have.
func TestOutputNames(t *testing.T) {
	b := stored(t, "demo")
	names := []string{"output_1", "", "9", "or", "linux", "errno", "static_assert", "char8_t", "typeof", "A-b", "a b", "ä", "output_3", "output", "verdict", "int"}
	first := b.Program.Outputs[0]
	b.Program.Outputs, b.Golden = nil, nil
	for _, name := range names {
		o := first
		o.Name = name
		b.Program.Outputs = append(b.Program.Outputs, o)
	}
	files, err := emit.Emit(b, emit.Options{Name: "it"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string][]byte{"nepco_it.h": files[0].Data, "it.c": []byte("#include <errno.h>\n#include <assert.h>\n#include <stdio.h>\n#include \"nepco_it.h\"\nint it(void);\nint it(void) { return nepco_it_digest[0]; }\n")} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, cc := range []string{"gcc -std=gnu11 -Wconversion -Wshadow", "clang -std=c99 -Wconversion", "g++ -x c++ -std=c++11 -Wold-style-cast", "g++ -x c++ -std=gnu++20", "clang++ -x c++ -std=c++11"} {
		testfiles.Tool(t, strings.Fields(cc)[0])
		cmd := exec.Command("sh", "-c", cc+" -Wall -Wextra -Wpedantic -Werror -c -o it.o it.c")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%.2000s", cc, err, out)
		}
	}
}

// tile is the number of positions that a bundle's code computes at a time.
func tile(t *testing.T, b *bundle.Bundle, o emit.Options) (n int) {
	t.Helper()
	files, err := emit.Emit(b, o)
	if err != nil {
		t.Fatal(err)
	}
	_, after, found := strings.Cut(string(files[0].Data), "_TILE ")
	if _, err := fmt.Sscan(after, &n); err != nil || !found {
		t.Fatalf("the header has no tile: %v", err)
	}
	return n
}

// Chains of gated layers, in tiles of any size, some shorter than what the next looks back at.
func TestTiles(t *testing.T) {
	n, tiled := 4*len(toolchains), 0
	if testing.Short() {
		n = len(toolchains)
	}
	for seed := range uint64(n) {
		b := withGolden(t, randprog.NewChain(seed), 12)
		o := emit.Options{Tile: []int{1, 3, 16, 32, 64}[seed%5]}
		if tile(t, b, o) > 0 {
			tiled++
		}
		c := toolchainFor(int(seed))
		t.Run(fmt.Sprintf("%d-%s", seed, c.name), func(t *testing.T) { c.check(t, b, o) })
	}
	if tiled < n/3 {
		t.Errorf("%d of %d programs run in tiles", tiled, n)
	}
}

// The demo model, with every toolchain, from a bundle that the compiler made: on the kernels of each machine, by the names that the engine has for them.
func TestDemo(t *testing.T) {
	b := stored(t, "demo")
	if len(b.Golden) == 0 {
		t.Fatal("no golden vectors")
	}
	all := append(slices.Clone(toolchains),
		toolchain{"portable", []string{"gcc", "-O2", "-DNEPCO_PORTABLE"}, nil, portable},
		// Built for any machine, and chosen when it runs; and without the statements in assembly that some compilers need to be fast.
		toolchain{"arm64-intrinsics", []string{"aarch64-linux-gnu-gcc", "-O1", "-static", "-DNEPCO_INTRINSICS"}, cortexA76, dotprod})
	for i := range all {
		t.Run(all[i].name, func(t *testing.T) {
			if ran := all[i].check(t, b, emit.Options{}); all[i].paths != nil && !slices.Equal(ran, all[i].paths) {
				t.Errorf("it ran %v, want %v", ran, all[i].paths)
			}
		})
	}
}

// given are logits as an executor.
type given [][]int32

func (g *given) Run(_ []int32, _ int, out [][]int32) error {
	for i := range out {
		copy(out[i], (*g)[i])
	}
	return nil
}

// knowing gives the first output of a bundle a belonging: four prototypes of two dimensions of the output's own logits.
func knowing(b *bundle.Bundle) {
	p, tensor := b.Program, func(d bundle.DType, shape []int, f func(int) int32) int {
		n := 1
		for _, x := range shape {
			n *= x
		}
		v := make([]int32, n)
		for i := range v {
			v[i] = f(i)
		}
		b.Program.Tensors = append(b.Program.Tensors, bundle.NewTensor("known", d, shape, v))
		return len(b.Program.Tensors) - 1
	}
	at := slices.IndexFunc(p.Values, func(v bundle.Value) bool { return v.Rows == 1 && v.DType != bundle.I32 })
	n := p.Values[at].Cols
	one := func(int) int32 { return 1 }
	p.Belonging = []bundle.Belonging{{Output: 0, Value: at, One: tensor(bundle.I8, []int{n, 1, 1}, one), Mean: tensor(bundle.I32, []int{n}, func(i int) int32 { return int32(i % 7) }),
		Scale: tensor(bundle.I32, []int{n}, func(int) int32 { return 3 }), ScaleShift: 2, W: tensor(bundle.I8, []int{2, 1, n}, func(i int) int32 { return int32(i%5) - 2 }), Bias: tensor(bundle.I32, []int{2}, one),
		Mult: tensor(bundle.I32, []int{2}, one), Shift: 2, Prototypes: tensor(bundle.I16, []int{4, 2}, func(i int) int32 { return int32(i * i * 300) })}}
	b.Manifest.Outputs[0].Known = &bundle.Known{Pass: 0.9, Bound: 40_000_000, Quantiles: []int64{1, 1000, 40_000_000}, Flows: 3, Classes: []int{0, 1, 2, 3}}
}

// The words are those of package classify: labels, scores, margins and what is unknown, of any logits.
func TestWords(t *testing.T) {
	testfiles.Tool(t, "gcc")
	for _, test := range []struct {
		file string
		kind bundle.OutputKind // of the last output, which has three logits
		know bool
	}{{"demo", "", false}, {"demo", "", true}, {"heads", "", false}, {"heads", bundle.KindLabels, false}, {"heads", bundle.KindBinary, false}} {
		b := stored(t, test.file)
		if last := &b.Manifest.Outputs[len(b.Manifest.Outputs)-1]; test.kind != "" {
			last.Kind, last.Thresholds = test.kind, []float64{0.5, 0.75, 0.125}
		}
		half := 0.5
		for i := range b.Manifest.Outputs {
			if k := b.Manifest.Outputs[i].EffectiveKind(); k == bundle.KindClasses || k == bundle.KindBinary {
				b.Manifest.Outputs[i].UnknownThreshold = &half
			}
		}
		if test.know {
			knowing(b)
		}
		var outs given
		verdicts, outputs := classify.New(b, &outs), b.Program.Judged().Outputs
		values := b.Program.Judged().Values
		var program, want strings.Builder
		program.WriteString("#include <stdio.h>\n#include \"nepco_it.h\"\nint main(void)\n{\n\tnepco_it_result r;\n\tnepco_it_verdict v;\n\tint i, n, rc = 1;\n\t(void)v;\n\t(void)n;\n\twhile (rc == 1) {\n")
		r := rand.New(rand.NewPCG(1, 2))
		var input strings.Builder
		for _, o := range outputs {
			n, name := values[o.Value].Cols, strings.TrimSuffix(strings.ReplaceAll(o.Name, " (", "__"), ")")
			fmt.Fprintf(&program, "\t\tfor (i = 0; i < %d && rc == 1; i++) {\n\t\t\trc = scanf(\"%%d\", &r.%s[i]);\n\t\t}\n\t\tif (rc != 1) {\n\t\t\tbreak;\n\t\t}\n", n, name)
			outs = append(outs, make([]int32, n))
		}
		for h := range verdicts.Heads {
			name, n := outputs[h].Name, len(outs[h])
			switch verdicts.Heads[h].Kind {
			case bundle.KindLabels:
				fmt.Fprintf(&program, "\t\t{\n\t\t\tuint8_t given[%d];\n\t\t\tint32_t score[%d];\n\t\t\tn = nepco_it_given_%s(&r, given, score);\n\t\t\tprintf(\"%%d\", n);\n\t\t\tfor (i = 0; i < %d; i++) {\n\t\t\t\tif (given[i]) {\n\t\t\t\t\tprintf(\" %%s %%d\", nepco_it_label_%s(i), score[i]);\n\t\t\t\t}\n\t\t\t}\n\t\t\tprintf(\"\\n\");\n\t\t}\n", n, n, name, n, name)
			case bundle.KindClasses, bundle.KindBinary:
				fmt.Fprintf(&program, "\t\tnepco_it_verdict_%s(&r, &v);\n\t\tprintf(\"%%s %%d %%d %%lld %%d\\n\", nepco_it_label_%s(v.label), v.score, v.margin, (long long)v.distance, v.unknown);\n", name, name)
			}
		}
		program.WriteString("\t}\n\treturn 0;\n}\n")
		for range 400 {
			for _, logits := range outs {
				reach := int32(1) << (2 + r.IntN(29))
				for k := range logits {
					logits[k] = r.Int32N(reach) - reach/2
					if r.IntN(4) == 0 {
						logits[k] = logits[0] // equals
					}
				}
			}
			for h, logits := range outs {
				for k := range logits {
					if h >= len(verdicts.Heads) {
						logits[k] %= 1 << 15 // 16 bits
					}
					fmt.Fprintln(&input, logits[k])
				}
			}
			results, err := verdicts.Run(nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for h, res := range results {
				switch verdicts.Heads[h].Kind {
				case bundle.KindLabels:
					fmt.Fprint(&want, len(res.Given))
					for _, l := range res.Given {
						fmt.Fprintf(&want, " %s %d", verdicts.Heads[h].Labels[l.Index], l.Score)
					}
					fmt.Fprintln(&want)
				case bundle.KindClasses, bundle.KindBinary:
					unknown := 0
					if res.Unknown {
						unknown = 1
					}
					fmt.Fprintf(&want, "%s %d %d %d %d\n", verdicts.Heads[h].Labels[res.Class], res.Score, res.Margin, res.Distance, unknown)
				}
			}
		}
		b.Golden = withGolden(t, b.Program, 4).Golden
		dir := library(t, b, emit.Options{Name: "it"}, wordy...)
		execute(t, dir, link(t, dir, "selftest.c", wordy...))
		cmd := exec.Command(linkText(t, dir, "words.c", program.String(), wordy...))
		cmd.Dir, cmd.Stdin = dir, strings.NewReader(input.String())
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%.3000s", err, out)
		}
		if string(out) != want.String() {
			t.Errorf("%s %s: %s", test.file, test.kind, cmp.Diff(want.String(), string(out)))
		}
	}
}

// The self-test can fail: one wrong weight, and it does.
func TestWrongWeight(t *testing.T) {
	testfiles.Tool(t, "gcc")
	b := withGolden(t, randprog.New(1), 8)
	for i := range b.Program.Tensors {
		for j := range b.Program.Tensors[i].Data {
			b.Program.Tensors[i].Data[j] ^= 1
		}
	}
	dir := library(t, b, emit.Options{}, "gcc", "-O0")
	cmd := exec.Command(link(t, dir, "selftest.c", "gcc", "-O0"))
	cmd.Dir = dir
	if out, err := cmd.Output(); cmd.ProcessState.ExitCode() != 1 || !strings.Contains(string(out), "wrong logits") {
		t.Errorf("%v\n%s", err, out)
	}
}

// Clang's static analyzer finds nothing.
func TestAnalyzer(t *testing.T) {
	testfiles.Tool(t, "clang")
	contracts := allContracts(t)
	for seed, name := range map[uint64]string{4: "version2-nepco-stream", 5: "version3-open"} {
		b := withGolden(t, randprog.New(seed), 1)
		c := contracts[name]
		b.Manifest.Contract.YAML = string(c.Canonical())
		dir := t.TempDir()
		emitInto(t, dir, b, emit.Options{Name: "it"})
		cmd := exec.Command("clang", "--analyze", "-Xclang", "-analyzer-werror", "-std=c99", "nepco_it.c", "selftest.c")
		cmd.Dir = dir
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("seed %d: %v\n%.3000s", seed, err, out)
		}
	}
}

// What the library needs from outside: memcpy and memset.
func TestSymbols(t *testing.T) {
	testfiles.Tool(t, "gcc")
	testfiles.Tool(t, "nm")
	stream, err := traffic.Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	for _, seed := range []uint64{0, 1, 2, 3} {
		b := withGolden(t, randprog.New(seed), 1)
		if c := traffic.Default(); seed == 0 {
			b.Manifest.Contract.YAML = string(c.Canonical())
		} else if seed == 1 {
			b.Manifest.Contract.YAML = string(stream.Canonical())
		}
		dir := t.TempDir()
		emitInto(t, dir, b, emit.Options{Name: "it"})
		cmd := exec.Command("sh", "-c", "gcc -O2 -c nepco_it.c && nm nepco_it.o")
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			f := strings.Fields(line)
			kind, name := f[len(f)-2], f[len(f)-1]
			switch {
			case kind == "U" && name != "memcpy" && name != "memset":
				t.Errorf("seed %d needs %s", seed, name)
			case strings.Contains("BbDdC", kind):
				t.Errorf("seed %d has %s, which can be written", seed, name)
			case kind == "T" && !strings.HasPrefix(name, "nepco_it_"):
				t.Errorf("seed %d exports %s", seed, name)
			}
		}
	}
}
