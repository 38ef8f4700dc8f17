//go:build purego || (!amd64 && !arm64)

package lookup

import "nepcoc/runtime/internal/kernels/plane"

// No assembly: cpu offers no path that would come here.

func load(t *Table, dst *plane.Plane, pos int, tokens []int32) {
	t.loadGeneric(dst, pos, tokens, 0, t.cols)
}
