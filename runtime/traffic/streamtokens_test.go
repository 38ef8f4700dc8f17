package traffic

import (
	"slices"
	"testing"
)

func TestStreamTokens(t *testing.T) {
	c, err := Named("nepco-stream")
	if err != nil {
		t.Fatal(err)
	}
	c.ClientBytes, c.ServerBytes, c.Length = 4, 3, 16
	e, err := NewEncoder(c)
	if err != nil {
		t.Fatal(err)
	}
	const first = 5 + 256 // of the facts
	for _, tc := range []struct {
		name   string
		proto  uint8
		put    func(st *State, buf []byte)
		tokens []int32
	}{
		{"nothing", 6, func(*State, []byte) {}, []int32{2, first + factTCP, first + factClient, first + factLength, first + factServer, first + factLength, 1}},
		{"both sides", 17, func(st *State, buf []byte) {
			e.Put(st, buf, Server, 0, []byte{9, 8, 7, 6})
			e.Put(st, buf, Client, 2, []byte{3})
			e.Put(st, buf, Client, 0, []byte{1, 2})
		}, []int32{2, first + factUDP, first + factClient, first + factLength + 2, 6, 7, 8, first + factServer, first + factLength + 2, 14, 13, 12, 1}},
		{"behind a gap", 6, func(st *State, buf []byte) {
			e.Put(st, buf, Client, 0, []byte{1})
			e.Put(st, buf, Client, 2, []byte{3})
		}, []int32{2, first + factTCP, first + factClient, first + factLength + 1, 6, first + factServer, first + factLength, 1}},
		{"full", 6, func(st *State, buf []byte) {
			e.Put(st, buf, Client, 0, []byte{1, 2, 3, 4, 5})
			e.Put(st, buf, Server, 0, []byte{1, 2, 3})
		}, []int32{2, first + factTCP, first + factClient, first + factLength + 3, 6, 7, 8, 9, first + factServer, first + factLength + 2, 6, 7, 8, 1}},
	} {
		st, buf := e.Begin(tc.proto), make([]byte, e.BufferSize())
		tc.put(&st, buf)
		dst := make([]int32, c.Length)
		n := e.Tokens(dst, st, buf)
		if !slices.Equal(dst[:n], tc.tokens) || slices.ContainsFunc(dst[n:], func(x int32) bool { return x != 0 }) {
			t.Errorf("%s: %v, want %v", tc.name, dst, tc.tokens)
		}
	}
}
