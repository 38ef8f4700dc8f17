package bundle

import (
	"bytes"
	"crypto/ed25519"
	"testing"
)

// For the tests of package bundle_test, which may import what imports bundle.

func Reseal(data []byte) bool { return reseal(data) }

func Parts(t testing.TB, b *Bundle) (manifest, program, weights, golden []byte) {
	return rawParts(t, b)
}

func Assemble(manifest, program, weights, golden []byte) []byte {
	return assemble(manifest, program, weights, golden)
}

// EncodeRaw encodes without compression, so that a fuzzer's changes reach the
// JSON and the weights.
func EncodeRaw(t testing.TB, b *Bundle) []byte {
	m, p, w, g := rawParts(t, b)
	return assemble(m, p, w, g)
}

// Seeds are the hand-made bundle in every encoding.
func Seeds(t testing.TB) [][]byte {
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{7}, ed25519.SeedSize))
	return [][]byte{
		mustEncode(t, small(), Options{}), mustEncode(t, small(), Options{Key: key}),
		EncodeRaw(t, small()), nil,
	}
}

// Analysis is what Validate derives about each value of a valid program.
type Analysis struct{ c *checker }

func Analyse(t testing.TB, p *Program) Analysis {
	c, err := analyse(p)
	if err != nil {
		t.Fatal(err)
	}
	return Analysis{c}
}

// Range is the range of a channel of a value.
func (a Analysis) Range(v, channel int) (lo, hi int64) {
	s := a.c.values[v].channel(channel)
	return s.lo, s.hi
}

// Reach is the receptive field of a value's rows.
func (a Analysis) Reach(v int) (left, right int) { return a.c.values[v].left, a.c.values[v].right }
