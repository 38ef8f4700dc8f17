package engine_test

import (
	"encoding/binary"
	"encoding/json"
	"slices"
	"testing"

	"nepcoc/internal/randprog"
	"nepcoc/runtime/bundle"
	"nepcoc/runtime/engine"
	"nepcoc/runtime/refexec"
)

// A program that is wrong in one element gives other results on every kernel path: what the comparisons with
// the reference would see, were a kernel as wrong.
func TestWrongStepsShow(t *testing.T) {
	faults := map[string]struct {
		op     string
		change func(p *bundle.Program, s *bundle.Step) bool
	}{
		"gather: the last position": {bundle.OpGather, func(p *bundle.Program, s *bundle.Step) bool {
			rows := int32(p.Values[s.In[0]].Rows)
			return altered(&p.Tensors[s.Gather.Index], -1, func(x int32) int32 { return (x + 1) % rows })
		}},
		"gather: the padding of one channel": {bundle.OpGather, func(p *bundle.Program, s *bundle.Step) bool {
			return s.Gather.Pad >= 0 && altered(&p.Tensors[s.Gather.Pad], 0, func(x int32) int32 { return x ^ 64 })
		}},
		"constant: one unit of one element": {bundle.OpConstant, func(p *bundle.Program, s *bundle.Step) bool {
			return altered(&p.Tensors[s.Constant.Data], -1, func(x int32) int32 { return x ^ 1 })
		}},
		"layer_norm: half a unit of one channel's beta": {bundle.OpLayerNorm, func(p *bundle.Program, s *bundle.Step) bool {
			return s.LayerNorm.Shift > 0 && altered(&p.Tensors[s.LayerNorm.Beta], -1, func(x int32) int32 { return x + 1<<(s.LayerNorm.Shift-1) })
		}},
		"layer_norm: the mean": {bundle.OpLayerNorm, func(p *bundle.Program, s *bundle.Step) bool {
			s.LayerNorm.RMS = !s.LayerNorm.RMS
			return true
		}},
		"side: the rounding of one number": {bundle.OpSide, func(p *bundle.Program, s *bundle.Step) bool {
			return p.Tensors[s.Side.Mult].At(0) > 0 && altered(&p.Tensors[s.Side.Zero], 0, func(x int32) int32 { return x + 1<<(s.Side.Shift-1)/p.Tensors[s.Side.Mult].At(0) })
		}},
		"regroup for transpose": {bundle.OpTranspose, func(p *bundle.Program, s *bundle.Step) bool {
			v := p.Values[s.In[0]]
			s.Op = bundle.OpRegroup
			return v.Rows > 1 && v.Cols > 1
		}},
	}
	for name, f := range faults {
		shows := make(map[string]int)
		for seed := uint64(0); seed < 800; seed++ {
			p := randprog.New(seed)
			at := slices.IndexFunc(p.Steps, func(s bundle.Step) bool { return s.Op == f.op })
			if at < 0 {
				continue
			}
			wrong := clone(t, p)
			if !f.change(wrong, &wrong.Steps[at]) || wrong.Validate() != nil {
				continue
			}
			seen := false // by the reference: the step may reach no output
			right, err := refexec.New(p)
			if err != nil {
				t.Fatal(err)
			}
			ref := reference(t, wrong)
			for i := range uint64(3) {
				tokens, valid := randprog.Input(p, seed*3+i)
				want, err := right.Run(tokens, valid)
				if err != nil {
					t.Fatal(err)
				}
				if equal(ref(tokens, valid), want) {
					continue
				}
				seen = true
				for _, path := range paths() {
					e, err := engine.Bind(wrong, engine.Options{Kernel: path})
					if err != nil {
						t.Fatal(err)
					}
					out := e.NewOutput()
					if err := e.NewContext().Run(tokens, valid, out); err != nil {
						t.Fatal(err)
					}
					if equal(out, want) {
						t.Errorf("%s, seed %d: does not show on %s", name, seed, path)
					}
					shows[path]++
				}
			}
			if seen && len(shows) > 0 && shows[paths()[0]] >= 12 {
				break
			}
		}
		for _, path := range paths() {
			if shows[path] < 3 {
				t.Errorf("%s: shows in %d runs on %s", name, shows[path], path)
			}
		}
	}
}

func clone(t *testing.T, p *bundle.Program) *bundle.Program {
	t.Helper()
	text, err := json.Marshal(p)
	q := new(bundle.Program)
	if err == nil {
		err = json.Unmarshal(text, q)
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range q.Tensors {
		q.Tensors[i].Data = slices.Clone(p.Tensors[i].Data)
	}
	return q
}

// altered changes one element of a tensor; -1 is the last.
func altered(t *bundle.Tensor, i int, f func(int32) int32) bool {
	if i < 0 {
		i = t.Len() - 1
	}
	x := t.At(i)
	y := f(x)
	switch size := t.DType.Size(); size {
	case 1:
		t.Data[i] = byte(y)
	case 2:
		binary.LittleEndian.PutUint16(t.Data[2*i:], uint16(y))
	default:
		binary.LittleEndian.PutUint32(t.Data[4*i:], uint32(y))
	}
	return t.At(i) != x
}
