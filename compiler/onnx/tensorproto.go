package onnx

import (
	"errors"
	"fmt"
	"math/bits"
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// tensorProto keeps payloads as they lie in the file: raw, or the packed
// little-endian (floats) or varint (ints) bytes of a typed field.
type tensorProto struct {
	name      string
	dims      []int64
	dtype     int32
	raw       []byte
	hasRaw    bool
	floats    []byte // fixed32
	doubles   []byte // fixed64
	int32s    []byte // varints
	int64s    []byte // varints
	uint64s   []byte // varints
	strings   int
	stores    []store // fields with values
	segmented bool
	external  bool
	place     externalPlace
	loaded    bool // from there
}

func (r *reader) tensor(m *message) (*tensorProto, error) {
	t := new(tensorProto)
	var dims []byte
	err := m.each(func(f *field) error {
		t.holds(f)
		switch f.tag {
		case 1:
			return f.packed(&dims, protowire.VarintType)
		case 2:
			return f.varint32(&t.dtype)
		case 3:
			t.segmented = true
			return f.want(protowire.BytesType)
		case 4:
			return f.packed(&t.floats, protowire.Fixed32Type)
		case 5:
			return f.packed(&t.int32s, protowire.VarintType)
		case 6:
			t.strings++
			return f.want(protowire.BytesType)
		case 7:
			return f.packed(&t.int64s, protowire.VarintType)
		case 8:
			return f.string(&t.name)
		case 9:
			t.hasRaw = true
			return f.bytes(&t.raw)
		case 10:
			return f.packed(&t.doubles, protowire.Fixed64Type)
		case 11:
			return f.packed(&t.uint64s, protowire.VarintType)
		case 12, 16: // doc_string, metadata_props
			return f.want(protowire.BytesType)
		case 13:
			sub, err := f.message("external_data", -1)
			if err != nil {
				return err
			}
			var kv [2]string
			err = readPair(sub, &kv)
			t.place.set(kv[0], kv[1])
			return err
		case 14:
			var loc int64
			err := f.varint(&loc)
			if loc != 0 && loc != 1 {
				return f.errorf("data location %d", loc)
			}
			t.external = loc == 1
			return err
		}
		return f.unknown()
	})
	if err != nil {
		return nil, err
	}
	if countVarints(dims) > maxRank {
		return nil, tooMuch(m.errorf(0, "tensor %q has more than %d dimensions", t.name, maxRank))
	}
	if t.dims, err = varints(dims); err != nil {
		return nil, m.errorf(0, "tensor %q: dims: %v", t.name, err)
	}
	if err := t.check(); errors.Is(err, errLimit) {
		return nil, tooMuch(m.errorf(0, "tensor %q: %v", t.name, err))
	} else if err != nil {
		return nil, m.errorf(0, "tensor %q: %v", t.name, err)
	}
	return t, nil
}

// payloadFields are the tags of a TensorProto under which values lie.
var payloadFields = map[protowire.Number]store{4: inFloats, 5: inInt32s, 6: inStrings, 7: inInt64s, 9: inRaw, 10: inDoubles, 11: inUint64s, 13: inFile}

// holds notes that a field has values in it. A list may come in several pieces,
// and an empty one is none.
func (t *tensorProto) holds(f *field) {
	s, ok := payloadFields[f.tag]
	if !ok || f.typ == protowire.BytesType && len(f.data) == 0 && s != inStrings || s != inRaw && slices.Contains(t.stores, s) {
		return
	}
	t.stores = append(t.stores, s)
}

// errLimit marks what is not damaged but too much.
var errLimit = errors.New("beyond the limits of this compiler")

// elements multiplies dims; it fails where one is negative or the product is
// more than any tensor may have.
func elements(dims []int64) (int, error) {
	n := uint64(1)
	empty := false
	for _, d := range dims {
		if d < 0 {
			return 0, fmt.Errorf("dims %v: a negative dimension", dims)
		}
		if d == 0 {
			empty = true
			continue
		}
		hi, lo := bits.Mul64(n, uint64(d))
		if hi != 0 || lo > maxElements {
			return 0, fmt.Errorf("dims %v ask for more than %d elements: %w", dims, maxElements, errLimit)
		}
		n = lo
	}
	if empty {
		return 0, nil
	}
	return int(n), nil
}

// check compares what the dims promise with the payload that is there.
func (t *tensorProto) check() error {
	n, err := elements(t.dims)
	if err != nil {
		return err
	}
	d := lookupDType(t.dtype)
	switch {
	case d == nil:
		return fmt.Errorf("element type %d, which ONNX does not define", t.dtype)
	case len(t.stores) > 1:
		return fmt.Errorf("has values in %s and %s: which of them are meant, nobody can say", storeNames[t.stores[0]], storeNames[t.stores[1]])
	case t.external:
		return nil
	case t.segmented:
		return fmt.Errorf("is stored in segments")
	case len(t.stores) == 1 && t.stores[0] != inRaw && t.stores[0] != d.store:
		return fmt.Errorf("has values in %s, which %s has none of", storeNames[t.stores[0]], d.name)
	case d.bits == 0: // string, complex: refused by name where they are used
		return nil
	case t.hasRaw:
		if want := (n*d.bits + 7) / 8; len(t.raw) != want {
			return fmt.Errorf("raw_data has %d bytes, dims %v of %s need %d", len(t.raw), t.dims, d.name, want)
		}
		return nil
	}
	have := 0
	switch d.store {
	case inFloats:
		have = len(t.floats) / 4
	case inDoubles:
		have = len(t.doubles) / 8
	case inInt32s:
		have = countVarints(t.int32s)
	case inInt64s:
		have = countVarints(t.int64s)
	case inUint64s:
		have = countVarints(t.uint64s)
	}
	if want := (n*d.bits + d.unit - 1) / d.unit; have != want {
		return fmt.Errorf("has %d values, dims %v of %s need %d", have, t.dims, d.name, want)
	}
	return nil
}
