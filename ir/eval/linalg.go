package eval

import (
	"fmt"

	"gorgonia.org/tensor"

	"nepcoc/ir"
)

func init() {
	register(gemm, "Gemm")
	register(matMul, "MatMul")
	register(linear, "linear")
}

// matrix describes an operand of a product: rows x cols as stored, read
// transposed where t.
type matrix[T float] struct {
	data       []T
	rows, cols int
	t          bool
}

// multiply sets dst to a*b. gorgonia panics on some malformed operands, so
// panics come back as errors.
func multiply[T float](dst []T, a, b matrix[T]) (err error) {
	if len(dst) == 0 {
		return nil
	}
	if len(a.data) == 0 {
		clear(dst)
		return nil
	}
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("matrix product: %v", r)
		}
	}()
	x, err := a.dense()
	if err != nil {
		return err
	}
	y, err := b.dense()
	if err != nil {
		return err
	}
	out := tensor.New(tensor.WithShape(x.Shape()[0], y.Shape()[1]), tensor.WithBacking(dst))
	_, err = x.MatMul(y, tensor.WithReuse(out))
	return err
}

func (m matrix[T]) dense() (*tensor.Dense, error) {
	d := tensor.New(tensor.WithShape(m.rows, m.cols), tensor.WithBacking(m.data))
	if m.t {
		// Lazy: only the strides change, the product takes them as they are.
		return d, d.T()
	}
	return d, nil
}

func gemm(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		return gemmTo(c, out)
	case []float64:
		return gemmTo(c, out)
	}
	return badType(c)
}

func gemmTo[T float](c *call, out []T) error {
	a, b := c.in[0], c.in[1]
	err := multiply(out,
		matrix[T]{a.Data.([]T), a.Shape[0], a.Shape[1], c.n.Int("transA", 0) != 0},
		matrix[T]{b.Data.([]T), b.Shape[0], b.Shape[1], c.n.Int("transB", 0) != 0})
	if err != nil {
		return err
	}
	if alpha := T(c.n.Float("alpha", 1)); alpha != 1 {
		for i := range out {
			out[i] *= alpha
		}
	}
	bias, beta := c.input(2), T(c.n.Float("beta", 1))
	if bias == nil {
		return nil
	}
	d, shape := bias.Data.([]T), c.out[0].Shape
	walk(shape, [][]int{stridesOf(shape), broadcastStrides(bias.Shape, shape)}, func(at []int, n int, st []int) {
		for i := range n {
			out[at[0]+i] += beta * d[at[1]+i*st[1]]
		}
	})
	return nil
}

func matMul(c *call) error {
	switch out := c.out[0].Data.(type) {
	case []float32:
		return matMulTo(c, out)
	case []float64:
		return matMulTo(c, out)
	}
	return badType(c)
}

func matMulTo[T float](c *call, out []T) error {
	a, b := c.in[0].Data.([]T), c.in[1].Data.([]T)
	sa, sb := c.in[0].Shape, c.in[1].Shape
	if len(sa) == 1 {
		sa = []int{1, sa[0]}
	}
	if len(sb) == 1 {
		sb = []int{sb[0], 1}
	}
	ra, rb := len(sa)-2, len(sb)-2
	m, k, n := sa[ra], sa[ra+1], sb[rb+1]
	if ir.NumElements(sb[:rb]) == 1 {
		// One right side for the whole batch: a single tall product.
		rows := ir.NumElements(sa[:ra+1])
		return multiply(out, matrix[T]{data: a, rows: rows, cols: k}, matrix[T]{data: b, rows: k, cols: n})
	}
	batch, err := ir.Broadcast(sa[:ra], sb[:rb])
	if err != nil {
		return err
	}
	walk(batch, [][]int{stridesOf(batch), broadcastStrides(sa[:ra], batch), broadcastStrides(sb[:rb], batch)}, func(at []int, count int, st []int) {
		for i := range count {
			o, x, y := (at[0]+i*st[0])*m*n, (at[1]+i*st[1])*m*k, (at[2]+i*st[2])*k*n
			if e := multiply(out[o:o+m*n], matrix[T]{data: a[x : x+m*k], rows: m, cols: k}, matrix[T]{data: b[y : y+k*n], rows: k, cols: n}); e != nil {
				err = e
			}
		}
	})
	return err
}

func linear(c *call) error {
	out := c.out[0].Data.([]float32)
	rowProducts(out, c.in[0].Data.([]float32), c.in[1].Data.([]float32), c.in[1].Shape[1])
	addBias(out, c.input(2))
	return fusedAct(c)
}

// rowProducts sets out[r,o] to the product of row r of x and row o of w, both
// of n elements. It doesn't go through multiply: token tables and calibration
// come out of it, and a compile must give the same bytes on every CPU. Products of float32
// are exact in float64 and are summed in one order here, so that it makes no
// difference whether the CPU fuses multiplication and addition; a float32
// product of gonum differs between amd64 and arm64 in its last bits.
func rowProducts(out, x, weights []float32, n int) {
	if n == 0 {
		clear(out)
		return
	}
	w, o := widened(weights), len(weights)/n
	row := make([]float64, n)
	for y := out; len(y) > 0; y, x = y[o:], x[n:] {
		for i, v := range x[:n] {
			row[i] = float64(v)
		}
		j := 0
		for ; j+4 <= o; j += 4 { // four independent sums keep the CPU busy
			a, b, c, d := w[j*n:][:len(row)], w[(j+1)*n:][:len(row)], w[(j+2)*n:][:len(row)], w[(j+3)*n:][:len(row)]
			var sa, sb, sc, sd float64
			for i, v := range row {
				sa += v * a[i]
				sb += v * b[i]
				sc += v * c[i]
				sd += v * d[i]
			}
			y[j], y[j+1], y[j+2], y[j+3] = float32(sa), float32(sb), float32(sc), float32(sd)
		}
		for ; j < o; j++ {
			sum := 0.0
			for i, v := range row {
				sum += v * w[j*n+i]
			}
			y[j] = float32(sum)
		}
	}
}

func widened(x []float32) []float64 {
	out := make([]float64, len(x))
	for i, v := range x {
		out[i] = float64(v)
	}
	return out
}

// addBias adds a vector to every row.
func addBias(out []float32, bias *ir.Tensor) {
	if bias == nil {
		return
	}
	b := bias.Data.([]float32)
	for len(out) > 0 {
		for i, v := range b {
			out[i] += v
		}
		out = out[len(b):]
	}
}
