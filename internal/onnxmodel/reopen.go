package onnxmodel

import (
	"slices"

	"google.golang.org/protobuf/encoding/protowire"
)

// Reopen continues a file, without its outputs and the nodes of the given names: a trained model gets another
// head. Its initializers stay, and the names of its values.
func Reopen(file []byte, without ...string) *Model {
	m := New(17)
	fields(file, func(n protowire.Number, raw, value []byte) {
		if n != 7 { // the graph
			return
		}
		fields(value, func(n protowire.Number, raw, value []byte) {
			name := ""
			if n == 1 { // a node
				fields(value, func(n protowire.Number, _, value []byte) {
					if n == 3 {
						name = string(value)
					}
				})
			}
			if n != 12 && !slices.Contains(without, name) { // 12: an output
				m.graph = append(m.graph, raw...)
			}
		})
	})
	return m
}

// fields calls f with each field of a message: its number, all its bytes, and of a field of bytes the contents.
func fields(b []byte, f func(n protowire.Number, raw, value []byte)) {
	for len(b) > 0 {
		num, typ, head := protowire.ConsumeTag(b)
		size := protowire.ConsumeFieldValue(num, typ, b[head:])
		if head < 0 || size < 0 {
			panic("BUG: Reopen of no ONNX file")
		}
		var value []byte
		if typ == protowire.BytesType {
			value, _ = protowire.ConsumeBytes(b[head:])
		}
		f(num, b[:head+size], value)
		b = b[head+size:]
	}
}
