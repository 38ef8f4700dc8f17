package onnx

import (
	"fmt"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// The reader in wire.go, messages.go and tensorproto.go exists beside onnx-go because onnx-go neither checks
// what it reads (it panics on bad shapes and allocates what a file claims) nor
// keeps all of it: opset versions, symbolic dimensions, int8 and uint8 data,
// external data flags are dropped. Field numbers are those of onnx.proto.
//
// Payloads are not copied: raw and packed bytes alias the file.

// wireError says where in the file the bytes stop making sense.
type wireError struct {
	place  string
	offset int
	reason string
	limit  bool // nothing is damaged: it is too much
}

func (e *wireError) Error() string {
	return fmt.Sprintf("%s (byte %d): %s", e.place, e.offset, e.reason)
}

// tooMuch marks an error as one of a limit.
func tooMuch(err error) error {
	if w, ok := err.(*wireError); ok {
		w.limit = true
	}
	return err
}

// message is one length-delimited message and the way to it, kept as a chain
// so that the path is only spelled out when something is wrong.
type message struct {
	up    *message
	what  string
	index int // -1: not repeated
	data  []byte
	start int // offset of data in the file
}

func (m *message) path() string {
	p := m.what
	if m.index >= 0 {
		p = fmt.Sprintf("%s[%d]", m.what, m.index)
	}
	if m.up == nil {
		return p
	}
	return m.up.path() + "." + p
}

func (m *message) errorf(off int, format string, args ...any) error {
	return &wireError{place: m.path(), offset: m.start + off, reason: fmt.Sprintf(format, args...)}
}

// field is one decoded field. For the varint and fixed types num holds the
// bits, for length-delimited ones data.
type field struct {
	m     *message
	tag   protowire.Number
	typ   protowire.Type
	data  []byte
	num   uint64
	start int // of the value, relative to m
}

func (f *field) errorf(format string, args ...any) error {
	return f.m.errorf(f.start, "field %d: "+format, append([]any{f.tag}, args...)...)
}

func (f *field) want(t protowire.Type) error {
	if f.typ != t {
		return f.errorf("wire type %d where %d belongs", f.typ, t)
	}
	return nil
}

func (f *field) varint(dst *int64) error {
	*dst = int64(f.num)
	return f.want(protowire.VarintType)
}

func (f *field) varint32(dst *int32) error {
	if int64(f.num) != int64(int32(f.num)) {
		return f.errorf("%d is no 32-bit number", int64(f.num))
	}
	*dst = int32(f.num)
	return f.want(protowire.VarintType)
}

func (f *field) string(dst *string) error {
	if err := f.want(protowire.BytesType); err != nil {
		return err
	}
	if !utf8.Valid(f.data) {
		return f.errorf("text is not UTF-8: %.40q", f.data)
	}
	*dst = string(f.data)
	return nil
}

func (f *field) bytes(dst *[]byte) error {
	*dst = f.data
	return f.want(protowire.BytesType)
}

func (f *field) message(what string, index int) (*message, error) {
	return &message{up: f.m, what: what, index: index, data: f.data, start: f.m.start + f.start}, f.want(protowire.BytesType)
}

func (f *field) unknown() error {
	return f.errorf("unknown field: the file is damaged, or newer than this compiler")
}

// packed appends a packed run, or a single unpacked element, to dst. A run
// that is alone in its tensor, the usual case, stays an alias of the file.
func (f *field) packed(dst *[]byte, elem protowire.Type) error {
	if f.typ == protowire.BytesType {
		switch elem {
		case protowire.Fixed32Type:
			if len(f.data)%4 != 0 {
				return f.errorf("%d bytes of packed 4-byte numbers", len(f.data))
			}
		case protowire.Fixed64Type:
			if len(f.data)%8 != 0 {
				return f.errorf("%d bytes of packed 8-byte numbers", len(f.data))
			}
		}
		if *dst == nil {
			*dst = f.data[:len(f.data):len(f.data)]
		} else {
			*dst = append(*dst, f.data...)
		}
		return nil
	}
	if err := f.want(elem); err != nil {
		return err
	}
	switch elem {
	case protowire.VarintType:
		*dst = protowire.AppendVarint(*dst, f.num)
	case protowire.Fixed32Type:
		*dst = protowire.AppendFixed32(*dst, uint32(f.num))
	case protowire.Fixed64Type:
		*dst = protowire.AppendFixed64(*dst, f.num)
	}
	return nil
}

// each calls fn for every field of m, in order.
func (m *message) each(fn func(*field) error) error {
	for pos := 0; pos < len(m.data); {
		tag, typ, n := protowire.ConsumeTag(m.data[pos:])
		if n < 0 {
			return m.errorf(pos, "no protobuf field begins here: %v", protowire.ParseError(n))
		}
		f := field{m: m, tag: tag, typ: typ, start: pos + n}
		rest := m.data[f.start:]
		switch typ {
		case protowire.VarintType:
			f.num, n = protowire.ConsumeVarint(rest)
		case protowire.Fixed32Type:
			var v uint32
			v, n = protowire.ConsumeFixed32(rest)
			f.num = uint64(v)
		case protowire.Fixed64Type:
			f.num, n = protowire.ConsumeFixed64(rest)
		case protowire.BytesType:
			var size uint64
			var sn int
			if size, sn = protowire.ConsumeVarint(rest); sn >= 0 && size > uint64(len(rest)-sn) {
				return f.errorf("claims %d bytes where %d are left: the file is cut short or damaged", size, len(rest)-sn)
			}
			f.data, n = protowire.ConsumeBytes(rest)
			f.start += sn
			if n >= 0 {
				n -= sn
			}
		default:
			return f.errorf("wire type %d, which ONNX does not use", typ)
		}
		if n < 0 {
			return f.errorf("%v", protowire.ParseError(n))
		}
		if err := fn(&f); err != nil {
			return err
		}
		pos = f.start + n
	}
	return nil
}

// countVarints is the number of varints in b; its length is known before
// anything is allocated for them.
func countVarints(b []byte) int {
	n := 0
	for _, c := range b {
		if c < 0x80 {
			n++
		}
	}
	return n
}

func varints(b []byte) ([]int64, error) {
	if len(b) == 0 {
		return nil, nil
	}
	out := make([]int64, 0, countVarints(b))
	for len(b) > 0 {
		v, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		out = append(out, int64(v))
		b = b[n:]
	}
	return out, nil
}
