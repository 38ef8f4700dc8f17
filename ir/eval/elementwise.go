package eval

import (
	"errors"
	"fmt"

	"nepcoc/internal/exact"
	"nepcoc/ir"
)

func init() {
	register(binary, "Add", "Sub", "Mul", "Div", "Min", "Max", "Sum", "Mean", "add", "sub", "mul", "div", "min", "max")
	register(pow, "Pow", "pow")
	register(compare, "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual", "And", "Or")
	register(not, "Not")
	register(where, "Where")
	register(clip, "Clip")
	register(signed, "Neg", "Abs", "Relu")
}

var errDivZero = errors.New("integer division by zero")

func binary(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		return fold(c, out)
	case []float64:
		return fold(c, out)
	case []int64:
		return fold(c, out)
	case []int32:
		return fold(c, out)
	case []int16:
		return fold(c, out)
	case []int8:
		return fold(c, out)
	case []uint8:
		return fold(c, out)
	case []uint16:
		return fold(c, out)
	}
	return badType(c)
}

func badType(c *call) error { return fmt.Errorf("element type %s is not supported", c.in[0].DType) }

// fold combines inputs from left to right, as Min, Max, Sum and Mean of many
// inputs need.
func fold[T number](c *call, out []T) error {
	shape := c.out[0].Shape
	op := c.n.Op
	if op == "Sum" || op == "Mean" {
		op = "Add"
	}
	outStrides := stridesOf(shape)
	first := c.in[0]
	acc, accStrides := first.Data.([]T), broadcastStrides(first.Shape, shape)
	if len(c.in) == 1 {
		copy(out, acc)
		return nil
	}
	for _, t := range c.in[1:] {
		b := t.Data.([]T)
		var err error
		walk(shape, [][]int{outStrides, accStrides, broadcastStrides(t.Shape, shape)}, func(at []int, n int, st []int) {
			if !binaryRow(op, out[at[0]:at[0]+n], acc[at[1]:], b[at[2]:], st[1], st[2]) {
				err = errDivZero
			}
		})
		if err != nil {
			return err
		}
		acc, accStrides = out, outStrides
	}
	if c.n.Op == "Mean" {
		for i := range out {
			out[i] /= T(len(c.in))
		}
	}
	return nil
}

// binaryRow is false where an integer is divided by zero.
func binaryRow[T number](op string, out, a, b []T, sa, sb int) bool {
	switch op {
	case "Add", "add":
		for i := range out {
			out[i] = a[i*sa] + b[i*sb]
		}
	case "Sub", "sub":
		for i := range out {
			out[i] = a[i*sa] - b[i*sb]
		}
	case "Mul", "mul":
		for i := range out {
			out[i] = a[i*sa] * b[i*sb]
		}
	case "Min", "min":
		for i := range out {
			out[i] = min(a[i*sa], b[i*sb])
		}
	case "Max", "max":
		for i := range out {
			out[i] = max(a[i*sa], b[i*sb])
		}
	case "Div", "div":
		if isInteger[T]() {
			for i := range out {
				if b[i*sb] == 0 {
					return false
				}
			}
		}
		for i := range out {
			out[i] = a[i*sa] / b[i*sb]
		}
	default:
		panic("BUG: no row for " + op)
	}
	return true
}

func isInteger[T number]() bool {
	one := T(1)
	return one/2 == 0
}

// pow computes in float64, exactly for integers up to 2^53.
func pow(c *call) error {
	a, _ := c.in[0].Floats()
	b, _ := c.in[1].Floats()
	shape := c.out[0].Shape
	res := make([]float64, c.out[0].Len())
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(c.in[0].Shape, shape), broadcastStrides(c.in[1].Shape, shape)},
		func(at []int, n int, st []int) {
			for i := range n {
				x, y := a[at[1]+i*st[1]], b[at[2]+i*st[2]]
				if y == 2 {
					res[at[0]+i] = x * x
				} else {
					res[at[0]+i] = exact.Pow(x, y)
				}
			}
		})
	return convert(c.out[0], &ir.Tensor{Type: ir.Type{DType: ir.F64, Shape: shape}, Data: res})
}

func compare(c *call) error {
	switch a := c.in[0].Data.(type) {
	case []float32:
		return compareNumbers(c, a)
	case []float64:
		return compareNumbers(c, a)
	case []int64:
		return compareNumbers(c, a)
	case []int32:
		return compareNumbers(c, a)
	case []int16:
		return compareNumbers(c, a)
	case []int8:
		return compareNumbers(c, a)
	case []uint8:
		return compareNumbers(c, a)
	case []uint16:
		return compareNumbers(c, a)
	case []bool:
		return compareBools(c, a)
	}
	return badType(c)
}

func compareNumbers[T number](c *call, a []T) error {
	var f func(x, y T) bool
	switch c.n.Op {
	case "Equal":
		f = func(x, y T) bool { return x == y }
	case "Less":
		f = func(x, y T) bool { return x < y }
	case "LessOrEqual":
		f = func(x, y T) bool { return x <= y }
	case "Greater":
		f = func(x, y T) bool { return x > y }
	case "GreaterOrEqual":
		f = func(x, y T) bool { return x >= y }
	default:
		return badType(c)
	}
	return compareWith(c, a, f)
}

func compareBools(c *call, a []bool) error {
	switch c.n.Op {
	case "Equal":
		return compareWith(c, a, func(x, y bool) bool { return x == y })
	case "And":
		return compareWith(c, a, func(x, y bool) bool { return x && y })
	case "Or":
		return compareWith(c, a, func(x, y bool) bool { return x || y })
	}
	return badType(c)
}

func compareWith[T any](c *call, a []T, f func(x, y T) bool) error {
	b, out, shape := c.in[1].Data.([]T), c.out[0].Data.([]bool), c.out[0].Shape
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(c.in[0].Shape, shape), broadcastStrides(c.in[1].Shape, shape)},
		func(at []int, n int, st []int) {
			for i := range n {
				out[at[0]+i] = f(a[at[1]+i*st[1]], b[at[2]+i*st[2]])
			}
		})
	return nil
}

func not(c *call) error {
	out := c.out[0].Data.([]bool)
	for i, x := range c.in[0].Data.([]bool) {
		out[i] = !x
	}
	return nil
}

func where(c *call) error {
	cond, shape := c.in[0].Data.([]bool), c.out[0].Shape
	x, y, out := storeOf(c.in[1]), storeOf(c.in[2]), storeOf(c.out[0])
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(c.in[0].Shape, shape), broadcastStrides(c.in[1].Shape, shape), broadcastStrides(c.in[2].Shape, shape)},
		func(at []int, n int, st []int) {
			for i := range n {
				if cond[at[1]+i*st[1]] {
					out.move(at[0]+i, x, at[2]+i*st[2], 1, 1)
				} else {
					out.move(at[0]+i, y, at[3]+i*st[3], 1, 1)
				}
			}
		})
	return nil
}

func clip(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		return clipTo(c, out)
	case []float64:
		return clipTo(c, out)
	case []int64:
		return clipTo(c, out)
	case []int32:
		return clipTo(c, out)
	case []int16:
		return clipTo(c, out)
	case []int8:
		return clipTo(c, out)
	case []uint8:
		return clipTo(c, out)
	case []uint16:
		return clipTo(c, out)
	}
	return badType(c)
}

func clipTo[T number](c *call, out []T) error {
	copy(out, c.in[0].Data.([]T))
	if lo := c.input(1); lo != nil {
		v := lo.Data.([]T)[0]
		for i := range out {
			out[i] = max(out[i], v)
		}
	}
	if hi := c.input(2); hi != nil {
		v := hi.Data.([]T)[0]
		for i := range out {
			out[i] = min(out[i], v)
		}
	}
	return nil
}

// signed are the unary functions that integers have too.
func signed(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		return signedOf(c, out)
	case []float64:
		return signedOf(c, out)
	case []int64:
		return signedOf(c, out)
	case []int32:
		return signedOf(c, out)
	case []int16:
		return signedOf(c, out)
	case []int8:
		return signedOf(c, out)
	case []uint8:
		return signedOf(c, out)
	case []uint16:
		return signedOf(c, out)
	}
	return badType(c)
}

func signedOf[T number](c *call, out []T) error {
	x := c.in[0].Data.([]T)
	switch c.n.Op {
	case "Neg":
		for i, v := range x {
			out[i] = -v
		}
	case "Abs":
		for i, v := range x {
			if v <= 0 {
				v = 0 - v // not -v: |-0| is +0
			}
			out[i] = v
		}
	case "Relu":
		for i, v := range x {
			out[i] = max(v, 0)
		}
	}
	return nil
}
