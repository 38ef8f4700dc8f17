package c_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	emit "nepcoc/backends/c"
	"nepcoc/internal/testfiles"
)

// What docs/c.md shows compiles, runs, and names what is there.
func TestDocument(t *testing.T) {
	for _, tool := range []string{"cc", "make", "pkg-config"} {
		testfiles.Tool(t, tool)
	}
	doc, err := os.ReadFile("../../docs/c.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(doc), "```c\n")
	program, _, found := strings.Cut(rest, "```")
	if !found {
		t.Fatal("no program in docs/c.md")
	}
	b := stored(t, "demo")
	files, err := emit.Emit(b, emit.Options{Name: "model"})
	if err != nil {
		t.Fatal(err)
	}
	dir, header, readme := t.TempDir(), "", ""
	for _, f := range files {
		if f.Name == "README.md" {
			readme = string(f.Data)
		}
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, ".h") {
			header = string(f.Data)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "program.c"), []byte(program), 0o644); err != nil {
		t.Fatal(err)
	}
	out, _ := output(t, dir, "sh", "-c", "make -s CFLAGS=-O0 && cc -Wall -Wextra -Werror program.c $(PKG_CONFIG_PATH=$PWD pkg-config --cflags --libs nepco_model) && ./a.out")
	if !strings.HasPrefix(string(out), "logits: ") || !strings.Contains(string(out), ", score 0.") {
		t.Errorf("the document's program says %q", out)
	}

	// And so does what the library's README shows, whose parts are of functions.
	parts := regexp.MustCompile("(?s)```c\n(.*?)```").FindAllStringSubmatch(readme, -1)
	if len(parts) != 3 {
		t.Fatalf("%d programs in the README", len(parts))
	}
	function, statements, _ := strings.Cut(parts[1][1], "\n\n")
	run := strings.TrimPrefix(parts[0][1], "#include \"nepco_model.h\"\n")
	text := "#include <stdio.h>\n#include <stdlib.h>\n#include \"nepco_model.h\"\n" + function + "\nvoid one(const int32_t *tokens, int n);\nvoid one(const int32_t *tokens, int n)\n{\n" + run + "(void)error;\n}\n" +
		"void two(void *ctx, const uint8_t *frame, uint32_t captured, uint32_t wire, uint64_t now);\nvoid two(void *ctx, const uint8_t *frame, uint32_t captured, uint32_t wire, uint64_t now)\n{\n" + statements + "}\n" +
		"void three(void *ctx, nepco_model_flow *f, const uint8_t *ip, uint32_t captured, uint32_t wire, int direction, int first, uint64_t now, void (*verdict)(nepco_model_flow *), void (*drop)(nepco_model_flow *));\n" +
		"void three(void *ctx, nepco_model_flow *f, const uint8_t *ip, uint32_t captured, uint32_t wire, int direction, int first, uint64_t now, void (*verdict)(nepco_model_flow *), void (*drop)(nepco_model_flow *))\n{\nnepco_model_result r;\n" + parts[2][1] + "}\n"
	if err := os.WriteFile(filepath.Join(dir, "readme.c"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, dir, "cc", "-std=c11", "-Wall", "-Wextra", "-Werror", "-c", "readme.c")

	// A packet that begins no flow, here a later fragment, leaves none; one that begins one does.
	const first = `
static int dropped;
static void drop(nepco_model_flow *f) { (void)f; dropped++; }
int main(void)
{
	uint8_t packet[28] = {0x45, 0, 0, 28, 0, 1, 0, 3, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0x90, 1, 0, 80, 0, 8};
	static nepco_model_flow f;
	nepco_model_flow_init(&f);
	three(NULL, &f, packet, 28, 28, 0, 1, 1, drop, drop);
	if (dropped != 1 || nepco_model_flow_deadline(&f) != UINT64_MAX) return 1;
	packet[7] = 0;
	three(NULL, &f, packet, 28, 28, 1, 1, 2, drop, drop);
	return dropped != 1 || nepco_model_flow_deadline(&f) == UINT64_MAX;
}
`
	if err := os.WriteFile(filepath.Join(dir, "first.c"), []byte(text+first), 0o644); err != nil {
		t.Fatal(err)
	}
	output(t, dir, "sh", "-c", "cc -std=c11 -o first first.c libnepco_model.a && ./first")
	for _, name := range regexp.MustCompile("`(_[a-z_]+)`|\\b(nepco_model_[a-z_]+)\\b|\\b(NEPCO_MODEL_[A-Z_]+)\\b").FindAllStringSubmatch(string(doc), -1) {
		symbol := name[2] + name[3]
		if name[1] != "" {
			symbol = "nepco_model" + name[1]
		}
		switch symbol {
		case "NEPCO_MODEL_E", "nepco_model_dep": // E..., Meson's
		case "nepco_model_flow_numbers", "nepco_model_flow_secret", "nepco_model_flow_mac", "NEPCO_MODEL_FLOW_MAC": // of other contracts
		default:
			if !strings.Contains(header, strings.TrimSuffix(symbol, "_")) {
				t.Errorf("docs/c.md names %s, which the header has not", symbol)
			}
		}
	}
}
