package npz

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"nepcoc/internal/testfiles"
	"nepcoc/ir"
)

// npy writes a version-1 file around any header text.
func npy(header string, data ...byte) []byte {
	b := append([]byte("\x93NUMPY\x01\x00"), 0, 0)
	binary.LittleEndian.PutUint16(b[8:], uint16(len(header)))
	return append(append(b, header...), data...)
}

func dict(descr, fortran, shape string) string {
	return fmt.Sprintf("{'descr': '%s', 'fortran_order': %s, 'shape': %s, }   \n", descr, fortran, shape)
}

func f32le(v ...float32) []byte {
	var b []byte
	for _, x := range v {
		b = binary.LittleEndian.AppendUint32(b, math.Float32bits(x))
	}
	return b
}

func archive(t testing.TB, method uint16, entries map[string][]byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	z := zip.NewWriter(&buf)
	for name, data := range entries {
		w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: method})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDecode(t *testing.T) {
	for _, c := range []struct {
		name string
		file []byte
		want *ir.Tensor
	}{
		{"float32", npy(dict("<f4", "False", "(2, 2)"), f32le(1, 2, 3, 4)...), ir.Float32s([]float32{1, 2, 3, 4}, 2, 2)},
		{"float16", npy(dict("<f2", "False", "(2,)"), 0, 0x3c, 0, 0xc0), ir.Float32s([]float32{1, -2}, 2)},
		{"fortran order", npy(dict("<f4", "True", "(2, 3)"), f32le(1, 4, 2, 5, 3, 6)...), ir.Float32s([]float32{1, 2, 3, 4, 5, 6}, 2, 3)},
		{"big endian", npy(dict(">f4", "False", "(1,)"), 0x3f, 0x80, 0, 0), ir.Float32s([]float32{1}, 1)},
		{"int64", npy(dict("<i8", "False", "(1,)"), 0xfe, 255, 255, 255, 255, 255, 255, 255), ir.Int64s([]int64{-2}, 1)},
		{"int16", npy(dict("<i2", "False", "(1,)"), 0xfe, 255), &ir.Tensor{Type: ir.Type{DType: ir.I16, Shape: []int{1}}, Data: []int16{-2}}},
		{"uint8 scalar", npy(dict("|u1", "False", "()"), 7), &ir.Tensor{Type: ir.Type{DType: ir.U8, Shape: []int{}}, Data: []uint8{7}}},
		{"bool", npy(dict("|b1", "False", "(2,)"), 1, 0), &ir.Tensor{Type: ir.Type{DType: ir.Bool, Shape: []int{2}}, Data: []bool{true, false}}},
		{"empty", npy(dict("<f4", "False", "(0, 3)")), ir.Float32s([]float32{}, 0, 3)},
		{"double quotes", npy("{\"descr\": \"|i1\", \"fortran_order\": False, \"shape\": (1,)}", 0xff), &ir.Tensor{Type: ir.Type{DType: ir.I8, Shape: []int{1}}, Data: []int8{-1}}},
	} {
		got, err := decode(c.file, false)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if d := cmp.Diff(c.want, got); d != "" {
			t.Errorf("%s:\n%s", c.name, d)
		}
	}
}

func TestDecodeErrors(t *testing.T) {
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"empty", "no .npy header", nil},
		{"cut header", "claims", npy("{")[:10]},
		{"version", "version 9", []byte("\x93NUMPY\x09\x00\x00\x00")},
		{"records", "records", npy("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }", f32le(1)...)},
		{"long double", "element type \"<f16\"", npy(dict("<f16", "False", "(1,)"), 0, 0)},
		{"objects", "element type", npy(dict("|O", "False", "(1,)"))},
		{"short data", "needs 8 bytes of data, has 4", npy(dict("<f4", "False", "(2,)"), f32le(1)...)},
		{"long data", "needs 4 bytes of data, has 8", npy(dict("<f4", "False", "(1,)"), f32le(1, 2)...)},
		{"huge", "more than", npy(dict("<f4", "False", "(4294967296, 4294967296)"))},
		{"too many digits", "too large", npy(dict("<f4", "False", "(99999999999999999999999,)"))},
		{"negative", "shape", npy(dict("<f4", "False", "(-1,)"))},
		{"missing key", "exactly", npy("{'descr': '<f4', 'fortran_order': False}")},
		{"extra key", "unknown key", npy("{'descr': '<f4', 'x': False}")},
		{"twice", "can't be read", npy("{'descr': '<f4', 'descr': '<f4'}")},
		{"unclosed", "can't be read", npy("{'descr': '<f4'")},
		{"bad bool", "boolean", npy(dict("|b1", "False", "(1,)"), 2)},
	} {
		if _, err := decode(c.file, false); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestArchive(t *testing.T) {
	one := npy(dict("<f4", "False", "(2, 2)"), f32le(1, 2, 3, 4)...)
	for _, method := range []uint16{zip.Store, zip.Deflate} {
		path := filepath.Join(t.TempDir(), "x.npz")
		if err := os.WriteFile(path, archive(t, method, map[string][]byte{"b.npy": one, "a.b.npy": one}), 0o644); err != nil {
			t.Fatal(err)
		}
		f, err := Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff([]string{"a.b", "b"}, f.Names()); d != "" {
			t.Error(d)
		}
		a, err := f.Array("a.b")
		if err != nil {
			t.Fatal(err)
		}
		row, err := Row(a, 1)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(ir.Float32s([]float32{3, 4}, 1, 2), row); d != "" {
			t.Error(d)
		}
		if _, err := Row(a, 2); err == nil {
			t.Error("row 2 of 2")
		}
		if _, err := f.Array("c"); err == nil || !strings.Contains(err.Error(), "a.b, b") {
			t.Errorf("missing array: %v", err)
		}
	}
	single, err := Parse("dir/x.npy", one)
	if err != nil || !single.Has("x") {
		t.Fatalf("single array: %v", err)
	}
	if _, err := single.Array("x"); err != nil {
		t.Error(err)
	}
}

func TestArchiveErrors(t *testing.T) {
	zeros := make([]byte, 200<<20)
	bomb := archive(t, zip.Deflate, map[string][]byte{"z.npy": zeros})
	for _, c := range []struct {
		name, want string
		file       []byte
	}{
		{"cut", "cut off or damaged", []byte("PK\x03\x04 and no more")},
		{"empty", "numpy.savez", nil},
		{"text", "numpy.savez", []byte("a,b\n1,2\n")},
		{"other entry", "no .npy array", archive(t, zip.Store, map[string][]byte{"readme.txt": []byte("x")})},
		{"bomb", "unfolds", bomb},
	} {
		if _, err := Parse("x.npz", c.file); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.want)
		}
	}
}

func TestSharedFiles(t *testing.T) {
	f, err := Open(testfiles.Path(t, "models", "nepco.test.npz"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range f.Names() {
		a, err := f.Array(name)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if a.Shape[0] != 748 {
			t.Errorf("%s is %v, want 748 samples", name, a.Type)
		}
	}
}

func FuzzParse(f *testing.F) {
	one := npy(dict("<f4", "True", "(2, 2)"), f32le(1, 2, 3, 4)...)
	f.Add(one)
	f.Add(npy(dict(">i2", "False", "(1,)"), 1, 2))
	f.Add(archive(f, zip.Deflate, map[string][]byte{"a.npy": one, "b.npy": one}))
	f.Add(archive(f, zip.Store, map[string][]byte{"a.npy": one}))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Parse("fuzz.npz", data)
		if err != nil {
			return
		}
		for _, name := range file.Names() {
			a, err := file.Array(name)
			if err != nil {
				continue
			}
			if err := a.Validate(); err != nil {
				t.Error(err)
			}
		}
	})
}
