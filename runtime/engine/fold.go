package engine

import (
	"runtime"
	"slices"
	"sync"
	"unsafe"

	"nepcoc/runtime/bundle"
	"nepcoc/runtime/cpu"
	"nepcoc/runtime/internal/kernels/conv"
	"nepcoc/runtime/internal/kernels/plane"
)

// foldRows is the number of rows that are widened at a time, foldWorkers how many goroutines
// share the work at most: a bundle may be bound beside workers that wait for packets.
const (
	foldRows    = 64
	foldWorkers = 2
)

// fold is p with each table that is stored narrow (see bundle.Program.Folds) widened: the rows
// go through the convolution that reads them, once, and its step becomes the look-up. Values
// that nothing computes any more keep their numbers. p itself is not changed. The tables of an
// engine that is only described stay empty.
func fold(p *bundle.Program, path cpu.Path, describe bool) *bundle.Program {
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
			dst := plane.Aligned(p.Vocab * p.Values[s.Out].Cols)
			if !describe {
				widen(dst, p, &p.Steps[i], bytesOf(&p.Tensors[table]), path)
			}
			q.Tensors = append(q.Tensors, bundle.Tensor{Name: p.Tensors[table].Name, DType: bundle.I8, Shape: []int{p.Vocab, p.Values[s.Out].Cols},
				Data: unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst))})
		}
		if !gone[i] {
			q.Steps = append(q.Steps, s)
		}
	}
	return &q
}

// widen fills the table that step s makes of narrow rows.
func widen(dst []int8, p *bundle.Program, s *bundle.Step, narrow []int8, path cpu.Path) {
	from, to := p.Values[s.In[0]].Cols, p.Values[s.Out].Cols
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
				conv.Run8(layer, dst[t*to:(t+n)*to], narrow[t*from:(t+n)*from], n, scratch)
			}
		})
	}
	wg.Wait()
}
