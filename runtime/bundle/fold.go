package bundle

import "slices"

// Limits of the tables that are widened when a program is bound, all together: their bytes, and
// the multiply-adds that this takes (the published table: 16 MiB, 2.1e9). A small file may name
// one tensor in thousands of steps.
const (
	maxFolded   = 64 << 20
	maxFoldMACs = 1 << 32
)

// Folds finds the token tables that are stored narrow: steps j of one token table and i of
// a convolution of window 1, both of 8 bits, where nothing but i reads the rows of j. All
// that a flow can get from the two is one row per token, so an executor may compute the
// rows of all tokens once and look up those. The result has j by i.
//
// The meaning of the program is that of its steps; a wider table is never stored. An embedding of
// 128 before a projection to 256 takes half the bytes of its product, and keeps the accuracy that rows
// coarse enough to compress as well would lose.
func (p *Program) Folds() map[int]int {
	readers := make([]int, len(p.Values))
	for i := range p.Steps {
		for _, v := range p.Steps[i].In {
			readers[v]++
		}
	}
	for _, o := range p.Outputs {
		readers[o.Value]++
	}
	tables, folds := make(map[int]int), make(map[int]int)
	total, macs := 0, 0
	for i := range p.Steps {
		s := &p.Steps[i]
		switch s.Op {
		case OpTokenTable:
			if p.Values[s.Out].DType == I8 && readers[s.Out] == 1 {
				tables[s.Out] = i
			}
		case OpConv:
			j, ok := tables[s.In[0]]
			out, k := &p.Values[s.Out], s.Conv
			n := p.Vocab * out.Cols // at most 2^40
			m := n * (p.Values[s.In[0]].Cols / k.Groups)
			if ok && out.DType == I8 && k.K == 1 && k.Stride == 1 && k.PadLeft == 0 && k.PadRight == 0 &&
				total+n <= maxFolded && macs+m <= maxFoldMACs {
				folds[i], total, macs = j, total+n, macs+m
			}
		}
	}
	return folds
}

// Widened is p with each table that is stored narrow (see Folds) as it is looked up: rows gives those of all tokens that the
// convolution makes of the narrow ones, i8 [Vocab,Cols]. Values that nothing computes any more keep their numbers. p itself is not changed.
func (p *Program) Widened(rows func(conv *Step, narrow *Tensor) []byte) *Program {
	folds := p.Folds()
	if len(folds) == 0 {
		return p
	}
	q := *p
	q.Steps, q.Tensors = nil, slices.Clone(p.Tensors)
	gone := make(map[int]bool)
	for _, j := range folds {
		gone[j] = true
	}
	for i, s := range p.Steps {
		if j, ok := folds[i]; ok {
			narrow := &p.Tensors[p.Steps[j].TokenTable.Table]
			wide := Tensor{Name: narrow.Name, DType: I8, Shape: []int{p.Vocab, p.Values[s.Out].Cols}, Data: rows(&p.Steps[i], narrow)}
			s = Step{Op: OpTokenTable, Name: s.Name, In: []int{}, Out: s.Out, TokenTable: &TokenTable{Table: len(q.Tensors)}}
			q.Tensors = append(q.Tensors, wide)
		}
		if !gone[i] {
			q.Steps = append(q.Steps, s)
		}
	}
	return &q
}
