package eval

import (
	"errors"
	"math"

	"nepcoc/internal/exact"
	"nepcoc/ir"
)

func init() {
	register(reduce, "ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare")
	register(argOp, "ArgMax", "ArgMin", "argmax")
	register(softmaxOp, "Softmax", "LogSoftmax", "softmax", "log_softmax")
}

func reduce(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		return reduceTo[float32, float64](c, x, math.Inf(-1), math.Inf(1))
	case []float64:
		return reduceTo[float64, float64](c, x, math.Inf(-1), math.Inf(1))
	case []int64:
		return reduceTo[int64, int64](c, x, math.MinInt64, math.MaxInt64)
	case []int32:
		return reduceTo[int32, int64](c, x, math.MinInt32, math.MaxInt32)
	case []int16:
		return reduceTo[int16, int64](c, x, math.MinInt16, math.MaxInt16)
	case []int8:
		return reduceTo[int8, int64](c, x, math.MinInt8, math.MaxInt8)
	case []uint8:
		return reduceTo[uint8, int64](c, x, 0, math.MaxUint8)
	case []uint16:
		return reduceTo[uint16, int64](c, x, 0, math.MaxUint16)
	}
	return badType(c)
}

// reduceTo accumulates in the widest type A; least and most are what the
// maximum and minimum of nothing are.
func reduceTo[T number, A float64 | int64](c *call, x []T, least, most A) error {
	axes, err := ir.ReduceAxes(c.n)
	if err != nil {
		return err
	}
	out := c.out[0].Data.([]T)
	if len(axes) == 0 {
		copy(out, x)
		return nil
	}
	shape := c.in[0].Shape
	kept := append([]int(nil), shape...)
	count := 1
	for _, a := range axes {
		kept[a] = 1
		count *= shape[a]
	}
	var first A
	combine := func(a, v A) A { return a + v }
	switch c.n.Op {
	case "ReduceMax":
		first, combine = least, func(a, v A) A { return max(a, v) }
	case "ReduceMin":
		first, combine = most, func(a, v A) A { return min(a, v) }
	case "ReduceProd":
		first, combine = 1, func(a, v A) A { return a * v }
	case "ReduceL1":
		combine = func(a, v A) A { return a + max(v, -v) }
	case "ReduceL2", "ReduceSumSquare":
		combine = func(a, v A) A { return a + A(v*v) }
	}
	acc := make([]A, len(out))
	for i := range acc {
		acc[i] = first
	}
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(kept, shape)}, func(at []int, n int, st []int) {
		row := x[at[0] : at[0]+n]
		if st[1] == 0 {
			a := acc[at[1]]
			for _, v := range row {
				a = combine(a, A(v))
			}
			acc[at[1]] = a
			return
		}
		for i, v := range row {
			j := at[1] + i*st[1]
			acc[j] = combine(acc[j], A(v))
		}
	})
	for i, a := range acc {
		switch c.n.Op {
		case "ReduceMean":
			if count == 0 && isInteger[T]() {
				return errors.New("mean of no integers")
			}
			a /= A(count)
		case "ReduceL2":
			a = A(math.Sqrt(float64(a)))
		}
		out[i] = T(a)
	}
	return nil
}

func argOp(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		return argTo(c, x)
	case []float64:
		return argTo(c, x)
	case []int64:
		return argTo(c, x)
	case []int32:
		return argTo(c, x)
	case []int16:
		return argTo(c, x)
	case []int8:
		return argTo(c, x)
	case []uint8:
		return argTo(c, x)
	case []uint16:
		return argTo(c, x)
	}
	return badType(c)
}

func argTo[T number](c *call, x []T) error {
	axis, err := ir.NormalizeAxis(c.n.Int("axis", 0), len(c.in[0].Shape))
	if err != nil {
		return err
	}
	outer, dim, inner := split3(c.in[0].Shape, axis)
	out := c.out[0].Data.([]int64)
	last, smallest := c.n.Int("select_last_index", 0) != 0, c.n.Op == "ArgMin"
	for o := range outer {
		for i := range inner {
			best := 0
			for j := 1; j < dim; j++ {
				a, b := x[(o*dim+j)*inner+i], x[(o*dim+best)*inner+i]
				if a > b && !smallest || a < b && smallest || a == b && last {
					best = j
				}
			}
			out[o*inner+i] = int64(best)
		}
	}
	return nil
}

func softmaxOp(c *call) error {
	switch x := c.in[0].Data.(type) {
	case []float32:
		return softmaxTo(c, x)
	case []float64:
		return softmaxTo(c, x)
	}
	return badType(c)
}

func softmaxTo[T float](c *call, x []T) error {
	axis, err := ir.NormalizeAxis(c.n.Int("axis", -1), len(c.in[0].Shape))
	if err != nil {
		return err
	}
	outer, dim, inner := split3(c.in[0].Shape, axis)
	out := c.out[0].Data.([]T)
	log := c.n.Op == "LogSoftmax" || c.n.Op == "log_softmax"
	for o := range outer {
		for i := range inner {
			base := o*dim*inner + i
			largest := math.Inf(-1)
			for j := range dim {
				largest = max(largest, float64(x[base+j*inner]))
			}
			sum := 0.0
			for j := range dim {
				sum += exact.Exp(float64(x[base+j*inner]) - largest)
			}
			for j := range dim {
				v := float64(x[base+j*inner]) - largest
				if log {
					out[base+j*inner] = T(v - exact.Log(sum))
				} else {
					out[base+j*inner] = T(exact.Exp(v) / sum)
				}
			}
		}
	}
	return nil
}
