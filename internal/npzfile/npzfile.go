// Package npzfile writes NumPy's .npz files, so that tests need no Python.
// compiler/npz reads them.
package npzfile

import (
	"archive/zip"
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"os"
	"slices"
	"testing"

	"nepcoc/internal/npy"
)

// Array is one array. Data is a slice of the element type.
type Array struct {
	Shape []int
	Data  any
}

// Write writes arrays as numpy.savez does, in the order of their names.
func Write(t testing.TB, path string, arrays map[string]Array) {
	t.Helper()
	var file bytes.Buffer
	z := zip.NewWriter(&file)
	for _, name := range slices.Sorted(maps.Keys(arrays)) {
		a := arrays[name]
		descr, ok := map[string]string{"[]int64": "<i8", "[]int32": "<i4", "[]uint8": "|u1", "[]bool": "|b1", "[]float32": "<f4", "[]float64": "<f8"}[fmt.Sprintf("%T", a.Data)]
		if !ok {
			t.Fatalf("BUG: array of %T", a.Data)
		}
		w, err := z.Create(name + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		if err := npy.WriteHeader(w, descr, a.Shape); err != nil {
			t.Fatal(err)
		}
		if err := binary.Write(w, binary.LittleEndian, a.Data); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, file.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
}
