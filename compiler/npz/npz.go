// Package npz reads NumPy's .npy and .npz files into IR tensors.
//
// They carry calibration and test inputs: named arrays whose first axis is the
// sample. The files are not trusted: an array is allocated only after its
// header, its stored size and the archive's size have been checked against
// each other. The package writes nothing.
//
// It is our own since the library that is kept up, codeberg.org/sbinet/npyio (v0.14.0), trusts
// what it reads: 77 bytes that claim 2^30 elements cost 4 GiB, a header may ask for 2 GiB, one
// without its newline or with its keys in another order is a panic, and what an
// archive unfolds to has no bound. Real files take as long with either.
package npz

import (
	"archive/zip"
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"sort"
	"strings"

	"nepcoc/internal/filekind"
	"nepcoc/internal/files"
	"nepcoc/ir"
)

// Limits. An .npz is usually deflated, and zeros deflate a thousandfold, so a
// file may unfold to a multiple of its size; the floor lets small files of
// mostly padding through.
const (
	maxFile     = 1<<31 - 1
	maxUnfold   = 64       // times the file's size,
	unfoldFloor = 64 << 20 // plus this, over all arrays of a file
	maxEntries  = 4096
)

var npyMagic = []byte("\x93NUMPY")

// File is an opened archive. Arrays are decoded when asked for.
type File struct {
	path    string
	data    []byte
	names   []string
	entries map[string]*zip.File // none: a plain .npy
}

// Open reads a .npz archive, or a single .npy as an archive of one array named
// after the file.
func Open(path string) (*File, error) {
	data, err := files.All(path, maxFile)
	if errors.Is(err, files.ErrTooLarge) {
		return nil, fmt.Errorf("npz %w: store fewer samples", err)
	}
	if err != nil {
		return nil, err
	}
	return Parse(files.Show(path), data)
}

// Parse is Open for bytes in memory; the path is for messages and the name of
// a single array. The File refers to data.
func Parse(path string, data []byte) (*File, error) {
	f := &File{path: path, data: data}
	if bytes.HasPrefix(data, npyMagic) {
		name := strings.TrimSuffix(filepath.Base(path), ".npy")
		f.names = []string{name}
		return f, nil
	}
	head := data[:min(len(data), filekind.Head)]
	z, err := zip.NewReader(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		if Is(head) {
			return nil, fmt.Errorf("npz %s: an .npz file that is cut off or damaged (%v): write it anew", path, err)
		}
		return nil, fmt.Errorf("npz %s: not an .npz or .npy file (%v)%s; write it with numpy.savez", path, err, filekind.Hint(path, head))
	}
	if len(z.File) > maxEntries {
		return nil, fmt.Errorf("npz %s: %d arrays; at most %d are read", path, len(z.File), maxEntries)
	}
	f.entries = make(map[string]*zip.File, len(z.File))
	var total uint64
	for _, e := range z.File {
		name, ok := strings.CutSuffix(e.Name, ".npy")
		if !ok {
			return nil, fmt.Errorf("npz %s: entry %q is no .npy array%s; write the file with numpy.savez", path, e.Name, filekind.Hint(path, head, filekind.Arrays))
		}
		if f.entries[name] != nil {
			return nil, fmt.Errorf("npz %s: array %q is in it twice", path, name)
		}
		limit := uint64(len(data))*maxUnfold + unfoldFloor
		if total += e.UncompressedSize64; e.UncompressedSize64 > limit || total > limit {
			return nil, fmt.Errorf("npz %s: array %q: unfolds to more than %d times the file; store it uncompressed (numpy.savez)", path, name, maxUnfold)
		}
		f.entries[name] = e
		f.names = append(f.names, name)
	}
	sort.Strings(f.names)
	return f, nil
}

// Is says whether a file whose first bytes are head can be one of these: a zip
// archive, or an .npy.
func Is(head []byte) bool {
	return bytes.HasPrefix(head, []byte("PK\x03\x04")) || bytes.HasPrefix(head, npyMagic)
}

// SHA256 is the digest of the file.
func (f *File) SHA256() [sha256.Size]byte { return sha256.Sum256(f.data) }

// Names lists the arrays, sorted.
func (f *File) Names() []string { return f.names }

// Has says whether there is an array of that name.
func (f *File) Has(name string) bool {
	for _, n := range f.names {
		if n == name {
			return true
		}
	}
	return false
}

// Array decodes one array to row-major order.
func (f *File) Array(name string) (*ir.Tensor, error) { return f.array(name, false) }

// Strings decodes an array of text (NumPy's "U") with one axis.
func (f *File) Strings(name string) ([]string, error) {
	t, err := f.array(name, true)
	if err != nil {
		return nil, err
	}
	if len(t.Shape) != 2 {
		return nil, fmt.Errorf("npz %s: array %q: want one axis, not %d", f.path, name, len(t.Shape)-1)
	}
	width, chars := t.Shape[1], t.Data.([]int32)
	list := make([]string, t.Shape[0])
	for i := range list {
		var b []rune
		for _, c := range chars[i*width : (i+1)*width] {
			if c != 0 {
				b = append(b, c)
			}
		}
		list[i] = string(b)
	}
	return list, nil
}

func (f *File) array(name string, text bool) (*ir.Tensor, error) {
	if !f.Has(name) {
		return nil, fmt.Errorf("npz %s: no array %q (there are: %s)", f.path, name, strings.Join(f.names, ", "))
	}
	data := f.data
	if f.entries != nil {
		var err error
		if data, err = unzip(f.entries[name]); err != nil {
			return nil, fmt.Errorf("npz %s: array %q: %w", f.path, name, err)
		}
	}
	t, err := decode(data, text)
	if err != nil {
		return nil, fmt.Errorf("npz %s: array %q: %w", f.path, name, err)
	}
	return t, nil
}

// unzip grows with what really comes out: the size an entry claims is only
// an upper bound.
func unzip(e *zip.File) ([]byte, error) {
	r, err := e.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	claim := int64(e.UncompressedSize64)
	var b bytes.Buffer
	b.Grow(int(min(claim, int64(e.CompressedSize64)*2+512)))
	n, err := io.Copy(&b, io.LimitReader(r, claim+1))
	if err != nil {
		return nil, err
	}
	if n != claim {
		return nil, errors.New("the archive lies about its size")
	}
	return b.Bytes(), nil
}

// Row is sample i of a tensor whose first axis is the sample, with that axis
// kept at 1: what a model imported with batch 1 takes.
func Row(t *ir.Tensor, i int) (*ir.Tensor, error) {
	if len(t.Shape) == 0 || i < 0 || i >= t.Shape[0] {
		return nil, fmt.Errorf("npz: no sample %d in an array of type %v", i, t.Type)
	}
	shape := append([]int{1}, t.Shape[1:]...)
	n := ir.NumElements(shape)
	out := &ir.Tensor{Type: ir.Type{DType: t.DType, Shape: shape}}
	switch d := t.Data.(type) {
	case []float32:
		out.Data = d[i*n : (i+1)*n]
	case []float64:
		out.Data = d[i*n : (i+1)*n]
	case []int64:
		out.Data = d[i*n : (i+1)*n]
	case []int32:
		out.Data = d[i*n : (i+1)*n]
	case []int16:
		out.Data = d[i*n : (i+1)*n]
	case []int8:
		out.Data = d[i*n : (i+1)*n]
	case []uint8:
		out.Data = d[i*n : (i+1)*n]
	case []uint16:
		out.Data = d[i*n : (i+1)*n]
	case []bool:
		out.Data = d[i*n : (i+1)*n]
	default:
		return nil, fmt.Errorf("npz: array holds %T", t.Data)
	}
	return out, nil
}
