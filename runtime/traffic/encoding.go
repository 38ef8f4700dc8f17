package traffic

import (
	"fmt"
	"math"
	"regexp"
	"strconv"
)

// normalized is the spelling of bytes of which a mean was subtracted and that were divided by
// a deviation.
var normalized = regexp.MustCompile(`^\(byte-([0-9.e+-]+)\)/([0-9.e+-]+)$`)

// Normalized is the encoding (byte-mean)/deviation, of byte values 0..255: a network that was trained on
// (byte/255-0.5)/0.5 sees (byte-127.5)/127.5.
func Normalized(mean, deviation float64) Encoding {
	return Encoding(fmt.Sprintf("(byte-%s)/%s", number(mean), number(deviation)))
}

func number(x float64) string { return strconv.FormatFloat(x, 'g', -1, 64) }

// Affine says what a model's input holds for a byte: (byte-mean)/deviation. ok is false for token ids, and for what is no
// encoding.
func (e Encoding) Affine() (mean, deviation float64, ok bool) {
	switch e {
	case EncodingByte:
		return 0, 1, true
	case EncodingByte255:
		return 0, 255, true
	}
	m := normalized.FindStringSubmatch(string(e))
	if m == nil {
		return 0, 0, false
	}
	mean, err1 := strconv.ParseFloat(m[1], 64)
	deviation, err2 := strconv.ParseFloat(m[2], 64)
	ok = err1 == nil && err2 == nil && math.Abs(mean) <= 1e6 && deviation >= 1e-3 && deviation <= 1e6 && e == Normalized(mean, deviation)
	return mean, deviation, ok
}

// Value is what the model's input holds for a byte, or, of token ids, the id.
func (e Encoding) Value(b int) float32 {
	mean, deviation, ok := e.Affine()
	if !ok {
		return float32(b)
	}
	return (float32(b) - float32(mean)) / float32(deviation)
}

// Byte is the byte that an element of the model's input stands for.
func (e Encoding) Byte(x float64) (b int, ok bool) {
	mean, deviation, ok := e.Affine()
	v := float64(x*deviation) + mean
	r := math.Round(v)
	if !ok || !(math.Abs(v-r) <= 1e-3*math.Max(1, math.Abs(mean)/255) && r >= 0 && r <= 255) {
		return 0, false
	}
	return int(r), true
}
