//go:build !purego && (amd64 || arm64)

package lookup

import "nepcoc/runtime/internal/kernels/plane"

// chunk is the number of columns that the assembly transposes at a time, rowChunk that it
// copies.
const chunk, rowChunk = 16, 64

type rowPointers = [plane.Block]*int8

// gather fills rows with the addresses of the tokens' rows; a short block repeats
// its last token.
func (t *Table) gather(rows *rowPointers, tokens []int32) int {
	n := min(len(tokens), len(rows))
	for i, tok := range tokens[:n] {
		rows[i] = &t.data[int(tok)*t.cols]
	}
	for i := n; i < len(rows); i++ {
		rows[i] = rows[n-1]
	}
	return n
}

// load goes block by block; the next block's rows are on their way from
// memory meanwhile.
func load(t *Table, dst *plane.Plane, pos int, tokens []int32) {
	columns := chunk
	if plane.TimeMajor(t.path) {
		columns = rowChunk
	}
	whole := t.cols &^ (columns - 1)
	if whole < t.cols {
		t.loadGeneric(dst, pos, tokens, whole, t.cols)
	}
	if whole == 0 {
		return
	}
	var now, next rowPointers
	n := t.gather(&now, tokens)
	prefetchRows(&now[0], n, whole)
	for {
		tokens = tokens[n:]
		m := 0
		if len(tokens) > 0 {
			m = t.gather(&next, tokens)
			prefetchRows(&next[0], m, whole)
		}
		if out := &dst.Data[dst.Index(0, pos)]; plane.TimeMajor(t.path) {
			copyRows(&now[0], n, out, dst.Step, whole)
		} else {
			transpose(&now, out, dst.Stride, whole)
		}
		if m == 0 {
			return
		}
		pos += n
		now, n = next, m
	}
}
