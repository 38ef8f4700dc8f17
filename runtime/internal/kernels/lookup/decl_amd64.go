//go:build !purego

package lookup

//go:noescape
func transpose(rows *[32]*int8, dst *int8, stride, cols int)

//go:noescape
func prefetchRows(rows **int8, n, bytes int)

//go:noescape
func copyRows(rows **int8, n int, dst *int8, step, cols int)
