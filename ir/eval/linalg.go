package eval

import "nepcoc/ir"

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

// byRows is the matrix, or its transpose where t, row by row in float64.
func (m matrix[T]) byRows(t bool) []float64 {
	out := make([]float64, len(m.data))
	for i, v := range m.data {
		if m.t == t {
			out[i] = float64(v)
		} else {
			out[i%m.cols*m.rows+i/m.cols] = float64(v)
		}
	}
	return out
}

// size are the rows and columns as read.
func (m matrix[T]) size() (rows, cols int) {
	if m.t {
		return m.cols, m.rows
	}
	return m.rows, m.cols
}

// multiply sets dst to a*b: with the library's product where the machine is an
// oracle, else with rowProducts.
func multiply[T float](c *call, dst []T, a, b matrix[T]) error {
	rows, n := a.size()
	if len(dst) == 0 || n == 0 {
		clear(dst)
		return nil
	}
	if c.oracle {
		return libraryProduct(dst, a, b)
	}
	rowProducts(dst, a.byRows(false), b.byRows(true), rows, n)
	return nil
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
	err := multiply(c, out,
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
			out[at[0]+i] += T(beta * d[at[1]+i*st[1]])
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
		return multiply(c, out, matrix[T]{data: a, rows: rows, cols: k}, matrix[T]{data: b, rows: k, cols: n})
	}
	batch, err := ir.Broadcast(sa[:ra], sb[:rb])
	if err != nil {
		return err
	}
	walk(batch, [][]int{stridesOf(batch), broadcastStrides(sa[:ra], batch), broadcastStrides(sb[:rb], batch)}, func(at []int, count int, st []int) {
		for i := range count {
			o, x, y := (at[0]+i*st[0])*m*n, (at[1]+i*st[1])*m*k, (at[2]+i*st[2])*k*n
			if e := multiply(c, out[o:o+m*n], matrix[T]{data: a[x : x+m*k], rows: m, cols: k}, matrix[T]{data: b[y : y+k*n], rows: k, cols: n}); e != nil {
				err = e
			}
		}
	})
	return err
}

func linear(c *call) error {
	w, out := c.in[1], c.out[0].Data.([]float32)
	if err := layerProduct(c, out, c.in[0].Data.([]float32), w.Data.([]float32), w.Shape[1]); err != nil {
		return err
	}
	addBias(out, c.input(2))
	return fusedAct(c)
}

// layerProduct sets out[r,o] to the product of row r of x and row o of w, both
// of n elements.
func layerProduct(c *call, out, x, w []float32, n int) error {
	if n == 0 {
		clear(out)
		return nil
	}
	return multiply(c, out, matrix[float32]{data: x, rows: len(x) / n, cols: n}, matrix[float32]{data: w, rows: len(w) / n, cols: n, t: true})
}

// rowProducts sets out[r,o] to the product of row r of x and row o of w, both
// of n elements. Folded constants, token tables and calibration come out of it,
// and a compile must give the same bytes on every CPU: sums are in float64 and in one
// order, each product is rounded by itself, and the result once. The product
// of a library takes the order that suits a CPU.
func rowProducts[T float](out []T, x, w []float64, rows, n int) {
	o := len(w) / n
	for r := range rows {
		row, y := x[r*n:(r+1)*n], out[r*o:(r+1)*o]
		j := 0
		for ; j+4 <= o; j += 4 { // four independent sums keep the CPU busy
			a, b, c, d := w[j*n:][:len(row)], w[(j+1)*n:][:len(row)], w[(j+2)*n:][:len(row)], w[(j+3)*n:][:len(row)]
			var sa, sb, sc, sd float64
			for i, v := range row {
				sa += float64(v * a[i])
				sb += float64(v * b[i])
				sc += float64(v * c[i])
				sd += float64(v * d[i])
			}
			y[j], y[j+1], y[j+2], y[j+3] = T(sa), T(sb), T(sc), T(sd)
		}
		for ; j < o; j++ {
			sum := 0.0
			for i, v := range row {
				sum += float64(v * w[j*n+i])
			}
			y[j] = T(sum)
		}
	}
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
