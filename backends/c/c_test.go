package c_test

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"nepcoc/backends/c"
	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/refexec"
)

// withGolden is a bundle of a program whose golden vectors, which the emitted self-test holds the code to, are
// the reference executor's.
func withGolden(t *testing.T, p *bundle.Program, vectors int) *bundle.Bundle {
	t.Helper()
	x, err := refexec.New(p)
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

// build compiles the emitted self-test and gives the command's output.
func build(t *testing.T, b *bundle.Bundle, o c.Options, cc string, flags ...string) (dir, exe string) {
	t.Helper()
	dir = t.TempDir()
	files, err := c.Emit(b, o)
	if err != nil {
		t.Fatal(err)
	}
	source := ""
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(f.Name, ".c") && f.Name != "selftest.c" {
			source = f.Name
		}
	}
	args := append([]string{"-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-o", "selftest", "selftest.c", source}, flags...)
	cmd := exec.Command(cc, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v\n%.4000s", cc, args, err, out)
	}
	return dir, "./selftest"
}

func selftest(t *testing.T, dir string, command ...string) {
	t.Helper()
	cmd := exec.Command(command[0], command[1:]...)
	cmd.Dir = dir
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v: %v\n%.4000s", command, err, out.String())
	}
}

func TestRandomPrograms(t *testing.T) {
	if _, err := exec.LookPath("gcc"); err != nil {
		t.Skip("no gcc")
	}
	n := 40
	if testing.Short() {
		n = 8
	}
	for seed := range uint64(n) {
		p := randprog.New(seed)
		if seed%3 == 2 {
			p = randprog.NewPublished(seed)
		}
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			dir, exe := build(t, withGolden(t, p, 12), c.Options{MaxTable: 2000}, "gcc", "-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")
			selftest(t, dir, exe)
		})
	}
}
