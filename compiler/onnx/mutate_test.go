package onnx

import (
	"errors"
	"math/rand/v2"
	"testing"
)

// Flipped bits, doubled and dropped ranges of valid files: a cheap fuzzer with
// a fixed seed that runs with every test. Import itself checks what it
// returns (ir.Check), so it is enough that it neither panics nor returns
// another error than a Refusal.
func TestMutations(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	rounds := 8000
	if testing.Short() {
		rounds = 1000
	}
	taken := 0
	for opset := int64(MinOpset); opset <= MaxOpset; opset += 5 {
		whole := gatedModel(opset).bytes()
		for range rounds {
			data := append([]byte(nil), whole...)
			for range 1 + rng.IntN(4) {
				i := rng.IntN(len(data))
				switch rng.IntN(8) {
				case 0: // drop
					n := min(1+rng.IntN(4), len(data)-i-1)
					data = append(data[:i], data[i+n:]...)
				case 1: // double
					n := min(1+rng.IntN(8), len(data)-i)
					data = append(data[:i+n:i+n], data[i:]...)
				case 2:
					data[i] = byte(rng.UintN(256))
				default:
					data[i] ^= 1 << rng.UintN(8)
				}
			}
			_, _, err := Import("mutant.onnx", data)
			var r *Refusal
			switch {
			case err == nil:
				taken++
			case !errors.As(err, &r) || len(r.Problems) == 0:
				t.Fatalf("error is no refusal: %v (%x)", err, data)
			}
		}
	}
	t.Logf("%d of %d mutants were taken", taken, 3*rounds)
}
