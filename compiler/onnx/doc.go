// Package onnx is the front end: it turns an ONNX model file into the
// compiler's float IR (ONNX operators, static shapes, batch of one).
//
// The file passes four stations:
//
//	wire.go       bounded protobuf reader, with messages.go and tensorproto.go; everything structural is checked here, before anything else sees the bytes
//	decode.go     onnx-go builds the graph (nodes, edges, attributes) through a custom backend
//	normalize.go  attribute forms of opsets 7..21 become the newest, input form
//	import.go     values, constants, shape inference, batch specialised to one
//
// What can't be taken is collected, all problems of a file at once, in one
// [Refusal] that names the node, the operator, the reason and the way out.
//
// onnx-go is a dependency of this package alone; the IR that leaves it knows
// nothing of protobuf or of gonum graphs.
package onnx
