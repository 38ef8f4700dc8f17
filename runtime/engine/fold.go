package engine

import (
	"runtime"
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

// fold is p with each table that is stored narrow widened (see bundle.Program.Widened): the rows go through the convolution
// that reads them, once. The tables of an engine that is only described stay empty.
func fold(p *bundle.Program, path cpu.Path, describe bool) *bundle.Program {
	return p.Widened(func(s *bundle.Step, narrow *bundle.Tensor) []byte {
		dst := plane.Aligned(p.Vocab * p.Values[s.Out].Cols)
		if !describe {
			widen(dst, p, s, bytesOf(narrow), path)
		}
		return unsafe.Slice((*byte)(unsafe.Pointer(unsafe.SliceData(dst))), len(dst))
	})
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
