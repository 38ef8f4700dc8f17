// Package npy writes the header of NumPy's .npy files; compiler/npz reads them.
package npy

import (
	"fmt"
	"io"
	"strings"
)

// WriteHeader begins an array in row-major order: of elements as NumPy's descr says ("<i4", "|u1", "<U5") and of any
// shape. The data follow. https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html, version 1.0.
func WriteHeader(w io.Writer, descr string, shape []int) error {
	dims := ""
	for _, d := range shape {
		dims += fmt.Sprintf("%d, ", d)
	}
	header := fmt.Sprintf("{'descr': '%s', 'fortran_order': False, 'shape': (%s), }", descr, strings.TrimSuffix(dims, " "))
	// The format wants magic, length and header to fill whole 64 bytes.
	header += strings.Repeat(" ", 63-(10+len(header))%64) + "\n"
	_, err := fmt.Fprintf(w, "\x93NUMPY\x01\x00%c%c%s", len(header)&255, len(header)>>8, header)
	return err
}
