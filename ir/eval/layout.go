package eval

import (
	"fmt"

	"nepcoc/ir"
)

func init() {
	register(copyOp, "Identity", "Dropout", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "reshape", "flatten", "regroup")
	register(transpose, "Transpose")
	register(slice, "Slice", "slice")
	register(concat, "Concat", "concat")
	register(split, "Split")
	register(pad, "Pad", "pad")
	register(expand, "Expand")
	register(tile, "Tile")
	register(gather, "Gather")
	register(shapeOf, "Shape")
	register(sizeOf, "Size")
	register(constantOfShape, "ConstantOfShape")
	register(rangeOp, "Range")
	register(embed, "embed")
	register(swapAxes, "transpose")
	register(gatherPositions, "gather")
}

func copyOp(c *call) error {
	copyAll(c.out[0], c.in[0])
	return nil
}

// gatherStrided fills the output with the input read from offset by strides.
func gatherStrided(c *call, offset int, strides []int) {
	shape := c.out[0].Shape
	dst, src := storeOf(c.out[0]), storeOf(c.in[0])
	walk(shape, [][]int{stridesOf(shape), strides}, func(at []int, n int, st []int) {
		dst.move(at[0], src, offset+at[1], n, st[1])
	})
}

func transpose(c *call) error {
	perm, err := ir.Permutation(c.n)
	if err != nil {
		return err
	}
	in := stridesOf(c.in[0].Shape)
	strides := make([]int, len(perm))
	for i, p := range perm {
		strides[i] = in[p]
	}
	gatherStrided(c, 0, strides)
	return nil
}

// swapAxes makes channels of positions.
func swapAxes(c *call) error {
	st := stridesOf(c.in[0].Shape)
	gatherStrided(c, 0, []int{st[1], st[0]})
	return nil
}

// gatherPositions takes positions in the order of input 1, zeros for -1.
func gatherPositions(c *call) error {
	x, out, cols := c.in[0].Data.([]float32), c.out[0].Data.([]float32), c.in[0].Shape[1]
	index, _ := c.in[1].Ints()
	for i, p := range index {
		if row := out[i*cols : (i+1)*cols]; p >= 0 {
			copy(row, x[p*cols:])
		} else {
			clear(row)
		}
	}
	return nil
}

func slice(c *call) error {
	spans, err := ir.SliceRanges(c.n)
	if err != nil {
		return err
	}
	strides, offset := stridesOf(c.in[0].Shape), 0
	for i, s := range spans {
		offset += s.Start * strides[i]
		strides[i] *= s.Step
	}
	gatherStrided(c, offset, strides)
	return nil
}

func expand(c *call) error {
	gatherStrided(c, 0, broadcastStrides(c.in[0].Shape, c.out[0].Shape))
	return nil
}

func tile(c *call) error {
	in, out := c.in[0].Shape, c.out[0].Shape
	maps := make([][]int, len(in))
	for i := range maps {
		maps[i] = make([]int, out[i])
		for j := range maps[i] {
			maps[i][j] = j % in[i]
		}
	}
	gatherMapped(c.out[0], c.in[0], maps, nil)
	return nil
}

// gatherMapped fills dst with the elements of src whose index along each axis
// is what maps says; -1 stands for the only element of value.
func gatherMapped(dst, src *ir.Tensor, maps [][]int, value *ir.Tensor) {
	rank := len(maps)
	d, s := storeOf(dst), storeOf(src)
	if dst.Len() == 0 {
		return
	}
	var v store
	if value != nil {
		v = storeOf(value)
	}
	if rank == 0 {
		d.move(0, s, 0, 1, 1)
		return
	}
	strides := stridesOf(src.Shape)
	last := maps[rank-1]
	at := 0
	var visit func(axis, from int, outside bool)
	visit = func(axis, from int, outside bool) {
		if axis < rank-1 {
			for _, j := range maps[axis] {
				visit(axis+1, from+max(j, 0)*strides[axis], outside || j < 0)
			}
			return
		}
		if outside {
			d.move(at, v, 0, len(last), 0)
			at += len(last)
			return
		}
		for i := 0; i < len(last); {
			if last[i] < 0 {
				d.move(at, v, 0, 1, 1)
				i, at = i+1, at+1
				continue
			}
			run := 1
			for i+run < len(last) && last[i+run] == last[i]+run {
				run++
			}
			d.move(at, s, from+last[i], run, 1)
			i, at = i+run, at+run
		}
	}
	visit(0, 0, false)
}

func pad(c *call) error {
	before, _, err := ir.PadAmounts(c.n)
	if err != nil {
		return err
	}
	in, out := c.in[0].Shape, c.out[0].Shape
	mode := c.n.Str("mode", "constant")
	maps := make([][]int, len(in))
	for i := range maps {
		maps[i] = make([]int, out[i])
		for j := range maps[i] {
			maps[i][j] = padIndex(mode, j-before[i], in[i])
		}
	}
	value := ir.NewTensor(ir.Type{DType: c.in[0].DType})
	if v := c.input(2); v != nil {
		copyAll(value, v)
	} else if f, ok := value.Data.([]float32); ok {
		f[0] = float32(c.n.Float("value", 0))
	}
	gatherMapped(c.out[0], c.in[0], maps, value)
	return nil
}

// padIndex is the index of the element that stands at i of an axis of n
// elements, -1 for the constant.
func padIndex(mode string, i, n int) int {
	if i >= 0 && i < n {
		return i
	}
	switch mode {
	case "edge":
		return min(max(i, 0), n-1)
	case "wrap":
		return mod(i, n)
	case "reflect":
		// The border element itself isn't repeated: period 2(n-1).
		if n == 1 {
			return 0
		}
		i = mod(i, 2*(n-1))
		return min(i, 2*(n-1)-i)
	}
	return -1
}

func mod(a, n int) int { return ((a % n) + n) % n }

func concat(c *call) error {
	axis, err := ir.NormalizeAxis(c.n.Int("axis", 0), len(c.out[0].Shape))
	if err != nil {
		return err
	}
	outer, _, _ := split3(c.out[0].Shape, axis)
	row := 0
	if outer > 0 {
		row = c.out[0].Len() / outer
	}
	dst, at := storeOf(c.out[0]), 0
	for _, t := range c.in {
		src := storeOf(t)
		n := ir.NumElements(t.Shape[axis:])
		for o := range outer {
			dst.move(o*row+at, src, o*n, n, 1)
		}
		at += n
	}
	return nil
}

func split(c *call) error {
	axis, sizes, err := ir.SplitSizes(c.n)
	if err != nil {
		return err
	}
	outer, dim, inner := split3(c.in[0].Shape, axis)
	src, at := storeOf(c.in[0]), 0
	for i, size := range sizes {
		dst := storeOf(c.out[i])
		n := size * inner
		for o := range outer {
			dst.move(o*n, src, o*dim*inner+at, n, 1)
		}
		at += n
	}
	return nil
}

func gather(c *call) error {
	axis, err := ir.NormalizeAxis(c.n.Int("axis", 0), len(c.in[0].Shape))
	if err != nil {
		return err
	}
	idx, _ := c.in[1].Ints()
	return gatherRows(c, axis, idx, true)
}

func gatherRows(c *call, axis int, idx []int, negative bool) error {
	outer, dim, inner := split3(c.in[0].Shape, axis)
	dst, src, at := storeOf(c.out[0]), storeOf(c.in[0]), 0
	for o := range outer {
		for _, i := range idx {
			if negative && i < 0 {
				i += dim
			}
			if i < 0 || i >= dim {
				return fmt.Errorf("index %d is outside a dimension of %d", i, dim)
			}
			dst.move(at, src, (o*dim+i)*inner, inner, 1)
			at += inner
		}
	}
	return nil
}

// embed looks tokens up; unlike Gather it takes no negative index.
func embed(c *call) error {
	idx, _ := c.in[0].Ints()
	table := call{n: c.n, in: []*ir.Tensor{c.in[1]}, out: c.out}
	return gatherRows(&table, 0, idx, false)
}

func shapeOf(c *call) error {
	first, last := ir.ShapeRange(c.n)
	out := c.out[0].Data.([]int64)
	for i, d := range c.in[0].Shape[first:last] {
		out[i] = int64(d)
	}
	return nil
}

func sizeOf(c *call) error {
	c.out[0].Data.([]int64)[0] = int64(c.in[0].Len())
	return nil
}

func constantOfShape(c *call) error {
	var v *ir.Tensor
	switch value := c.n.Attrs["value"].(type) {
	case int:
		v = ir.Int64s([]int64{int64(value)})
	case float64:
		v = &ir.Tensor{Type: ir.Type{DType: ir.F64}, Data: []float64{value}}
	default:
		v = ir.Int64s([]int64{0})
	}
	one := ir.NewTensor(ir.Type{DType: c.out[0].DType})
	if err := convert(one, v); err != nil {
		return err
	}
	storeOf(c.out[0]).move(0, storeOf(one), 0, c.out[0].Len(), 0)
	return nil
}

func rangeOp(c *call) error {
	if start, ok := c.in[0].Ints(); ok {
		delta, _ := c.in[2].Ints()
		v := make([]int64, c.out[0].Len())
		for i := range v {
			v[i] = int64(start[0] + i*delta[0])
		}
		return convert(c.out[0], ir.Int64s(v, len(v)))
	}
	start, _ := c.in[0].Floats()
	delta, _ := c.in[2].Floats()
	v := make([]float64, c.out[0].Len())
	for i := range v {
		v[i] = float64(float64(i)*delta[0]) + start[0]
	}
	return convert(c.out[0], &ir.Tensor{Type: ir.Type{DType: ir.F64, Shape: []int{len(v)}}, Data: v})
}
