package engine

import (
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/kernels/conv"
	"nepcoc/runtime/kernels/cpu"
	"nepcoc/runtime/kernels/plane"
)

// foldRows is the number of rows that are widened at a time, foldWorkers how many goroutines
// share the work at most: a bundle may be bound beside workers that wait for packets.
const (
	foldRows    = 64
	foldWorkers = 2
)

// fold is p with each table that is stored narrow (see bundle.Program.Folds) widened: the rows
// go through the convolution that reads them, once, and its step becomes the look-up. Values
// that nothing computes any more keep their numbers. p itself is not changed.
func fold(p *bundle.Program, path cpu.Path) *bundle.Program {
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
			table := p.Steps[j].TokenTable.Table
			s = bundle.Step{Op: bundle.OpTokenTable, Name: s.Name, In: []int{}, Out: s.Out, TokenTable: &bundle.TokenTable{Table: len(q.Tensors)}}
			q.Tensors = append(q.Tensors, widen(p, &p.Steps[i], &p.Tensors[table], path))
		}
		if !gone[i] {
			q.Steps = append(q.Steps, s)
		}
	}
	return &q
}

// widen computes the table that step s makes of narrow rows.
func widen(p *bundle.Program, s *bundle.Step, narrow *bundle.Tensor, path cpu.Path) bundle.Tensor {
	src, from, to := bytesOf(narrow), p.Values[s.In[0]].Cols, p.Values[s.Out].Cols
	dst := plane.Aligned(p.Vocab * to)
	layer := convOf(p, s, foldRows, foldRows, path)
	part := (p.Vocab + foldWorkers - 1) / foldWorkers
	if runtime.GOMAXPROCS(0) == 1 {
		part = p.Vocab
	}
	var wg sync.WaitGroup
	for first := 0; first < p.Vocab; first += part {
		wg.Go(func() {
			scratch, end := conv.NewScratch([]*conv.Layer{layer}), min(first+part, p.Vocab)
			for t := first; t < end; t += foldRows {
				n := min(foldRows, end-t)
				conv.Run8(layer, dst[t*to:(t+n)*to], src[t*from:(t+n)*from], n, scratch)
			}
		})
	}
	wg.Wait()
	return bundle.Tensor{Name: narrow.Name, DType: bundle.I8, Shape: []int{p.Vocab, to},
		Data: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst))}
}
