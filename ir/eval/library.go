package eval

import (
	"fmt"

	"gorgonia.org/tensor"

	"nepcoc/ir"
)

// Oracle is New, but for the matrix products (of Gemm, MatMul, linear and dense
// convolutions), which gorgonia.org/tensor computes: a second opinion. Its bits
// depend on the CPU, so that nothing of it may reach a bundle; what an oracle
// says is compared within a tolerance.
func Oracle(g *ir.Graph) (*Machine, error) {
	m, err := New(g)
	if err != nil {
		return nil, err
	}
	for i := range m.steps {
		m.steps[i].oracle = true
	}
	return m, nil
}

// libraryProduct sets dst to a*b. The library panics on some malformed operands,
// so panics come back as errors.
func libraryProduct[T float](dst []T, a, b matrix[T]) (err error) {
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
