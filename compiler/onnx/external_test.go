package onnx

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"nepcoc/ir"
)

// externalModel multiplies its input by a weight of four floats that lies elsewhere.
func externalModel(place ...string) *testModel {
	w := tensorHead("w", 1, 4)
	for i := 0; i < len(place); i += 2 {
		var kv fields
		kv.str(1, place[i])
		kv.str(2, place[i+1])
		w.msg(13, kv)
	}
	w.num(14, 1)
	return newModel(17).input("x", 1, 1, 4).output("y", 1).init(w).node("Mul", in("x", "w"), in("y"))
}

// folder writes a model and the files beside it, and returns the model's path.
func folder(t *testing.T, m *testModel, files map[string][]byte) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "model")
	for name, data := range files {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	path := filepath.Join(dir, "model.onnx")
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(path, m.bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return path
}

func leFloats(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func TestExternalData(t *testing.T) {
	data := append(make([]byte, 64), leFloats(1, 2, 3, 4)...)
	for _, c := range []struct {
		name  string
		place []string
		file  string
		data  []byte
	}{
		{"whole file", []string{"location", "w.bin"}, "w.bin", leFloats(1, 2, 3, 4)},
		{"offset and length", []string{"location", "model.onnx.data", "offset", "64", "length", "16"}, "model.onnx.data", data},
		{"offset alone", []string{"location", "w.bin", "offset", "64"}, "w.bin", append(data, 1, 2, 3)},
		{"folder inside", []string{"location", "parts/w.bin", "checksum", "0123"}, "parts/w.bin", leFloats(1, 2, 3, 4)},
		{"dots that stay inside", []string{"location", "parts/../w.bin"}, "w.bin", leFloats(1, 2, 3, 4)},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := folder(t, externalModel(c.place...), map[string][]byte{c.file: c.data, "parts/other": nil})
			g, info, err := ImportFile(path, Options{})
			if err != nil {
				t.Fatal(err)
			}
			y := runGraph(t, g, map[string]*ir.Tensor{"x": ir.Float32s([]float32{1, 1, 1, 1}, 1, 4)})["y"]
			if got := fmt.Sprint(y.Data); got != "[1 2 3 4]" {
				t.Errorf("weights are %s", got)
			}
			if len(info.Data) != 1 || info.Data[0] != c.place[1] {
				t.Errorf("read %q", info.Data)
			}
		})
	}
}

// What a model names must not lead out of its folder, nor to what can't be read at leisure.
func TestExternalDataOutside(t *testing.T) {
	inside := func(string) error { return nil }
	for _, c := range []struct {
		name  string
		place []string
		setup func(dir string) error
		want  string
	}{
		{"above", []string{"location", "../w.bin"}, inside, "outside of the model's folder"},
		{"through a folder", []string{"location", "sub/../../w.bin"}, func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o755) }, "outside of the model's folder"},
		{"absolute", []string{"location", "/etc/passwd"}, inside, "outside of the model's folder"},
		{"a link out", []string{"location", "link"}, func(dir string) error { return os.Symlink("../w.bin", filepath.Join(dir, "link")) }, "outside of the model's folder"},
		{"an absolute link", []string{"location", "link"}, func(dir string) error {
			return os.Symlink(filepath.Join(dir, "..", "w.bin"), filepath.Join(dir, "link"))
		}, "outside of the model's folder"},
		{"a folder that is a link out", []string{"location", "sub/w.bin"}, func(dir string) error { return os.Symlink("..", filepath.Join(dir, "sub")) }, "outside of the model's folder"},
		{"absent", []string{"location", "no.bin"}, inside, "is not there"},
		{"no name", nil, inside, "doesn't say which"},
		{"a folder", []string{"location", "sub"}, func(dir string) error { return os.Mkdir(filepath.Join(dir, "sub"), 0o755) }, "no regular file"},
		{"a pipe", []string{"location", "pipe"}, func(dir string) error { return syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o644) }, "no regular file"},
		{"too short", []string{"location", "in.bin", "offset", "4"}, inside, "16 bytes from 4 on are asked for, the file has 16"},
		{"beyond the end", []string{"location", "in.bin", "offset", "9223372036854775807"}, inside, "the file has 16"},
		{"negative offset", []string{"location", "in.bin", "offset", "-4"}, inside, `offset "-4"`},
		{"offset that is no number", []string{"location", "in.bin", "offset", "0x0"}, inside, `offset "0x0"`},
		{"another length", []string{"location", "in.bin", "length", "12"}, inside, "needs 16 bytes"},
	} {
		t.Run(c.name, func(t *testing.T) {
			path := folder(t, externalModel(c.place...), map[string][]byte{"../w.bin": leFloats(1, 2, 3, 4), "in.bin": leFloats(1, 2, 3, 4)})
			if err := c.setup(filepath.Dir(path)); err != nil {
				t.Fatal(err)
			}
			_, _, err := ImportFile(path, Options{})
			var r *Refusal
			if !errors.As(err, &r) || len(r.Problems) != 1 || r.Problems[0].Kind != ExternalData || !strings.Contains(err.Error(), c.want) || r.Problems[0].WayOut == "" {
				t.Errorf("want one problem that says %q, got %v", c.want, err)
			}
		})
	}
}

// A link inside of the folder is followed; the digest is that of the weights, too.
func TestExternalDataDigest(t *testing.T) {
	digest := func(last float32) string {
		path := folder(t, externalModel("location", "link"), map[string][]byte{"w.bin": leFloats(1, 2, 3, last)})
		if err := os.Symlink("w.bin", filepath.Join(filepath.Dir(path), "link")); err != nil {
			t.Fatal(err)
		}
		_, info, err := ImportFile(path, Options{})
		if err != nil {
			t.Fatal(err)
		}
		return info.SHA256
	}
	if a, b, again := digest(4), digest(5), digest(4); a == b || a != again {
		t.Errorf("digests %.8s and %.8s of other weights, %.8s of the same", a, b, again)
	}
}

// Shapes that ask for gigabytes cost nothing where the file is small.
func TestExternalDataBounded(t *testing.T) {
	m := newModel(17).input("x", 1, 1, 4).output("y", 1)
	for i := range 64 {
		w := tensorHead(fmt.Sprint("w", i), 1, 1<<28)
		var kv fields
		kv.str(1, "location")
		kv.str(2, "w.bin")
		w.msg(13, kv)
		w.num(14, 1)
		m.init(w)
	}
	path := folder(t, m.node("Relu", in("x"), in("y")), map[string][]byte{"w.bin": make([]byte, 16)})
	n := testing.AllocsPerRun(1, func() {
		if _, _, err := ImportFile(path, Options{}); err == nil {
			t.Error("taken")
		}
	})
	t.Logf("%g allocations", n)
	// All of one file, each short enough, together too much.
	f, err := os.OpenFile(filepath.Join(filepath.Dir(path), "w.bin"), os.O_WRONLY, 0)
	if err == nil {
		err = errors.Join(f.Truncate(1<<29), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	left := int64(1 << 20)
	tensor := tensorProto{name: "w", dims: []int64{1 << 19}, dtype: 1, external: true, place: externalPlace{location: "w.bin"}}
	if reason, _ := tensor.load(&dataFolder{name: filepath.Dir(path)}, &left); !strings.Contains(reason, "all weights together") {
		t.Errorf("2 MiB where 1 is left: %q", reason)
	}
}

// Behind weights that can't be read, the rest of the model is looked at.
func TestExternalDataBehind(t *testing.T) {
	m := externalModel("location", "no.bin")
	m.node("CumSum", in("y"), in("z"))
	_, _, err := ImportFile(folder(t, m, nil), Options{})
	var r *Refusal
	if !errors.As(err, &r) || len(r.Problems) != 2 || r.Problems[1].Op != "CumSum" || r.Partial == nil {
		t.Errorf("want two problems and a graph, got %v", err)
	}
}

func TestHalves(t *testing.T) {
	for _, c := range []struct {
		half uint16
		want float64
		as   func(uint16) float32
	}{
		{0x3c00, 1, ir.Float16}, {0xc000, -2, ir.Float16}, {0x7bff, 65504, ir.Float16}, {0x0001, math.Pow(2, -24), ir.Float16}, {0x83ff, -1023 * math.Pow(2, -24), ir.Float16},
		{0x0400, math.Pow(2, -14), ir.Float16}, {0x3555, 0.333251953125, ir.Float16}, {0x7c00, math.Inf(1), ir.Float16}, {0xfc00, math.Inf(-1), ir.Float16}, {0x8000, 0, ir.Float16},
		{0x3f80, 1, bfloat16}, {0xc049, -3.140625, bfloat16}, {0x0001, math.Pow(2, -133), bfloat16},
	} {
		if got := float64(c.as(c.half)); got != c.want {
			t.Errorf("%#x is %g, want %g", c.half, got, c.want)
		}
	}
	if !math.IsNaN(float64(ir.Float16(0x7e00))) || !math.Signbit(float64(ir.Float16(0x8000))) {
		t.Error("NaN or -0 is lost")
	}
	raw, typed := tensorHead("a", 10, 2), tensorHead("b", 16, 2)
	raw.msg(9, []byte{0, 0x3c, 0, 0xc0})
	typed.num(5, 0x3f80)
	typed.num(5, 0x4040)
	m := newModel(17).input("x", 10, 1, 2).output("y", 10).init(raw).init(typed)
	m.node("Mul", in("x", "a"), in("p")).node("Cast", in("b"), in("c"), aInt("to", 10)).node("Mul", in("p", "c"), in("y"))
	g, info, err := Import("test.onnx", m.bytes())
	if err != nil {
		t.Fatal(err)
	}
	y := runGraph(t, g, map[string]*ir.Tensor{"x": ir.Float32s([]float32{1, 1}, 1, 2)})["y"]
	if got := fmt.Sprint(y.Data); got != "[1 -6]" {
		t.Errorf("computes %s", got)
	}
	if got := fmt.Sprint(info.Notes); got != "[float16, bfloat16 is read as float32]" || info.Inputs[0].DType != "float16" {
		t.Errorf("says %s, input %+v", got, info.Inputs[0])
	}
}
