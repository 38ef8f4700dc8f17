package bundle

import (
	"bytes"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strings"
)

// Bundle is the content of a .nepco file.
type Bundle struct {
	Manifest Manifest
	Program  *Program
	Golden   []Golden

	// Digest and Signature are set by Decode and ignored by Encode.
	Digest    Digest
	Signature *Signature
}

// Name is what events and metrics call the bundle: the manifest's name, or that of the
// model's file, where the manifest is older than names.
func (b *Bundle) Name() string {
	if b.Manifest.Name != "" {
		return b.Manifest.Name
	}
	return strings.TrimSuffix(b.Manifest.Model.File, ".onnx")
}

// Digest is the SHA-256 that stands in a bundle's header.
type Digest [sha256.Size]byte

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short is enough of the digest to tell bundles apart, "" for one that was not read from
// a file.
func (d Digest) Short() string {
	if d == (Digest{}) {
		return ""
	}
	return hex.EncodeToString(d[:6])
}

// Options say how a bundle is written, never what it means.
type Options struct {
	// Mappable stores the weights raw at a multiple of 64 KiB: a larger file
	// that needs no decompression.
	Mappable bool
	// Key signs the bundle, and what Statement says of it.
	Key       ed25519.PrivateKey
	Statement Statement
}

// The largest JSON section, and the largest number of JSON objects in one: an
// object of two bytes grows to a struct of some 200.
const (
	maxJSON    = 8 << 20
	maxObjects = 1 << 15
)

// Encode writes a bundle, in the newest version of the format whatever the manifest
// says. It refuses what Decode would refuse. The same bundle and options give the
// same bytes on every machine.
func Encode(b *Bundle, opts Options) ([]byte, error) {
	if b.Program == nil {
		return nil, fmt.Errorf("bundle: no program")
	}
	if err := b.validate(); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	m := b.Manifest
	m.Format = FormatVersion
	manifest, err := encodeJSON(&m)
	if err != nil {
		return nil, fmt.Errorf("bundle: manifest: %w", err)
	}
	program, err := encodeJSON(b.Program)
	if err != nil {
		return nil, fmt.Errorf("bundle: program: %w", err)
	}
	weights := storedZstd
	if opts.Mappable {
		weights = storedMapped
	}
	var sections []section
	for _, part := range []struct {
		kind sectionKind
		raw  []byte
		enc  encoding
	}{
		{manifestSection, manifest, storedZstd},
		{programSection, program, storedZstd},
		{weightsSection, joinTensors(b.Program.Tensors), weights},
		{goldenSection, encodeGolden(b.Golden), storedZstd},
	} {
		s, err := pack(part.kind, part.raw, part.enc)
		if err != nil {
			return nil, fmt.Errorf("bundle: section %s: %w", part.kind, err)
		}
		sections = append(sections, s)
	}
	return seal(FormatVersion, sections, opts.Key, opts.Statement)
}

// Decode reads a bundle and checks all of it. The tensors may share memory
// with data, which must not change afterwards.
func Decode(data []byte) (*Bundle, error) {
	b, err := decode(data, nil)
	if err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b, nil
}

// decode reads a bundle. accept, where there is one, is asked before anything of what the sections hold is decoded.
func decode(data []byte, accept Accept) (*Bundle, error) {
	c, err := parse(data)
	if err != nil {
		return nil, err
	}
	for k := manifestSection; k <= goldenSection; k++ {
		if c.find(k) == nil {
			return nil, fmt.Errorf("no section %s", k)
		}
	}
	b := &Bundle{Program: new(Program), Digest: c.digest}
	if b.Signature, err = parseSignature(c); err != nil {
		return nil, err
	}
	if accept != nil {
		if err := accept(b.Signature, b.Digest); err != nil {
			return nil, err
		}
	}
	form := formats[c.version]
	manifest, err := decodeJSON(c.find(manifestSection), form.manifest, &b.Manifest)
	if err != nil {
		return nil, err
	}
	if b.Manifest.Format != c.version {
		return nil, fmt.Errorf("manifest: format %d in a file of version %d", b.Manifest.Format, c.version)
	}
	if _, err := decodeJSON(c.find(programSection), form.program, b.Program); err != nil {
		return nil, err
	}
	form.upgrade(b, manifest)
	if err := splitTensors(b.Program, c.find(weightsSection)); err != nil {
		return nil, fmt.Errorf("section weights: %w", err)
	}
	golden, err := c.find(goldenSection).unpack()
	if err != nil {
		return nil, err
	}
	if b.Golden, err = decodeGolden(golden); err != nil {
		return nil, fmt.Errorf("section golden: %w", err)
	}
	if err := b.validate(); err != nil {
		return nil, err
	}
	return b, nil
}

// validate checks the parts by themselves and against each other.
func (b *Bundle) validate() error {
	if err := b.Program.Validate(); err != nil {
		return fmt.Errorf("program: %w", err)
	}
	if err := b.Manifest.validate(b.Program); err != nil {
		return fmt.Errorf("manifest: %w", err)
	}
	for i := range b.Golden {
		if err := b.Golden[i].validate(b.Program); err != nil {
			return fmt.Errorf("golden vector %d: %w", i, err)
		}
	}
	return nil
}

// encodeJSON is the canonical form: no HTML escapes, no newline at the end.
func encodeJSON(v any) ([]byte, error) {
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	raw := bytes.TrimSuffix(buf.Bytes(), []byte("\n"))
	if len(raw) > maxJSON || bytes.Count(raw, []byte("{")) > maxObjects {
		return nil, fmt.Errorf("%d bytes of JSON in %d objects are too many", len(raw), bytes.Count(raw, []byte("{")))
	}
	return raw, nil
}

// decodeJSON reads a section to v. It accepts the canonical form only, which is that
// of the structs that form makes; shape is the one that was read.
func decodeJSON(s *section, form func() any, v any) (shape any, err error) {
	if s.raw > maxJSON {
		return nil, fmt.Errorf("section %s: %d bytes of JSON, at most %d are read", s.kind, s.raw, maxJSON)
	}
	raw, err := s.unpack()
	if err != nil {
		return nil, err
	}
	if n := bytes.Count(raw, []byte("{")); n > maxObjects {
		return nil, fmt.Errorf("section %s: %d JSON objects, at most %d are read", s.kind, n, maxObjects)
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	shape = form()
	if err := d.Decode(shape); err != nil {
		return nil, fmt.Errorf("section %s: %w", s.kind, err)
	}
	again, err := encodeJSON(shape)
	if err != nil {
		return nil, fmt.Errorf("section %s: %w", s.kind, err)
	}
	if !bytes.Equal(raw, again) {
		return nil, fmt.Errorf("section %s: JSON is not in canonical form at byte %d", s.kind, firstDifference(raw, again))
	}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("section %s: %w", s.kind, err)
	}
	return shape, nil
}

func firstDifference(a, b []byte) int {
	n := min(len(a), len(b))
	for i := range n {
		if a[i] != b[i] {
			return i
		}
	}
	return n
}

// joinTensors lays the tensors' data out as the weights section.
func joinTensors(ts []Tensor) []byte {
	var size uint64
	for _, t := range ts {
		size = alignUp(size, alignment) + uint64(len(t.Data))
	}
	out := alignedBytes(int(size))
	at := uint64(0)
	for _, t := range ts {
		at = alignUp(at, alignment)
		at += uint64(copy(out[at:], t.Data))
	}
	return out
}

// splitTensors gives each tensor its data. Shapes are checked against the
// section's length before it is decoded.
func splitTensors(p *Program, s *section) error {
	var size uint64
	for i := range p.Tensors {
		n, err := p.Tensors[i].bytes()
		if err != nil {
			return fmt.Errorf("tensor %d (%q): %w", i, p.Tensors[i].Name, err)
		}
		size = alignUp(size, alignment) + n
		if size > s.raw {
			return fmt.Errorf("tensor %d (%q) ends at byte %d of %d", i, p.Tensors[i].Name, size, s.raw)
		}
	}
	if size != s.raw {
		return fmt.Errorf("%d bytes, the program's tensors have %d", s.raw, size)
	}
	raw, err := s.unpack()
	if err != nil {
		return err
	}
	at := uint64(0)
	for i := range p.Tensors {
		t := &p.Tensors[i]
		n, _ := t.bytes()
		start := alignUp(at, alignment)
		if !allZero(raw[at:start]) {
			return fmt.Errorf("bytes before tensor %d (%q) are not zero", i, t.Name)
		}
		at = start + n
		t.Data = raw[start:at:at]
	}
	return nil
}
