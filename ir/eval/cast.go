package eval

import (
	"math"

	"nepcoc/ir"
)

func init() { register(castOp, "Cast", "cast") }

func castOp(c *call) error { return convert(c.out[0], c.in[0]) }

// convert casts as ONNX does where it says something: floats to integers
// truncate, anything to bool is x != 0, integers to narrower ones wrap. What
// ONNX leaves open is fixed here: floats beyond an integer type's range
// saturate, NaN becomes 0.
func convert(dst, src *ir.Tensor) error {
	switch d := dst.Data.(type) {
	case []float32:
		convertTo(d, src, func(v float64) float32 { return float32(v) }, func(v int64) float32 { return float32(v) })
	case []float64:
		convertTo(d, src, func(v float64) float64 { return v }, func(v int64) float64 { return float64(v) })
	case []int64:
		convertTo(d, src, saturate[int64](math.MinInt64, math.MaxInt64), func(v int64) int64 { return v })
	case []int32:
		convertTo(d, src, saturate[int32](math.MinInt32, math.MaxInt32), func(v int64) int32 { return int32(v) })
	case []int16:
		convertTo(d, src, saturate[int16](math.MinInt16, math.MaxInt16), func(v int64) int16 { return int16(v) })
	case []int8:
		convertTo(d, src, saturate[int8](math.MinInt8, math.MaxInt8), func(v int64) int8 { return int8(v) })
	case []uint8:
		convertTo(d, src, saturate[uint8](0, math.MaxUint8), func(v int64) uint8 { return uint8(v) })
	case []uint16:
		convertTo(d, src, saturate[uint16](0, math.MaxUint16), func(v int64) uint16 { return uint16(v) })
	case []bool:
		convertTo(d, src, func(v float64) bool { return v != 0 }, func(v int64) bool { return v != 0 })
	}
	return nil
}

func saturate[T integer](lo, hi T) func(float64) T {
	return func(v float64) T {
		switch {
		case v != v:
			return 0
		case v <= float64(lo):
			return lo
		case v >= float64(hi):
			return hi
		}
		return T(v)
	}
}

func convertTo[D any](dst []D, src *ir.Tensor, fromFloat func(float64) D, fromInt func(int64) D) {
	switch s := src.Data.(type) {
	case []float32:
		for i, v := range s {
			dst[i] = fromFloat(float64(v))
		}
	case []float64:
		for i, v := range s {
			dst[i] = fromFloat(v)
		}
	case []int64:
		fromInts(dst, s, fromInt)
	case []int32:
		fromInts(dst, s, fromInt)
	case []int16:
		fromInts(dst, s, fromInt)
	case []int8:
		fromInts(dst, s, fromInt)
	case []uint8:
		fromInts(dst, s, fromInt)
	case []uint16:
		fromInts(dst, s, fromInt)
	case []bool:
		for i, v := range s {
			if v {
				dst[i] = fromInt(1)
			} else {
				dst[i] = fromInt(0)
			}
		}
	}
}

func fromInts[D any, S integer](dst []D, src []S, f func(int64) D) {
	for i, v := range src {
		dst[i] = f(int64(v))
	}
}
