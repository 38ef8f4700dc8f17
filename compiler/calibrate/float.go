package calibrate

import (
	"fmt"
	"math"
	"runtime"
	"sync"

	"nepcoc/ir"
	"nepcoc/ir/eval"
)

// tensors builds the inputs of a localized graph, or, from features, those of the model's own.
func tensors(g *ir.Graph, in Input) map[string]*ir.Tensor {
	m := make(map[string]*ir.Tensor)
	for _, v := range g.Inputs {
		t := &ir.Tensor{Type: v.Type}
		if v.Type.DType == ir.F32 {
			t.Data = in.Features
		} else if len(v.Type.Shape) == 0 {
			t.Data = []int64{int64(in.Valid)}
		} else {
			part := in.Tokens[:v.Type.Shape[0]]
			if v.Name == ir.SidesInput {
				part = in.Tokens[len(in.Tokens)-v.Type.Shape[0]:]
			}
			ids := make([]int64, len(part))
			for i, id := range part {
				ids[i] = int64(id)
			}
			t.Data = ids
		}
		m[v.Name] = t
	}
	return m
}

// Float runs a localized or fused float graph over inputs, on all processors,
// and returns each output's rows: result[output][input].
func Float(g *ir.Graph, inputs []Input, progress func(done int)) ([][][]float32, error) {
	return runFloat(eval.New, g, inputs, progress)
}

// Oracle is Float with another opinion on matrix products, to be compared with
// and not to be kept: its last bits depend on the CPU.
func Oracle(g *ir.Graph, inputs []Input, progress func(done int)) ([][][]float32, error) {
	return runFloat(eval.Oracle, g, inputs, progress)
}

func runFloat(machine func(*ir.Graph) (*eval.Machine, error), g *ir.Graph, inputs []Input, progress func(done int)) ([][][]float32, error) {
	res := make([][][]float32, len(g.Outputs))
	for o := range res {
		res[o] = make([][]float32, len(inputs))
	}
	var mu sync.Mutex
	done := 0
	err := Parallel(len(inputs), func() (func(i int) error, error) {
		m, err := machine(g)
		if err != nil {
			return nil, err
		}
		return func(i int) error {
			out, err := m.Run(tensors(g, inputs[i]))
			if err != nil {
				return fmt.Errorf("input %d: %w", i, err)
			}
			for o, name := range g.OutputNames {
				row, err := asFloats(out[name])
				if err != nil {
					return fmt.Errorf("output %q: %w", name, err)
				}
				res[o][i] = row
			}
			mu.Lock()
			done++
			if progress != nil {
				progress(done)
			}
			mu.Unlock()
			return nil
		}, nil
	})
	return res, err
}

// Parallel calls f(i) for each i below n, on all processors: each worker has the f that its own setup made. The first error ends it.
func Parallel(n int, setup func() (func(i int) error, error)) error {
	workers := min(runtime.GOMAXPROCS(0), n)
	errs := make([]error, workers)
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			f, err := setup()
			for i := w; i < n && err == nil; i += workers {
				err = f(i)
			}
			errs[w] = err
		})
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func asFloats(t *ir.Tensor) ([]float32, error) {
	switch d := t.Data.(type) {
	case []float32:
		return append([]float32(nil), d...), nil
	case []int64:
		out := make([]float32, len(d))
		for i, x := range d {
			out[i] = float32(x)
		}
		return out, nil
	case []int32:
		out := make([]float32, len(d))
		for i, x := range d {
			out[i] = float32(x)
		}
		return out, nil
	}
	return nil, fmt.Errorf("is of type %s, which verdicts are not made of", t.DType)
}

// Observe runs g over inputs one after the other and calls observe with a copy of every
// float value that is computed, and with the number of valid tokens.
func Observe(g *ir.Graph, inputs []Input, observe func(*ir.Value, *ir.Tensor)) error {
	m, err := eval.New(g)
	if err != nil {
		return err
	}
	m.Observe = func(v *ir.Value, t *ir.Tensor) {
		if d, ok := t.Data.([]float32); ok {
			observe(v, &ir.Tensor{Type: t.Type, Data: append([]float32(nil), d...)})
		}
	}
	for i, in := range inputs {
		feed := tensors(g, in)
		for _, v := range g.Inputs {
			if len(v.Type.Shape) == 0 {
				observe(v, feed[v.Name])
			}
		}
		if _, err := m.Run(feed); err != nil {
			return fmt.Errorf("calibration input %d: %w", i, err)
		}
	}
	return nil
}

// ArgMax is the index of the largest element, the first of equals.
func ArgMax[T int32 | float32 | float64](v []T) int {
	best := 0
	for i, x := range v {
		if x > v[best] {
			best = i
		}
	}
	return best
}

// Cosine is the cosine of the angle between two vectors, 1 for two zero ones.
func Cosine(a []float32, b []float64) float64 {
	var ab, aa, bb float64
	for i, x := range a {
		ab += float64(float64(x) * b[i])
		aa += float64(float64(x) * float64(x))
		bb += float64(b[i] * b[i])
	}
	if aa == 0 || bb == 0 {
		if aa == bb {
			return 1
		}
		return 0
	}
	return ab / math.Sqrt(aa*bb)
}
