package randprog

import (
	"reflect"
	"testing"

	"nepcoc/runtime/bundle"
)

func TestValid(t *testing.T) {
	seen := map[string]int{}
	n := uint64(3000)
	if testing.Short() {
		n = 300
	}
	for seed := range n {
		p := New(seed)
		if err := p.Validate(); err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		if err := NewChain(seed).Validate(); err != nil {
			t.Fatalf("chain, seed %d: %v", seed, err)
		}
		if err := NewConvs(seed).Validate(); err != nil {
			t.Fatalf("convolutions, seed %d: %v", seed, err)
		}
		for _, s := range p.Steps {
			seen[s.Op]++
			if s.Op == bundle.OpGatedConv && s.GatedConv.Norm != nil {
				seen["norm"]++
			}
		}
		if tokens, valid := Input(p, seed); p.CheckInput(tokens, valid) != nil {
			t.Fatalf("seed %d: %v", seed, p.CheckInput(tokens, valid))
		}
	}
	for _, op := range []string{bundle.OpTokenTable, bundle.OpGatedConv, "norm", bundle.OpConv, bundle.OpPool, bundle.OpWindowPool,
		bundle.OpLut, bundle.OpAdd, bundle.OpMul, bundle.OpLayerNorm, bundle.OpConcat, bundle.OpSlice, bundle.OpFlatten,
		bundle.OpTranspose, bundle.OpRegroup, bundle.OpGather, bundle.OpConstant, bundle.OpSoftmax} {
		if seen[op] < int(n)/50 {
			t.Errorf("%s occurs %d times in %d programs", op, seen[op], n)
		}
	}
	t.Log(seen)
}

func TestSameSeedSameProgram(t *testing.T) {
	if !reflect.DeepEqual(New(7), New(7)) {
		t.Error("two programs of one seed differ")
	}
}
