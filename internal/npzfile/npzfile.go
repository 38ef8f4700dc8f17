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
	"strings"
	"testing"
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
		dims := ""
		for _, d := range a.Shape {
			dims += fmt.Sprintf("%d, ", d)
		}
		header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, strings.TrimSuffix(dims, " "))
		header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
		w, err := z.Create(name + ".npy")
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s", len(header)&255, len(header)>>8, header)
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
