package c

import (
	"fmt"
	"slices"
	"strings"

	"nepcoc/internal/version"
	"nepcoc/runtime/traffic"
)

// outputs are the names of the outputs as members of the result.
func (u *unit) outputs() []string {
	names, seen := make([]string, len(u.p.Outputs)), make(map[string]bool)
	for i, o := range u.p.Outputs {
		n := identifier(o.Name)
		if n == "" || n[0] >= '0' && n[0] <= '9' || reserved[n] {
			n = "output"
		}
		for base, k := n, i; seen[n] || n == "output"; k++ {
			n = fmt.Sprintf("%s_%d", base, k)
		}
		names[i], seen[n] = n, true
	}
	return names
}

// reserved are names that no member can have: keywords of C and C++ up to their newest versions, and what compilers and standard
// headers define as macros in small letters.
var reserved = func() map[string]bool {
	m := make(map[string]bool)
	for _, k := range strings.Fields(`alignas alignof and and_eq asm auto bitand bitor bool break case catch char char16_t char32_t char8_t class co_await
		co_return co_yield compl concept const const_cast consteval constexpr constinit continue contract_assert decltype default delete do
		double dynamic_cast else enum explicit export extern false float for friend goto if inline int long mutable namespace new noexcept not
		not_eq nullptr operator or or_eq private protected public register reinterpret_cast requires restrict return short signed sizeof
		static static_assert static_cast struct switch template this thread_local throw true try typedef typeid typename typeof
		typeof_unqual union unsigned using virtual void volatile wchar_t while xor xor_eq
		arm assert complex errno i386 imaginary linux mips near far noreturn offsetof pascal powerpc sparc stderr stdin stdout unix va_arg va_copy
		va_end va_start vax cdecl setjmp sigsetjmp interface small vector pixel`) {
		m[k] = true
	}
	return m
}()

func (u *unit) header(words string) string {
	var w strings.Builder
	p, m := u.prefix(), u.macro()
	f := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	f(`/* %s: a byte-sequence model of network traffic as integers; written by nepcoc %s, model %s.
 * What every function computes is the same to the bit on every machine. */
#ifndef %s_H
#define %s_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define %s_LENGTH %d /* tokens of a full input */
#define %s_VOCAB %d /* a token is 0 to %d */
#define %s_CTX_BYTES %d /* of a context, aligned to %s_CTX_ALIGN */
#define %s_CTX_ALIGN %d
#define %s_TILE %d /* positions that are computed at a time; 0: all */
#define %s_TABLE_BYTES %d /* of %s.bin; 0: there is none */`, p, version.Version, comment(u.b.Manifest.Model.File), m, m,
		m, u.p.Length, m, u.p.Vocab, u.p.Vocab-1, m, u.l.context(), m, m, align, m, u.l.tile, m, len(u.file), p)
	f(`
/* the SHA-256 of the bundle that this was made of, and the hash of its traffic contract, in hex */
extern const char %s_digest[];
extern const char %s_contract[];

/* what a run gives: the logits of each output, in the bundle's integers */
typedef struct {`, p, p)
	for i, n := range u.outputs() {
		f("\tint32_t %s[%d];", n, u.p.Values[u.p.Outputs[i].Value].Cols)
	}
	f(`} %s_result;

/* errors: 0 is none */
enum {
	%s_EVALID = 1, /* the number of tokens is not 1 to LENGTH */
	%s_ETOKEN, /* a token is not below VOCAB, or a number beside the sequence not below 2^24 */
	%s_ECONTEXT, /* the context is too small, or not aligned */
	%s_ETABLES, /* these are not the tables of this model */
	%s_EPATH /* no kernels of this name, or this machine does not have them */
};

/* init makes a context of bytes of memory at ctx. tables are the bytes of %s.bin, where there is one (NULL otherwise): they must
 * stay as long as the context is used, and may be shared. A context is for one thread at a time. */
int %s_init(void *ctx, size_t bytes, const void *tables, size_t table_bytes);

/* run computes the result of n tokens, 1 to LENGTH: the flow's own; the rest of the model's input is padding.%s */
int %s_run(void *ctx, const int32_t *tokens, int n, %s%s_result *result);

/* run_padded is run of LENGTH tokens, the first n of them the flow's own. */
int %s_run_padded(void *ctx, const int32_t *tokens, int n, %s%s_result *result);
%s%s%s
#ifdef __cplusplus
}
#endif
#endif`, p, m, m, m, m, m, p, p, u.aboutNumbers(), p, u.numbers("const int32_t *numbers, "), p, p, u.numbers("const int32_t *numbers, "), p, u.formsHeader(), u.pathHeader(), words)
	return w.String()
}

func (u *unit) source(words string) string {
	var w strings.Builder
	p, m := u.prefix(), u.macro()
	f := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	f("/* Written by nepcoc; see %s.h. The arithmetic is that of the bundle's specification, under the same names. */", p)
	f("#include \"%s.h\"\n\n#include <string.h>", p)
	f(`
#if defined(__GNUC__)
#define ALIGNED __attribute__((aligned(%d)))
#define MAYBE_UNUSED __attribute__((unused))
#else
#define ALIGNED
#define MAYBE_UNUSED
#endif

/* All that the language leaves to the compiler: right shifts of negative numbers are arithmetic. */
typedef char arithmetic_shift[(-3 >> 1) == -2 ? 1 : -1];

const char %s_digest[] = %s;
const char %s_contract[] = %s;`, align, p, quote(u.b.Digest.String()), p, quote(u.b.Manifest.Contract.Hash))
	if slices.Max(u.l.region.past) > 0 {
		u.use("carry")
	}
	for _, name := range helperOrder {
		if u.used[name] {
			w.WriteString("\n" + helpers[name].text)
		}
	}
	w.WriteString(u.kernelSource())
	w.WriteString(u.tables.String())
	w.WriteString(u.body.String())
	u.running(f)
	f(`
#define READY 0x6e65706fu
%s
int %s_init(void *ctx, size_t bytes, const void *tables, size_t table_bytes)
{
	context c;
	if (ctx == NULL || bytes < %s_CTX_BYTES || (uintptr_t)ctx %% %s_CTX_ALIGN != 0) {
		return %s_ECONTEXT;
	}`, u.pathSource(), p, m, m, m)
	if n := len(u.file); n > 0 {
		f(`	if (tables == NULL || table_bytes != %s_TABLE_BYTES) {
		return %s_ETABLES;
	} else {
		/* a checksum of the file: FNV-1a over little-endian words of 8 bytes */
		const uint8_t *b = tables;
		uint64_t h = 14695981039346656037u;
		size_t i;
		int j;
		for (i = 0; i + 8 <= %d; i += 8) {
			uint64_t v = 0;
			for (j = 7; j >= 0; j--) {
				v = v << 8 | b[i + (size_t)j];
			}
			h = (h ^ v) * 1099511628211u;
		}
		for (; i < %d; i++) {
			h = (h ^ b[i]) * 1099511628211u;
		}
		if (h != %du) {
			return %s_ETABLES;
		}
	}`, m, m, n, n, sum(u.file), m)
	} else {
		f("\t(void)table_bytes;")
	}
	f(`	c.tables = tables;
	c.ready = READY;
	c.path = best_path();
	memcpy(ctx, &c, sizeof c);
	return 0;
}`)
	u.runs(f)
	w.WriteString(words)
	return w.String()
}

// numbers is text that stands only where a model reads numbers beside the sequence.
func (u *unit) numbers(text string) string {
	if u.p.Sides == 0 {
		return ""
	}
	return text
}

// packets is text that stands only where the self-test has flows.
func (u *unit) packets(text string) string {
	if len(u.flows) == 0 {
		return ""
	}
	return text
}

// aboutNumbers says in the header what they are.
func (u *unit) aboutNumbers() string {
	if u.p.Sides == 0 {
		return ""
	}
	w := fmt.Sprintf("\n * numbers are the %d ids beside the sequence, each 0 to 2^24-1:", u.p.Sides)
	at := 0
	for _, in := range u.b.Manifest.Model.Sides {
		for k, g := range in.Grids {
			w += fmt.Sprintf("\n *   numbers[%d], %s[%d] of the model: x is round(x / 2^%d) - (%d)", at, comment(in.Name), k, g.Exp, g.Low)
			at++
		}
	}
	return w
}

// pad is the token that fills an input up.
func (u *unit) pad() int {
	if c, err := traffic.Parse("contract", []byte(u.b.Manifest.Contract.YAML)); err == nil && c.Pad < u.p.Vocab {
		return c.Pad
	}
	if t := u.b.Manifest.Model.PadToken; t != nil {
		return *t
	}
	return 0
}

// quote is s as a C string: it holds hex digits only, or nothing.
func quote(s string) string { return fmt.Sprintf("%q", s) }

// selftest is a program that runs the bundle's golden vectors.
func (u *unit) selftest() string {
	var w strings.Builder
	p, m := u.prefix(), u.macro()
	f := func(format string, args ...any) { fmt.Fprintf(&w, format+"\n", args...) }
	f(`/* The bundle's golden vectors: inputs with the logits that the compiler computed, then as streams and in a batch%s. Written by nepcoc.
 * selftest [TABLES]: 0 if all are equal. */
#include "%s.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { VECTORS = %d };
`, u.packets("; and made-up flows from their packets on"), p, len(u.b.Golden))
	var valid, tokens []string
	logits := make([][]string, len(u.p.Outputs))
	for _, g := range u.b.Golden {
		valid = append(valid, fmt.Sprint(g.Valid))
		tokens = append(tokens, "\t{"+join(g.Tokens)+"},")
		for i, l := range g.Logits {
			logits[i] = append(logits[i], "\t{"+join(l)+"},")
		}
	}
	if len(valid) > 0 {
		f("static const int valid[VECTORS] = {%s};", strings.Join(valid, ", "))
		f("static const int32_t tokens[VECTORS][%d] = {\n%s\n};", u.p.Inputs(), strings.Join(tokens, "\n"))
		for i, l := range logits {
			f("static const int32_t want%d[VECTORS][%d] = {\n%s\n};", i, u.p.Values[u.p.Outputs[i].Value].Cols, strings.Join(l, "\n"))
		}
	}
	f(`
static void *ctx; /* malloc's, moved to where it is aligned */
static void *tables;`)
	if len(valid) > 0 {
		u.formsTest(f)
	}
	if len(u.flows) > 0 {
		u.flowTest(f)
	}
	f(`
int main(int argc, char **argv)
{
	%s_result r;
	static const char *const paths[] = {"portable", "avx2", "avx512", "neon", "dotprod"};
	int i, j, k, wrong = 0, all = 0, rc;%s
	uintptr_t at = (uintptr_t)malloc(%s_CTX_BYTES + %s_CTX_ALIGN);
	if (at == 0) {
		fprintf(stderr, "selftest: no memory\n");
		return 2;
	}
	ctx = (void *)((at + %s_CTX_ALIGN - 1) / %s_CTX_ALIGN * %s_CTX_ALIGN);`, p, u.packets("\n\tint unlike;"), m, m, m, m, m)
	if len(u.file) > 0 {
		f(`	{
		const char *name = argc > 1 ? argv[1] : "%s.bin";
		FILE *in = fopen(name, "rb");
		tables = malloc(%s_TABLE_BYTES);
		if (in == NULL || tables == NULL || fread(tables, 1, %s_TABLE_BYTES, in) != %s_TABLE_BYTES) {
			fprintf(stderr, "selftest: %%s can't be read: it lies beside the source\n", name);
			return 2;
		}
		fclose(in);
	}`, p, m, m, m)
	} else {
		f("\t(void)argc;\n\t(void)argv;")
	}
	f(`	rc = %s_init(ctx, %s_CTX_BYTES, tables, %s_TABLE_BYTES);
	if (rc != 0) {
		fprintf(stderr, "selftest: init: error %%d\n", rc);
		return 2;
	}
	for (k = 0; k < 5; k++) {
		if (%s_use(ctx, paths[k]) != 0) {
			continue;
		}
		wrong = 0;
		for (i = 0; i < VECTORS; i++) {`, p, m, m, p)
	if len(valid) > 0 {
		f("\t\t\trc = %s_run_padded(ctx, tokens[i], valid[i], %s&r);\n\t\t\tif (rc != 0) {\n\t\t\t\tfprintf(stderr, \"selftest: vector %%d: error %%d\\n\", i, rc);\n\t\t\t\treturn 1;\n\t\t\t}", p, u.numbers(fmt.Sprintf("tokens[i] + %d, ", u.p.Length)))
		for i, n := range u.outputs() {
			f("\t\t\tfor (j = 0; j < %d; j++) {\n\t\t\t\twrong += r.%s[j] != want%d[i][j];\n\t\t\t}", u.p.Values[u.p.Outputs[i].Value].Cols, n, i)
		}
	} else {
		f("\t\t\t(void)j;\n\t\t\t(void)r;")
	}
	forms := ""
	if len(valid) > 0 {
		forms = `
		wrong = forms();
		if (wrong > 0) {
			printf("%d results in parts or in a batch are not those at once\n", wrong);
			all += wrong;
		}`
	}
	f(`		}%s
		printf("%%s: %%d golden vectors, %%d wrong logits, %s%%s\n", %s_digest, VECTORS, wrong, %s%s_path(ctx));
		all += wrong%s;%s
	}
	return all != 0;
}`, u.packets("\n\t\tunlike = flows_wrong();"), u.packets("%d flows from packets on, %d wrong, "), p, u.packets("FLOWS, unlike, "), p, u.packets(" + unlike"), forms)
	return w.String()
}

func join(v []int32) string {
	var w strings.Builder
	for i, x := range v {
		if i > 0 {
			w.WriteString(", ")
		}
		w.WriteString(lit(x))
	}
	return w.String()
}

func (u *unit) makefile() string {
	p := u.prefix()
	return fmt.Sprintf(`# make: the library; make check: the golden vectors; make install PREFIX=/usr/local
CFLAGS ?= -O3
override CFLAGS += -std=c99 -Wall -Wextra

lib%[1]s.a: %[1]s.o
	$(AR) rcs $@ $^

%[1]s.o: %[1]s.c %[1]s.h
	$(CC) $(CFLAGS) -c -o $@ $<

selftest: selftest.c lib%[1]s.a
	$(CC) $(CFLAGS) -o $@ $^

check: selftest
	./selftest

clean:
	rm -f %[1]s.o lib%[1]s.a selftest

%[2]s
.PHONY: check clean install
`, p, u.install())
}

func (u *unit) meson() string {
	return fmt.Sprintf(`project('%[1]s', 'c', version: '%[2]s', default_options: ['c_std=c99', 'optimization=3', 'warning_level=2'])

lib = static_library('%[1]s', '%[1]s.c', install: true)
install_headers('%[1]s.h')
%[1]s_dep = declare_dependency(link_with: lib, include_directories: '.')
import('pkgconfig').generate(lib, description: 'integer model of network traffic'%[3]s)
test('golden vectors', executable('selftest', 'selftest.c', link_with: lib), workdir: meson.current_source_dir())
`, u.prefix(), version.Version, u.mesonVariables())
}

func (u *unit) readme() string {
	p, m := u.prefix(), u.macro()
	tables, arg := "There is no file of tables: give NULL and 0.", "NULL, 0"
	if len(u.file) > 0 {
		tables = fmt.Sprintf("`%s.bin` (%d bytes) holds the token tables: map or read it, and give it to every context; it is only read.", p, len(u.file))
		arg = fmt.Sprintf("tables, %s_TABLE_BYTES", m)
	}
	return fmt.Sprintf("# %[1]s\n\nThe model `%[2]s` as C99. It computes the bits that `nepcoc run` and `nepcod` compute with the bundle %[3]s.\n\n"+
		"    make check    # builds the library and runs the golden vectors\n    cc program.c $(PKG_CONFIG_PATH=$PWD pkg-config --cflags --libs %[1]s)\n\n"+
		"```c\n#include \"%[1]s.h\"\n\n%[1]s_result r;\nvoid *ctx = aligned_alloc(%[4]s_CTX_ALIGN, %[4]s_CTX_BYTES);\n%[1]s_init(ctx, %[4]s_CTX_BYTES, %[5]s);\nint error = %[1]s_run(ctx, tokens, n, %[8]s&r); /* 0, or one of %[4]s_E... */\n```\n\n"+
		"A context (%[6]d bytes) is for one thread at a time; make one per thread. No function takes memory, writes a global or uses floating point. %[7]s\n\n%[9]s",
		p, comment(u.b.Manifest.Model.File), u.b.Digest.Short(), m, arg, u.l.context(), tables, u.numbers("numbers, "), u.aboutPackets())
}
